//! Goal: whatever clients send, however slowly, and whenever the server stops, every request that it
//! has taken is answered once and rightly, and nobody else notices.
//! Method: the service on a real engine; clients are ordinary threads that write and read bytes
//! themselves, so that no error can hide by being made on both sides.

#![allow(clippy::disallowed_methods, reason = "clients are ordinary threads with the host's clock")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod rig;
mod pages;
mod malformed;
mod slow;
mod stopping;
mod overload;
mod admin;
#[path = "../books/mod.rs"]
mod books;
#[path = "../../../engine/tests/child/mod.rs"]
mod child;
