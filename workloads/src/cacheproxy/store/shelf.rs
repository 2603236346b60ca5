//! All that a store holds, and the books of what it takes: records, index, lists.
//!
//! Every byte is counted where it is taken: an item's key and value as the allocator rounds them,
//! whole pages of records, whole tables of the index. So [`Shelf::bytes`] can be held against a
//! bound after each step, and is never less than what was asked of the allocator.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;

use super::super::operation::{ExpTime, Key};
use super::ghosts::Evictions;
use super::index::Index;
use super::item::{Content, Item, Place, UseClass, heap_bytes};
use super::lists::List;
use super::pages::Pages;
use super::time::{Now, flush_at};

/// See the file's head.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) items: Pages,
    pub(super) index: Index,
    /// By class; see [`UseClass::idx`].
    pub(super) lists: [List; 2],
    pub(super) evictions: Evictions,
    bytes_max: usize,
    hasher: FixedState,
    /// Flushes so far. An item that was stored before the last one is gone.
    flushes: u32,
    /// When the next one takes effect, if a client has delayed it.
    flush_at: Option<Now>,
}

/// Why an item that is still in memory is no longer there for anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    Expired,
    Flushed,
}

impl Shelf {
    /// The hash seed must be a secret: who knows it can choose keys that all collide.
    pub(super) fn new(bytes_max: usize, hash_seed: u64) -> Self {
        Self {
            items: Pages::default(),
            index: Index::new(),
            lists: [List::EMPTY; 2],
            evictions: 0,
            bytes_max,
            hasher: FixedState::with_seed(hash_seed),
            flushes: 0,
            flush_at: None,
        }
    }

    /// What all of it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.items.bytes() + self.index.bytes() + self.heap_bytes()
    }

    /// What keys and values take.
    fn heap_bytes(&self) -> usize {
        self.lists.iter().map(List::bytes).sum()
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes() <= self.bytes_max
    }

    /// Whether an item of this size fits if all others go.
    pub(super) fn could_hold(&self, key: &Key, value_bytes: usize) -> bool {
        let beside = super::EMPTY_BYTES;
        beside + heap_bytes(key.as_bytes().len(), value_bytes) <= self.bytes_max
    }

    /// Half of a key's hash: what the index goes by.
    pub(super) fn hash(&self, key: &Key) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_bytes());
        let upper = hasher.finish() >> u32::BITS;
        u32::try_from(upper).expect("half of the bits are left")
    }

    pub(super) fn find(&self, hash: u32, key: &Key) -> Option<Place> {
        self.index.find(hash, |place| self.items.at(place).key() == key.as_bytes())
    }

    pub(super) fn at(&self, place: Place) -> &Item {
        self.items.at(place)
    }

    pub(super) fn at_mut(&mut self, place: Place) -> &mut Item {
        self.items.at_mut(place)
    }

    pub(super) fn list(&self, class: UseClass) -> &List {
        &self.lists[class.idx()]
    }

    /// Puts an item on the shelf under a key that is not there.
    pub(super) fn insert(&mut self, now: Now, key: &Key, hash: u32, content: Content) {
        debug_assert!(self.find(hash, key).is_none(), "one item for each key");
        let mut item = Item::new(key, hash, now, self.flushes, content);
        item.class = self.class_of_new(hash);
        let class = item.class;
        let place = self.items.push(item);
        self.index.insert(hash, place);
        self.lists[class.idx()].push_newest(&mut self.items, place);
    }

    /// Gives an item another content. It keeps its turn in its list, and this is a use of it.
    pub(super) fn replace(&mut self, now: Now, place: Place, content: Content) {
        let item = self.items.at_mut(place);
        let (before, class) = (item.heap_bytes(), item.class);
        item.replace(now, self.flushes, content);
        item.count_use();
        self.lists[class.idx()].resized(before, item.heap_bytes());
    }

    /// Takes an item off the shelf. What the caller drops is returned to the allocator, unless
    /// somebody still holds the value.
    pub(super) fn remove(&mut self, place: Place) -> Item {
        let &Item { hash, class, .. } = self.items.at(place);
        self.lists[class.idx()].unlink(&mut self.items, place);
        self.index.remove(hash, place);
        let (gone, moved) = self.items.swap_remove(place);
        if let Some(moved) = moved {
            let &Item { hash, class, .. } = self.items.at(moved.to);
            self.index.follow(hash, moved);
            self.lists[class.idx()].follow(&mut self.items, moved);
        }
        gone
    }

    /// Why an item is not there for anybody, if it is not.
    pub(super) fn gone(&self, now: Now, item: &Item) -> Option<Gone> {
        if item.flushes != self.flushes {
            return Some(Gone::Flushed);
        }
        item.expires.is_past(now).then_some(Gone::Expired)
    }

    /// Flushes now or later. A later one takes the place of one that has not taken effect.
    pub(super) fn flush_all(&mut self, now: Now, delay: ExpTime) {
        self.flush_at = flush_at(delay, now);
        if self.flush_at.is_none() {
            self.flushes = self.flushes.wrapping_add(1);
        }
    }

    /// Lets a delayed flush take effect when its time has come.
    pub(super) fn flush_if_due(&mut self, now: Now) {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            self.flushes = self.flushes.wrapping_add(1);
        }
    }
}
