//! A memcached server and proxy that batches what thousands of connections ask.

pub mod operation;
pub mod load;
pub mod config;

pub use config::Config;
