//! Two tiers as one cache: what goes to which, in which order, and what is right when one fails.
//!
//! The lower tier has the say. Whatever changes an item is done there first, and what comes of it
//! there is what the client is told; the upper tier keeps copies of whole items for plain reads, and
//! nothing else. Whoever needs more than value and flags (a cas, the right to fill it again) is
//! answered by the lower tier.
//!
//! ```text
//!             plain read                  any other read        write
//!   upper     hit ─▶ told                                       3 same, or drop the copy
//!             miss │    ▲ 3 copy, with the time that is left     ▲
//!   lower          └─2─▶ hit, miss ─▶ told     1 ─▶ told        1 ─▶ told (4)
//! ```
//!
//! [`Policy::Bulk`] is for those who write much that nobody reads soon: nothing new comes into the
//! upper tier, and what is there is kept right.
//!
//! Nobody reads an older value than was acknowledged before. A key's work across tiers is done under
//! its lock, so a copy is never made of what a write has replaced meanwhile. And before its item is
//! changed below, a key is *doubted*: reads pass by the copy above, until that has been renewed or
//! dropped. Where neither can be had (the upper tier is downstream too, and does not answer; the
//! caller was dropped half-way), the doubt stays.

mod copied;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use hashbrown::HashSet;

use super::clock::Clock;
use super::locks::{KeyLocks, Waited};
use super::operation::{Beside, Delete, Failure, Get, Key, Operation, Outcome, Wanted, What};
use super::tier::Tier;
use copied::{Copied, is_not_sent, replaces};

/// Keys of one shard that are doubted at once; what would doubt more is refused before it is sent.
/// Each takes a key and a place in a table, so this is some tens of megabytes at worst.
const DOUBTS_MAX: usize = 65_536;
/// What the upper of two tiers keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// What was read or written last.
    Fill,
    /// What it has already.
    Bulk,
}

/// Two tiers on the shard that owns their keys.
#[derive(Debug)]
pub(super) struct Tiers {
    upper: Tier,
    lower: Tier,
    policy: Policy,
    clock: Clock,
    locks: KeyLocks,
    /// Keys whose copies above may be older than what is below, or soon will be.
    doubts: RefCell<HashSet<Key>>,
}

/// What is known of a copy that should have been made right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Above {
    /// It is, or there is none.
    Right,
    /// It is what it was: nothing has been sent.
    Untouched,
    Unknown,
}

/// There are as many doubts as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TooManyDoubts;

/// Whether a key was doubted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Trusted,
    Doubted,
}

impl Tiers {
    pub(super) fn new(upper: Tier, lower: Tier, policy: Policy, clock: Clock) -> Self {
        let (locks, doubts) = (KeyLocks::default(), RefCell::default());
        Self { upper, lower, policy, clock, locks, doubts }
    }

    /// The upper and the lower tier.
    pub(super) fn each(&self) -> [&Tier; 2] {
        [&self.upper, &self.lower]
    }

    /// The answer to a read that finds a copy in memory.
    pub(super) fn apply_at_once(&self, operation: &Operation) -> Option<Outcome> {
        if !is_plain_read(operation) || self.is_doubted(&operation.key) {
            return None;
        }
        let outcome = self.upper.apply_at_once(operation)?;
        matches!(outcome, Outcome::Hit(_)).then_some(outcome)
    }

    /// Does an operation that [`Self::apply_at_once`] had no answer to. Dropped half-way, it may be
    /// done below; no copy that is older is read then.
    pub(super) async fn apply(&self, operation: &Operation) -> Outcome {
        match &operation.what {
            What::Get(_) if is_plain_read(operation) => self.read(operation).await,
            What::Get(get) if get.may_be_shared() => self.lower.apply(operation).await,
            What::Describe => self.lower.apply(operation).await,
            What::Get(_) | What::Set(_) | What::Delete(_) | What::Count(_) => {
                self.locks.hold(&operation.key, async |_| self.write(operation).await).await
            }
        }
    }

    /// A read of value and flags. Copies in memory have been looked at.
    async fn read(&self, operation: &Operation) -> Outcome {
        let key = &operation.key;
        if self.upper.store().is_none() && !self.is_doubted(key) {
            let outcome = self.upper.apply(operation).await;
            if matches!(outcome, Outcome::Hit(_)) && !self.is_doubted(key) {
                return outcome;
            }
        }
        if self.policy == Policy::Bulk && !self.is_doubted(key) {
            return self.lower.apply(operation).await;
        }
        let below = async |waited| {
            if waited == Waited::Yes && !self.is_doubted(key) {
                let outcome = self.upper.apply(operation).await;
                if matches!(outcome, Outcome::Hit(_)) {
                    return outcome;
                }
            }
            self.read_below(operation).await
        };
        self.locks.hold(key, below).await
    }

    /// Reads below and makes the copy above right, under the lock of the key.
    async fn read_below(&self, operation: &Operation) -> Outcome {
        let key = &operation.key;
        let get = Get { beside: Beside::Ttl, ..Get::PLAIN };
        let asked = Operation { key: key.clone(), what: What::Get(get) };
        let outcome = self.lower.apply(&asked).await;
        let copied = match (&outcome, self.policy) {
            (Outcome::Failed(_), _) => return outcome,
            (Outcome::Hit(entry), Policy::Fill) => Copied::after_read(self.clock.now(), entry),
            _ if self.is_doubted(key) => Copied::Gone,
            _ => Copied::Same,
        };
        // Without room for a doubt there is no copy, and what is doubted stays so.
        if copied == Copied::Same {
            return outcome;
        }
        let Ok(before) = self.doubt(key) else { return outcome };
        match (self.make_right(key, copied).await, before) {
            // Nothing has changed below: a copy that was right still is.
            (Above::Right, _) | (Above::Untouched, Before::Trusted) => self.trust(key),
            (Above::Untouched, Before::Doubted) | (Above::Unknown, _) => {}
        }
        outcome
    }

    /// Changes an item below, then its copy above, under the lock of the key.
    async fn write(&self, operation: &Operation) -> Outcome {
        let key = &operation.key;
        let Ok(before) = self.doubt(key) else { return Outcome::Failed(Failure::Overloaded) };
        let outcome = self.lower.apply(operation).await;
        let copied = Copied::after_write(self.policy, &operation.what, &outcome);
        let copied = if before == Before::Doubted { copied.of_doubted() } else { copied };
        let is_right = match copied {
            Copied::Same => before == Before::Trusted,
            Copied::By(_) | Copied::Gone => self.make_right(key, copied).await == Above::Right,
        };
        if is_right {
            self.trust(key);
        }
        outcome
    }

    fn is_doubted(&self, key: &Key) -> bool {
        self.doubts.borrow().contains(key)
    }

    fn doubt(&self, key: &Key) -> Result<Before, TooManyDoubts> {
        let mut doubts = self.doubts.borrow_mut();
        if doubts.contains(key) {
            return Ok(Before::Doubted);
        }
        if doubts.len() >= DOUBTS_MAX {
            return Err(TooManyDoubts);
        }
        doubts.insert(key.clone());
        Ok(Before::Trusted)
    }

    fn trust(&self, key: &Key) {
        self.doubts.borrow_mut().remove(key);
    }

    /// Makes the copy of a doubted key what its item is, or drops it.
    async fn make_right(&self, key: &Key, copied: Copied) -> Above {
        let mut dropped = Above::Untouched;
        if let Copied::By(what) = copied {
            let is_whole = replaces(&what);
            match self.upper.apply(&Operation { key: key.clone(), what }).await {
                Outcome::Stored(_) | Outcome::Hit(_) | Outcome::Miss => return Above::Right,
                Outcome::NotStored if is_whole => return Above::Right,
                Outcome::Failed(failure) if is_not_sent(failure) => {}
                // Too large for there, say, as a joined value that is not stored may be: what is
                // there still has to go.
                _ => dropped = Above::Unknown,
            }
        }
        let what = What::Delete(Delete::default());
        match self.upper.apply(&Operation { key: key.clone(), what }).await {
            Outcome::Failed(failure) if is_not_sent(failure) => dropped,
            Outcome::Failed(_) => Above::Unknown,
            _ => Above::Right,
        }
    }
}

/// Whether a copy above can answer it.
fn is_plain_read(operation: &Operation) -> bool {
    let What::Get(get) = &operation.what else { return false };
    get.may_be_shared() && get.beside == Beside::Flags && get.value == Wanted::Yes
}
