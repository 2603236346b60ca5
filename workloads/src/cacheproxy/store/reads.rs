//! Reads: `get`, `gat`, `touch`, `mg`, `me`.

use bytes::Bytes;

use super::super::operation::{
    Beside, CountsAsUse, Description, Entry, ExpTime, Get, Outcome, Wanted, Win,
};
use super::item::{Content, Item, Marks, Place};
use super::time::{Expiry, Now};
use super::{Store, Subject};

impl Store {
    /// Reads an item, or makes an empty one for the reader to fill.
    pub(super) fn read(&mut self, now: Now, subject: Subject<'_>, get: &Get) -> Outcome {
        match (subject.place, get.vivify) {
            (Some(place), _) => Outcome::Hit(self.read_found(now, place, get)),
            (None, Some(expires)) => self.vivify(now, subject, expires, get),
            (None, None) => Outcome::Miss,
        }
    }

    fn read_found(&mut self, now: Now, place: Place, get: &Get) -> Entry {
        let item = self.shelf.at_mut(place);
        if let Some(expires) = get.touch {
            item.expires = Expiry::resolve(expires, now);
        }
        let entry = Entry {
            value: match get.value {
                Wanted::Yes => item.share_value(),
                Wanted::No => Bytes::new(),
            },
            value_bytes: item.value_bytes(),
            flags: item.flags,
            cas: item.cas,
            ttl_s: item.expires.ttl_s(now),
            idle_s: now.since_s(item.used_at),
            fetched: item.marks.has(Marks::FETCHED),
            stale: item.marks.has(Marks::STALE),
            // Only `mg` can be told of the right to fill it again, so no other read takes it.
            win: match get.beside {
                Beside::All => ask_to_win(item, now, get.recache_below_s),
                Beside::Flags | Beside::Cas | Beside::Ttl => Win::None,
            },
        };
        if get.counts_as_use == CountsAsUse::Yes {
            item.marks = item.marks.with(Marks::FETCHED);
            item.used_at = now;
            item.count_use();
        }
        entry
    }

    /// Makes an empty item, whose reader is the one to fill it.
    fn vivify(&mut self, now: Now, subject: Subject<'_>, expires: ExpTime, get: &Get) -> Outcome {
        let fetched = match get.counts_as_use {
            CountsAsUse::Yes => Marks::FETCHED,
            CountsAsUse::No => Marks::default(),
        };
        let content = Content {
            bytes: Content::join(subject.key, [&[], &[]]),
            cas: self.new_cas(None),
            expires: Expiry::resolve(expires, now),
            flags: 0,
            marks: fetched.with(Marks::WIN_SENT),
        };
        let ttl_s = content.expires.ttl_s(now);
        let Ok(cas) = self.put(now, subject, content) else { return Outcome::NoMemory };
        self.counts.total_items += 1;
        Outcome::Hit(Entry {
            value: Bytes::new(),
            value_bytes: 0,
            flags: 0,
            cas,
            ttl_s,
            idle_s: 0,
            fetched: false,
            stale: false,
            win: Win::Won,
        })
    }

    /// What is known of an item; asking does not change it.
    pub(super) fn describe(&self, now: Now, subject: Subject<'_>) -> Outcome {
        Outcome::Described(subject.place.map(|place| {
            let item = self.shelf.at(place);
            let n_bytes = size_of::<Item>() + item.heap_bytes();
            Box::new(Description {
                ttl_s: item.expires.ttl_s(now),
                idle_s: now.since_s(item.used_at),
                cas: item.cas,
                fetched: item.marks.has(Marks::FETCHED),
                class: item.class as u8,
                n_bytes: u32::try_from(n_bytes).unwrap_or(u32::MAX),
            })
        }))
    }
}

/// Gives the right to fill an item again to the first reader that finds it stale, or with less time
/// left than that reader asks for.
fn ask_to_win(item: &mut Item, now: Now, recache_below_s: Option<i32>) -> Win {
    if item.marks.has(Marks::WIN_SENT) {
        return Win::Sent;
    }
    let expires_soon =
        recache_below_s.is_some_and(|below_s| item.expires.is_before(ExpTime(below_s), now));
    if !expires_soon && !item.marks.has(Marks::STALE) {
        return Win::None;
    }
    item.marks = item.marks.with(Marks::WIN_SENT);
    Win::Won
}
