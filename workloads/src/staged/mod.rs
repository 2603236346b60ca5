//! The `staged` workload: an HTTP/1.1 server made of stages, which keeps its goodput under overload.

pub mod config;

pub use config::Config;
