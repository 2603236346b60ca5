//! A server that sends back what it receives (RFC 862): the socket layer and nothing else.
//!
//! Every connection is one background task of its shard that reads a chunk and writes it back. The
//! same connections may carry a page over HTTP instead (cargo feature `http`), and a task that
//! burns CPU may run beside them. Start with `service`; `config` is what a workload file says,
//! `deploy` puts the service on an engine.

pub mod config;
mod service;
#[cfg(feature = "http")]
mod http;
pub mod deploy;

pub use config::{Config, Protocol};
pub use deploy::serve;

/// The page of the HTTP variant, 13 bytes.
pub const PAGE: &[u8] = b"Hello, World!";
