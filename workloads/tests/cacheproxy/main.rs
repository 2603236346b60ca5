//! Goal: a client of the service notices nothing but what it notices of a memcached, whatever it
//! sends, however slowly, and whatever happens to the servers behind.
//! Method: the service on a real engine, and a real memcached beside it that is asked the same; clients
//! are ordinary threads that write and read bytes themselves, so that no error can hide by being made
//! on both sides.

#![allow(clippy::disallowed_methods, reason = "clients are ordinary threads with the host's clock")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod rig;
mod oracle;
mod corpus;
mod alike;
mod differential;
mod sockets;
mod slow;
mod carrier;
mod failing;
mod flushing;
mod unanswered;
mod stopping;
mod closing;
mod counts;
#[path = "../books/mod.rs"]
mod books;
