//! How often a stage calls its downstream: one rate for all shards, taken in leases.
//!
//! The downstream counts the calls of the whole process, so all shards take from one schedule
//! (`runtime/shared/tokens.rs`). Each takes for one batch what the batch needs, which is one atomic
//! step per batch and none per item. What is not spent lapses soon, so that an idle shard keeps
//! nothing from the others.

use std::time::Duration;

use super::Reading;
use crate::runtime::Time;
use crate::runtime::shared::tokens::Tokens;

/// How often a stage may call its downstream, all shards together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// What may be sent per second, in units of `counts`.
    pub per_s: u64,
    /// What the downstream counts. Default [`Counts::Calls`].
    pub counts: Counts,
    /// The rate is exact over any second to within what comes in this time, or one unit. Default
    /// 5 ms. Shorter is more exact; but what a shard does not take within half of it is lost, so it
    /// should be several times the lateness of a shard's timers.
    pub lease: Duration,
}

impl RateLimit {
    /// A limit of so many calls per second.
    #[must_use]
    pub const fn per_s(per_s: u64) -> Self {
        Self { per_s, counts: Counts::Calls, lease: Duration::from_millis(5) }
    }
}

/// What a rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Each batch is one.
    Calls,
    /// Each item is one.
    Items,
    /// Each item is as much as it weighs.
    Weight,
}

impl Counts {
    /// What a batch of so many items and so much weight counts for.
    pub(crate) fn of(self, n_items: usize, weight: u64) -> u64 {
        match self {
            Self::Calls => 1,
            Self::Items => n_items as u64,
            Self::Weight => weight,
        }
    }
}

/// The answer of [`Leased::available`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Granted {
    /// So much may be spent now: at least 1, at most what was wanted.
    Now(u64),
    /// Nothing; ask again then.
    At(Time),
}

/// One shard's part of a rate.
#[derive(Debug)]
pub(crate) struct Leased {
    tokens: Tokens,
    held: u64,
    until: Time,
}

impl Leased {
    pub(crate) fn new(tokens: Tokens) -> Self {
        Self { tokens, held: 0, until: Time::ZERO }
    }

    /// How much of `want` may be spent now. What was granted is kept for this shard until half of
    /// the lease time is over, or it is spent.
    pub(crate) fn available(&mut self, now: Time, want: u64) -> Granted {
        self.lapse(now);
        if self.held >= want.max(1) {
            return Granted::Now(want.max(1));
        }
        let lease = self.tokens.lease(now, want.max(1) - self.held);
        if lease.granted > 0 {
            self.held += lease.granted;
            self.until = now.after(self.tokens.kept());
        }
        match self.held {
            0 => Granted::At(lease.more_at),
            held => Granted::Now(held),
        }
    }

    /// Spends `n` of what is available. One item may weigh more than was granted: what is missing is
    /// borrowed from what will come, and all shards wait for it.
    pub(crate) fn spend(&mut self, now: Time, n: u64) {
        self.lapse(now);
        let borrowed = n.saturating_sub(self.held);
        self.held -= n - borrowed;
        if borrowed > 0 {
            self.tokens.borrow(now, borrowed);
        }
    }

    /// What was not spent in time is lost.
    fn lapse(&mut self, now: Time) {
        if now >= self.until {
            self.held = 0;
        }
    }

    /// Changes the rate, for all shards.
    pub(crate) fn set_per_s(&mut self, now: Time, per_s: u64) {
        self.tokens.set_per_s(now, per_s);
    }

    pub(crate) fn readings(&self, out: &mut Vec<Reading>) {
        out.push(Reading::new("rate_per_s", self.tokens.per_s() as f64));
    }
}
