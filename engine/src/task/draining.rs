//! The word that a stop has begun, for whoever is to end by itself.
//!
//! A stop that drains waits for requests. One that drives a client's connection would never end by
//! itself, so it waits for this word beside its client, and then brings the connection to its end.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slotmap::{SlotMap, new_key_type};

use super::records::Tasks;
use crate::runtime::Time;
use crate::runtime::guard::contain;

new_key_type! { pub(super) struct ListenerKey; }

/// Who waits for the word on this shard. As many as there are futures of [`draining`] that wait.
pub(super) type Listeners = RefCell<SlotMap<ListenerKey, Waker>>;

/// Tells whether this shard refuses new requests because the engine stops.
///
/// # Panics
///
/// Outside of a shard.
#[must_use]
pub fn is_draining() -> bool {
    draining_since().is_some()
}

/// Since when this shard refuses new requests because the engine stops; `None` if it does not.
///
/// # Panics
///
/// Outside of a shard.
#[must_use]
pub fn draining_since() -> Option<Time> {
    Tasks::current().refuses_since()
}

/// Waits until this shard refuses new requests because the engine stops: at once, when it does
/// already. Cancel-safe.
///
/// # Panics
///
/// Outside of a shard.
pub fn draining() -> Draining {
    Draining { tasks: Tasks::current(), key: None }
}

/// Future of [`draining`].
#[derive(Debug)]
#[must_use = "it does nothing unless awaited"]
pub struct Draining {
    tasks: Rc<Tasks>,
    key: Option<ListenerKey>,
}

impl Future for Draining {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.tasks.refuses_since().is_some() {
            return Poll::Ready(());
        }
        // Wakers are foreign code: cloned before the list is borrowed, dropped after it.
        let known = self.key.is_some_and(|key| {
            let listeners = self.tasks.listeners.borrow();
            listeners.get(key).is_some_and(|waker| waker.will_wake(cx.waker()))
        });
        if !known {
            let waker = cx.waker().clone();
            let old = self.forget();
            let key = self.tasks.listeners.borrow_mut().insert(waker);
            self.key = Some(key);
            drop(old);
        }
        Poll::Pending
    }
}

impl Draining {
    fn forget(&mut self) -> Option<Waker> {
        let key = self.key.take()?;
        self.tasks.listeners.borrow_mut().remove(key)
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        drop(self.forget());
    }
}

impl Tasks {
    /// Wakes everybody who waits for the word.
    pub(super) fn tell_draining(&self) {
        let listeners = self.listeners.take();
        for (_, waker) in listeners {
            // Whoever it belongs to, the others are told.
            contain(|| waker.wake());
        }
    }
}
