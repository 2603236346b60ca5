//! Requests that are trees of units of work, most of them batched database calls.
//!
//! The data layer here knows nothing of the engine: it is plain Rust over files, SQL and a seed,
//! so that Forebay's stages and the peers they are compared with run the very same code.

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
#[cfg(test)]
mod fixture;

pub use config::Config;
pub use error::{DataError, StoreError};
