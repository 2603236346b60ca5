//! Removals: `delete`, `md`; and items that stay as stale.

use super::super::operation::{Delete, Outcome};
use super::item::{Marks, Place};
use super::time::{Expiry, Now};
use super::{Store, Subject};

impl Store {
    /// Removes an item, or what of it is not to stay.
    pub(super) fn delete(&mut self, now: Now, subject: Subject<'_>, delete: &Delete) -> Outcome {
        let Some(place) = subject.place else { return Outcome::Miss };
        if delete.if_cas.is_some_and(|cas| cas != self.shelf.at(place).cas) {
            return Outcome::Exists;
        }
        if delete.invalidate {
            self.mark(now, place, delete);
        } else {
            self.shelf.remove(place);
        }
        Outcome::Deleted
    }

    /// What stays as stale gets a new cas, and the expiry that was asked for. It is there for a reader to
    /// win again.
    fn mark(&mut self, now: Now, place: Place, delete: &Delete) {
        let cas = self.new_cas();
        let item = self.shelf.at_mut(place);
        item.cas = cas;
        if let Some(expires) = delete.touch {
            item.expires = Expiry::resolve(expires, now);
        }
        item.marks = item.marks.with(Marks::STALE).without(Marks::WIN_SENT);
    }
}
