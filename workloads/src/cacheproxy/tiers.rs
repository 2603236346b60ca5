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
//! Nobody reads an older value than was acknowledged before, and nobody waits here for another's
//! operation. A tier may let him wait, as one that keeps values in pieces does. Each tier does what
//! changes a key in the order of the calls, and reads may overtake; so what two tiers need beside that
//! is to know who came between (`ledger.rs`). From before its item is changed below until its copy is
//! right, a key is *doubted*: reads pass by the copy above. Of equal reads that miss it one makes the
//! copy, unless a write has begun since.
//!
//! # When a tier fails
//!
//! Where a copy could not be made right (the upper tier does not answer; the caller was dropped
//! half-way), the doubt stays, until the copy has been renewed or dropped. The next write of the key
//! tries that, and a step every second (`repair.rs`). What was not answered may still be done late,
//! so such a doubt stays longer (`doubts.rs`). When a shard doubts more keys than it can remember, it
//! passes by the upper tier altogether: reads and writes go below alone. That ends when the upper
//! tier can be reached and has been flushed, twice. It holds copies, so this costs misses.
//!
//! # What differs from one tier
//!
//! - A plain read that fills the upper tier asks below for the time that is left, which memcached
//!   tells by a meta command alone. Of a stale item such a read takes the right to fill it again
//!   (`W`), and its client has no way to learn that it has.
//! - A relative expiry is made a second of the epoch for the copy, by our clock and before the lower
//!   tier is asked, so that the copy does not outlive its item: to a second, and as far as our clock
//!   and that of a server above agree.

mod copied;
mod doubts;
mod dues;
mod work;
mod ledger;
mod part;
mod repair;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use forebay::now;

use super::clock::Clock;
use super::operation::{
    Beside, Delete, ExpTime, Failure, Get, Key, Operation, Outcome, Wanted, What,
};
use super::store::flush_at;
use super::tier::Tier;
pub(super) use doubts::GRACE;

use copied::{Copied, is_not_sent, leaves_nothing_old};
use dues::Dues;
use ledger::Ledger;
use part::{Part, Phase};
use work::{Answered, Read};

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
    ledger: RefCell<Ledger>,
    /// When the lower tier will have been flushed.
    flush_dues: RefCell<Dues>,
}

impl Tiers {
    pub(super) fn new(upper: Tier, lower: Tier, policy: Policy, clock: Clock) -> Self {
        let (ledger, flush_dues) = (RefCell::default(), RefCell::default());
        Self { upper, lower, policy, clock, ledger, flush_dues }
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
            // At most its use and who is to fill it again change, which no copy tells.
            What::Get(Get { touch: None, vivify: None, .. }) | What::Describe => {
                self.lower.apply(operation).await
            }
            What::Get(_) | What::Set(_) | What::Delete(_) | What::Count(_) => {
                self.write(operation).await
            }
        }
    }

    /// The lower tier is being flushed, or will be when this time comes. To be said on every shard,
    /// before that tier is told and again when it has answered, since it reckons from some moment
    /// between them: copies that are there are dropped soon, and not read until then.
    pub(super) fn flush_begins(&self, delay: ExpTime) {
        match flush_at(delay, self.clock.now()) {
            Some(due) => self.flush_dues.borrow_mut().note(due),
            None => self.ledger.borrow_mut().pass_by(),
        }
    }

    /// A read of value and flags. Copies in memory have been looked at.
    async fn read(&self, operation: &Operation) -> Outcome {
        let key = &operation.key;
        let mut above = Outcome::Miss;
        if self.upper.store().is_none() && !self.is_doubted(key) {
            above = self.upper.apply(operation).await;
            if matches!(above, Outcome::Hit(_)) && !self.is_doubted(key) {
                return above;
            }
        }
        if self.policy == Policy::Bulk {
            return self.lower.apply(operation).await;
        }
        // All readers ask for the same, also those that make no copy: so they may share an answer.
        let get = Get { beside: Beside::Ttl, ..Get::PLAIN };
        let asked = Operation { key: key.clone(), what: What::Get(get) };
        // A tier that has just failed is not asked for more.
        let has_failed = matches!(above, Outcome::Failed(_));
        let read = (!has_failed).then(|| self.ledger.borrow_mut().begin_read(key)).flatten();
        match read {
            Some(read) => self.read_to_copy(&asked, read).await,
            None => self.lower.apply(&asked).await,
        }
    }

    /// Reads below and makes the copy.
    async fn read_to_copy(&self, asked: &Operation, read: Read) -> Outcome {
        let key = &asked.key;
        let asked_at = self.clock.now();
        let mut part = Part::new(&self.ledger, key, Phase::Read(read));
        let outcome = self.lower.apply(asked).await;
        let copied = match &outcome {
            Outcome::Hit(entry) => Copied::after_read(asked_at, entry),
            _ => Copied::Same,
        };
        if let Some(what) = part.below(copied, Answered::Yes) {
            part.above(self.make_right(key, what).await);
        }
        outcome
    }

    /// Changes an item below, then its copy above.
    async fn write(&self, operation: &Operation) -> Outcome {
        let key = &operation.key;
        let asked_at = self.clock.now();
        let write = self.ledger.borrow_mut().begin_write(key, now());
        let mut part = Part::new(&self.ledger, key, Phase::Written(write));
        let outcome = self.lower.apply(operation).await;
        let answered = match outcome {
            Outcome::Failed(Failure::Unanswered) => Answered::No,
            Outcome::Failed(failure) if is_not_sent(failure) => Answered::NotSent,
            _ => Answered::Yes,
        };
        let copied = Copied::after_write(self.policy, asked_at, &operation.what, &outcome);
        if let Some(what) = part.below(copied, answered) {
            part.above(self.make_right(key, what).await);
        }
        outcome
    }

    fn is_doubted(&self, key: &Key) -> bool {
        let mut flush_dues = self.flush_dues.borrow_mut();
        if !flush_dues.is_empty() && flush_dues.take(self.clock.now()) {
            self.ledger.borrow_mut().pass_by();
        }
        self.ledger.borrow().is_doubted(key)
    }

    /// Makes the copy of a key what its item is, or drops it.
    async fn make_right(&self, key: &Key, what: What) -> Result<(), Failure> {
        if !self.upper.can_hold(key) {
            return Ok(());
        }
        let is_whole = leaves_nothing_old(&what);
        match self.upper.apply(&Operation { key: key.clone(), what }).await {
            Outcome::Stored(_) | Outcome::Hit(_) | Outcome::Miss | Outcome::Deleted => {
                return Ok(());
            }
            Outcome::NotStored if is_whole => return Ok(()),
            Outcome::Failed(failure) if failure != Failure::Refused => return Err(failure),
            // Too large for there, say, as a joined value that is not stored may be: what is there
            // still has to go.
            _ => {}
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
    get.may_be_shared() && get.beside == Beside::Flags && get.value == Wanted::Yes
}
