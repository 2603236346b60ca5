//! Large values, cut into pieces: what memcached wastes memory on, or refuses, becomes items of one size.
//!
//! [`Chunked`] stands before [`Downstream`] and takes the same operations. A value of up to
//! `piece_bytes` is stored as it is and costs nothing more. A larger one becomes pieces, each with the
//! token of its write in key and content, and *metadata* under the client's key, which tells of them
//! (`metadata.rs`). Flags, cas, expiry, and who is to fill an item again are the metadata's own, so
//! servers decide them as for any item. A read joins the pieces of one token or is a miss.
//!
//! ```text
//!   set a ──▶ pieces of token 2 ──▶ a: metadata of token 2 ──▶ remove the pieces of token 1
//!   get a ──▶ a: metadata of token 1 ──▶ its pieces: all there? joined
//!                         ▲                           └ one is not: look again
//!                         └── token 2 by now: its pieces ◀──┤
//!                                     still token 1: a miss ◀┘
//! ```
//!
//! # What others see
//!
//! Pieces are written first, under keys that no other write has. Until its metadata stands a write
//! cannot be seen, and from then on it is whole: readers of any process, at any moment, get the old
//! value or the new one. A write that fails half-way leaves the old value. What it leaves of its own,
//! when its outcome is not known or its caller has gone, are pieces that nobody asks for; these
//! expire with the value (`expiry.rs`) or are evicted as the least used.
//!
//! So are the pieces of a large value that a small one replaces: to find them, every small set would
//! have to read first, and small ones are what there is most of. A large set, an append and a delete
//! read the metadata that they replace, and remove its pieces.
//!
//! # Order
//!
//! Operations on one key, which has one shard, are done in the order of their calls, reads beside each
//! other (`locks.rs`). So no read comes upon half of a write and no append is overtaken but by other
//! processes, which may do as they like: nothing is torn then, but pieces may be left for eviction, a
//! read may miss, and an append may be refused.
//!
//! # What differs from a memcached with a larger limit
//!
//! - A value is gone when one piece is. A read finds that out, and `add`, arithmetic, append and
//!   vivify treat it as gone; `replace`, `delete`, `me`, and a read that wants neither value nor
//!   touch, only look at the metadata and find it there.
//! - `me` tells how many bytes the metadata takes. What this tier has to read for itself counts as a
//!   use of the item, and a read without value has its server send what stands there.
//! - An append reads and writes, and begins anew if another process was faster. One that was
//!   overtaken again and again is `Failed(Overloaded)`, and not done.
//! - Arithmetic on a large value is refused as on any that is no number: a number has at most 20
//!   digits. (memcached counts in whatever begins with one and a byte 0 or a space.)

mod config;
mod metadata;
mod expiry;
mod pieces;
mod locks;
mod writes;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use bytes::Bytes;
use forebay::ShardId;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng as _;

pub use config::ChunksConfig;

use self::locks::{Access, KeyLocks};
use self::metadata::{Form, Metadata};
use self::pieces::Pieces;
use super::downstream::Downstream;
use super::operation::{
    Beside, Cas, Delete, Entry, ExpTime, Failure, Get, Key, Operation, Outcome, Wanted, What,
};

/// How often a read follows metadata that changes under it. One write comes between now and then; so
/// many during one read are a key that nobody can read.
const READS_MAX: u32 = 4;

/// A tier of servers before one shard that takes values of any size up to its limit.
#[derive(Debug)]
pub struct Chunked {
    downstream: Downstream,
    config: ChunksConfig,
    locks: KeyLocks,
    salts: RefCell<Xoshiro256PlusPlus>,
    tokens: Tokens,
}

/// How writes are told from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tokens {
    Drawn,
    /// Planted fault: all writes of a key have the same, so that any piece passes for any other's.
    #[cfg(test)]
    SameForAll,
}

/// What stands under a key, as far as one has to go to know.
enum Found {
    /// A value, which stands whole.
    Whole(Entry),
    /// A value, joined from pieces.
    Joined(Entry),
    /// Metadata of a value that is lost, with this cas.
    Broken(Cas),
    /// Metadata that was another at every look.
    Fleeting,
    /// Neither: a miss, or a failure.
    Other(Outcome),
}

impl Chunked {
    /// A tier for this shard. Salts are drawn from `seed`, which should be random for each process,
    /// also after a restart. (Two with the same one write no torn values either, but may remove the
    /// pieces of each other's equal ones.)
    ///
    /// # Panics
    ///
    /// If [`ChunksConfig::check`] finds fault with the configuration before every server.
    #[must_use]
    pub fn new(downstream: Downstream, config: ChunksConfig, seed: u64, shard: ShardId) -> Self {
        Self::with_tokens(downstream, config, seed, shard, Tokens::Drawn)
    }

    fn with_tokens(
        downstream: Downstream,
        config: ChunksConfig,
        seed: u64,
        shard: ShardId,
        tokens: Tokens,
    ) -> Self {
        config.assert_possible();
        let mut salts = Xoshiro256PlusPlus::seed_from_u64(seed);
        for _before in 0..shard.index() {
            // Sequences of this length never meet.
            salts.jump();
        }
        let (locks, salts) = (KeyLocks::default(), RefCell::new(salts));
        Self { downstream, config, locks, salts, tokens }
    }

    /// Does an operation and gives what came of it, after those on its key that were called before.
    /// Pieces are asked for in waves, and a wave in which one is not answered is the last, so that no
    /// server is waited for again and again.
    ///
    /// Dropped half-way, it is done or not, and may leave pieces that nobody asks for.
    ///
    /// # Panics
    ///
    /// Outside of a shard, or on a shard of an engine that has not declared the servers.
    pub async fn apply(&self, operation: Operation) -> Outcome {
        let Operation { key, what } = operation;
        let access = match &what {
            What::Get(get) if get.may_be_shared() => Access::Shared,
            What::Describe => Access::Shared,
            What::Get(_) | What::Set(_) | What::Delete(_) | What::Count(_) => Access::Exclusive,
        };
        self.locks.hold(&key, access, self.apply_in_turn(key.clone(), what)).await
    }

    async fn apply_in_turn(&self, key: Key, what: What) -> Outcome {
        match what {
            What::Get(get) => self.get(key, get).await,
            What::Set(set) => self.set(key, set).await,
            What::Delete(delete) => self.delete(key, delete).await,
            What::Count(_) => {
                let outcome = self.ask(&key, what.clone()).await;
                if outcome == Outcome::NotANumber && self.remove_if_broken(&key).await {
                    return self.ask(&key, what).await;
                }
                outcome
            }
            What::Describe => self.ask(&key, what).await,
        }
    }

    /// The servers that it stands before.
    #[must_use]
    pub const fn servers(&self) -> &Downstream {
        &self.downstream
    }

    /// Does what [`Downstream::flush_all`] does, for clients or not; a value that is written meanwhile may be lost.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn flush_all(&self, delay: ExpTime) -> Result<(), Failure> {
        self.downstream.flush_all(delay).await
    }

    async fn get(&self, key: Key, get: Get) -> Outcome {
        match (self.find(&key, get).await, get.vivify) {
            (Found::Broken(cas), Some(_expires)) => {
                self.remove_broken(&key, cas).await;
                // Now the server makes the empty item, and tells who may fill it.
                self.find(&key, get).await.into_outcome()
            }
            (found, _) => found.into_outcome(),
        }
    }

    /// Reads what stands under a key, as `get` says.
    async fn find(&self, key: &Key, mut get: Get) -> Found {
        let wanted = get.value;
        get.value = Wanted::Yes;
        // Once a read that changes its item has found it, nobody may take it for not sent.
        let changes = !get.may_be_shared();
        let failed = |failure| {
            let failure = if changes { Failure::Unanswered } else { failure };
            Found::Other(Outcome::Failed(failure))
        };
        let mut before = Bytes::new();
        for look in 0..READS_MAX {
            let entry = match self.ask(key, What::Get(get)).await {
                Outcome::Hit(entry) => entry,
                Outcome::Failed(failure) if look > 0 => return failed(failure),
                other => return Found::Other(other),
            };
            match Form::of(&entry.value, self.config.value_bytes_max) {
                Form::Whole => return Found::Whole(told(entry, wanted)),
                Form::Cut(metadata) => match self.follow(&metadata, get, wanted).await {
                    Ok(Some(value)) => {
                        let value_bytes = metadata.value_bytes();
                        return Found::Joined(Entry { value, value_bytes, ..entry });
                    }
                    Ok(None) => {}
                    Err(failure) => return failed(failure),
                },
                Form::Damaged => {}
            }
            if before == entry.value {
                return Found::Broken(entry.cas);
            }
            // Either its pieces are lost, or another process has just replaced it. Whoever removes
            // what is broken needs its cas.
            before = entry.value;
            get.beside = get.beside.max(Beside::Cas);
        }
        Found::Fleeting
    }

    /// The value that metadata tells of, empty if it is not wanted; `None` if a piece is missing.
    async fn follow(
        &self,
        metadata: &Metadata,
        get: Get,
        wanted: Wanted,
    ) -> Result<Option<Bytes>, Failure> {
        let pieces = self.pieces(metadata);
        let touch = get.touch.map(expiry::of_pieces);
        match (wanted, touch) {
            (Wanted::Yes, touch) => {
                let counts_as_use = get.counts_as_use;
                pieces.read(Get { touch, counts_as_use, ..Get::PLAIN }).await
            }
            (Wanted::No, Some(expires)) => Ok(pieces.touch(expires).await?.map(|()| Bytes::new())),
            (Wanted::No, None) => Ok(Some(Bytes::new())),
        }
    }

    /// Removes what stands under a key if it is metadata of a value that is lost. Whether it did.
    async fn remove_if_broken(&self, key: &Key) -> bool {
        match self.find(key, Get { beside: Beside::Cas, ..Get::PLAIN }).await {
            Found::Broken(cas) => self.remove_broken(key, cas).await,
            Found::Whole(_) | Found::Joined(_) | Found::Fleeting | Found::Other(_) => false,
        }
    }

    /// Removes what was broken, unless it has been replaced by now. Whether it is gone.
    async fn remove_broken(&self, key: &Key, cas: Cas) -> bool {
        let delete = Delete { if_cas: Some(cas), ..Delete::default() };
        let outcome = self.ask(key, What::Delete(delete)).await;
        matches!(outcome, Outcome::Deleted | Outcome::Miss)
    }

    async fn ask(&self, key: &Key, what: What) -> Outcome {
        self.downstream.apply(Operation { key: key.clone(), what }).await
    }

    fn pieces<'a>(&'a self, metadata: &'a Metadata) -> Pieces<'a> {
        Pieces { downstream: &self.downstream, metadata }
    }
}

impl Found {
    fn into_outcome(self) -> Outcome {
        match self {
            Self::Whole(entry) | Self::Joined(entry) => Outcome::Hit(entry),
            Self::Broken(_) | Self::Fleeting => Outcome::Miss,
            Self::Other(outcome) => outcome,
        }
    }
}

/// The entry without its value, if that was not wanted.
fn told(entry: Entry, wanted: Wanted) -> Entry {
    match wanted {
        Wanted::Yes => entry,
        Wanted::No => Entry { value: Bytes::new(), ..entry },
    }
}
