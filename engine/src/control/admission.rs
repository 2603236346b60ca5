//! What admission answers, and a rate that is fixed.
//!
//! Admission is a chain of questions that the caller asks before its item is enqueued; each answers
//! in the same words. Degrading is tried before refusing: a smaller answer for many is worth more
//! than none for most. The bucket is real-valued: one that is refilled in whole milliseconds can
//! never admit more than 1,000 a second.

use std::time::Duration;

use super::door::Door;
use super::seconds;
use crate::runtime::Time;

/// The answer to one call that asks to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    /// Let in, to be answered with less: 1 is nearly everything, the highest level the least.
    Degrade(u8),
    /// Not let in.
    Reject {
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// Not let in although there is room: it is kept for more important ones.
    Preempt {
        /// When it is worth asking again.
        retry_after: Duration,
    },
}

/// Tokens that come at a rate and are kept up to a depth.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    per_s: f64,
    depth: f64,
    tokens: f64,
    filled: Time,
}

impl Bucket {
    /// A full one. A depth below one token is one.
    pub(crate) fn new(per_s: f64, depth: f64) -> Self {
        let depth = depth.max(1.0);
        Self { per_s, depth, tokens: depth, filled: Time::ZERO }
    }

    /// Takes one token, or tells how long until there is one.
    pub(crate) fn take(&mut self, now: Time) -> Result<(), Duration> {
        self.fill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(seconds((1.0 - self.tokens) / self.per_s))
    }

    /// Takes all whole tokens, but for no more than a count holds.
    pub(crate) fn take_all(&mut self, now: Time) -> u32 {
        self.fill(now);
        // A cast saturates.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let whole = self.tokens as u32;
        self.tokens -= f64::from(whole);
        whole
    }

    /// Puts tokens back that were taken and not used.
    pub(crate) fn put_back(&mut self, n_tokens: u32) {
        self.tokens = (self.tokens + f64::from(n_tokens)).min(self.depth);
    }

    /// What is in it, as a part of what it holds.
    pub(crate) fn fullness(&self) -> f64 {
        self.tokens / self.depth
    }

    /// Changes the rate; what has come in until `now` came at the old one.
    pub(crate) fn set_per_s(&mut self, now: Time, per_s: f64) {
        self.fill(now);
        self.per_s = per_s;
    }

    fn fill(&mut self, now: Time) {
        let came = now.since(self.filled).as_secs_f64() * self.per_s;
        self.tokens = (self.tokens + came).min(self.depth);
        self.filled = self.filled.max(now);
    }
}

/// A rate of admission that is fixed by the stage's options.
#[derive(Debug)]
pub(crate) struct AdmissionRate {
    bucket: Bucket,
}

impl AdmissionRate {
    /// At most `per_s` calls a second in the long run, and `burst` of them at once.
    pub(crate) fn new(per_s: f64, burst: f64) -> Self {
        Self { bucket: Bucket::new(per_s, burst) }
    }

    /// Answers one call that asks to be let in, and hands out passes to as many more as may come in
    /// at the same time. Those handed out earlier and not used
    /// are taken back first.
    pub(crate) fn admit(&mut self, now: Time, door: &Door) -> Verdict {
        self.bucket.put_back(door.take_passes());
        match self.bucket.take(now) {
            Ok(()) => {
                door.hand_out(self.bucket.take_all(now), now);
                Verdict::Accept
            }
            Err(retry_after) => Verdict::Reject { retry_after },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::door::{Passes, Terms};
    use crate::runtime::priority::Priority;

    /// A rate behind a door, as a stage has it.
    struct Gate {
        rate: AdmissionRate,
        door: Door,
    }

    impl Gate {
        fn new(per_s: f64, burst: f64) -> Self {
            let door = Door::new(Terms::OPEN, Passes::Left(0, Time::ZERO));
            Self { rate: AdmissionRate::new(per_s, burst), door }
        }

        fn admit(&mut self, now: Time) -> Verdict {
            if self.door.passes(now, Priority::LOWEST) {
                return Verdict::Accept;
            }
            self.rate.admit(now, &self.door)
        }

        fn lets_in(&mut self, now: Time) -> bool {
            self.admit(now) == Verdict::Accept
        }
    }

    #[test]
    fn a_rate_above_a_thousand_a_second_is_admitted_in_full() {
        let mut gate = Gate::new(20_000.0, 1.0);
        let times = (0..100_000).map(|n| Time::ZERO.after(Duration::from_micros(10) * n));
        let n_admitted = times.filter(|now| gate.lets_in(*now)).count();
        assert!((19_900..=20_001).contains(&n_admitted), "{n_admitted}");
    }

    #[test]
    fn one_that_is_refused_is_let_in_after_the_time_it_was_told() {
        let mut gate = Gate::new(10.0, 1.0);
        assert_eq!(gate.admit(Time::ZERO), Verdict::Accept);
        let retry_after = Duration::from_millis(100);
        assert_eq!(gate.admit(Time::ZERO), Verdict::Reject { retry_after });
        assert_eq!(gate.admit(Time::ZERO.after(retry_after)), Verdict::Accept);
    }

    #[test]
    fn passes_let_in_exactly_whom_the_bucket_would() {
        for seed in 0..100 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (per_s, burst) = (rng.f64() * 10_000.0, rng.f64() * 100.0);
            let (mut gate, mut bucket) = (Gate::new(per_s, burst), Bucket::new(per_s, burst));
            let mut now = Time::ZERO;
            for _ in 0..1_000 {
                now = now.after(Duration::from_micros(rng.u64(0..20_000)));
                for _ in 0..rng.usize(0..50) {
                    assert_eq!(gate.lets_in(now), bucket.take(now).is_ok(), "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn a_pause_saves_no_more_than_the_burst() {
        let mut gate = Gate::new(1_000.0, 5.0);
        let late = Time::ZERO.after(Duration::from_secs(60));
        let n_admitted = (0..10).filter(|_| gate.lets_in(late)).count();
        assert_eq!(n_admitted, 5);
    }
}
