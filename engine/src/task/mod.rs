//! Requests and what they are made of: scopes, units of work, work on other shards.
//!
//! ```text
//!   spawn ─▶ Record (deadline, cancellation, units) ─▶ ready queue ─▶ RequestTask::poll ─▶ reply
//!              ▲ cancel, deadline + grace                              └ ends its units, then itself
//! ```
//!
//! A record lives as long as its request: from `spawn` until the future, and every unit of work
//! begun under it, has ended. Records are what is counted, listed and cancelled from outside.

mod records;
mod request;
mod scope;
mod unit;
mod remote;
mod source;
mod background;
mod draining;

pub use background::{Background, spawn_background};
pub use draining::{Draining, draining, draining_since, is_draining};
pub(crate) use records::Tasks;
pub use remote::{Remote, on_shard};
pub use request::{Request, RequestOptions, spawn};
pub(crate) use request::{forward, spawn_from};
pub use scope::{Scope, n_shards, scope, this_shard};
pub use source::add_source;
pub use unit::{Unit, UnitKey};
