//! Open arrivals: an endless, seeded row of due times that a generator asks each turn.
//!
//! A rate in a workload file is the total. Constant arrivals are dealt round-robin (arrival `i` of
//! the whole belongs to part `i % of`), so that the union over parts is the constant row itself.
//! A Poisson process splits into independent Poisson processes, so each part draws its own row at
//! `rate / of` from its own ChaCha stream of the file's seed. Rows depend on seed, rate and part
//! only, never on the host or on how late the generator runs.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Exp1};

use super::Part;

const NS_PER_S: u64 = 1_000_000_000;

/// How requests arrive when they do not wait for one another; rates are totals over all parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenArrival {
    /// Evenly spaced.
    Constant {
        /// Requests per second, all parts together; at least 1.
        rate_per_s: u64,
    },
    /// Independent arrivals: exponential gaps.
    Poisson {
        /// Mean requests per second, all parts together; at least 1.
        rate_per_s: u64,
    },
}

impl OpenArrival {
    /// The rate over all parts.
    #[must_use]
    pub const fn rate_per_s(self) -> u64 {
        match self {
            Self::Constant { rate_per_s } | Self::Poisson { rate_per_s } => rate_per_s,
        }
    }
}

/// The due times of one part, in order, in nanoseconds since the start of the phase.
///
/// Never ends by itself; the generator stops at the phase's end. Allocates nothing after `new`.
#[derive(Debug, Clone)]
pub struct Arrivals {
    row: Row,
    next_ns: u64,
}

#[derive(Debug, Clone)]
enum Row {
    Constant(ConstantRow),
    Poisson(Box<PoissonRow>),
}

/// `k`-th time of the part is `(index + k * of) * NS_PER_S / rate`, advanced without division.
#[derive(Debug, Clone)]
struct ConstantRow {
    at_ns: u64,
    remainder: u64,
    step_ns: u64,
    step_remainder: u64,
    rate_per_s: u64,
}

#[derive(Debug, Clone)]
struct PoissonRow {
    rng: ChaCha8Rng,
    mean_gap_ns: f64,
    at_ns: f64,
}

impl Arrivals {
    /// Makes the row of one part.
    ///
    /// # Panics
    /// When the rate is 0: the workload file's check has refused it.
    #[must_use]
    pub fn new(arrival: OpenArrival, seed: u64, part: Part) -> Self {
        assert!(arrival.rate_per_s() > 0, "a rate of 0 has no arrivals");
        let mut row = match arrival {
            OpenArrival::Constant { rate_per_s } => {
                Row::Constant(ConstantRow::new(rate_per_s, part))
            }
            OpenArrival::Poisson { rate_per_s } => {
                Row::Poisson(Box::new(PoissonRow::new(rate_per_s, seed, part)))
            }
        };
        let next_ns = row.advance();
        Self { row, next_ns }
    }

    /// When the next request is due, for the generator's timer.
    #[must_use]
    pub const fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Takes the next due time if it is not after `now_ns`.
    pub fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        if self.next_ns > now_ns {
            return None;
        }
        self.next()
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    /// Takes the next due time, due or not; never `None`.
    fn next(&mut self) -> Option<u64> {
        let due = self.next_ns;
        self.next_ns = self.row.advance();
        debug_assert!(self.next_ns >= due, "due times go back: {due} then {}", self.next_ns);
        Some(due)
    }
}

impl Row {
    fn advance(&mut self) -> u64 {
        match self {
            Self::Constant(row) => row.advance(),
            Self::Poisson(row) => row.advance(),
        }
    }
}

impl ConstantRow {
    fn new(rate_per_s: u64, part: Part) -> Self {
        let first = u64::from(part.index()) * NS_PER_S;
        let step = u64::from(part.of()) * NS_PER_S;
        Self {
            at_ns: first / rate_per_s,
            remainder: first % rate_per_s,
            step_ns: step / rate_per_s,
            step_remainder: step % rate_per_s,
            rate_per_s,
        }
    }

    fn advance(&mut self) -> u64 {
        let due = self.at_ns;
        self.at_ns += self.step_ns;
        self.remainder += self.step_remainder;
        // Carrying the remainder keeps the row exact for ever: rounding each gap would drift.
        if self.remainder >= self.rate_per_s {
            self.remainder -= self.rate_per_s;
            self.at_ns += 1;
        }
        due
    }
}

impl PoissonRow {
    fn new(rate_per_s: u64, seed: u64, part: Part) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(u64::from(part.index()));
        #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^53")]
        let mean_gap_ns = (u64::from(part.of()) * NS_PER_S) as f64 / rate_per_s as f64;
        Self { rng, mean_gap_ns, at_ns: 0.0 }
    }

    fn advance(&mut self) -> u64 {
        let gap: f64 = Exp1.sample(&mut self.rng);
        self.at_ns += gap * self.mean_gap_ns;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "gaps are not negative and f64 is exact to a nanosecond for 104 days"
        )]
        let due = self.at_ns as u64;
        due
    }
}

/// Checks that the generator kept to its schedule: the mean gap of what it really started against
/// the mean gap it should have had.
///
/// It compares with the row itself and not with `1 / rate`: the mean of few exponential gaps is far
/// from `1 / rate` by chance alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArrivalCheck {
    count: u64,
    intended_first_ns: u64,
    intended_last_ns: u64,
    started_first_ns: u64,
    started_last_ns: u64,
}

impl ArrivalCheck {
    /// Notes one request: when it was due and when it was started.
    pub fn note(&mut self, intended_ns: u64, started_ns: u64) {
        if self.count == 0 {
            self.intended_first_ns = intended_ns;
            self.started_first_ns = started_ns;
        }
        self.count += 1;
        self.intended_last_ns = intended_ns;
        self.started_last_ns = started_ns;
    }

    /// Compares the starts with the schedule; `None` with fewer than two arrivals.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a phase is far shorter than 2^53 ns")]
    pub fn gap_error(&self) -> Option<GapError> {
        let intended_ns = self.intended_last_ns.checked_sub(self.intended_first_ns)?;
        let started_ns = self.started_last_ns.checked_sub(self.started_first_ns)?;
        let off_ns = started_ns.abs_diff(intended_ns);
        (intended_ns > 0)
            .then(|| GapError { off_ns, percent: off_ns as f64 / intended_ns as f64 * 100.0 })
    }
}

/// By how much starts missed their schedule, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct GapError {
    /// Difference of the mean gaps, in percent of the scheduled one.
    pub percent: f64,
    /// Difference of the whole spans.
    pub off_ns: u64,
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{LN_2, LN_10};

    use super::*;

    fn parts(of: u32) -> impl Iterator<Item = Part> {
        (0..of).map(move |index| Part::new(index, of).unwrap())
    }

    #[test]
    fn constant_parts_interleave_to_the_constant_row_exactly() {
        for rate_per_s in [1, 3, 7, 1_000, 49_999, 3_000_000] {
            let arrival = OpenArrival::Constant { rate_per_s };
            let mut rows: Vec<Arrivals> = parts(3).map(|p| Arrivals::new(arrival, 1, p)).collect();
            for i in 0..10_000_u64 {
                let due = rows[usize::try_from(i % 3).unwrap()].next().unwrap();
                let exact = u128::from(i) * u128::from(NS_PER_S) / u128::from(rate_per_s);
                assert_eq!(u128::from(due), exact, "rate {rate_per_s}, arrival {i}");
            }
        }
    }

    #[test]
    fn poisson_parts_keep_the_total_rate_and_do_not_repeat_each_other() {
        let arrival = OpenArrival::Poisson { rate_per_s: 100_000 };
        let rows: Vec<Vec<u64>> = parts(2)
            .map(|part| Arrivals::new(arrival, 7, part).take_while(|due| *due < NS_PER_S).collect())
            .collect();
        let total = rows[0].len() + rows[1].len();
        // Five standard deviations of a Poisson count of 100,000.
        assert!(total.abs_diff(100_000) < 1_600, "{total} arrivals");
        assert_ne!(rows[0][..100], rows[1][..100]);
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let mean_ns = 20_000.0_f64;
        let row: Vec<u64> =
            Arrivals::new(OpenArrival::Poisson { rate_per_s: 50_000 }, 3, Part::WHOLE)
                .take(100_001)
                .collect();
        for (share, times_mean) in [(0.5, LN_2), (0.9, LN_10), (0.99, 2.0 * LN_10)] {
            let bound = mean_ns * times_mean;
            let below = row.windows(2).filter(|w| ((w[1] - w[0]) as f64) < bound).count();
            let seen = below as f64 / 100_000.0;
            assert!((seen - share).abs() < 0.005, "{seen} of the gaps below {times_mean} means");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_row_and_another_seed_another() {
        let arrival = OpenArrival::Poisson { rate_per_s: 10 };
        let row = |seed| Arrivals::new(arrival, seed, Part::WHOLE).take(50).collect::<Vec<_>>();
        assert_eq!(row(1), row(1));
        assert_ne!(row(1), row(2));
    }

    #[test]
    fn only_due_arrivals_are_taken() {
        let mut row = Arrivals::new(OpenArrival::Constant { rate_per_s: 1_000 }, 0, Part::WHOLE);
        assert_eq!(row.take_due(0), Some(0));
        assert_eq!(row.take_due(999_999), None);
        assert_eq!(row.next_ns(), 1_000_000);
        assert_eq!(row.take_due(5_000_000), Some(1_000_000));
    }

    #[test]
    fn a_generator_that_falls_behind_shows_in_the_mean_gap() {
        let mut kept = ArrivalCheck::default();
        let mut late = ArrivalCheck::default();
        for i in 0..1_000_u64 {
            kept.note(i * 1_000, i * 1_000 + 40);
            late.note(i * 1_000, i * 1_100);
        }
        assert!(kept.gap_error().unwrap().percent < 0.01);
        assert!((late.gap_error().unwrap().percent - 10.0).abs() < 0.01);
        assert_eq!(ArrivalCheck::default().gap_error(), None);
    }
}
