//! The synchronisation primitives that `runtime/shared` may use.
//!
//! One place to swap: `tests/loom.rs` compiles the files beside this one against loom's versions
//! of the same names.

#![allow(clippy::disallowed_types, reason = "the one module that shares between threads")]

use std::time::Duration;

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Waits until `waits` no longer holds or the time is up; the caller looks which.
pub(crate) fn wait_while<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    timeout: Duration,
    waits: impl Fn(&T) -> bool,
) -> MutexGuard<'a, T> {
    let waited = changed.wait_timeout_while(guard, timeout, |state| waits(state));
    waited.unwrap_or_else(PoisonError::into_inner).0
}
