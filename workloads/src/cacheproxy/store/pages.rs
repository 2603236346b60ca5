//! The records of all items, without a hole between them.
//!
//! Where one goes the last takes its place, so that memory is returned page by page as items go, and
//! a walk over all of them reads nothing else. A single growing array would be copied whole each
//! time it doubles: 64 MB at a million items, while every client of the shard waits.

use super::item::{Item, Place};

/// Records on a page: large enough that the list of pages stays in the cache, small enough that
/// taking or returning one moves the store's size by little.
const PAGE_ITEMS: usize = 256;
const PAGE_BYTES: usize = PAGE_ITEMS * size_of::<Item>();
/// The list of pages gives memory back when less than one in so many of its entries is in use.
const SPARSE: usize = 4;

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pages: Vec<Vec<Item>>,
    n_items: u32,
}

impl Pages {
    pub(super) fn n_items(&self) -> u32 {
        self.n_items
    }

    /// The bytes that they take, used or not.
    pub(super) fn bytes(&self) -> usize {
        self.pages.len() * PAGE_BYTES + self.pages.capacity() * size_of::<Vec<Item>>()
    }

    pub(super) fn push(&mut self, item: Item) -> Place {
        let place = Place(self.n_items);
        assert_ne!(place, Place::NONE, "four thousand million items fit no shard's memory");
        let (page_idx, item_idx) = position(place);
        if item_idx == 0 {
            self.pages.push(Vec::with_capacity(PAGE_ITEMS));
        }
        self.pages[page_idx].push(item);
        self.n_items += 1;
        place
    }

    /// Takes an item out. Where another has moved into its place, that one had stood at the end.
    pub(super) fn swap_remove(&mut self, place: Place) -> (Item, Option<Moved>) {
        let last = self.pages.last_mut().expect("an item stands on a page");
        let moving = last.pop().expect("no page is empty");
        if last.is_empty() {
            self.pages.pop();
            if self.pages.len() * SPARSE < self.pages.capacity() {
                self.pages.shrink_to(self.pages.len() * 2);
            }
        }
        self.n_items -= 1;
        let from = Place(self.n_items);
        if from == place {
            return (moving, None);
        }
        let gone = std::mem::replace(self.at_mut(place), moving);
        (gone, Some(Moved { from, to: place }))
    }

    pub(super) fn at(&self, place: Place) -> &Item {
        let (page_idx, item_idx) = position(place);
        &self.pages[page_idx][item_idx]
    }

    pub(super) fn at_mut(&mut self, place: Place) -> &mut Item {
        let (page_idx, item_idx) = position(place);
        &mut self.pages[page_idx][item_idx]
    }
}

/// An item whose record has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) from: Place,
    pub(super) to: Place,
}

/// Its page, and where on it.
fn position(Place(place): Place) -> (usize, usize) {
    let place = place as usize;
    (place / PAGE_ITEMS, place % PAGE_ITEMS)
}
