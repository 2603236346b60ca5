//! A percentile of what has happened lately: gathered, read once, and begun anew.
//!
//! The published overload controllers decide in rounds: after 100 samples or a second, whichever is
//! first, on the 90th percentile of the round. So the samples of one round are all that is kept, and
//! sorting them once is cheaper than any structure that could be asked at any time.

use std::time::Duration;

use crate::runtime::Time;

/// Samples of one round at most; what the published controllers use.
const SAMPLES_MAX: usize = 100;

/// How long a round lasts at most; as published.
const ROUND_MAX: Duration = Duration::from_secs(1);

/// The samples of the current round.
#[derive(Debug)]
pub(crate) struct Round {
    samples: Vec<Duration>,
    began: Time,
}

impl Round {
    pub(crate) fn new() -> Self {
        Self { samples: Vec::with_capacity(SAMPLES_MAX), began: Time::ZERO }
    }

    /// Adds a sample. Where it ends the round, the answer is the round's 90th percentile.
    pub(crate) fn record(&mut self, now: Time, sample: Duration) -> Option<Duration> {
        self.samples.push(sample);
        if self.samples.len() < SAMPLES_MAX && now.since(self.began) < ROUND_MAX {
            return None;
        }
        let p90 = p90(&mut self.samples);
        self.samples.clear();
        self.began = now;
        p90
    }
}

/// The sample that nine of ten do not exceed; none where there are no samples.
fn p90(samples: &mut [Duration]) -> Option<Duration> {
    samples.sort_unstable();
    let rank = (samples.len() * 9).div_ceil(10);
    samples.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nine_of_ten_samples_do_not_exceed_the_percentile() {
        let check = |n_samples: u32, wanted: u32| {
            let mut samples: Vec<_> = (1..=n_samples).rev().map(|idx| MS * idx).collect();
            assert_eq!(p90(&mut samples), Some(MS * wanted), "of {n_samples}");
        };
        check(1, 1);
        check(2, 2);
        check(10, 9);
        check(100, 90);
        assert_eq!(p90(&mut []), None);
    }

    #[test]
    fn a_round_ends_after_100_samples_or_a_second() {
        let mut round = Round::new();
        let ended = (0..250).filter(|_| round.record(Time::ZERO, MS).is_some()).count();
        assert_eq!(ended, 2);
        assert_eq!(round.record(Time::ZERO.after(ROUND_MAX), MS * 9), Some(MS));
    }
}
