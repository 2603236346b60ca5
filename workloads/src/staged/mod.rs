//! The `staged` workload: an HTTP/1.1 server made of stages, which keeps its goodput under overload.
//!
//! Start with `graph`, the way of a request. What is served are the files of `files` and the pages
//! of `page`, both made of a `pattern` that clients check byte by byte; `asked`, `refusal` and
//! `reply` are HTTP's side of it, `http` the connections, `deploy` puts the service on an engine.

pub mod config;
mod check;
mod pattern;
pub mod files;
pub mod page;
#[cfg(feature = "http")]
mod graph;
#[cfg(feature = "http")]
mod cache;
#[cfg(feature = "http")]
mod file;
#[cfg(feature = "http")]
mod make_pages;
#[cfg(feature = "http")]
mod asked;
#[cfg(feature = "http")]
mod refusal;
#[cfg(feature = "http")]
mod reply;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
pub mod deploy;

pub use crate::planted::Planted;
pub use config::Config;
#[cfg(feature = "http")]
pub use deploy::{SetupError, Staged};
#[cfg(feature = "http")]
pub use graph::Graph;
pub use pattern::Pattern;
