//! The sweep: returns the memory of items that are gone and that nobody asks for again.
//!
//! It walks over the records page by page, from the last to the first. That way the record that
//! moves into the place of a removed one has always been looked at already, so one number is all
//! that the walk must remember from step to step.

use super::Store;
use super::item::{Item, Marks, Place};
use super::shelf::Gone;
use super::time::Now;

/// What a step of the sweep has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Items whose memory it has returned.
    pub n_removed: u32,
    /// Whether there is more to look at.
    pub pass: Pass,
}

/// How far the sweep has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Some items have not been looked at.
    Going,
    /// All items that were there when it began have been; the next step begins anew.
    Ended,
}

impl Store {
    /// Looks at up to `n_items_max` further items and removes those that are gone. One that stays
    /// costs a read of its record, one that goes about as much as a delete. Each step also looks at
    /// one part of the index, for room that eviction's memory no longer needs.
    pub fn sweep(&mut self, now: Now, n_items_max: u32) -> Swept {
        self.shelf.flush_if_due(now);
        let n_items = self.shelf.items.n_items();
        if self.swept_down_to == 0 {
            self.swept_down_to = n_items;
        }
        // Others may have gone since, so that the end has come nearer.
        let from = self.swept_down_to.min(n_items);
        let down_to = from.saturating_sub(n_items_max);
        let mut n_removed = 0;
        for place in (down_to..from).rev().map(Place) {
            let Some(gone) = self.shelf.gone(now, self.shelf.at(place)) else { continue };
            let item = self.shelf.remove(place);
            self.count_swept(&item, gone);
            n_removed += 1;
        }
        let memory = self.shelf.memory();
        self.shelf.index.tidy_one(memory);
        self.swept_down_to = down_to;
        Swept { n_removed, pass: if down_to == 0 { Pass::Ended } else { Pass::Going } }
    }

    fn count_swept(&mut self, item: &Item, gone: Gone) {
        let counts = &mut self.classes[item.class.idx()].counts;
        counts.crawler_reclaimed += 1;
        if gone == Gone::Expired && !item.marks.has(Marks::FETCHED) {
            counts.expired_unfetched += 1;
        }
    }
}
