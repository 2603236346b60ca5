//! A memcached server and proxy that batches what thousands of connections ask.

pub mod operation;
pub mod protocol;
