//! Removals: `delete`, `md`; and items that stay as stale, or without their value.

use super::super::operation::{Delete, Outcome};
use super::item::{Content, Item, Marks, Place};
use super::time::{Expiry, Now};
use super::{NoRoom, Store, Subject};

impl Store {
    /// Removes an item, or what of it is not to stay.
    pub(super) fn delete(&mut self, now: Now, subject: Subject<'_>, delete: &Delete) -> Outcome {
        let Some(place) = subject.place else { return Outcome::Miss };
        if delete.if_cas.is_some_and(|cas| cas != self.shelf.at(place).cas) {
            return Outcome::Exists;
        }
        if delete.only_value && self.empty(now, subject, place) == Err(NoRoom) {
            return Outcome::NoMemory;
        }
        // Emptying makes room for nobody, so the item is where it was.
        if delete.invalidate || delete.only_value {
            self.mark(now, place, delete);
        } else {
            self.shelf.remove(place);
        }
        Outcome::Deleted
    }

    /// Takes away value and flags.
    fn empty(&mut self, now: Now, subject: Subject<'_>, place: Place) -> Result<(), NoRoom> {
        let &Item { cas, expires, .. } = self.shelf.at(place);
        let bytes = Content::join(subject.key, [&[], &[]]);
        let content = Content { bytes, cas, expires, flags: 0, marks: Marks::default() };
        self.put(now, subject, content).map(|_| ())
    }

    /// What stays gets the expiry and the cas that were asked for. Stale, it is there for a reader
    /// to win again.
    fn mark(&mut self, now: Now, place: Place, delete: &Delete) {
        let item = self.shelf.at(place);
        let cas_stays = !delete.invalidate && delete.new_cas.is_none();
        let cas = if cas_stays { item.cas } else { self.new_cas(delete.new_cas) };
        let item = self.shelf.at_mut(place);
        item.cas = cas;
        if let Some(expires) = delete.touch {
            item.expires = Expiry::resolve(expires, now);
        }
        if delete.invalidate {
            item.marks = item.marks.with(Marks::STALE).without(Marks::WIN_SENT);
        }
    }
}
