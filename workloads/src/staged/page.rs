//! The dynamic page: what is in it, and how long it takes to make.
//!
//! Both are functions of the seed and the page's number, so that the clients' side can check every
//! byte, and a run that is repeated does the same work whatever the order in which pages are asked.

use std::time::Duration;

use rand_distr::{Distribution as _, Exp1};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::SeedableRng as _;

use super::config::{Dynamic, Spread};
use super::pattern::{Pattern, mixed};

/// Tells the bytes of pages from others of the same seed.
const KIND: u64 = 2;
/// Tells the service times of pages from other numbers of the same seed.
const TIMES: u64 = 3;
/// What every target of a dynamic page begins with.
const ROOT: &str = "/dynamic/";

/// How much less than the whole page is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level(pub u8);

impl Level {
    /// The whole page.
    pub const WHOLE: Self = Self(0);
    /// The least that is made: there is one level beneath the whole page.
    pub const LEAST: Self = Self(1);
}

/// Names a dynamic page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageId(pub u64);

impl PageId {
    /// Reads the target of a request, such as `/dynamic/7`. There is one spelling.
    #[must_use]
    pub fn parse(target: &str) -> Option<Self> {
        let digits = target.strip_prefix(ROOT)?;
        let is_plain = digits.bytes().all(|b| b.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        if is_plain { digits.parse().ok().map(Self) } else { None }
    }

    /// Its bytes in a run with this seed; a degraded page is their beginning.
    #[must_use]
    pub fn content(self, seed: u64) -> Pattern {
        Pattern::new(seed, KIND, self.0)
    }

    /// How long making it takes.
    #[must_use]
    pub fn service_time(self, dynamic: &Dynamic, seed: u64, level: Level) -> Duration {
        let mean = Duration::from_micros(dynamic.service_us.into());
        let whole = match dynamic.spread {
            Spread::Fixed => mean,
            Spread::Exponential => {
                let mut source = SplitMix64::seed_from_u64(mixed(mixed(seed) ^ TIMES) ^ self.0);
                let share: f64 = Exp1.sample(&mut source);
                mean.mul_f64(share)
            }
        };
        match level {
            Level::WHOLE => whole,
            _ => whole * dynamic.degraded_percent / 100,
        }
    }
}

/// The length of a page.
#[must_use]
pub fn n_bytes(dynamic: &Dynamic, level: Level) -> usize {
    let n_bytes = match level {
        Level::WHOLE => dynamic.page_bytes,
        _ => dynamic.degraded_bytes,
    };
    n_bytes as usize
}

/// The target by which it is asked.
impl std::fmt::Display for PageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{ROOT}{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        for number in [0, 1, 9, 10, u64::MAX] {
            assert_eq!(PageId::parse(&PageId(number).to_string()), Some(PageId(number)));
        }
        for target in [
            "/dynamic/",
            "/dynamic/+1",
            "/dynamic/-1",
            "/dynamic/01",
            "/dynamic/1/",
            "/dynamic/0x1",
            "/dynamic/18446744073709551616",
            "/dynamic/%31",
            "/dynamic",
            "/Dynamic/1",
        ] {
            assert_eq!(PageId::parse(target), None, "{target}");
        }
    }

    #[test]
    fn times_have_the_mean_that_was_asked_and_repeat() {
        const PAGES: u64 = 20_000;
        let dynamic = Dynamic { service_us: 1_000, ..Dynamic::default() };
        let time = |number| PageId(number).service_time(&dynamic, 7, Level::WHOLE);
        let total: Duration = (0..PAGES).map(time).sum();
        let mean_us = total.as_micros() / u128::from(PAGES);
        // The mean of so many strays by 0.7 %; five times that.
        assert!((965..=1_035).contains(&mean_us), "{mean_us} us");
        assert_eq!(time(5), time(5));
        assert_ne!(time(5), time(6));
    }

    #[test]
    fn a_degraded_page_is_shorter_and_takes_its_share() {
        let dynamic = Dynamic { spread: Spread::Fixed, ..Dynamic::default() };
        let time = |level| PageId(1).service_time(&dynamic, 7, level);
        assert_eq!(time(Level::WHOLE), Duration::from_millis(1));
        assert_eq!(time(Level::LEAST), Duration::from_micros(250));
        assert_eq!(
            (n_bytes(&dynamic, Level::WHOLE), n_bytes(&dynamic, Level::LEAST)),
            (8_192, 1_024)
        );
    }
}
