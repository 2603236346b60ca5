//! Stores: `set`, `add`, `replace`, `append`, `prepend`, `cas`, `ms`.

use super::super::operation::{Cas, ExpTime, Outcome, Set, SetMode};
use super::item::{Content, Item, Marks, memcached_bytes};
use super::time::{Expiry, Now};
use super::{NoRoom, Store, Subject};

/// What a store comes to, given what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It stands for itself.
    Put(ExpTime),
    /// It stands over a newer item, and is stale.
    PutStale,
    /// It is put before or behind what is there.
    Join,
    /// The mode's condition does not hold.
    NotStored,
    /// The cas is another.
    Exists,
    /// A cas was named, and there is nothing.
    NotFound,
}

/// How the cas that a store names compares with the item's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It names none. In memcached a named 0 is none, where it is not asked for one.
    Unnamed,
    Equal,
    /// It is older, and the store may stand as stale.
    Older,
    Other,
}

impl Standing {
    fn of(set: &Set, item_cas: Cas) -> Self {
        match set.if_cas {
            None | Some(0) => Self::Unnamed,
            Some(cas) if cas == item_cas => Self::Equal,
            Some(cas) if set.invalidate && cas < item_cas => Self::Older,
            Some(_) => Self::Other,
        }
    }
}

/// Decides over an item.
fn judge_over(set: &Set, item: &Item) -> Verdict {
    let standing = Standing::of(set, item.cas);
    match (set.mode, standing) {
        (SetMode::Add, _) => Verdict::NotStored,
        (SetMode::Append | SetMode::Prepend, Standing::Unnamed | Standing::Equal) => Verdict::Join,
        (SetMode::Append | SetMode::Prepend, _) => Verdict::Exists,
        (SetMode::Set | SetMode::Replace, _) if set.if_cas.is_none() => Verdict::Put(set.expires),
        (SetMode::Set | SetMode::Replace, Standing::Equal) => Verdict::Put(set.expires),
        (SetMode::Set | SetMode::Replace, Standing::Older) => Verdict::PutStale,
        (SetMode::Set | SetMode::Replace, _) => Verdict::Exists,
    }
}

/// Decides where nothing is.
fn judge_alone(set: &Set) -> Verdict {
    match (set.mode, set.vivify) {
        (SetMode::Add, _) => Verdict::Put(set.expires),
        (SetMode::Set | SetMode::Replace, _) if set.if_cas.is_some() => Verdict::NotFound,
        (SetMode::Set, _) => Verdict::Put(set.expires),
        (SetMode::Append | SetMode::Prepend, Some(expires)) => Verdict::Put(expires),
        (SetMode::Replace | SetMode::Append | SetMode::Prepend, _) => Verdict::NotStored,
    }
}

impl Store {
    /// Stores, if the conditions hold.
    pub(super) fn store(&mut self, now: Now, subject: Subject<'_>, set: &Set) -> Outcome {
        if memcached_bytes(subject.key, set.flags, set.value.len()) > self.item_bytes_max {
            self.drop_superseded(subject, set);
            return Outcome::TooLarge;
        }
        let verdict = match subject.place {
            Some(place) => judge_over(set, self.shelf.at(place)),
            None => judge_alone(set),
        };
        let content = match verdict {
            Verdict::Put(expires) => self.fresh(now, subject, set, expires),
            Verdict::PutStale => self.stale(now, subject, set),
            Verdict::Join => match self.joined(subject, set) {
                Some(content) => content,
                // memcached says so, too, where the two together are too large.
                None => return Outcome::NotStored,
            },
            Verdict::NotStored => return Outcome::NotStored,
            Verdict::Exists => return Outcome::Exists,
            Verdict::NotFound => return Outcome::NotFound,
        };
        match self.put(now, subject, content) {
            Ok(cas) => {
                self.counts.total_items += 1;
                Outcome::Stored(cas)
            }
            Err(NoRoom) => {
                self.drop_superseded(subject, set);
                Outcome::NoMemory
            }
        }
    }

    /// A set that failed for its size has told that what is there is no longer true.
    fn drop_superseded(&mut self, subject: Subject<'_>, set: &Set) {
        if let (SetMode::Set, None, Some(place)) = (set.mode, set.if_cas, subject.place) {
            self.shelf.remove(place);
        }
    }

    fn fresh(&mut self, now: Now, subject: Subject<'_>, set: &Set, expires: ExpTime) -> Content {
        Content {
            bytes: Content::join(subject.key, [&set.value, &[]]),
            cas: self.new_cas(set.new_cas),
            expires: Expiry::resolve(expires, now),
            flags: set.flags,
            marks: Marks::default(),
        }
    }

    /// The expiry stays, and so does the right to fill it again where somebody has it.
    fn stale(&mut self, now: Now, subject: Subject<'_>, set: &Set) -> Content {
        let place = subject.place.expect("only what is there is newer");
        let &Item { expires, marks, .. } = self.shelf.at(place);
        let fresh = self.fresh(now, subject, set, set.expires);
        Content { expires, marks: marks.common(Marks::WIN_SENT).with(Marks::STALE), ..fresh }
    }

    /// What is there and what is put before or behind it, unless that is too large. Flags and expiry
    /// are those of what is there.
    fn joined(&mut self, subject: Subject<'_>, set: &Set) -> Option<Content> {
        let item = self.shelf.at(subject.place.expect("only to what is there can one join"));
        let value_bytes = item.value().len() + set.value.len();
        if memcached_bytes(subject.key, item.flags, value_bytes) > self.item_bytes_max {
            return None;
        }
        let parts = match set.mode {
            SetMode::Prepend => [&set.value, item.value()],
            _ => [item.value(), &set.value],
        };
        let bytes = Content::join(subject.key, parts);
        let &Item { expires, flags, .. } = item;
        let cas = self.new_cas(set.new_cas);
        Some(Content { bytes, cas, expires, flags, marks: Marks::default() })
    }
}
