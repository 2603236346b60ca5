//! The FIFO in front of a stage, one lane per class, with removal from the middle.
//!
//! Items stand in a slot map and are linked per class, so that a cancelled or expired item leaves
//! at once and in constant time. Classes are found by hash first; whether two of equal hash are
//! equal is asked by the caller, outside of any borrow.

use std::rc::Rc;

use hashbrown::HashTable;
use slotmap::{SlotMap, new_key_type};

use super::Stage;
use super::slots::SlotKey;
use crate::runtime::Time;

new_key_type! { pub(super) struct ItemKey; }

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

/// One item that waits.
pub(super) struct Queued<S: Stage> {
    pub(super) item: S::Item,
    pub(super) waiters: Waiters,
    /// The latest deadline among the waiters.
    pub(super) deadline: Time,
    pub(super) weight: u64,
    pub(super) admitted: Time,
    /// The pass that ran when the item came.
    pub(super) pass: u64,
    /// The hash of its key, where the stage joins equal keys.
    pub(super) hash: Option<u64>,
    /// Its key, likewise; taken out while user code compares it.
    pub(super) key: Option<S::Key>,
    class: u32,
    prev: Option<ItemKey>,
    next: Option<ItemKey>,
}

/// What is needed to enqueue an item.
pub(super) struct NewItem<S: Stage> {
    pub(super) item: S::Item,
    pub(super) slot: SlotKey,
    pub(super) deadline: Time,
    pub(super) weight: u64,
    pub(super) admitted: Time,
    pub(super) pass: u64,
    pub(super) hash: Option<u64>,
    pub(super) key: Option<S::Key>,
}

struct ClassLane<S: Stage> {
    class: Option<Rc<S::Class>>,
    hash: u64,
    head: Option<ItemKey>,
    tail: Option<ItemKey>,
    n_items: usize,
    weight: u64,
}

/// What a window wants to know of one class.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClassView {
    pub(super) lane: u32,
    pub(super) n_items: usize,
    pub(super) weight: u64,
    pub(super) oldest_admitted: Time,
    pub(super) oldest_pass: u64,
}

/// Whether an item that was taken out was the last of its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    NotYet,
    /// It was; the lane is this one.
    OfItsLane(u32),
}

/// An item that was taken out.
type Removed<S> = (Queued<S>, Last);

/// The queue of one stage on one shard.
pub(super) struct Queue<S: Stage> {
    items: SlotMap<ItemKey, Queued<S>>,
    lanes: Vec<ClassLane<S>>,
    by_hash: HashTable<u32>,
    free: Vec<u32>,
    /// Lanes that hold items, in the order in which they get their turn.
    active: Vec<u32>,
}

impl<S: Stage> Queue<S> {
    /// Whether all items are of one class, whatever it is.
    pub(super) const ONE_CLASS: bool = std::mem::size_of::<S::Class>() == 0;

    pub(super) fn new() -> Self {
        Self {
            items: SlotMap::with_key(),
            lanes: Vec::new(),
            by_hash: HashTable::new(),
            free: Vec::new(),
            active: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn get_mut(&mut self, key: ItemKey) -> Option<&mut Queued<S>> {
        self.items.get_mut(key)
    }

    /// Classes of this hash that hold items, with their lanes; the caller compares them.
    pub(super) fn classes(&self, hash: u64) -> Vec<(u32, Rc<S::Class>)> {
        self.by_hash
            .iter_hash(hash)
            .filter(|lane| self.lanes[**lane as usize].hash == hash)
            .filter_map(|lane| {
                let class = self.lanes[*lane as usize].class.as_ref()?;
                Some((*lane, Rc::clone(class)))
            })
            .collect()
    }

    /// The lane of a class that nobody has asked for yet.
    pub(super) fn open_lane(&mut self, class: Rc<S::Class>, hash: u64) -> u32 {
        let lane =
            ClassLane { class: Some(class), hash, head: None, tail: None, n_items: 0, weight: 0 };
        let idx = if let Some(idx) = self.free.pop() {
            self.lanes[idx as usize] = lane;
            idx
        } else {
            self.lanes.push(lane);
            u32::try_from(self.lanes.len() - 1).expect("no more lanes than queued items")
        };
        let lanes = &self.lanes;
        self.by_hash.insert_unique(hash, idx, |lane| lanes[*lane as usize].hash);
        idx
    }

    /// The one lane of a stage that has a single class, once it has been opened.
    pub(super) fn single_lane(&self) -> Option<u32> {
        self.lanes.first().map(|_| 0)
    }

    pub(super) fn push(&mut self, lane: u32, new: NewItem<S>) -> ItemKey {
        let row = &mut self.lanes[lane as usize];
        let tail = row.tail;
        row.n_items += 1;
        row.weight = row.weight.saturating_add(new.weight);
        if row.n_items == 1 {
            self.active.push(lane);
        }
        let key = self.items.insert(Queued {
            item: new.item,
            waiters: Waiters::one(new.slot),
            deadline: new.deadline,
            weight: new.weight,
            admitted: new.admitted,
            pass: new.pass,
            hash: new.hash,
            key: new.key,
            class: lane,
            prev: tail,
            next: None,
        });
        match tail {
            Some(tail) => self.items[tail].next = Some(key),
            None => row.head = Some(key),
        }
        row.tail = Some(key);
        key
    }

    /// Takes an item out, wherever it stands; drop what comes back outside of the borrow.
    pub(super) fn remove(&mut self, key: ItemKey) -> Option<Removed<S>> {
        let queued = self.items.remove(key)?;
        let row = &mut self.lanes[queued.class as usize];
        match queued.prev {
            Some(prev) => self.items[prev].next = queued.next,
            None => row.head = queued.next,
        }
        match queued.next {
            Some(next) => self.items[next].prev = queued.prev,
            None => row.tail = queued.prev,
        }
        row.n_items -= 1;
        row.weight = row.weight.saturating_sub(queued.weight);
        if row.n_items > 0 {
            return Some((queued, Last::NotYet));
        }
        self.active.retain(|other| *other != queued.class);
        let lane = queued.class;
        Some((queued, Last::OfItsLane(lane)))
    }

    /// Closes the lane of a class that has no items left, and gives the class to be dropped
    /// outside of the borrow. A stage with a single class keeps its lane.
    pub(super) fn close_lane(&mut self, lane: u32) -> Option<Rc<S::Class>> {
        let row = &mut self.lanes[lane as usize];
        if Self::ONE_CLASS || row.n_items > 0 {
            return None;
        }
        let (class, hash) = (row.class.take()?, row.hash);
        if let Ok(entry) = self.by_hash.find_entry(hash, |other| *other == lane) {
            entry.remove();
        }
        self.free.push(lane);
        Some(class)
    }

    /// The oldest item of a lane and its weight.
    pub(super) fn head(&self, lane: u32) -> Option<(ItemKey, u64)> {
        let key = self.lanes[lane as usize].head?;
        Some((key, self.items[key].weight))
    }

    pub(super) fn class(&self, lane: u32) -> Option<Rc<S::Class>> {
        self.lanes[lane as usize].class.clone()
    }

    /// How many classes hold items.
    pub(super) fn n_active(&self) -> usize {
        self.active.len()
    }

    /// The class at a place of the round.
    pub(super) fn active(&self, place: usize) -> Option<u32> {
        self.active.get(place).copied()
    }

    /// What a window wants to know of one class, if it holds items.
    pub(super) fn view(&self, lane: u32) -> Option<ClassView> {
        let row = &self.lanes[lane as usize];
        let oldest = &self.items[row.head?];
        Some(ClassView {
            lane,
            n_items: row.n_items,
            weight: row.weight,
            oldest_admitted: oldest.admitted,
            oldest_pass: oldest.pass,
        })
    }

    /// Lets the next round begin with another class, so that permits go round.
    pub(super) fn rotate(&mut self) {
        if self.active.len() > 1 {
            self.active.rotate_left(1);
        }
    }
}
