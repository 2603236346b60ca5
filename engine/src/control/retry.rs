//! Retries that cannot become a storm: a budget of them, and a wait before each.
//!
//! A client that tries again three times when its downstream fails sends that downstream four times
//! the load just when it can bear least. The budget (Finagle's: a fifth of first tries, and ten a
//! second for those who send little) bounds what retries add, whatever fails. The wait doubles with
//! each attempt and is drawn at random, so that those who failed together do not come back together.

use std::time::Duration;

use super::Reading;
use crate::runtime::Time;

/// How a stage tries again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries of a whole batch at most, the first included. One that has failed so often is halved, and
    /// its halves again, until what is poisoned fails alone. Default 3: what fails three times rarely
    /// succeeds the fourth.
    pub attempts_max: u32,
    /// The longest wait before the second try; it doubles for each further one, and what is waited
    /// is drawn between half of it and all. Default 10 ms: several round trips to a near downstream.
    pub backoff: Duration,
    /// Retries in the long run, in percent of first tries. Default 20, as Finagle has it.
    pub budget_percent: u32,
    /// Retries per second that are allowed beyond that, for those who send little. Default 10, as
    /// Finagle has it.
    pub min_per_s: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            backoff: Duration::from_millis(10),
            budget_percent: 20,
            min_per_s: 10,
        }
    }
}

/// The doubling of the wait ends here: 64 times the first.
const DOUBLINGS_MAX: u32 = 6;

impl Retry {
    /// How long to wait before try `attempt`, counted from 1 for the first, which waits not at all.
    /// `random` is any 64 random bits.
    pub(crate) fn backoff(&self, attempt: u32, random: u64) -> Duration {
        let Some(doublings) = attempt.checked_sub(2) else { return Duration::ZERO };
        let longest = self.backoff.saturating_mul(1 << doublings.min(DOUBLINGS_MAX));
        let half = longest / 2;
        half + half.mul_f64(random as f64 / u64::MAX as f64)
    }
}

/// Retries that first tries may earn ahead: what it takes to halve four batches of the default size
/// down to their single items. What is earned beyond is lost, so that an hour of success pays for no
/// storm.
const EARNED_MAX: f64 = 1_024.0;

/// For how long the retries of the minimum rate are kept; Finagle's time too.
const KEPT_S: f64 = 10.0;

/// What may still be retried.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    per_try: f64,
    min_per_s: f64,
    /// Retries that first tries have earned.
    earned: f64,
    /// Retries of the minimum rate.
    spare: f64,
    filled: Time,
}

impl RetryBudget {
    pub(crate) fn new(retry: &Retry) -> Self {
        let min_per_s = f64::from(retry.min_per_s);
        Self {
            per_try: f64::from(retry.budget_percent) / 100.0,
            min_per_s,
            earned: 0.0,
            spare: min_per_s,
            filled: Time::ZERO,
        }
    }

    /// A first try was sent.
    pub(crate) fn deposit(&mut self) {
        self.earned = (self.earned + self.per_try).min(EARNED_MAX);
    }

    /// Takes one retry from the budget; `false` if it is used up, and the failure stands.
    pub(crate) fn withdraw(&mut self, now: Time) -> bool {
        let came = now.since(self.filled).as_secs_f64() * self.min_per_s;
        self.spare = (self.spare + came).min(self.min_per_s * KEPT_S);
        self.filled = self.filled.max(now);
        let from = if self.earned >= 1.0 { &mut self.earned } else { &mut self.spare };
        let is_left = *from >= 1.0;
        if is_left {
            *from -= 1.0;
        }
        is_left
    }

    pub(crate) fn readings(&self, out: &mut Vec<Reading>) {
        out.push(Reading::new("retries_left", self.earned + self.spare));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Retries granted while each of `n_tries` first tries, a `gap` apart, fails and all its retries
    /// do as well.
    fn granted(retry: &Retry, n_tries: u32, gap: Duration) -> u32 {
        let mut budget = RetryBudget::new(retry);
        let (mut now, mut n_granted) = (Time::ZERO, 0);
        for _ in 0..n_tries {
            budget.deposit();
            n_granted += (1..retry.attempts_max).take_while(|_| budget.withdraw(now)).count();
            now = now.after(gap);
        }
        u32::try_from(n_granted).unwrap()
    }

    #[test]
    fn a_downstream_that_fails_sees_a_fifth_more_and_ten_a_second() {
        let n_granted = granted(&Retry::default(), 10_000, MS);
        let wanted = 10_000 / 5 + 10 * 10 + 10;
        assert!((wanted - 2..=wanted).contains(&n_granted), "{n_granted} of {wanted}");
    }

    #[test]
    fn without_a_budget_there_is_a_storm_which_shows_that_it_would_be_seen() {
        let unbounded = Retry { budget_percent: 1_000, ..Retry::default() };
        assert_eq!(granted(&unbounded, 10_000, MS), 20_000);
    }

    #[test]
    fn an_hour_of_success_pays_for_no_storm() {
        let mut budget = RetryBudget::new(&Retry { min_per_s: 0, ..Retry::default() });
        (0..1_000_000).for_each(|_| budget.deposit());
        let n_granted = (0..10_000).filter(|_| budget.withdraw(Time::ZERO)).count();
        assert_eq!(n_granted, 1_024);
    }

    #[test]
    fn the_wait_doubles_within_its_jitter_up_to_a_bound() {
        let retry = Retry { backoff: MS * 10, ..Retry::default() };
        let check = |attempt, shortest: Duration, longest: Duration| {
            assert_eq!(retry.backoff(attempt, 0), shortest, "{attempt}");
            assert_eq!(retry.backoff(attempt, u64::MAX), longest, "{attempt}");
        };
        check(1, Duration::ZERO, Duration::ZERO);
        check(2, MS * 5, MS * 10);
        check(3, MS * 10, MS * 20);
        check(8, MS * 320, MS * 640);
        check(u32::MAX, MS * 320, MS * 640);
    }
}
