//! A memcached server and proxy that batches what thousands of connections ask.

pub mod operation;
pub mod wire;
pub mod route;
pub mod downstream;
pub mod chunks;
#[cfg(test)]
mod memcached;
