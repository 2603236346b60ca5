//! Who must go when there is no room: S3-FIFO, two lists in order of arrival and a memory of who left.
//!
//! ```text
//!   a new key ─▶ newcomers ─ used meanwhile ─▶ regulars ─┐ used meanwhile: to the front again
//!                    │                          ▲    │ ◀─┘
//!                    ▼ not used                 │    ▼ not used
//!                 evicted, remembered ──────────┘  evicted
//!                             stored again soon
//! ```
//!
//! Why this one (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023): a hit
//! only counts up two bits in the record that it reads anyway, where segmented LRU takes the item out
//! of a list and puts it in front, which touches four other records. Most keys of real loads are
//! asked for once; they pass through a small part of the memory and never displace what is asked for
//! again, so a scan does no harm. `tests/hit_ratio.rs` compares it with segmented LRU.
//!
//! No crate does this here. `quick_cache` has no expiry and never shrinks its tables; `moka` is made
//! for many threads and reads clocks of its own; neither counts tables and ghosts in its bound.
//!
//! What an item takes decides only which list gives way; within a list large and small are alike.

use super::ghosts::Memory;
use super::item::{Item, Place, UseClass};
use super::shelf::{Gone, Shelf};
use super::time::Now;

/// Uses that are counted; more say nothing more, and would keep an item for long after its last one.
const USES_MAX: u8 = 3;
/// A newcomer that was used as often as this becomes a regular.
const USES_OF_REGULAR: u8 = 1;
/// The newcomers give way while they take more than this part of what keys and values take. The
/// paper has a tenth; where popularity never changes (the Zipf traces of the test) less is better,
/// and where it does, more.
const NEWCOMERS_PART: usize = 20;
/// As many evictions are remembered as this part of the items that are held. The paper has all of
/// them; but here they take memory from the items, and those evicted longer ago are rarely asked for.
const REMEMBERED: (u32, u32) = (3, 4);
/// Items that may be spared in the search for one to evict; then the oldest goes, used or not. Each
/// one spared pays with a use, so this is rarely reached; it bounds what one operation can cost.
const SPARED_MAX: usize = 256;

/// An item that was given up, and why.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) item: Item,
    /// It was not there for anybody any more; else it has been evicted.
    pub(super) gone: Option<Gone>,
}

impl Item {
    /// A use in its favour.
    pub(super) fn count_use(&mut self) {
        if self.uses < USES_MAX {
            self.uses += 1;
        }
    }
}

impl Shelf {
    /// The class that an item enters in.
    pub(super) fn class_of_new(&mut self, hash: u32) -> UseClass {
        let memory = self.memory();
        match self.index.take_ghost(hash, memory) {
            Some(_) => UseClass::Regular,
            None => UseClass::Newcomer,
        }
    }

    /// Gives up the item that is worth least; `None` if there is none at all.
    pub(super) fn give_up_one(&mut self, now: Now) -> Option<GivenUp> {
        let mut n_spared = 0;
        loop {
            let (class, oldest) = self.who_gives_way()?;
            let item = self.items.at(oldest);
            let gone = self.gone(now, item);
            if gone.is_some() {
                return Some(GivenUp { item: self.remove(oldest), gone });
            }
            let worth = match class {
                UseClass::Newcomer => item.uses >= USES_OF_REGULAR,
                UseClass::Regular => item.uses > 0,
            };
            if !worth || n_spared == SPARED_MAX {
                return Some(GivenUp { item: self.evict(class, oldest), gone });
            }
            self.spare(class, oldest);
            n_spared += 1;
        }
    }

    /// What is remembered of those that left.
    pub(super) fn memory(&self) -> Memory {
        let (part, whole) = REMEMBERED;
        Memory { evictions: self.evictions, n_items: self.items.n_items() / whole * part }
    }

    fn who_gives_way(&self) -> Option<(UseClass, Place)> {
        let [newcomers, regulars] = &self.lists;
        let part = (newcomers.bytes() + regulars.bytes()) / NEWCOMERS_PART;
        match (newcomers.oldest(), regulars.oldest()) {
            (Some(newcomer), None) => Some((UseClass::Newcomer, newcomer)),
            // A lone newcomer stays, however large: it is what room is being made for.
            (Some(newcomer), Some(_)) if newcomers.bytes() > part && newcomers.n_items() > 1 => {
                Some((UseClass::Newcomer, newcomer))
            }
            (_, regular) => regular.map(|place| (UseClass::Regular, place)),
        }
    }

    /// Newcomer → regular, regular → the front of its list.
    fn spare(&mut self, class: UseClass, place: Place) {
        self.lists[class.idx()].unlink(&mut self.items, place);
        let item = self.items.at_mut(place);
        item.uses = match class {
            UseClass::Newcomer => 0,
            UseClass::Regular => item.uses - 1,
        };
        item.class = UseClass::Regular;
        self.lists[UseClass::Regular.idx()].push_newest(&mut self.items, place);
    }

    fn evict(&mut self, class: UseClass, place: Place) -> Item {
        let item = self.remove(place);
        if class == UseClass::Newcomer {
            self.evictions = self.evictions.wrapping_add(1);
            let memory = self.memory();
            self.index.remember_ghost(item.hash, memory);
        }
        item
    }
}
