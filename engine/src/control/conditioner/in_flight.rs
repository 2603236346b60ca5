//! The default preset: an adaptive bound on how many are in flight.
//!
//! By Little's law, calls in flight over throughput is the time each takes; so a bound on the first
//! is a bound on the last, whatever the stage's capacity is, and nobody has to know it. The bound is
//! moved by single replies:
//!
//! ```text
//!   SlowStart   in time ▶ +1 (doubles in one round trip)     late ▶ halve, go to Steady
//!   Steady      in time ▶ +RISE                              late ▶ -RISE x (good ones per late one)
//! ```
//!
//! *Scale-free*: in one round trip as many replies come as the bound is, so each step is a fixed part
//! of the bound per round trip, at a bound of 3 as at 10,000. A step of 1/bound, as in TCP, would need
//! 250 s to double a bound of 5,000. *Bias*: up and down balance where one reply in fifty is late.
//! *Debt*: late replies come in bursts, since an excess is seen only a round trip later. One round
//! trip cuts a fifth at most, and what its late replies would have cut beyond that is owed: paid off
//! by replies in time that do not raise the bound. So the bias holds and the bound does not swing.
//! *Echo*: what was admitted before the bound was halved is no evidence against the new one. *Frozen*:
//! a reply counts only if the bound was reached while its call was in flight; otherwise it says
//! nothing about the bound.
//!
//! Classes, one for each priority: each more important class that presses leaves a third to the lower ones, so that they
//! are shed first; a class with nothing in flight is let in all the same, one call, so that it makes
//! some progress. While several classes press, a late reply to one that is not the lowest counts
//! four times, since the lower ones are there to be shed for it.

use std::time::Duration;

use super::{Ended, Steps, Verdict};
use crate::control::door::{Door, Taught, Terms, bit};
use crate::control::{Reading, seconds};
use crate::runtime::Time;
use crate::runtime::priority::Priority;

/// What a reply in time adds in the steady phase: a hundredth of the bound per round trip.
const RISE: f64 = 0.01;

/// Replies in time that balance one late: 2 % are late where the bound settles.
const GOOD_PER_LATE: f64 = 49.0;

/// The same for a more important class while lower ones press: 0.5 % are late.
const GOOD_PER_LATE_IMPORTANT: f64 = 199.0;

/// What a round trip full of late replies leaves of the bound at least. All replies of a round trip
/// may be late together, and the next ones would still be echoes of the same excess.
const KEPT_PER_ROUND: f64 = 0.8;

/// What may be owed at most, as a part of the bound: it is paid off within a hundred round trips.
const OWED_MAX: f64 = 1.0;

/// What each more important class that presses leaves of the bound to those below. With a half the
/// important one is itself refused now and then, since its own bursts are as high.
const LEFT_BELOW: f64 = 1.0 / 3.0;

/// The weight of a new sample in the smoothed sojourn, as in the round-trip estimate of RFC 6298.
const SMOOTHING: f64 = 1.0 / 8.0;

/// The weight of a new reply in the late fraction that is shown: some 500 replies back.
const LATE_SMOOTHING: f64 = 1.0 / 500.0;

#[derive(Debug)]
pub(super) struct InFlight {
    target: Duration,
    steps: Steps,
    limit: f64,
    /// With so many in flight one more reaches the bound or is to be degraded.
    easy: u32,
    phase: Phase,
    /// When somebody last took the last place or found none.
    pressed: Time,
    /// When somebody of each class last asked or left; it presses no more a target later.
    seen: [Time; Priority::COUNT],
    /// A bit for each class that may press: while there is none above a class, none is looked at.
    may_press: u16,
    /// Of calls that were in flight while the bound was reached, as is the next.
    sojourn_s: f64,
    late: f64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    SlowStart,
    Steady {
        /// What was admitted earlier is an echo of the slow start.
        since: Time,
        /// The round trip that goes on began then: it ends with the first reply to a later call.
        round: Time,
        /// The bound is not cut below this in this round trip.
        floor: f64,
        /// What late replies have cut beyond that, paid off by replies that do not raise the bound.
        owed: f64,
    },
}

impl InFlight {
    pub(super) fn new(target: Duration, first: usize, steps: Steps) -> Self {
        let mut begun = Self {
            target,
            steps,
            limit: 1.0,
            easy: 0,
            phase: Phase::SlowStart,
            pressed: Time::ZERO,
            seen: [Time::ZERO; Priority::COUNT],
            may_press: 0,
            sojourn_s: target.as_secs_f64(),
            late: 0.0,
        };
        begun.set_limit(first.max(1) as f64);
        begun
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast saturates, and a bound is at least one"
    )]
    fn set_limit(&mut self, limit: f64) {
        self.limit = limit;
        self.easy = (self.steps.begin(limit).min(limit) - 1.0) as u32;
    }

    pub(super) fn limit(&self) -> f64 {
        self.limit
    }

    /// Nobody is asked about who is far from the bound, as long as no class above its own presses.
    pub(super) fn terms(&self) -> Terms {
        let highest = self.may_press.checked_ilog2().map_or(0, |idx| 1 << idx);
        Terms {
            asked_from: self.easy,
            asked_priorities: !highest,
            taught_until: Taught::Until(self.pressed),
        }
    }

    pub(super) fn admit(&mut self, now: Time, priority: Priority, door: &Door) -> Verdict {
        self.asks(now, priority);
        let bound = self.share(now, priority, door);
        let used = door.in_flight() as f64 + 1.0;
        if used >= bound.floor() {
            self.pressed(now);
        }
        // At most one above the bound for each class that would starve.
        let starves = door.of(priority) == 0;
        let has_place = used <= bound;
        if !has_place && !starves {
            let retry_after = seconds(self.sojourn_s);
            let is_kept = used <= self.limit;
            return if is_kept {
                Verdict::Preempt { retry_after }
            } else {
                Verdict::Reject { retry_after }
            };
        }
        self.steps.verdict(used, bound)
    }

    /// One has come in that is counted already.
    pub(super) fn took_in(&mut self, now: Time, priority: Priority, door: &Door) -> Verdict {
        self.asks(now, priority);
        let (used, bound) = (door.in_flight() as f64, self.share(now, priority, door));
        if used >= bound.floor() {
            self.pressed(now);
        }
        self.steps.verdict(used, bound)
    }

    fn asks(&mut self, now: Time, priority: Priority) {
        self.seen[priority.idx()] = now;
        self.may_press |= bit(priority);
    }

    pub(super) fn pressed(&mut self, now: Time) {
        self.pressed = now;
    }

    /// One has ended. One that has expired is late, however short its deadline was.
    pub(super) fn ended(&mut self, now: Time, ended: Ended, door: &Door) {
        self.left(now, ended.priority);
        if self.pressed >= ended.admitted {
            let is_late = ended.expired || now.since(ended.admitted) > self.target;
            self.learn(now, ended, is_late, door);
        }
    }

    /// Moves the bound by one that has ended, while which the bound was reached.
    fn learn(&mut self, now: Time, ended: Ended, is_late: bool, door: &Door) {
        let Ended { priority, admitted, .. } = ended;
        let sojourn = now.since(admitted);
        self.sojourn_s += SMOOTHING * (sojourn.as_secs_f64() - self.sojourn_s);
        self.late += LATE_SMOOTHING * (f64::from(u8::from(is_late)) - self.late);
        match (&mut self.phase, is_late) {
            (Phase::SlowStart, false) => self.set_limit(self.limit + 1.0),
            // SlowStart → Steady
            (Phase::SlowStart, true) => {
                self.set_limit((self.limit / 2.0).max(1.0));
                let floor = self.limit * KEPT_PER_ROUND;
                self.phase = Phase::Steady { since: now, round: now, floor, owed: 0.0 };
            }
            (Phase::Steady { since, .. }, _) if admitted < *since => {}
            (Phase::Steady { .. }, true) => {
                let good_per_late = self.good_per_late(now, priority, door);
                self.cut(now, admitted, good_per_late);
            }
            (Phase::Steady { owed, .. }, false) if *owed > 0.0 => *owed -= RISE,
            (Phase::Steady { .. }, false) => self.set_limit(self.limit + RISE),
        }
    }

    /// A late reply, in the steady phase, to a call that was let in at `admitted`.
    fn cut(&mut self, now: Time, admitted: Time, good_per_late: f64) {
        let cut = RISE * good_per_late;
        let Phase::Steady { round, floor, owed, .. } = &mut self.phase else { return };
        if admitted >= *round {
            (*round, *floor) = (now, self.limit * KEPT_PER_ROUND);
        }
        let limit = (self.limit - cut).max(*floor).max(1.0);
        let done = self.limit - limit;
        *owed = (*owed + cut - done).min(limit * OWED_MAX);
        self.set_limit(limit);
    }

    /// One of a class has gone, perhaps the last.
    pub(super) fn left(&mut self, now: Time, priority: Priority) {
        self.seen[priority.idx()] = now;
    }

    pub(super) fn retarget(&mut self, target: Duration) {
        self.target = target;
    }

    pub(super) fn readings(&self, out: &mut Vec<Reading>) {
        out.push(Reading::new("target_s", self.target.as_secs_f64()));
        out.push(Reading::new("in_flight_max", self.limit));
        out.push(Reading::new("late_fraction", self.late));
        out.push(Reading::new("sojourn_s", self.sojourn_s));
    }

    /// What a class may use of the limit.
    fn share(&mut self, now: Time, class: Priority, door: &Door) -> f64 {
        let mut n_above = 0;
        for above in class.above() {
            if self.may_press & bit(above) == 0 {
                continue;
            }
            if self.presses(now, above, door) {
                n_above += 1;
            } else {
                self.may_press &= !bit(above);
            }
        }
        let left = LEFT_BELOW.powi(n_above);
        (self.limit * left).max(1.0)
    }

    /// Whether a class has calls here, or lately had or asked.
    fn presses(&self, now: Time, class: Priority, door: &Door) -> bool {
        door.of(class) > 0 || now.since(self.seen[class.idx()]) <= self.target
    }

    fn good_per_late(&self, now: Time, class: Priority, door: &Door) -> f64 {
        if class.below().any(|other| self.presses(now, other, door)) {
            GOOD_PER_LATE_IMPORTANT
        } else {
            GOOD_PER_LATE
        }
    }
}
