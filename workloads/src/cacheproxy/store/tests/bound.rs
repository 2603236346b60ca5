//! The bound holds after each step, and what goes is returned.

use bytes::Bytes;

use super::super::super::operation::{
    CountsAsUse, Delete, ExpTime, Get, Outcome, Set, SetMode, What,
};
use super::super::{BYTES_MIN, EMPTY_BYTES, Now, Pass, Store};
use super::drafts::{Draft, Words};
use super::{NOW, SEED, get, later, on, set, set_until, store_of, value_of};

fn bytes_of(store: &Store) -> u64 {
    store.stats(NOW).held.bytes
}

fn n_items_of(store: &Store) -> u64 {
    store.stats(NOW).held.curr_items
}

/// A set of so many bytes.
fn set_large(name: &str, value_bytes: usize) -> super::Operation {
    let value = Bytes::from(vec![b'v'; value_bytes]);
    on(name, What::Set(Set::new(SetMode::Set, 0, ExpTime(0), value)))
}

#[test]
fn the_bound_holds_after_each_step_of_random_operations() {
    for bytes_max in [BYTES_MIN, 1 << 20, 3_000_001] {
        let mut store = store_of(bytes_max);
        let mut rng = fastrand::Rng::with_seed(SEED);
        for step in 0..30_000 {
            let mut operation = Draft::random(&mut rng, 5_000, Words::All).operation(None);
            if rng.u8(..) == 0 {
                operation = set_large("large", rng.usize(..1 << 20));
            }
            store.apply(later(step / 1_000), &operation);
            let bytes = bytes_of(&store);
            assert!(bytes <= bytes_max as u64, "{bytes} of {bytes_max} after {operation:?}");
        }
    }
}

#[test]
fn an_item_that_fills_the_store_is_stored_and_one_beyond_it_is_not() {
    let room = BYTES_MIN - EMPTY_BYTES;
    let mut store = store_of(BYTES_MIN);
    for number in 0..500 {
        store.apply(NOW, &set(&format!("k{number}"), "v"));
    }
    assert!(matches!(store.apply(NOW, &set_large("a", room - 200)), Outcome::Stored(_)));
    assert!(value_of(&mut store, NOW, "a").is_some());
    assert_eq!(store.apply(NOW, &set_large("a", room + 1)), Outcome::NoMemory);
    assert_eq!(store.apply(NOW, &get("a")), Outcome::Miss, "what it superseded is gone");
}

#[test]
fn all_memory_of_deleted_items_is_returned() {
    let mut store = store_of(64 << 20);
    let empty = bytes_of(&store);
    for number in 0..50_000 {
        store.apply(NOW, &set(&format!("k{number}"), "some value or other"));
    }
    assert!(bytes_of(&store) > 50_000 * 100, "{}", bytes_of(&store));
    for number in 0..50_000 {
        let delete = on(&format!("k{number}"), What::Delete(Delete::default()));
        assert_eq!(store.apply(NOW, &delete), Outcome::Deleted);
    }
    assert!(bytes_of(&store) < empty + 1_000, "{} after {empty}", bytes_of(&store));
}

#[test]
fn memory_follows_when_large_items_take_the_place_of_small_ones_and_back() {
    let mut store = store_of(8 << 20);
    let mut fill = |value_bytes: usize| {
        for number in 0..60_000 {
            store.apply(NOW, &set_large(&format!("k{number}"), value_bytes));
        }
        n_items_of(&store)
    };
    let n_small = fill(10);
    let n_large = fill(4_000);
    assert!(n_small > 30_000 && n_large < 2_100, "{n_small} small, {n_large} large");
    let n_small_again = fill(10);
    assert!(n_small_again > n_small * 9 / 10, "{n_small_again} where there were {n_small}");
}

/// Sweeps in steps until a pass has ended; how many were removed and in how many steps.
fn sweep_pass(store: &mut Store, now: Now, step: u32) -> (u32, u32) {
    let (mut n_removed, mut n_steps) = (0, 0);
    loop {
        let swept = store.sweep(now, step);
        n_removed += swept.n_removed;
        n_steps += 1;
        if swept.pass == Pass::Ended {
            return (n_removed, n_steps);
        }
    }
}

#[test]
fn a_sweep_returns_what_has_expired_in_bounded_steps_and_keeps_the_rest() {
    let mut store = store_of(64 << 20);
    for number in 0..10_000 {
        let ttl_s = if number % 4 == 0 { 0 } else { 10 };
        store.apply(NOW, &set_until(&format!("k{number}"), "value", ttl_s));
    }
    let full = bytes_of(&store);
    assert_eq!(sweep_pass(&mut store, later(9), 100), (0, 100), "none has expired");
    assert_eq!(n_items_of(&store), 10_000);
    assert_eq!(sweep_pass(&mut store, later(10), 100), (7_500, 100));
    assert_eq!(n_items_of(&store), 2_500);
    assert!(bytes_of(&store) < full / 3, "{} of {full}", bytes_of(&store));
    for number in (0..10_000).step_by(4) {
        assert!(value_of(&mut store, later(10), &format!("k{number}")).is_some(), "k{number}");
    }
    let stats = store.stats(later(10));
    assert_eq!(stats.of_classes(|counts| counts.crawler_reclaimed), 7_500);
    assert_eq!(stats.of_classes(|counts| counts.expired_unfetched), 7_500);
}

#[test]
fn a_sweep_finds_all_that_has_expired_while_others_come_and_go() {
    let mut store = store_of(64 << 20);
    let mut rng = fastrand::Rng::with_seed(SEED);
    for number in 0..5_000 {
        store.apply(NOW, &set_until(&format!("old{number}"), "value", 10));
    }
    let mut n_removed = 0;
    loop {
        let swept = store.sweep(later(10), 50);
        n_removed += swept.n_removed;
        if swept.pass == Pass::Ended {
            break;
        }
        for _ in 0..20 {
            let name = format!("new{}", rng.u32(..1_000));
            match rng.bool() {
                true => store.apply(later(10), &set(&name, "value")),
                false => store.apply(later(10), &on(&name, What::Delete(Delete::default()))),
            };
        }
    }
    assert_eq!(n_removed, 5_000);
}

#[test]
fn a_flush_hides_all_at_once_and_a_sweep_returns_it() {
    let mut store = store_of(64 << 20);
    for number in 0..5_000 {
        store.apply(NOW, &set(&format!("k{number}"), "value"));
    }
    store.flush_all(NOW, ExpTime(0));
    store.apply(NOW, &set("new", "value"));
    assert_eq!(value_of(&mut store, NOW, "k1"), None);
    assert_eq!(store.stats(NOW).counts.get_flushed, 1);
    assert_eq!(value_of(&mut store, NOW, "new").as_deref(), Some("value"));
    assert_eq!(sweep_pass(&mut store, NOW, 1_000).0, 4_999);
    assert_eq!(n_items_of(&store), 1);
}

#[test]
fn room_is_made_of_what_has_expired_without_an_eviction() {
    let mut store = store_of(1 << 20);
    let mut number = 0;
    while store.stats(NOW).evictions() == 0 {
        store.apply(NOW, &set_until(&format!("k{number}"), "value", 10));
        number += 1;
    }
    let evictions = store.stats(NOW).evictions();
    for number in 0..2_000 {
        store.apply(later(10), &set(&format!("new{number}"), "value"));
    }
    let stats = store.stats(later(10));
    assert_eq!(stats.evictions(), evictions);
    assert!(stats.of_classes(|counts| counts.reclaimed) > 1_900);
}

#[test]
fn a_value_that_a_reader_holds_outlives_its_item() {
    let mut store = store_of(1 << 20);
    store.apply(NOW, &set("k", "held"));
    let Outcome::Hit(entry) = store.apply(NOW, &get("k")) else { panic!("it is there") };
    store.apply(NOW, &on("k", What::Delete(Delete::default())));
    assert_eq!(value_of(&mut store, NOW, "k"), None);
    let read_elsewhere = std::thread::scope(|scope| {
        scope.spawn(|| entry.value.to_vec()).join().expect("it only reads")
    });
    assert_eq!(read_elsewhere, b"held");
}

#[test]
fn a_value_is_handed_out_without_a_copy() {
    let mut store = store_of(1 << 20);
    store.apply(NOW, &set("k", "some value"));
    let read = |store: &mut Store| match store.apply(NOW, &get("k")) {
        Outcome::Hit(entry) => entry.value.as_ptr(),
        other => panic!("{other:?}"),
    };
    assert_eq!(read(&mut store), read(&mut store));
}

#[test]
fn a_store_does_not_hold_the_buffer_that_a_value_came_in() {
    let mut store = store_of(1 << 20);
    let buffer = Bytes::from(vec![b'v'; 64 << 10]);
    let set = Set::new(SetMode::Set, 0, ExpTime(0), buffer.slice(..10));
    store.apply(NOW, &on("k", What::Set(set)));
    assert!(buffer.is_unique());
}

#[test]
fn a_key_that_is_asked_for_does_not_go_for_those_that_are_not() {
    let mut store = store_of(1 << 20);
    store.apply(NOW, &set("k", "kept"));
    for number in 0..50_000 {
        store.apply(NOW, &set(&format!("k{number}"), "value"));
        if number % 500 == 0 {
            assert!(value_of(&mut store, NOW, "k").is_some(), "{number}");
        }
    }
    let unread = Get { counts_as_use: CountsAsUse::No, ..Get::PLAIN };
    assert!(matches!(store.apply(NOW, &on("k", What::Get(unread))), Outcome::Hit(_)));
}
