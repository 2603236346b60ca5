//! Goal: `serve` says where a service and its admin pages are, serves both, ends well when it is told
//! to, and leaves nothing behind.
//! Method: the program itself, and plain sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::disallowed_methods, reason = "clients are ordinary threads with the host's clock")]

mod server;
mod cacheproxy;
#[cfg(feature = "http")]
mod staged;
