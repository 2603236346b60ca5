//! When calls expire: their deadlines, and the timers that keep them.
//!
//! Most calls are answered long before their deadline, so a timer for each would be armed and
//! disarmed for nothing. A deadline that is near is armed at the end of the turn, if the call still
//! waits then; one that is far waits for a sweep, now and then, to find that it has come near.

use std::time::Duration;

use slotmap::Key;

use super::Stage;
use super::core::StageCore;
use super::slots::{Slot, SlotKey};
use crate::error::CallError;
use crate::limits::{NEAR, SWEEP_EVERY};
use crate::runtime::Time;
use crate::runtime::core::Due;

impl<S: Stage> StageCore<S> {
    /// The deadline of a call made now: its own, its scope's and the stage's, whichever is first.
    pub(super) fn deadline(&self, scope: Time, within: Option<Duration>) -> Time {
        let now = self.core.now();
        let own = within.map_or(Time::NEVER, |within| now.after(within));
        scope.min(own).min(now.after(self.options.call_max))
    }

    /// Sees to it that a new slot expires at its deadline.
    pub(super) fn watch_deadline(&self, key: SlotKey, deadline: Time) {
        let now = self.core.now();
        if deadline <= now.after(NEAR) {
            // Bounded by the calls of one turn.
            self.near.borrow_mut().push(key);
        } else if self.sweep_at.get() == Time::NEVER {
            self.sweep_at.set(now.after(SWEEP_EVERY));
        }
    }

    /// Arms the deadlines that come before long of calls that still wait; tells when it wants to
    /// look again.
    pub(super) fn arm_waiting(&self) -> Time {
        let mut slots = self.slots.borrow_mut();
        let arm = |(key, slot): (SlotKey, &mut Slot<S>)| {
            if slot.reply.is_none() && slot.timer.is_none() {
                let due = Due::Call { rank: self.rank, slot: key.data().as_ffi() };
                slot.timer = Some(self.core.arm(slot.deadline, due));
            }
        };
        for key in self.near.borrow_mut().drain(..) {
            if let Some(slot) = slots.get_mut(key) {
                arm((key, slot));
            }
        }
        let now = self.core.now();
        if now >= self.sweep_at.get() {
            let horizon = now.after(NEAR);
            let mut left = false;
            for (key, slot) in slots.iter_mut() {
                if slot.deadline <= horizon {
                    arm((key, slot));
                } else {
                    left |= slot.reply.is_none();
                }
            }
            self.sweep_at.set(if left { now.after(SWEEP_EVERY) } else { Time::NEVER });
        }
        self.sweep_at.get()
    }

    /// The deadline of a call has come: it leaves the queue at its time and is never sent.
    pub(super) fn expire(&self, key: SlotKey) {
        let outcome = self.withdraw(key);
        self.settle(key, Err(CallError::Expired(outcome)));
    }
}
