//! Goal: the controllers of a stage do in a running engine what they promise: overload costs no
//! goodput, less is tried before nothing, the important come first and nobody starves, the
//! downstream's rate holds over all shards, what fails is tried again within bounds or left alone.
//! Method: services in virtual time, from a seed, with a downstream whose behaviour each test sets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "control/downstream.rs"]
mod downstream;
#[path = "control/overload.rs"]
mod overload;
#[path = "control/failing.rs"]
mod failing;
#[path = "control/shares.rs"]
mod shares;
#[path = "control/rate.rs"]
mod rate;
