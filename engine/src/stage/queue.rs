//! The queue in front of a stage: one lane per class, in it one line per priority, first in first
//! out, with removal from the middle.
//!
//! ```text
//!   lane (class a) ─┬─ line (priority 9)  ▢ ▢
//!                   └─ line (priority 0)  ▢ ▢ ▢ ▢      a batch takes from both, by their weights
//!   lane (class b) ─── line (priority 0)  ▢
//! ```
//!
//! Items stand in a slot map and are linked per line, so that a cancelled or expired item leaves
//! at once and in constant time. Classes are found by hash first; whether two of equal hash are
//! equal is asked by the caller, outside of any borrow.
//!
//! Lanes get their turns by their shares, batch by batch, and the lines of a lane by their weights,
//! item by item ([`Shares`]).

use std::rc::Rc;

use hashbrown::HashTable;
use slotmap::{SlotMap, new_key_type};

use super::Stage;
use super::lanes::{ClassLane, ClassView, End};
use super::slots::SlotKey;
use super::waiters::Waiters;
use crate::control::share::Shares;
use crate::runtime::Time;
use crate::runtime::priority::Priority;

new_key_type! { pub(super) struct ItemKey; }

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
    pub(super) priority: Priority,
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
    pub(super) priority: Priority,
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
    /// The turns of the lanes.
    turns: Shares,
    /// Of each priority's line.
    weights: [u32; Priority::COUNT],
}

impl<S: Stage> Queue<S> {
    /// Whether all items are of one class, whatever it is.
    pub(super) const ONE_CLASS: bool = std::mem::size_of::<S::Class>() == 0;

    pub(super) fn new(weights: [u32; Priority::COUNT]) -> Self {
        Self {
            items: SlotMap::with_key(),
            lanes: Vec::new(),
            by_hash: HashTable::new(),
            free: Vec::new(),
            active: Vec::new(),
            turns: Shares::default(),
            weights,
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

    /// The lane of a class that nobody has asked for yet, which gets `share` turns where one of
    /// share 1 gets one.
    pub(super) fn open_lane(&mut self, class: Rc<S::Class>, hash: u64, share: u32) -> u32 {
        let lane = ClassLane::new(class, hash, share);
        let idx = if let Some(idx) = self.free.pop() {
            self.lanes[idx as usize] = lane;
            self.turns.forget(idx as usize);
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
        row.n_items += 1;
        row.weight = row.weight.saturating_add(new.weight);
        if row.n_items == 1 {
            self.active.push(lane);
        }
        let (line, _) = row.line(new.priority);
        let tail = line.tail;
        let key = self.items.insert(Queued {
            item: new.item,
            waiters: Waiters::one(new.slot),
            deadline: new.deadline,
            weight: new.weight,
            admitted: new.admitted,
            pass: new.pass,
            hash: new.hash,
            key: new.key,
            priority: new.priority,
            class: lane,
            prev: tail,
            next: None,
        });
        match tail {
            Some(tail) => self.items[tail].next = Some(key),
            None => line.head = Some(key),
        }
        line.tail = Some(key);
        key
    }

    /// Takes an item out, wherever it stands; drop what comes back outside of the borrow.
    pub(super) fn remove(&mut self, key: ItemKey) -> Option<Removed<S>> {
        let queued = self.items.remove(key)?;
        let lane = queued.class;
        let row = &mut self.lanes[lane as usize];
        let (line, _) = row.line(queued.priority);
        match queued.prev {
            Some(prev) => self.items[prev].next = queued.next,
            None => line.head = queued.next,
        }
        match queued.next {
            Some(next) => self.items[next].prev = queued.prev,
            None => line.tail = queued.prev,
        }
        row.n_items -= 1;
        row.weight = row.weight.saturating_sub(queued.weight);
        if row.n_items > 0 {
            return Some((queued, Last::NotYet));
        }
        self.active.retain(|other| *other != lane);
        Some((queued, Last::OfItsLane(lane)))
    }

    /// Takes out an item whose turn has come: its line has had its turn.
    pub(super) fn serve(&mut self, key: ItemKey) -> Option<Removed<S>> {
        let (class, priority) = self.items.get(key).map(|item| (item.class, item.priority))?;
        let row = &mut self.lanes[class as usize];
        let (_, line) = row.line(priority);
        row.turns.charge(line, self.weights[priority.idx()], 1);
        self.remove(key)
    }

    /// A lane has had its turn, for so many items.
    pub(super) fn charge(&mut self, lane: u32, n_items: usize) {
        self.turns.charge(lane as usize, self.lanes[lane as usize].share, n_items);
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

    /// The item of a lane whose turn it is, and its weight.
    pub(super) fn next(&self, lane: u32, end: End) -> Option<(ItemKey, u64)> {
        let row = &self.lanes[lane as usize];
        let waiting = row.lines.iter().enumerate().filter(|(_, line)| line.head.is_some());
        let weighed = waiting.map(|(idx, line)| (idx, self.weights[line.priority.idx()]));
        let (idx, _) = row.turns.peek(weighed)?;
        let line = &row.lines[idx];
        let key = match end {
            End::Oldest => line.head,
            End::Newest => line.tail,
        }?;
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
        let heads = row.lines.iter().filter_map(|line| line.head);
        let oldest = heads.map(|key| &self.items[key]).min_by_key(|item| item.admitted)?;
        Some(ClassView {
            lane,
            n_items: row.n_items,
            weight: row.weight,
            oldest_admitted: oldest.admitted,
            oldest_pass: oldest.pass,
        })
    }

    /// When the oldest item of all came.
    pub(super) fn oldest_admitted(&self) -> Option<Time> {
        self.active.iter().filter_map(|lane| Some(self.view(*lane)?.oldest_admitted)).min()
    }

    /// Puts the classes into the order of their turns.
    pub(super) fn begin_round(&mut self) {
        if self.active.len() > 1 {
            let turns = &self.turns;
            self.active.sort_by(|a, b| turns.pass(*a as usize).total_cmp(&turns.pass(*b as usize)));
        }
    }
}
