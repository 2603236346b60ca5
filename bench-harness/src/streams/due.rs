//! Requests that are due, between the schedule that hands them over and the client that makes them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::talk::Talks;
use crate::load::Ended;

/// Requests that a schedule has handed to a client, by their intended start.
#[derive(Default)]
pub(super) struct Due {
    intended_ns: RefCell<VecDeque<u64>>,
    over: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Due {
    /// Hands a request over.
    pub(super) fn put(&self, intended_ns: u64) {
        self.intended_ns.borrow_mut().push_back(intended_ns);
        self.ring();
    }

    /// Says that there will be no more.
    pub(super) fn end(&self) {
        self.over.set(true);
        self.ring();
    }

    /// Requests that have not been made.
    pub(super) fn len(&self) -> usize {
        self.intended_ns.borrow().len()
    }

    fn ring(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The one that has waited longest.
    pub(super) fn take(&self) -> Option<u64> {
        self.intended_ns.borrow_mut().pop_front()
    }

    /// Whether all have been taken, and no more will be.
    pub(super) fn is_over(&self) -> bool {
        self.over.get() && self.intended_ns.borrow().is_empty()
    }

    /// Waits until there is something to take, or no more will be.
    pub(super) async fn rung(&self) {
        poll_fn(|cx| {
            if self.over.get() || !self.intended_ns.borrow().is_empty() {
                return Poll::Ready(());
            }
            self.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Fails what is handed over to a client that has no connection any more.
    pub(super) async fn fail_rest(&self, talks: &Talks) {
        while !self.is_over() {
            self.rung().await;
            while let Some(intended_ns) = self.take() {
                let now_ns = talks.clock.now_ns();
                let mut tally = talks.tally.borrow_mut();
                let ticket = tally.recorder.start(intended_ns, now_ns);
                tally.end(ticket, now_ns, Ended::Failed("connection"));
            }
        }
    }
}
