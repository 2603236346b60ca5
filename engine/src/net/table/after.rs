//! What is foreign code, done after the table's borrow has ended.

use std::task::Waker;

use crate::runtime::guard::contain;
use crate::runtime::ring::Outgoing;

/// Wakers and bytes of the user's own types: what they do when woken or dropped may come back here.
#[derive(Debug, Default)]
pub(in crate::net) struct After {
    /// To be woken.
    woken: Vec<Waker>,
    /// To be dropped: shared bytes may have an owner of any type.
    pub(super) spent: Vec<Outgoing>,
}

impl After {
    pub(super) fn wake(&mut self, wakers: impl IntoIterator<Item = Option<Waker>>) {
        self.woken.extend(wakers.into_iter().flatten());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.woken.is_empty() && self.spent.is_empty()
    }

    /// Does it all.
    pub(in crate::net) fn run(&mut self) {
        for waker in self.woken.drain(..) {
            contain(|| waker.wake());
        }
        for bytes in self.spent.drain(..) {
            contain(|| drop(bytes));
        }
    }
}
