//! One rate that all shards share: a schedule of tokens, and leases of them.
//!
//! The whole state is one number, the time at which the next token is due if none is left over (the
//! theoretical arrival time of the generic cell rate algorithm, ITU-T I.371). A lease moves it on by
//! what its tokens are worth in time. It may not be moved farther than half a lease time beyond now,
//! and what was leased may be spent for the other half: so what is spent in any span of time is at
//! most what the rate gives in that span and one lease time more.
//!
//! The one number is all that must be consistent, and nothing else is published by it: relaxed
//! orders are enough.

use std::sync::Arc;
use std::time::Duration;

use super::sync::{AtomicU64, Ordering};
use crate::runtime::{Time, nanos};

/// Handle of a rate; its clones are the same rate.
#[derive(Clone, Debug)]
pub(crate) struct Tokens(Arc<Schedule>);

#[derive(Debug)]
struct Schedule {
    per_s: AtomicU64,
    /// When the next token is due, in nanoseconds since the engine started.
    due: AtomicU64,
    /// Half of the lease time.
    half: Duration,
}

/// What was taken of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Tokens; at most as many as were wanted.
    pub(crate) granted: u64,
    /// When more can be had, if less was granted than wanted.
    pub(crate) more_at: Time,
}

const SECOND_NS: u64 = 1_000_000_000;

/// What so many tokens are worth in time, rounded up so that the rate is never exceeded.
fn worth_ns(n_tokens: u64, per_s: u64) -> u64 {
    let worth = (u128::from(n_tokens) * u128::from(SECOND_NS)).div_ceil(u128::from(per_s));
    u64::try_from(worth).unwrap_or(u64::MAX)
}

/// The whole tokens that come in so much time.
fn come(span_ns: u64, per_s: u64) -> u64 {
    let tokens = u128::from(span_ns) * u128::from(per_s) / u128::from(SECOND_NS);
    u64::try_from(tokens).unwrap_or(u64::MAX)
}

impl Tokens {
    /// A rate of `per_s` tokens a second, exact to within one `lease`. A rate of 0 counts as 1.
    pub(crate) fn new(per_s: u64, lease: Duration) -> Self {
        let per_s = AtomicU64::new(per_s.max(1));
        Self(Arc::new(Schedule { per_s, due: AtomicU64::new(0), half: lease / 2 }))
    }

    pub(crate) fn per_s(&self) -> u64 {
        self.0.per_s.load(Ordering::Relaxed)
    }

    /// How long a lease may be spent.
    pub(crate) fn kept(&self) -> Duration {
        self.0.half
    }

    /// Takes up to `want` tokens.
    pub(crate) fn lease(&self, now: Time, want: u64) -> Lease {
        let per_s = self.per_s();
        // Tokens may be had so far ahead. At low rates a single one is more than half a lease.
        let ahead = nanos(self.0.half).max(worth_ns(1, per_s));
        let ahead_max = come(ahead, per_s);
        // So that a shard that waits gets more than the first token of many that it wants.
        let enough = worth_ns(want.min(ahead_max / 2).max(1), per_s);
        let more_at = |due: u64| Time::from_nanos(due.saturating_add(enough).saturating_sub(ahead));
        let now = now.as_nanos();
        let mut due = self.0.due.load(Ordering::Relaxed);
        loop {
            let from = due.max(now);
            let room = now.saturating_add(ahead).saturating_sub(from);
            let granted = want.min(come(room, per_s));
            if granted == 0 {
                return Lease { granted, more_at: more_at(due) };
            }
            let next = from.saturating_add(worth_ns(granted, per_s));
            let (orders, cell) = ((Ordering::Relaxed, Ordering::Relaxed), &self.0.due);
            match cell.compare_exchange_weak(due, next, orders.0, orders.1) {
                Ok(_) => return Lease { granted, more_at: more_at(next) },
                Err(seen) => due = seen,
            }
        }
    }

    /// Takes `n` tokens that may not have come yet.
    pub(crate) fn borrow(&self, now: Time, n: u64) {
        let worth = worth_ns(n, self.per_s());
        self.move_due(|due| due.max(now.as_nanos()).saturating_add(worth));
    }

    /// Changes the rate. What was borrowed ahead is paid back at the new one.
    pub(crate) fn set_per_s(&self, now: Time, per_s: u64) {
        let per_s = per_s.max(1);
        let old = self.0.per_s.swap(per_s, Ordering::Relaxed);
        let scale = |ahead: u64| u128::from(ahead) * u128::from(old) / u128::from(per_s);
        self.move_due(|due| match due.checked_sub(now.as_nanos()) {
            None => due,
            Some(ahead) => {
                let ahead = u64::try_from(scale(ahead)).unwrap_or(u64::MAX);
                now.as_nanos().saturating_add(ahead)
            }
        });
    }

    fn move_due(&self, change: impl Fn(u64) -> u64) {
        let orders = (Ordering::Relaxed, Ordering::Relaxed);
        let mut due = self.0.due.load(Ordering::Relaxed);
        while let Err(seen) = self.0.due.compare_exchange_weak(due, change(due), orders.0, orders.1)
        {
            due = seen;
        }
    }
}
