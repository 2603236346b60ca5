//! Goal: what the embedded store says it takes is what it takes, and what goes is returned.
//! Method: an allocator that counts every byte of this process, held against the store's own books
//! after each phase of its life. One test, since others would be counted with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::alloc::System;

use bytes::Bytes;
use forebay_workloads::cacheproxy::operation::{
    Delete, ExpTime, Get, Key, Operation, Outcome, Set, SetMode, What,
};
use forebay_workloads::cacheproxy::store::{Now, Options, Pass, Store};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NOW: Now = Now(1_700_000_000);
const BYTES_MAX: usize = 16 << 20;
/// Keys that are stored: several times what there is room for.
const N_KEYS: u32 = 300_000;

/// Bytes that are allocated now.
fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn key(number: u32) -> Key {
    Key::new(format!("key{number:07}").as_bytes()).unwrap()
}

fn set(number: u32, value_bytes: usize, expires: i32) -> Operation {
    let value = Bytes::from(vec![b'v'; value_bytes]);
    let set = Set::new(SetMode::Set, 0, ExpTime(expires), value);
    Operation { key: key(number), what: What::Set(set) }
}

fn get(number: u32) -> Operation {
    Operation { key: key(number), what: What::Get(Get::PLAIN) }
}

/// A store, and what was allocated before it.
struct Counted {
    store: Store,
    before: usize,
}

impl Counted {
    fn taken(&self) -> usize {
        live_bytes() - self.before
    }

    /// The books say no less than what was allocated, and little more: rounding by the allocator.
    fn check(&self, phase: &str) {
        let told = usize::try_from(self.store.stats(NOW).held.bytes).unwrap();
        let taken = self.taken();
        assert!(taken <= told, "{phase}: {taken} bytes taken, {told} told");
        assert!(told <= BYTES_MAX, "{phase}: {told} bytes");
        let rounding = told / 5;
        assert!(taken + rounding >= told, "{phase}: {taken} bytes taken, {told} told");
    }
}

/// Sweeps until all items have been looked at, and all parts of the index, of which a step does one.
fn sweep(store: &mut Store, now: Now) {
    const PARTS: usize = 256;
    while store.sweep(now, 1_000).pass == Pass::Going {}
    for _ in 0..PARTS {
        store.sweep(now, 1_000);
    }
}

#[test]
fn the_books_are_right_and_all_memory_comes_back() {
    let before = live_bytes();
    let mut counted = Counted { store: Store::new(Options::new(BYTES_MAX, 7)), before };
    let empty = counted.taken();

    for number in 0..N_KEYS {
        counted.store.apply(NOW, &set(number, 50, 10));
        if number % 10_000 == 0 {
            counted.check("while small items come");
        }
    }
    counted.check("full of small items");
    assert!(counted.taken() > BYTES_MAX * 3 / 4, "the room is used: {}", counted.taken());

    for number in 0..20_000 {
        counted.store.apply(NOW, &set(number, 5_000, 10));
        counted.store.apply(NOW, &get(number));
    }
    counted.check("large items in place of small ones");

    sweep(&mut counted.store, Now(NOW.0 + 10));
    assert_eq!(counted.store.stats(NOW).held.curr_items, 0);
    // Small tables may stay.
    assert!(counted.taken() < empty + BYTES_MAX / 100, "{} after {empty}", counted.taken());

    for number in 0..50_000 {
        counted.store.apply(NOW, &set(number, 50, 0));
    }
    counted.check("small items again");
    for number in 0..50_000 {
        let delete = What::Delete(Delete::default());
        counted.store.apply(NOW, &Operation { key: key(number), what: delete });
    }
    assert!(counted.taken() < empty + BYTES_MAX / 100, "{} after {empty}", counted.taken());

    // The one thing that is beyond the bound: values that readers hold. It also shows that this
    // check could fail.
    let mut held = vec![];
    for number in 0..2_000 {
        counted.store.apply(NOW, &set(number, 20_000, 0));
        let Outcome::Hit(entry) = counted.store.apply(NOW, &get(number)) else { panic!("lost") };
        held.push(entry.value);
    }
    assert!(counted.taken() > 2 * BYTES_MAX, "{}", counted.taken());
    drop(held);
    counted.check("after the readers have let go");

    drop(counted);
    assert_eq!(live_bytes(), before, "the store is gone");
}
