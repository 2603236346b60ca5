//! Random operations, in which a cas is named by what it is and not yet by its number: every side of
//! a comparison numbers for itself.

use bytes::Bytes;

use super::super::super::operation::{
    Beside, Count, CountsAsUse, Delete, Direction, ExpTime, Get, Operation, Set, SetMode, Wanted,
    What,
};
use super::key;

/// Which cas an operation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cacheproxy) enum Cas {
    None,
    Zero,
    /// One that each item's is above, if something was stored before the first operation.
    Older,
    Current,
    Other,
}

/// Which operations are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cacheproxy) enum Words {
    All,
    /// Those that memcached 1.6.18 knows: no chosen cas, no append that makes its item, no removal
    /// of the value alone, no expiry for a number that grows.
    Of1_6_18,
}

/// An operation without the number of its cas.
#[derive(Debug, Clone)]
pub(in crate::cacheproxy) struct Draft {
    operation: Operation,
    pub(in crate::cacheproxy) cas: Cas,
}

/// The cas that is named as another.
const OTHER_CAS: u64 = u64::MAX;

/// The first is left out where only the words of 1.6.18 are drawn.
const VALUES: [&str; 16] = [
    "-1",
    "",
    "0",
    "7",
    "9",
    "10",
    "99",
    "100",
    " 7",
    "9 ",
    "+5",
    "007",
    "7x",
    "apple",
    "18446744073709551615",
    "18446744073709551616",
];

impl Draft {
    pub(in crate::cacheproxy) fn random(
        rng: &mut fastrand::Rng,
        n_keys: u32,
        words: Words,
    ) -> Self {
        let name = format!("key{}", rng.u32(..n_keys));
        let what = match rng.u32(..10) {
            0..3 => What::Get(random_get(rng)),
            3..6 => What::Set(random_set(rng, words)),
            6..7 => What::Delete(random_delete(rng)),
            7..9 => What::Count(random_count(rng, words)),
            _ => What::Describe,
        };
        let cas = match rng.u32(..12) {
            0 => Cas::Zero,
            1 => Cas::Older,
            2 | 3 => Cas::Current,
            4 => Cas::Other,
            _ => Cas::None,
        };
        Self { operation: Operation { key: key(&name), what }, cas }
    }

    pub(in crate::cacheproxy) fn key(&self) -> &super::Key {
        &self.operation.key
    }

    /// The operation for a side where the item has this cas.
    pub(in crate::cacheproxy) fn operation(&self, current: Option<u64>) -> Operation {
        let mut operation = self.operation.clone();
        let named = match self.cas {
            Cas::None => None,
            Cas::Zero => Some(0),
            Cas::Older => Some(1),
            Cas::Current => Some(current.unwrap_or(OTHER_CAS)),
            Cas::Other => Some(OTHER_CAS),
        };
        match &mut operation.what {
            What::Set(set) => set.if_cas = named,
            What::Delete(delete) => delete.if_cas = named,
            What::Count(count) => count.if_cas = named,
            What::Get(_) | What::Describe => {}
        }
        operation
    }
}

fn sometimes<T>(rng: &mut fastrand::Rng, value: impl FnOnce(&mut fastrand::Rng) -> T) -> Option<T> {
    (rng.u8(..5) == 0).then(|| value(rng))
}

/// One that does not come to its end while a test runs, or that has.
fn random_expiry(rng: &mut fastrand::Rng) -> ExpTime {
    ExpTime([0, 0, 0, 500, 2_592_000, 3_000_000, i32::MAX, -1][rng.usize(..8)])
}

fn random_value(rng: &mut fastrand::Rng, words: Words) -> Bytes {
    // 1.6.18 looks for a minus beyond the end of large numbers, in what was once stored there.
    let values = if words == Words::All { &VALUES[..] } else { &VALUES[1..] };
    match rng.u32(..20) {
        0 => Bytes::from(vec![b'x'; rng.usize(..2_000)]),
        _ => Bytes::from_static(values[rng.usize(..values.len())].as_bytes()),
    }
}

fn random_get(rng: &mut fastrand::Rng) -> Get {
    Get {
        value: [Wanted::Yes, Wanted::No][rng.usize(..2)],
        beside: Beside::All,
        touch: sometimes(rng, random_expiry),
        vivify: sometimes(rng, random_expiry),
        recache_below_s: sometimes(rng, |rng| [0, 30, 1_000, -1][rng.usize(..4)]),
        counts_as_use: [CountsAsUse::Yes, CountsAsUse::Yes, CountsAsUse::No][rng.usize(..3)],
    }
}

fn random_set(rng: &mut fastrand::Rng, words: Words) -> Set {
    use SetMode::{Add, Append, Prepend, Replace};
    let mode = [SetMode::Set, SetMode::Set, Add, Replace, Append, Prepend][rng.usize(..6)];
    let new_words = words == Words::All;
    Set {
        mode,
        flags: [0, 0, 7, u32::MAX][rng.usize(..4)],
        expires: random_expiry(rng),
        value: random_value(rng, words),
        if_cas: None,
        invalidate: rng.u8(..3) == 0,
        vivify: sometimes(rng, random_expiry).filter(|_| new_words),
        beside: Beside::Cas,
    }
}

fn random_delete(rng: &mut fastrand::Rng) -> Delete {
    let invalidate = rng.bool();
    Delete { if_cas: None, invalidate, touch: sometimes(rng, random_expiry).filter(|_| invalidate) }
}

fn random_count(rng: &mut fastrand::Rng, words: Words) -> Count {
    let direction = [Direction::Up, Direction::Down][rng.usize(..2)];
    // A number that grows is a new item to 1.6.18, which then gives the new expiry to the old one.
    let may_touch = words == Words::All || direction == Direction::Down;
    Count {
        direction,
        delta: [0, 1, 1, 3, 90, u64::MAX][rng.usize(..6)],
        initial: sometimes(rng, |rng| (rng.u64(..200), random_expiry(rng))),
        if_cas: None,
        touch: sometimes(rng, random_expiry).filter(|_| may_touch),
        beside: Beside::Ttl,
    }
}
