//! What admission answers, and a rate that is fixed.
//!
//! Admission is a chain of questions that the caller asks before its item is enqueued; each answers
//! in the same words. Degrading is tried before refusing: a smaller answer for many is worth more
//! than none for most. The bucket is real-valued: one that is refilled in whole milliseconds can
//! never admit more than 1,000 a second.

use std::time::Duration;

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

    pub(crate) fn admit(&mut self, now: Time) -> Verdict {
        match self.bucket.take(now) {
            Ok(()) => Verdict::Accept,
            Err(retry_after) => Verdict::Reject { retry_after },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Offers a call every `gap` for a second and counts those that are let in.
    fn admitted(rate: &mut AdmissionRate, gap: Duration) -> usize {
        let (mut now, mut n_admitted) = (Time::ZERO, 0);
        while now < Time::ZERO.after(SECOND) {
            n_admitted += usize::from(rate.admit(now) == Verdict::Accept);
            now = now.after(gap);
        }
        n_admitted
    }

    #[test]
    fn a_rate_above_a_thousand_a_second_is_admitted_in_full() {
        let n_admitted =
            admitted(&mut AdmissionRate::new(20_000.0, 1.0), Duration::from_micros(10));
        assert!((19_900..=20_001).contains(&n_admitted), "{n_admitted}");
    }

    #[test]
    fn one_that_is_refused_is_let_in_after_the_time_it_was_told() {
        let mut rate = AdmissionRate::new(10.0, 1.0);
        assert_eq!(rate.admit(Time::ZERO), Verdict::Accept);
        let retry_after = Duration::from_millis(100);
        assert_eq!(rate.admit(Time::ZERO), Verdict::Reject { retry_after });
        assert_eq!(rate.admit(Time::ZERO.after(retry_after)), Verdict::Accept);
    }

    #[test]
    fn a_pause_saves_no_more_than_the_burst() {
        let mut rate = AdmissionRate::new(1_000.0, 5.0);
        let late = Time::ZERO.after(SECOND * 60);
        let n_admitted = (0..10).filter(|_| rate.admit(late) == Verdict::Accept).count();
        assert_eq!(n_admitted, 5);
    }
}
