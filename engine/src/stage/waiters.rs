//! Who awaits an item.

use super::slots::SlotKey;

/// Who awaits an item. Almost always one; more only when dedup has joined them.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    pub(super) first: Option<SlotKey>,
    pub(super) more: Vec<SlotKey>,
}

impl Waiters {
    pub(super) fn one(slot: SlotKey) -> Self {
        Self { first: Some(slot), more: Vec::new() }
    }

    pub(super) fn add(&mut self, slot: SlotKey) {
        if self.first.is_none() {
            self.first = Some(slot);
        } else {
            // Bounded by live calls: each is in one list.
            self.more.push(slot);
        }
    }

    /// Takes one out; tells whether nobody is left.
    pub(super) fn remove(&mut self, slot: SlotKey) -> bool {
        if self.first == Some(slot) {
            self.first = self.more.pop();
        } else if let Some(idx) = self.more.iter().position(|other| *other == slot) {
            self.more.swap_remove(idx);
        }
        self.first.is_none()
    }
}
