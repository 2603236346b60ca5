//! When a server that has failed is tried again: never at once, and never by all shards together.
//!
//! The pause doubles with each failure up to a longest one, and what is waited is drawn between half
//! of it and all. Only an answer ends it: a server that is stopped still takes connections.

use std::time::Duration;

use forebay::Time;

/// The pauses of one shard before one server.
#[derive(Debug)]
pub(super) struct Backoff {
    pause_min: Duration,
    pause_max: Duration,
    /// After the next failure.
    pause: Duration,
    retry_at: Time,
}

impl Backoff {
    pub(super) fn new(pause_min: Duration, pause_max: Duration) -> Self {
        Self { pause_min, pause_max, pause: pause_min, retry_at: Time::ZERO }
    }

    /// Whether another connection may be made.
    pub(super) fn may_try(&self, now: Time) -> bool {
        now >= self.retry_at
    }

    /// A try has failed. `random` is any 64 random bits.
    pub(super) fn failed(&mut self, now: Time, random: u64) {
        if now < self.retry_at {
            // Tries that were under way together count as one.
            return;
        }
        let half = self.pause / 2;
        #[expect(clippy::cast_precision_loss, reason = "a part of a pause need not be exact")]
        let part = random as f64 / u64::MAX as f64;
        self.retry_at = now.after(half + half.mul_f64(part));
        self.pause = (self.pause * 2).min(self.pause_max);
    }

    /// The server has answered.
    pub(super) fn answered(&mut self) {
        self.pause = self.pause_min;
        self.retry_at = Time::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_pause_doubles_up_to_the_longest_and_an_answer_ends_it() {
        let mut backoff = Backoff::new(ms(10), ms(30));
        let mut now = Time::ZERO;
        for pause_ms in [10, 20, 30, 30] {
            assert!(backoff.may_try(now));
            backoff.failed(now, u64::MAX);
            assert!(!backoff.may_try(now.after(ms(pause_ms - 1))), "{pause_ms} ms");
            now = now.after(ms(pause_ms));
            assert!(backoff.may_try(now), "{pause_ms} ms");
        }
        backoff.failed(now, u64::MAX);
        backoff.answered();
        assert!(backoff.may_try(now));
        backoff.failed(now, u64::MAX);
        assert!(backoff.may_try(now.after(ms(10))));
    }

    #[test]
    fn what_is_drawn_moves_the_pause_between_half_and_whole() {
        for (random, pause) in [(0, ms(5)), (u64::MAX / 2, Duration::from_micros(7_500))] {
            let mut backoff = Backoff::new(ms(10), ms(30));
            backoff.failed(Time::ZERO, random);
            assert!(!backoff.may_try(Time::ZERO.after(pause - Duration::from_micros(1))));
            assert!(backoff.may_try(Time::ZERO.after(pause + Duration::from_micros(1))));
        }
    }

    #[test]
    fn tries_that_fail_together_count_as_one() {
        let mut backoff = Backoff::new(ms(10), ms(30));
        backoff.failed(Time::ZERO, u64::MAX);
        backoff.failed(Time::ZERO.after(ms(1)), u64::MAX);
        assert!(backoff.may_try(Time::ZERO.after(ms(10))));
    }
}
