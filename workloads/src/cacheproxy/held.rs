//! The keys that a shard owns, in one tier or two: what a shard does with its tiers whichever they are.
//!
//! One tier is asked by itself; two decide between them who is asked ([`Tiers`]). What concerns memory
//! concerns each tier that is kept there.

use super::operation::{ExpTime, Operation, Outcome};
use super::store::{Pass, Stats};
use super::tier::Tier;
use super::tiers::Tiers;

/// Items that a step of the sweep looks at: some tens of microseconds.
const SWEPT_ITEMS: u32 = 256;

/// The keys that a shard owns, in one tier or two.
#[derive(Debug)]
pub(super) enum Held {
    One(Tier),
    Two(Box<Tiers>),
}

impl Held {
    pub(super) fn apply_at_once(&self, operation: &Operation) -> Option<Outcome> {
        match self {
            Self::One(tier) => tier.apply_at_once(operation),
            Self::Two(tiers) => tiers.apply_at_once(operation),
        }
    }

    pub(super) async fn apply(&self, operation: &Operation) -> Outcome {
        match self {
            Self::One(tier) => tier.apply(operation).await,
            Self::Two(tiers) => tiers.apply(operation).await,
        }
    }

    /// Its tiers, the upper first.
    pub(super) fn tiers(&self) -> impl Iterator<Item = &Tier> {
        let (upper, lower) = match self {
            Self::One(tier) => (tier, None),
            Self::Two(tiers) => {
                let [upper, lower] = tiers.each();
                (upper, Some(lower))
            }
        };
        std::iter::once(upper).chain(lower)
    }

    /// What its memory holds and has done, all tiers together; `None` if nothing is in memory.
    pub(super) fn stats(&self) -> Option<Stats> {
        let stats = self
            .tiers()
            .filter_map(Tier::store)
            .map(|(store, clock)| store.borrow().stats(clock.now()));
        stats.reduce(|mut sum, other| {
            sum.add(&other);
            sum
        })
    }

    /// The tier that has the say: the only one, or the lower.
    pub(super) fn decider(&self) -> &Tier {
        match self {
            Self::One(tier) => tier,
            Self::Two(tiers) => tiers.each()[1],
        }
    }

    /// Tells two tiers that what is below is being flushed.
    pub(super) fn flush_begins(&self, delay: ExpTime) {
        if let Self::Two(tiers) = self {
            tiers.flush_begins(delay);
        }
    }

    /// Looks at some items of each tier for what is gone. Tells whether there is more to look at.
    pub(super) fn sweep(&self) -> Pass {
        let mut pass = Pass::Ended;
        for (store, clock) in self.tiers().filter_map(Tier::store) {
            if store.borrow_mut().sweep(clock.now(), SWEPT_ITEMS).pass == Pass::Going {
                pass = Pass::Going;
            }
        }
        pass
    }
}
