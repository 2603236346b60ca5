//! A memcached server and proxy that batches what thousands of connections ask.

pub mod operation;
pub mod wire;
pub mod route;
pub mod load;
pub mod config;
#[cfg(test)]
mod memcached;

pub use config::Config;
