//! A memcached server and proxy that batches what thousands of connections ask.

pub mod operation;
pub mod protocol;
pub mod wire;
pub mod route;
pub mod downstream;
pub mod store;
mod clock;
mod locks;
mod tier;
mod tiers;
mod cache;
mod run;
#[cfg(test)]
mod memcached;
