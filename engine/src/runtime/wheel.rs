//! A hierarchical timer wheel, pure: it is told the time and gives back what is due.
//!
//! Eleven or more timers of the executor itself would cost 350 to 470 ns each to register; a slot
//! in the wheel costs a few. Levels of 64 slots, each 64 times as coarse as the one below; an entry
//! sits at the level where its due tick first differs from the present one, and moves down as time
//! comes near. Due ticks are rounded up, so nothing fires early, and late by at most one tick of
//! 32.8 µs plus the length of a turn.
//!
//! ```text
//!   level 0 |64 slots of 1 tick  |  up to   2 ms
//!   level 1 |64 slots of 64      |  up to 134 ms
//!   level 2 |64 slots of 4,096   |  up to 8.6 s     ... level 5: 26 days
//! ```

#![allow(clippy::cast_possible_truncation, reason = "levels, slots and bits are all below 64")]

use super::clock::Time;

const TICK_SHIFT: u32 = 15;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 6;
const REACH: u64 = 1 << (SLOT_BITS * LEVELS as u32);
const NONE: u32 = u32::MAX;

const _: () = assert!(1 << TICK_SHIFT <= 64_000, "rule 9: a tick is at most 64 us");

/// Names one armed timer; it goes stale when the timer fires or is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerId {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    due_tick: u64,
    prev: u32,
    next: u32,
    generation: u32,
    level: u8,
    slot: u8,
    what: Option<T>,
}

#[derive(Debug)]
struct Level {
    occupied: u64,
    heads: [u32; SLOTS],
}

/// Timers of one shard, each carrying a `T`.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    now_tick: u64,
    levels: [Level; LEVELS],
    entries: Vec<Entry<T>>,
    free: u32,
    armed: usize,
}

impl<T> Wheel<T> {
    pub(crate) fn new() -> Self {
        Self {
            now_tick: 0,
            levels: std::array::from_fn(|_| Level { occupied: 0, heads: [NONE; SLOTS] }),
            entries: Vec::new(),
            free: NONE,
            armed: 0,
        }
    }

    /// Timers that have neither fired nor been removed.
    pub(crate) fn armed(&self) -> usize {
        self.armed
    }

    /// Arms a timer that fires at the first advance to `due` or later.
    pub(crate) fn insert(&mut self, due: Time, what: T) -> TimerId {
        let due_tick = tick_at_or_after(due).max(self.now_tick + 1);
        let index = self.take_entry(due_tick, what);
        self.link(index);
        self.armed += 1;
        TimerId { index, generation: self.entries[index as usize].generation }
    }

    /// Disarms a timer; a stale id gives `None`.
    pub(crate) fn remove(&mut self, id: TimerId) -> Option<T> {
        let entry = self.entries.get(id.index as usize)?;
        if entry.generation != id.generation || entry.what.is_none() {
            return None;
        }
        self.unlink(id.index);
        Some(self.release(id.index))
    }

    /// Moves time to `now` and appends at most `budget` due entries to `fired`, oldest tick first.
    /// What the budget left over is due at once in the next advance.
    pub(crate) fn advance(&mut self, now: Time, budget: usize, fired: &mut Vec<T>) {
        let target = now.as_nanos() >> TICK_SHIFT;
        let full = fired.len().saturating_add(budget);
        while let Some((level, slot, tick)) = self.next_slot() {
            if tick > target {
                break;
            }
            self.now_tick = self.now_tick.max(tick);
            if level > 0 {
                self.cascade(level, slot);
                continue;
            }
            while self.levels[0].heads[slot] != NONE {
                if fired.len() == full {
                    return;
                }
                let index = self.levels[0].heads[slot];
                self.unlink(index);
                fired.push(self.release(index));
            }
        }
        self.now_tick = self.now_tick.max(target);
    }

    /// When to advance next: exact for near timers, a moment before the due one for far timers.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.next_slot().map(|(_, _, tick)| Time::from_nanos(tick << TICK_SHIFT))
    }

    /// The first occupied slot in time: its level, its index and the tick it begins at.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        for (level, slots) in self.levels.iter().enumerate() {
            if slots.occupied == 0 {
                continue;
            }
            // A lower level always holds earlier ticks, so the first occupied one decides.
            let shift = SLOT_BITS * level as u32;
            let here = (self.now_tick >> shift) & (SLOTS as u64 - 1);
            let ahead = slots.occupied.rotate_right(here as u32).trailing_zeros();
            let slot = (here as usize + ahead as usize) % SLOTS;
            let turn = self.now_tick >> shift >> SLOT_BITS << SLOT_BITS;
            let mut index = turn + slot as u64;
            if slot < here as usize {
                index += SLOTS as u64;
            }
            return Some((level, slot, index << shift));
        }
        None
    }

    /// Spreads a slot of a coarse level over the finer ones, now that its time has come.
    fn cascade(&mut self, level: usize, slot: usize) {
        let mut index = self.levels[level].heads[slot];
        self.levels[level].heads[slot] = NONE;
        self.levels[level].occupied &= !(1 << slot);
        while index != NONE {
            let next = self.entries[index as usize].next;
            self.link(index);
            index = next;
        }
    }

    fn link(&mut self, index: u32) {
        let now = self.now_tick;
        let due = self.entries[index as usize].due_tick.clamp(now, now + REACH - 1);
        let differs = (now ^ due) | (SLOTS as u64 - 1);
        let level = ((63 - differs.leading_zeros()) / SLOT_BITS).min(LEVELS as u32 - 1);
        let slot = ((due >> (SLOT_BITS * level)) & (SLOTS as u64 - 1)) as usize;
        let row = &mut self.levels[level as usize];
        let head = std::mem::replace(&mut row.heads[slot], index);
        row.occupied |= 1 << slot;
        if head != NONE {
            self.entries[head as usize].prev = index;
        }
        let entry = &mut self.entries[index as usize];
        (entry.prev, entry.next) = (NONE, head);
        (entry.level, entry.slot) = (level as u8, slot as u8);
    }

    fn unlink(&mut self, index: u32) {
        let Entry { prev, next, level, slot, .. } = self.entries[index as usize];
        if next != NONE {
            self.entries[next as usize].prev = prev;
        }
        if prev != NONE {
            self.entries[prev as usize].next = next;
            return;
        }
        let row = &mut self.levels[level as usize];
        debug_assert_eq!(row.heads[slot as usize], index, "an entry without prev is a head");
        row.heads[slot as usize] = next;
        if next == NONE {
            row.occupied &= !(1 << slot);
        }
    }

    fn take_entry(&mut self, due_tick: u64, what: T) -> u32 {
        if self.free == NONE {
            let index = u32::try_from(self.entries.len()).expect("fewer than 2^32 timers");
            self.entries.push(Entry {
                due_tick,
                prev: NONE,
                next: NONE,
                generation: 0,
                level: 0,
                slot: 0,
                what: Some(what),
            });
            return index;
        }
        let index = self.free;
        let entry = &mut self.entries[index as usize];
        self.free = entry.next;
        entry.due_tick = due_tick;
        entry.what = Some(what);
        index
    }

    fn release(&mut self, index: u32) -> T {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = self.free;
        self.free = index;
        self.armed -= 1;
        entry.what.take().expect("a linked entry carries its payload")
    }
}

fn tick_at_or_after(time: Time) -> u64 {
    time.as_nanos().div_ceil(1 << TICK_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 1 << TICK_SHIFT;

    fn fire(wheel: &mut Wheel<u64>, now: u64) -> Vec<u64> {
        let mut fired = Vec::new();
        wheel.advance(Time::from_nanos(now), usize::MAX, &mut fired);
        fired
    }

    #[test]
    fn never_fires_early_and_at_most_a_tick_late() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut wheel = Wheel::new();
            let mut now = 0;
            let mut pending = std::collections::BTreeSet::new();
            for _ in 0..2_000 {
                if rng.bool() {
                    let reach = 1 << rng.u64(0..40);
                    let due = now + reach + rng.u64(0..1000);
                    wheel.insert(Time::from_nanos(due), due);
                    pending.insert(due);
                }
                let step = 1 << rng.u64(1..34);
                now += rng.u64(0..step);
                for due in fire(&mut wheel, now) {
                    assert!(due <= now, "seed {seed}: {due} fired at {now}");
                    pending.remove(&due);
                }
                if let Some(&oldest) = pending.first() {
                    assert!(oldest + TICK > now, "seed {seed}: {oldest} still armed at {now}");
                    let next = wheel.next_due().expect("something is armed").as_nanos();
                    assert!(next < oldest + TICK, "seed {seed}: would sleep past {oldest}");
                }
            }
        }
    }

    #[test]
    fn a_removed_timer_does_not_fire_and_its_id_goes_stale() {
        let mut wheel = Wheel::new();
        let first = wheel.insert(Time::from_nanos(5 * TICK), 1);
        let second = wheel.insert(Time::from_nanos(5 * TICK), 2);
        assert_eq!(wheel.remove(first), Some(1));
        assert_eq!(wheel.remove(first), None);
        let third = wheel.insert(Time::from_nanos(6 * TICK), 3);
        assert_eq!(wheel.remove(first), None, "the slot was reused");
        assert_eq!(fire(&mut wheel, 7 * TICK), vec![2, 3]);
        assert_eq!((wheel.remove(second), wheel.remove(third), wheel.armed()), (None, None, 0));
    }

    #[test]
    fn what_the_budget_left_over_fires_next_time() {
        let mut wheel = Wheel::new();
        for idx in 0..10 {
            wheel.insert(Time::from_nanos(TICK), idx);
        }
        let mut fired = Vec::new();
        wheel.advance(Time::from_nanos(3 * TICK), 4, &mut fired);
        assert_eq!(fired.len(), 4);
        assert!(wheel.next_due().expect("six are left") <= Time::from_nanos(3 * TICK));
        assert_eq!(fire(&mut wheel, 3 * TICK).len(), 6);
    }

    #[test]
    fn a_timer_beyond_the_reach_of_the_wheel_waits_its_full_time() {
        let mut wheel = Wheel::new();
        let due = (REACH + 10) * TICK;
        wheel.insert(Time::from_nanos(due), due);
        assert_eq!(fire(&mut wheel, due - TICK), vec![]);
        assert_eq!(fire(&mut wheel, due), vec![due]);
    }
}
