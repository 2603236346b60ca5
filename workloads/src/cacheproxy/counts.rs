//! What clients have asked and what they got, in memcached's numbers and by its rules.
//!
//! Counted where clients are, not where items are: two tiers are asked twice for what a client asks
//! once, and servers downstream count for themselves. The rules are those of 1.6.18, which counts the
//! same thing differently in its three protocols.

use super::operation::{Direction, Outcome, SetMode, What};
use super::protocol::{Answering, Protocol, Refusal};
use super::store::numbers;

numbers! {
    /// What commands have come to.
    pub(super) CommandCounts {
        /// Reads that did not move an expiry.
        cmd_get,
        /// Stores, whatever came of them.
        cmd_set,
        /// `flush_all`.
        cmd_flush,
        /// Reads that moved an expiry, or would have.
        cmd_touch,
        /// `me`.
        cmd_meta,
        /// Reads that found or made an item.
        get_hits,
        /// Reads that found nothing.
        get_misses,
        /// Deletes that found nothing, or another cas.
        delete_misses,
        /// Deletes that removed an item.
        delete_hits,
        /// Increments that found nothing.
        incr_misses,
        /// Increments that counted.
        incr_hits,
        /// Decrements that found nothing.
        decr_misses,
        /// Decrements that counted.
        decr_hits,
        /// Stores that named a cas and found nothing.
        cas_misses,
        /// Stores that named the cas that was there.
        cas_hits,
        /// Stores that named another cas.
        cas_badval,
        /// Reads that moved an expiry.
        touch_hits,
        /// Reads that would have moved an expiry and found nothing.
        touch_misses,
        /// Stores of items that are too large.
        store_too_large,
        /// Stores that found no room.
        store_no_memory,
    }
}

/// What of an operation its counting needs: known before it is done, and kept until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Countable {
    protocol: Protocol,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Touch,
    Store,
    StoreIfCas,
    Delete,
    /// A delete that leaves the item there.
    Mark,
    /// With the number that it makes on a miss.
    Count(Direction, Option<u64>),
    Describe,
    /// Whatever is done, the client is told no.
    Refused(Refusal),
}

impl Countable {
    /// Of a client's command, which may be told no whatever is done.
    pub(super) fn of(answering: &Answering, what: &What) -> Self {
        let countable = Self::done(answering.protocol(), what);
        match answering.told_instead() {
            Some(refusal) => Self { kind: Kind::Refused(refusal), ..countable },
            None => countable,
        }
    }

    /// Of an operation whose outcome is told.
    pub(super) fn done(protocol: Protocol, what: &What) -> Self {
        let kind = match what {
            What::Get(get) if get.touch.is_some() => Kind::Touch,
            What::Get(_) => Kind::Read,
            What::Set(set) => match set.mode {
                SetMode::Set | SetMode::Replace if set.if_cas.is_some() => Kind::StoreIfCas,
                _ => Kind::Store,
            },
            What::Delete(delete) if delete.invalidate || delete.only_value => Kind::Mark,
            What::Delete(_) => Kind::Delete,
            What::Count(count) => {
                Kind::Count(count.direction, count.initial.map(|(first, _)| first))
            }
            What::Describe => Kind::Describe,
        };
        Self { protocol, kind }
    }
}

impl CommandCounts {
    /// Counts one operation that is done.
    pub(super) fn outcome(&mut self, countable: Countable, outcome: &Outcome) {
        let Countable { protocol, kind } = countable;
        match (kind, outcome) {
            // `mg` says what it moves, and finds that there is nothing to be moved.
            (Kind::Touch, Outcome::Miss) if protocol == Protocol::Meta => self.read(outcome),
            (Kind::Touch, _) => self.touch(outcome),
            (Kind::Read, _) => self.read(outcome),
            (Kind::Store | Kind::StoreIfCas, Outcome::TooLarge) => {
                self.refused(protocol, Refusal::TooLarge);
            }
            (Kind::Store | Kind::StoreIfCas, Outcome::NoMemory) => {
                self.refused(protocol, Refusal::NoMemory);
            }
            (Kind::Store, _) => self.cmd_set += 1,
            (Kind::StoreIfCas, _) => self.store_if_cas(outcome),
            (Kind::Delete, Outcome::Deleted) => self.delete_hits += 1,
            (Kind::Delete | Kind::Mark, Outcome::Miss) => self.delete_misses += 1,
            (Kind::Delete | Kind::Mark, Outcome::Exists) if protocol != Protocol::Binary => {
                self.delete_misses += 1;
            }
            (Kind::Delete | Kind::Mark, _) => {}
            (Kind::Count(direction, first), _) => self.count(direction, first, outcome),
            (Kind::Describe, _) => self.cmd_meta += 1,
            (Kind::Refused(refusal), _) => self.refused(protocol, refusal),
        }
    }

    /// Counts one command that is not done.
    pub(super) fn refused(&mut self, protocol: Protocol, refusal: Refusal) {
        match refusal {
            // Its value was there, and no store.
            Refusal::BadData => self.cmd_set += 1,
            Refusal::TooLarge if protocol != Protocol::Binary => self.store_too_large += 1,
            Refusal::NoMemory if protocol != Protocol::Binary => self.store_no_memory += 1,
            _ => {}
        }
    }

    fn read(&mut self, outcome: &Outcome) {
        self.cmd_get += 1;
        match outcome {
            Outcome::Hit(_) => self.get_hits += 1,
            Outcome::Miss => self.get_misses += 1,
            _ => {}
        }
    }

    fn touch(&mut self, outcome: &Outcome) {
        self.cmd_touch += 1;
        match outcome {
            Outcome::Hit(_) => self.touch_hits += 1,
            Outcome::Miss => self.touch_misses += 1,
            _ => {}
        }
    }

    fn store_if_cas(&mut self, outcome: &Outcome) {
        self.cmd_set += 1;
        match outcome {
            Outcome::Stored(_) => self.cas_hits += 1,
            Outcome::NotFound => self.cas_misses += 1,
            Outcome::Exists => self.cas_badval += 1,
            _ => {}
        }
    }

    /// A number that is made is neither found nor missed. One that comes to what would be made is taken
    /// for that: whoever counts is not told which.
    fn count(&mut self, direction: Direction, first: Option<u64>, outcome: &Outcome) {
        let (hits, misses) = match direction {
            Direction::Up => (&mut self.incr_hits, &mut self.incr_misses),
            Direction::Down => (&mut self.decr_hits, &mut self.decr_misses),
        };
        match outcome {
            Outcome::Counted(counted) if Some(counted.number) != first => *hits += 1,
            Outcome::Miss => *misses += 1,
            _ => {}
        }
    }
}
