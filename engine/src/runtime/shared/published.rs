//! A value one shard publishes and any thread reads: the newest whole one, never a torn one.

use std::sync::Arc;

use super::sync::{Mutex, PoisonError};
use crate::runtime::Time;

/// The last value published, with the moment it was.
#[derive(Debug)]
pub(crate) struct Published<T> {
    last: Mutex<Option<(Time, Arc<T>)>>,
}

impl<T> Default for Published<T> {
    fn default() -> Self {
        Self { last: Mutex::new(None) }
    }
}

impl<T> Published<T> {
    pub(crate) fn put(&self, now: Time, value: T) {
        let fresh = Some((now, Arc::new(value)));
        let stale = std::mem::replace(
            &mut *self.last.lock().unwrap_or_else(PoisonError::into_inner),
            fresh,
        );
        drop(stale);
    }

    pub(crate) fn get(&self) -> Option<(Time, Arc<T>)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
