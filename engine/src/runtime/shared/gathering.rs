//! One result from each of several threads, for one that waits: all of them, or the first error.

use std::time::Duration;

use super::sync::{Condvar, Mutex, PoisonError, wait_while};

/// Successes so far, and the first error.
#[derive(Debug)]
struct State<E> {
    n_done: usize,
    error: Option<E>,
}

/// Collects one result from each of several threads.
#[derive(Debug)]
pub(crate) struct Gathering<E> {
    state: Mutex<State<E>>,
    changed: Condvar,
}

impl<E> Default for Gathering<E> {
    fn default() -> Self {
        Self { state: Mutex::new(State { n_done: 0, error: None }), changed: Condvar::new() }
    }
}

impl<E> Gathering<E> {
    /// Adds one result; the first error is kept.
    pub(crate) fn add(&self, result: Result<(), E>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => state.n_done += 1,
            Err(error) => {
                state.error.get_or_insert(error);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for `n` successes or the first error; `Err(None)` when the time is up.
    pub(crate) fn wait(&self, n: usize, timeout: Duration) -> Result<(), Option<E>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |state: &State<E>| state.n_done < n && state.error.is_none();
        let mut state = wait_while(&self.changed, state, timeout, waits);
        match state.error.take() {
            Some(error) => Err(Some(error)),
            None if state.n_done < n => Err(None),
            None => Ok(()),
        }
    }
}
