//! Goal: on real rings, every call gets its own answer or one error that says what became of it,
//! and no request's fault reaches another.
//! Method: an engine of one or two shards per test, batch functions written by the test, gates
//! instead of sleeps; each engine is drained at the end and its books must balance.

#![allow(
    clippy::cast_possible_truncation,
    clippy::type_complexity,
    reason = "small numbers, and scripted batch functions passed about as values"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod ring;

#[path = "flow/batches.rs"]
mod batches;
#[path = "flow/sharing.rs"]
mod sharing;
#[path = "flow/turn.rs"]
mod turn;
#[path = "flow/limits.rs"]
mod limits;
#[path = "flow/isolation.rs"]
mod isolation;
#[path = "flow/units.rs"]
mod units;
#[path = "flow/across.rs"]
mod across;
#[path = "flow/outside.rs"]
mod outside;
#[path = "flow/service.rs"]
mod service;
