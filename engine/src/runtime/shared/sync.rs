//! The synchronisation primitives that `runtime/shared` may use.
//!
//! One place to swap: `tests/loom.rs` compiles the files beside this one against loom's versions
//! of the same names.

#![allow(clippy::disallowed_types, reason = "the one module that shares between threads")]

pub(crate) use std::sync::atomic::{AtomicBool, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard};
