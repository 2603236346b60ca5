//! Requests that are trees of units of work, most of them batched database calls.
//!
//! The data layer here knows nothing of the engine: it is plain Rust over files, SQL and a seed,
//! so that Forebay's stages and the peers they are compared with run the very same code.

pub mod config;

pub use config::Config;
