//! One item: its bytes, and what the store knows about them.
//!
//! Key and value stand in one allocation, which a reader shares instead of copying; the count of its
//! holders stands in front of them, so that no other memory is touched. All the rest is a record of
//! fixed size in a page of such records (`pages.rs`), so that a walk over all items reads memory in
//! order. A record is one cache line: with a million items each line that a get reads comes from
//! memory, and costs more than all that is done with it.

use std::iter;
use std::sync::Arc;

use bytes::Bytes;

use super::super::operation::{Cas, Key};
use super::time::{Expiry, Now};

/// What memcached's own record of an item takes, by which it decides what is too large.
const MEMCACHED_RECORD_BYTES: usize = 48;
/// What memcached adds for client flags, if there are any.
const MEMCACHED_FLAGS_BYTES: usize = size_of::<u32>();
/// The end of line and the end of string that memcached stores behind value and key.
const MEMCACHED_ENDS_BYTES: usize = "\r\n".len() + 1;
/// The two counts of holders in front of an item's bytes.
const HOLDERS_BYTES: usize = 2 * size_of::<usize>();

/// An item that exceeds any limit in place of a sum that overflows.
const BEYOND_ALL: usize = usize::MAX;

/// What the system's allocator takes for so many bytes: a word in front, all in steps of 16.
const fn chunk_bytes(n_bytes: usize) -> usize {
    const STEP: usize = 16;
    const LEAST: usize = 32;
    let chunk = (n_bytes + size_of::<usize>()).next_multiple_of(STEP);
    if chunk < LEAST { LEAST } else { chunk }
}

/// What the bytes of an item take on the heap, all told.
pub(super) const fn heap_bytes(key_bytes: usize, value_bytes: usize) -> usize {
    chunk_bytes(HOLDERS_BYTES + key_bytes + value_bytes)
}

/// The size of an item as memcached would reckon it: the measure of "too large".
///
/// A client that has learnt what fits memcached finds the same here to the byte.
pub(super) fn memcached_bytes(key: &Key, flags: u32, value_bytes: usize) -> usize {
    let flags_bytes = if flags == 0 { 0 } else { MEMCACHED_FLAGS_BYTES };
    let beside = MEMCACHED_RECORD_BYTES + size_of::<Cas>() + MEMCACHED_ENDS_BYTES + flags_bytes;
    (beside + key.as_bytes().len()).checked_add(value_bytes).unwrap_or(BEYOND_ALL)
}

/// Where an item's record stands. It may move when another item goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place(pub(super) u32);

impl Place {
    /// No place: the end of a list. No store is so large that it has an item there.
    pub(super) const NONE: Self = Self(u32::MAX);

    /// The place, unless it is none.
    pub(super) fn known(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }
}

/// The list that an item stands in, by how it has been used (`eviction.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum UseClass {
    /// It came lately, and may have come once only.
    Newcomer = 1,
    /// It has proved itself.
    Regular = 2,
}

impl UseClass {
    pub(super) const ALL: [Self; 2] = [Self::Newcomer, Self::Regular];

    /// Where its list, or its counts, stand among those of all classes.
    pub(super) fn idx(self) -> usize {
        match self {
            Self::Newcomer => 0,
            Self::Regular => 1,
        }
    }
}

/// What readers and writers have marked an item with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Marks(u8);

impl Marks {
    /// It has been read.
    pub(super) const FETCHED: Self = Self(1);
    /// Its value is to be made anew.
    pub(super) const STALE: Self = Self(2);
    /// Somebody has been told to make it anew.
    pub(super) const WIN_SENT: Self = Self(4);

    pub(super) fn has(self, mark: Self) -> bool {
        self.0 & mark.0 != 0
    }

    #[must_use]
    pub(super) fn with(self, mark: Self) -> Self {
        Self(self.0 | mark.0)
    }

    #[must_use]
    pub(super) fn without(self, mark: Self) -> Self {
        Self(self.0 & !mark.0)
    }

    /// Those of these that `other` has too.
    #[must_use]
    pub(super) fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// What a store puts under a key.
#[derive(Debug)]
pub(super) struct Content {
    /// The key, and behind it the value.
    pub(super) bytes: Arc<[u8]>,
    pub(super) cas: Cas,
    pub(super) expires: Expiry,
    pub(super) flags: u32,
    pub(super) marks: Marks,
}

impl Content {
    /// One allocation for key and value: `parts` are what the value is put together from.
    ///
    /// It is copied, so that a small value does not hold the large buffer that it was received in.
    pub(super) fn join(key: &Key, parts: [&[u8]; 2]) -> Arc<[u8]> {
        let [first, second] = parts;
        let n_bytes = key.as_bytes().len() + first.len() + second.len();
        let mut joined: Arc<[u8]> = iter::repeat_n(0, n_bytes).collect();
        let bytes = Arc::get_mut(&mut joined).expect("nobody else has it yet");
        let (key_part, value) = bytes.split_at_mut(key.as_bytes().len());
        let (first_part, second_part) = value.split_at_mut(first.len());
        key_part.copy_from_slice(key.as_bytes());
        first_part.copy_from_slice(first);
        second_part.copy_from_slice(second);
        joined
    }
}

/// A value in the hands of a reader, who may be on any thread and keep it for longer than the store.
struct HeldValue {
    bytes: Arc<[u8]>,
    key_bytes: u8,
}

impl AsRef<[u8]> for HeldValue {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[usize::from(self.key_bytes)..]
    }
}

/// An item's record.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Item {
    /// The key, and behind it the value.
    bytes: Arc<[u8]>,
    pub(super) cas: Cas,
    /// Half of its key's hash: finds it in the index again when its record moves.
    pub(super) hash: u32,
    pub(super) expires: Expiry,
    /// When it was stored or last used.
    pub(super) used_at: Now,
    pub(super) flags: u32,
    /// How many flushes the store had seen when this was stored.
    pub(super) flushes: u32,
    /// Its neighbours in its list, towards the newest and the oldest.
    pub(super) newer: Place,
    pub(super) older: Place,
    /// Uses that count in its favour when somebody must go; see `eviction.rs`.
    pub(super) uses: u8,
    pub(super) class: UseClass,
    pub(super) marks: Marks,
    key_bytes: u8,
}

/// One cache line.
const _: () = assert!(size_of::<Item>() == 64);

impl Item {
    pub(super) fn new(key: &Key, hash: u32, now: Now, flushes: u32, content: Content) -> Self {
        let Content { bytes, cas, expires, flags, marks } = content;
        Self {
            bytes,
            cas,
            hash,
            expires,
            used_at: now,
            flags,
            flushes,
            newer: Place::NONE,
            older: Place::NONE,
            uses: 0,
            class: UseClass::Newcomer,
            marks,
            key_bytes: u8::try_from(key.as_bytes().len()).expect("a key has at most 250 bytes"),
        }
    }

    /// Takes another content in place of its own.
    pub(super) fn replace(&mut self, now: Now, flushes: u32, content: Content) {
        let Content { bytes, cas, expires, flags, marks } = content;
        debug_assert_eq!(&bytes[..usize::from(self.key_bytes)], self.key(), "the key stays");
        (self.bytes, self.cas, self.expires) = (bytes, cas, expires);
        (self.flags, self.marks) = (flags, marks);
        (self.used_at, self.flushes) = (now, flushes);
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.bytes[..usize::from(self.key_bytes)]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.bytes[usize::from(self.key_bytes)..]
    }

    /// Its value for somebody who may keep it for longer than the store does.
    pub(super) fn share_value(&self) -> Bytes {
        Bytes::from_owner(HeldValue { bytes: Arc::clone(&self.bytes), key_bytes: self.key_bytes })
    }

    pub(super) fn value_bytes(&self) -> u32 {
        u32::try_from(self.value().len()).expect("a value is shorter than the limit of an item")
    }

    /// What its bytes take on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        heap_bytes(usize::from(self.key_bytes), self.value().len())
    }
}
