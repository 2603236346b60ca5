//! Arithmetic: `incr`, `decr`, `ma`.

use super::super::operation::{Count, Counted, Direction, ExpTime, Outcome};
use super::item::{Content, Item, Marks, Place};
use super::number;
use super::time::{Expiry, Now};
use super::{NoRoom, Store, Subject};

impl Store {
    /// Counts, or begins to where a first number is given.
    pub(super) fn count(&mut self, now: Now, subject: Subject<'_>, count: &Count) -> Outcome {
        match (subject.place, count.initial) {
            (Some(place), _) => self.count_on(now, subject, place, count),
            (None, Some((first, expires))) => self.count_from(now, subject, first, expires, count),
            (None, None) => Outcome::Miss,
        }
    }

    fn count_on(&mut self, now: Now, subject: Subject<'_>, place: Place, count: &Count) -> Outcome {
        let item = self.shelf.at(place);
        if item.value().is_empty() {
            return Outcome::NotANumber;
        }
        if count.if_cas.is_some_and(|cas| cas != 0 && cas != item.cas) {
            return Outcome::Exists;
        }
        let Some(old) = number::parse(item.value()) else { return Outcome::NotANumber };
        let number = match count.direction {
            Direction::Up => old.wrapping_add(count.delta),
            Direction::Down => old.saturating_sub(count.delta),
        };
        let digits = number::format(number, item.value().len());
        // Where the number keeps its room it is the same item; where it outgrows it, a new one.
        let same = digits.len() == item.value().len();
        let marks = if same { item.marks } else { Marks::default() };
        let &Item { flags, expires, .. } = item;
        let expires = count.touch.map_or(expires, |sent| Expiry::resolve(sent, now));
        self.counts.total_items += u64::from(!same);
        let bytes = Content::join(subject.key, [&digits, &[]]);
        let cas = self.new_cas(count.new_cas);
        self.put_number(now, subject, number, Content { bytes, cas, expires, flags, marks })
    }

    fn count_from(
        &mut self,
        now: Now,
        subject: Subject<'_>,
        first: u64,
        expires: ExpTime,
        count: &Count,
    ) -> Outcome {
        let digits = number::format(first, 0);
        let content = Content {
            bytes: Content::join(subject.key, [&digits, &[]]),
            cas: self.new_cas(count.new_cas),
            expires: Expiry::resolve(expires, now),
            flags: 0,
            marks: Marks::default(),
        };
        self.counts.total_items += 1;
        self.put_number(now, subject, first, content)
    }

    fn put_number(
        &mut self,
        now: Now,
        subject: Subject<'_>,
        number: u64,
        content: Content,
    ) -> Outcome {
        let ttl_s = content.expires.ttl_s(now);
        match self.put(now, subject, content) {
            Ok(cas) => Outcome::Counted(Counted { number, cas, ttl_s }),
            Err(NoRoom) => Outcome::NoMemory,
        }
    }
}
