//! Requests that are trees of units of work, most of them batched database calls.
//!
//! In two layers. The data layer knows nothing of the engine: it is plain Rust over files, SQL and a
//! seed, so that Forebay's stages and the peers they are compared with run the very same code. Over
//! it stand the stages (`stages`), what answers them on a shard (`downstream`), the requests as
//! straight-line code (`request`: start there), and what puts them on an engine (`deploy`).

pub mod config;
pub mod error;
pub mod data;
pub mod geo;
pub mod check;
pub mod sqlite;
pub mod views;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod simulated;
pub mod keys;

pub mod request;
pub mod tree;
pub mod stages;
mod downstream;
#[cfg(feature = "postgres")]
mod postgres_client;
#[cfg(feature = "postgres")]
mod postgres_setup;
pub mod deploy;
#[cfg(test)]
mod fixture;

pub use config::Config;
pub use deploy::{Ready, SetupError, Units};
pub use error::{DataError, StoreError};
pub use request::{Fault, Service};
