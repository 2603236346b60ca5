//! The embedded store: what a memcached server keeps in memory, for the keys of one shard.
//!
//! It answers each [`Operation`] as memcached 1.6.18 would, and does nothing by itself: it has no
//! clock, no sockets and no tasks, so that the same operations at the same times always come to the
//! same outcomes. One shard owns one store, and nothing is shared or locked.
//!
//! ```text
//!   Operation ─▶ Store ─ reads, stores, counts, removes ─▶ Shelf ─▶ Pages   the items' records
//!                  │                                         ├─────▶ Index   from a key to its record
//!                  └─ then makes room (eviction) ───────────▶└─────▶ lists   who came when
//! ```
//!
//! **The bound.** All that the store takes counts: keys and values as the allocator rounds them, the
//! records, the index, what eviction remembers. After each operation it is at most
//! [`Options::bytes_max`]. Memory is returned when an item goes: its own allocation at once, its
//! record's page when it is the last on it, the index when it has become sparse. One thing may live
//! longer: a value that a reader was handed is shared with the item, and its bytes stay until the
//! reader drops it. How much that can be is the bound of the replies that are being written.
//!
//! **Expiry.** An item that has expired is found by no operation; its memory is returned by the next
//! one on its key, when room is needed, or by [`Store::sweep`], which the shard calls now and then.

mod time;
mod number;
mod item;
mod pages;
mod lists;
mod ghosts;
mod index;
mod shelf;
mod eviction;
mod reads;
mod stores;
mod counting;
mod removal;
mod sweep;
mod stats;
#[cfg(test)]
pub(super) mod tests;

use super::operation::{Cas, ExpTime, Key, Operation, Outcome, What};
use eviction::GivenUp;
use item::{Content, Marks, Place};
use shelf::{Gone, Shelf};

pub(super) use stats::numbers;
pub use stats::{ClassCounts, ClassStats, Counts, Held, Stats};
pub use sweep::{Pass, Swept};
pub use time::Now;
pub(super) use time::flush_at;

/// The largest item unless configured otherwise, as in memcached.
pub const ITEM_BYTES_MAX_DEFAULT: usize = 1 << 20;
/// What an empty store may take, and one item's page and tables beside its key and value.
const EMPTY_BYTES: usize = 64 << 10;
/// The least bound that a store works with: it must hold more than itself.
pub const BYTES_MIN: usize = 2 * EMPTY_BYTES;

/// The least bound with which a store finds room for every item of up to so many bytes.
#[must_use]
pub const fn bytes_min_for(item_bytes_max: usize) -> usize {
    EMPTY_BYTES + item::heap_bytes(0, item_bytes_max)
}

/// What a store is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Most bytes of memory that it takes, all told; at least [`BYTES_MIN`].
    pub bytes_max: usize,
    /// The largest item, as memcached reckons it (key, value and about 60 bytes).
    pub item_bytes_max: usize,
    /// Seeds the hash of keys. It should come from the system's entropy and stay a secret: clients
    /// choose the keys, and who knows it can choose keys that all collide.
    pub hash_seed: u64,
}

impl Options {
    /// A store of so many bytes, with memcached's own limit for an item.
    #[must_use]
    pub const fn new(bytes_max: usize, hash_seed: u64) -> Self {
        Self { bytes_max, item_bytes_max: ITEM_BYTES_MAX_DEFAULT, hash_seed }
    }
}

/// The items of one shard. See the module.
#[derive(Debug)]
pub struct Store {
    shelf: Shelf,
    counts: Counts,
    /// What `stats` tells of each class, as far as it is no property of the shelf.
    classes: [ClassStats; 2],
    item_bytes_max: usize,
    cas_last: Cas,
    /// Items before this place have still to be looked at by the sweep's pass.
    swept_down_to: u32,
}

/// Who an operation is about: its key, the key's hash, and its item if there is one.
#[derive(Debug, Clone, Copy)]
struct Subject<'a> {
    key: &'a Key,
    hash: u32,
    place: Option<Place>,
}

/// No room could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NoRoom;

impl Store {
    /// An empty store.
    ///
    /// # Panics
    /// If it is to be smaller than [`BYTES_MIN`].
    #[must_use]
    pub fn new(options: Options) -> Self {
        let Options { bytes_max, item_bytes_max, hash_seed } = options;
        assert!(bytes_max >= BYTES_MIN, "a store of {bytes_max} bytes; the least is {BYTES_MIN}");
        Self {
            shelf: Shelf::new(bytes_max, hash_seed),
            counts: Counts::default(),
            classes: [ClassStats::default(); 2],
            item_bytes_max,
            cas_last: 0,
            swept_down_to: 0,
        }
    }

    /// Does what is asked, and says what came of it.
    ///
    /// A value that is handed out is shared, not copied, and may be kept for as long as one likes
    /// and taken to other threads.
    pub fn apply(&mut self, now: Now, operation: &Operation) -> Outcome {
        self.shelf.flush_if_due(now);
        let subject = self.look_up(now, &operation.key);
        match &operation.what {
            What::Get(get) => self.read(now, subject, get),
            What::Set(set) => self.store(now, subject, set),
            What::Delete(delete) => self.delete(now, subject, delete),
            What::Count(count) => self.count(now, subject, count),
            What::Describe => self.describe(now, subject),
        }
    }

    /// Makes all items that are there nothing, at once or when memcached would: a second before the
    /// one that `delay` names. A delayed flush is forgotten when another is asked for.
    pub fn flush_all(&mut self, now: Now, delay: ExpTime) {
        self.shelf.flush_if_due(now);
        self.shelf.flush_all(now, delay);
    }

    /// Bytes of the largest item, as memcached reckons it.
    #[must_use]
    pub const fn item_bytes_max(&self) -> usize {
        self.item_bytes_max
    }

    /// What it has done and holds.
    #[must_use]
    pub fn stats(&self, now: Now) -> Stats {
        let held = Held {
            curr_items: u64::from(self.shelf.items.n_items()),
            bytes: self.shelf.bytes() as u64,
            limit_maxbytes: self.shelf.bytes_max() as u64,
        };
        let classes = item::UseClass::ALL.map(|class| {
            let list = self.shelf.list(class);
            let age_of = |place| u64::from(now.since_s(self.shelf.at(place).used_at));
            ClassStats {
                number: list.n_items(),
                mem_requested: list.bytes() as u64,
                age_s: list.oldest().map_or(0, age_of),
                ..self.classes[class.idx()]
            }
        });
        Stats { counts: self.counts, held, classes }
    }

    fn look_up<'a>(&mut self, now: Now, key: &'a Key) -> Subject<'a> {
        let hash = self.shelf.hash(key);
        let found = self.shelf.find(hash, key);
        let place = found.filter(|place| {
            let gone = self.shelf.gone(now, self.shelf.at(*place));
            match gone {
                None => return true,
                Some(Gone::Expired) => self.counts.get_expired += 1,
                Some(Gone::Flushed) => self.counts.get_flushed += 1,
            }
            self.shelf.remove(*place);
            false
        });
        Subject { key, hash, place }
    }

    /// Puts a content under a key, in place of what is there, and then makes room for it.
    fn put(&mut self, now: Now, subject: Subject<'_>, content: Content) -> Result<Cas, NoRoom> {
        let (cas, value_bytes) = (content.cas, content.bytes.len() - subject.key.as_bytes().len());
        if !self.shelf.could_hold(subject.key, value_bytes) {
            return Err(NoRoom);
        }
        match subject.place {
            Some(place) => self.shelf.replace(now, place, content),
            None => self.shelf.insert(now, subject.key, subject.hash, content),
        }
        self.make_room(now);
        Ok(cas)
    }

    /// Gives up items until the bound holds. Each round removes one, so it ends.
    fn make_room(&mut self, now: Now) {
        while !self.shelf.has_room() {
            if self.shelf.items.n_items() <= 1 {
                // Rather than the very last, the memory of those that left.
                self.shelf.index.forget_ghosts();
                break;
            }
            let Some(given_up) = self.shelf.give_up_one(now) else { break };
            self.count_given_up(now, &given_up);
        }
        debug_assert!(self.shelf.has_room(), "the bound holds: {:?}", self.shelf.bytes());
    }

    fn count_given_up(&mut self, now: Now, GivenUp { item, gone }: &GivenUp) {
        let unfetched = u64::from(!item.marks.has(Marks::FETCHED));
        let class = &mut self.classes[item.class.idx()];
        match gone {
            Some(gone) => {
                class.counts.reclaimed += 1;
                class.counts.expired_unfetched += u64::from(*gone == Gone::Expired) * unfetched;
            }
            None => {
                class.evicted_time_s = u64::from(now.since_s(item.used_at));
                class.counts.evicted += 1;
                class.counts.evicted_unfetched += unfetched;
                class.counts.evicted_nonzero += u64::from(item.expires != time::Expiry::NEVER);
            }
        }
    }

    /// The cas of a new state: the one that a client has chosen, or the next.
    fn new_cas(&mut self, chosen: Option<Cas>) -> Cas {
        if let Some(chosen) = chosen.filter(|cas| *cas != 0) {
            return chosen;
        }
        self.cas_last += 1;
        self.cas_last
    }
}
