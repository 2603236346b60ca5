//! Drops from the queue what has waited too long while the delay stands.
//!
//! The variant of Facebook's "Fail at Scale": an item may wait for the target while the queue has
//! not been empty for an interval, and for the interval otherwise, so that a burst is carried and a
//! standing queue is not. CoDel's own slow drop law is for senders that back off; callers of a
//! service do not.

use std::time::Duration;

use super::{Fate, Reading, Steps, Verdict};
use crate::control::order::StandingDelay;
use crate::runtime::Time;

#[derive(Debug)]
pub(super) struct Codel {
    target: Duration,
    interval: Duration,
    delay: StandingDelay,
    /// How long the item that left the queue last had waited.
    last_wait: Duration,
    steps: Steps,
}

impl Codel {
    pub(super) fn new(target: Duration, interval: Duration, steps: Steps) -> Self {
        let delay = StandingDelay::new(target, interval);
        Self { target, interval, delay, last_wait: Duration::ZERO, steps }
    }

    /// Lets everybody in, degraded by how near to the target the wait has come.
    pub(super) fn admit(&mut self, now: Time, queued: usize) -> Verdict {
        if queued == 0 {
            self.delay.emptied(now);
            self.last_wait = Duration::ZERO;
        }
        self.steps.verdict(self.last_wait.as_secs_f64(), self.target.as_secs_f64())
    }

    pub(super) fn on_dequeue(&mut self, now: Time, waited: Duration, queue_left: usize) -> Fate {
        let may_wait = if self.delay.is_standing(now) { self.target } else { self.interval };
        self.last_wait = waited;
        if queue_left == 0 {
            self.delay.emptied(now);
        }
        if waited > may_wait { Fate::Drop } else { Fate::Keep }
    }

    pub(super) fn retarget(&mut self, target: Duration) {
        self.target = target;
        self.delay.set_target(target);
    }

    pub(super) fn readings(&self, out: &mut Vec<Reading>) {
        out.push(Reading::new("target_s", self.target.as_secs_f64()));
        out.push(Reading::new("last_wait_s", self.last_wait.as_secs_f64()));
    }
}
