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

use std::cell::RefCell;

use hashbrown::HashSet;

use super::clock::Clock;
use super::locks::{KeyLocks, Waited};
use super::operation::{
    Beside, Delete, Entry, ExpTime, Failure, Get, Key, Operation, Outcome, Set, SetMode, Wanted,
    What, Win,
};
use super::tier::Tier;

/// Keys of one shard that are doubted at once; what would doubt more is refused before it is sent.
/// Each takes a key and a place in a table, so this is some tens of megabytes at worst.
const DOUBTS_MAX: usize = 65_536;
/// Up to here an expiry is relative to now, as clients send it.
const RELATIVE_S_MAX: u32 = 30 * 24 * 60 * 60;

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

/// What a change below means for the copy above.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Copied {
    /// Nothing has changed.
    Same,
    /// This makes it right, or finds none.
    By(What),
    /// It has to go.
    Gone,
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
            (Outcome::Hit(entry), Policy::Fill) => self.copy_of(entry),
            _ if self.is_doubted(key) => Copied::Gone,
            _ => Copied::Same,
        };
        // Without room for a doubt there is no copy, and what is doubted stays so.
        if copied != Copied::Same
            && self.doubt(key).is_ok()
            && self.make_right(key, copied).await.is_ok()
        {
            self.doubts.borrow_mut().remove(key);
        }
        outcome
    }

    /// Changes an item below, then its copy above, under the lock of the key.
    async fn write(&self, operation: &Operation) -> Outcome {
        let key = &operation.key;
        let Ok(before) = self.doubt(key) else { return Outcome::Failed(Failure::Overloaded) };
        let outcome = self.lower.apply(operation).await;
        let copied = self.copied(&operation.what, &outcome);
        let is_as_before = copied == Copied::Same && before == Before::Trusted;
        let is_right = copied != Copied::Same && self.make_right(key, copied).await.is_ok();
        if is_as_before || is_right {
            self.doubts.borrow_mut().remove(key);
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

    /// What an operation that came to `outcome` below means for the copy above.
    fn copied(&self, what: &What, outcome: &Outcome) -> Copied {
        match (what, outcome) {
            (_, Outcome::Exists | Outcome::NotANumber | Outcome::Described(_)) => Copied::Same,
            (_, Outcome::Failed(Failure::Unavailable | Failure::Overloaded | Failure::Closing)) => {
                Copied::Same
            }
            // There is one below.
            (What::Set(Set { mode: SetMode::Add, .. }), Outcome::NotStored) => Copied::Same,
            (What::Set(set), Outcome::Stored(_)) if is_whole_change(set) => {
                Copied::By(What::Set(self.set_above(set)))
            }
            (What::Get(Get { touch: touch @ Some(_), vivify: None, .. }), Outcome::Hit(_)) => {
                Copied::By(What::Get(Get { value: Wanted::No, touch: *touch, ..Get::PLAIN }))
            }
            // It has changed in a way that is not known here, or is not there, or nobody knows.
            _ => Copied::Gone,
        }
    }

    /// The store above that follows one below.
    fn set_above(&self, set: &Set) -> Set {
        let mode = match (set.mode, self.policy) {
            // What is not there below may still have a copy.
            (SetMode::Add | SetMode::Set, Policy::Fill) => SetMode::Set,
            (SetMode::Add | SetMode::Set | SetMode::Replace, _) => SetMode::Replace,
            (SetMode::Append | SetMode::Prepend, _) => set.mode,
        };
        Set::new(mode, set.flags, set.expires, set.value.clone())
    }

    /// The copy of an item that a read has found below.
    fn copy_of(&self, entry: &Entry) -> Copied {
        let is_as_usual = !entry.stale && entry.win == Win::None;
        let Some(expires) = self.expires_after(entry.ttl_s).filter(|_| is_as_usual) else {
            return Copied::Gone;
        };
        let value = entry.value.clone();
        Copied::By(What::Set(Set::new(SetMode::Set, entry.flags, expires, value)))
    }

    /// How a client would say the time that is left; `None` if there is none.
    fn expires_after(&self, ttl_s: Option<u32>) -> Option<ExpTime> {
        let said_s = match ttl_s {
            None => 0,
            Some(0) => return None,
            Some(left_s) if left_s > RELATIVE_S_MAX => self.clock.now().0.saturating_add(left_s),
            Some(left_s) => left_s,
        };
        Some(ExpTime(i32::try_from(said_s).unwrap_or(i32::MAX)))
    }

    /// Makes the copy of a doubted key what its item is, or drops it.
    async fn make_right(&self, key: &Key, copied: Copied) -> Result<(), Failure> {
        if let Copied::By(what) = copied {
            let renewed = self.upper.apply(&Operation { key: key.clone(), what }).await;
            match renewed {
                Outcome::Stored(_) | Outcome::NotStored | Outcome::Hit(_) | Outcome::Miss => {
                    return Ok(());
                }
                // Too large for there, say: what is there still has to go.
                _ => {}
            }
        }
        let what = What::Delete(Delete::default());
        match self.upper.apply(&Operation { key: key.clone(), what }).await {
            Outcome::Failed(failure) => Err(failure),
            _ => Ok(()),
        }
    }
}

/// Whether a copy above can answer it.
fn is_plain_read(operation: &Operation) -> bool {
    let What::Get(get) = &operation.what else { return false };
    get.may_be_shared() && get.beside == Beside::Flags
}

/// Whether the store says all that the item is afterwards, or how it differs from before.
fn is_whole_change(set: &Set) -> bool {
    !set.invalidate && set.vivify.is_none()
}
