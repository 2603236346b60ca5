//! Each operation, as memcached does it: what the real server was asked by hand, as tables.

use bytes::Bytes;

use super::super::super::operation::{
    Beside, Count, Counted, Delete, Direction, Entry, ExpTime, Get, Operation, Outcome, Set,
    SetMode, Wanted, What, Win,
};
use super::super::{Now, Store};
use super::{NOW, get, later, on, set, set_of, set_until, store_of, value_of};

const COUNT: Count = Count {
    direction: Direction::Up,
    delta: 1,
    initial: None,
    if_cas: None,
    new_cas: None,
    touch: None,
    beside: Beside::Ttl,
};

/// A read that is told everything, as `mg` is.
fn told_all(name: &str) -> Operation {
    on(name, What::Get(Get { beside: Beside::All, ..Get::PLAIN }))
}

fn count(name: &str, count: Count) -> Operation {
    on(name, What::Count(count))
}

fn delete(name: &str, delete: Delete) -> Operation {
    on(name, What::Delete(delete))
}

fn store() -> Store {
    store_of(1 << 20)
}

fn hit(store: &mut Store, now: Now, operation: &Operation) -> Entry {
    match store.apply(now, operation) {
        Outcome::Hit(entry) => entry,
        other => panic!("{operation:?} came to {other:?}"),
    }
}

fn stored(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Stored(cas) => *cas,
        other => panic!("not stored: {other:?}"),
    }
}

/// Each mode of a store over an item with value `old`, and where nothing is.
#[test]
fn a_store_heeds_its_mode() {
    let check = |mode, over: Option<&str>, alone: Option<&str>| {
        let mut store = store();
        store.apply(NOW, &set("there", "old"));
        for (name, wanted) in [("there", over), ("nothing", alone)] {
            let before = value_of(&mut store, NOW, name);
            let outcome = store.apply(NOW, &on(name, What::Set(set_of(mode, "new"))));
            let after = value_of(&mut store, NOW, name);
            match wanted {
                Some(value) => assert_eq!(after.as_deref(), Some(value), "{mode:?} {name}"),
                None => assert_eq!((outcome, after), (Outcome::NotStored, before), "{mode:?}"),
            }
        }
    };
    check(SetMode::Set, Some("new"), Some("new"));
    check(SetMode::Add, None, Some("new"));
    check(SetMode::Replace, Some("new"), None);
    check(SetMode::Append, Some("oldnew"), None);
    check(SetMode::Prepend, Some("newold"), None);
}

#[test]
fn a_store_that_names_a_cas_stores_over_that_state_only() {
    type Name = fn(u64) -> u64;
    let check = |mode, name: Name, over: Option<Outcome>, alone: Outcome| {
        let mut store = store();
        store.apply(NOW, &set("other", "x"));
        let cas = stored(&store.apply(NOW, &set("k", "old")));
        let named = Set { if_cas: Some(name(cas)), ..set_of(mode, "new") };
        let outcome = store.apply(NOW, &on("nothing", What::Set(named.clone())));
        let outcome =
            if matches!(outcome, Outcome::Stored(_)) { Outcome::Stored(0) } else { outcome };
        assert_eq!(outcome, alone, "{mode:?} alone");
        let outcome = store.apply(NOW, &on("k", What::Set(named)));
        match over {
            Some(over) => assert_eq!(outcome, over, "{mode:?}"),
            None => assert!(stored(&outcome) > cas, "{mode:?}"),
        }
    };
    let (equal, other, zero): (Name, Name, Name) = (|cas| cas, |cas| cas + 1, |_| 0);
    for mode in [SetMode::Set, SetMode::Replace] {
        check(mode, equal, None, Outcome::NotFound);
        check(mode, other, Some(Outcome::Exists), Outcome::NotFound);
        check(mode, zero, Some(Outcome::Exists), Outcome::NotFound);
    }
    for mode in [SetMode::Append, SetMode::Prepend] {
        check(mode, equal, None, Outcome::NotStored);
        check(mode, other, Some(Outcome::Exists), Outcome::NotStored);
        check(mode, zero, None, Outcome::NotStored);
    }
    check(SetMode::Add, equal, Some(Outcome::NotStored), Outcome::Stored(0));
}

#[test]
fn a_chosen_cas_is_taken_and_zero_is_none() {
    let mut store = store();
    let chosen = |cas| on("k", What::Set(Set { new_cas: Some(cas), ..set_of(SetMode::Set, "v") }));
    assert_eq!(store.apply(NOW, &chosen(77)), Outcome::Stored(77));
    assert_eq!(store.apply(NOW, &chosen(0)), Outcome::Stored(1));
}

#[test]
fn what_is_appended_keeps_flags_and_expiry_of_what_is_there() {
    let mut store = store();
    let first = Set { flags: 7, expires: ExpTime(100), ..set_of(SetMode::Set, "abc") };
    let second = Set { flags: 9, expires: ExpTime(0), ..set_of(SetMode::Append, "de") };
    store.apply(NOW, &on("k", What::Set(first)));
    store.apply(NOW, &on("k", What::Set(second)));
    let entry = hit(&mut store, NOW, &get("k"));
    assert_eq!((&entry.value[..], entry.flags, entry.ttl_s), (&b"abcde"[..], 7, Some(100)));
}

#[test]
fn an_append_may_make_its_item() {
    let mut store = store();
    let append = Set { vivify: Some(ExpTime(30)), flags: 5, ..set_of(SetMode::Append, "a") };
    stored(&store.apply(NOW, &on("k", What::Set(append))));
    let entry = hit(&mut store, NOW, &get("k"));
    assert_eq!((&entry.value[..], entry.flags, entry.ttl_s), (&b"a"[..], 5, Some(30)));
}

#[test]
fn an_item_is_too_large_from_the_byte_on_that_is_too_large_for_memcached() {
    let check = |name: &str, flags, value_bytes_max: usize| {
        let mut store = store_of(8 << 20);
        let mut outcome_of = |value_bytes| {
            let value = Bytes::from(vec![b'v'; value_bytes]);
            store.apply(NOW, &on(name, What::Set(Set::new(SetMode::Set, flags, ExpTime(0), value))))
        };
        stored(&outcome_of(value_bytes_max));
        assert_eq!(outcome_of(value_bytes_max + 1), Outcome::TooLarge, "{flags}");
    };
    check("k", 0, 1_048_516);
    check(&"k".repeat(100), 0, 1_048_417);
    check("k", 5, 1_048_512);
    check(&"k".repeat(100), 5, 1_048_413);
}

#[test]
fn what_a_store_that_is_too_large_leaves() {
    let check = |mode, if_cas, left: Option<&str>| {
        let mut store = store_of(8 << 20);
        store.apply(NOW, &set("k", "old"));
        let value = Bytes::from(vec![b'v'; 1 << 20]);
        let large = Set { if_cas, ..Set::new(mode, 0, ExpTime(0), value) };
        assert_eq!(store.apply(NOW, &on("k", What::Set(large))), Outcome::TooLarge);
        assert_eq!(value_of(&mut store, NOW, "k").as_deref(), left, "{mode:?}");
    };
    check(SetMode::Set, None, None);
    check(SetMode::Set, Some(77), Some("old"));
    for mode in [SetMode::Add, SetMode::Replace, SetMode::Append, SetMode::Prepend] {
        check(mode, None, Some("old"));
    }
}

#[test]
fn two_halves_that_are_too_large_together_are_not_stored() {
    let mut store = store_of(8 << 20);
    let half = Bytes::from(vec![b'v'; 600_000]);
    let store_half = |mode| on("k", What::Set(Set::new(mode, 0, ExpTime(0), half.clone())));
    stored(&store.apply(NOW, &store_half(SetMode::Set)));
    assert_eq!(store.apply(NOW, &store_half(SetMode::Append)), Outcome::NotStored);
    assert_eq!(hit(&mut store, NOW, &get("k")).value.len(), 600_000);
}

#[test]
fn numbers_wrap_upwards_stop_at_zero_and_keep_their_room() {
    let check = |value: &str, direction, delta, number, left: &str| {
        let mut store = store();
        store.apply(NOW, &set("n", value));
        let outcome = store.apply(NOW, &count("n", Count { direction, delta, ..COUNT }));
        let Outcome::Counted(Counted { number: counted, .. }) = outcome else {
            panic!("{value}: {outcome:?}");
        };
        assert_eq!(counted, number, "{value}");
        assert_eq!(value_of(&mut store, NOW, "n").as_deref(), Some(left), "{value}");
    };
    check("10", Direction::Up, 1, 11, "11");
    check("9", Direction::Up, 1, 10, "10");
    check("18446744073709551615", Direction::Up, 1, 0, "0                   ");
    check("10", Direction::Down, 1, 9, "9 ");
    check("10", Direction::Down, 100, 0, "0 ");
    check(" 7", Direction::Up, 1, 8, "8 ");
    check("7 x", Direction::Up, 1, 8, "8  ");
    check("5", Direction::Up, u64::MAX, 4, "4");
}

#[test]
fn what_is_no_number_is_not_counted_with() {
    for value in ["", "a", "7x", "-1", "18446744073709551616"] {
        let mut store = store();
        store.apply(NOW, &set("n", value));
        assert_eq!(store.apply(NOW, &count("n", COUNT)), Outcome::NotANumber, "{value}");
        assert_eq!(value_of(&mut store, NOW, "n").as_deref(), Some(value));
    }
}

#[test]
fn counting_makes_its_item_where_it_is_told_the_first_number() {
    let mut store = store();
    let from_13 = count("n", Count { initial: Some((13, ExpTime(60))), ..COUNT });
    assert_eq!(store.apply(NOW, &count("n", COUNT)), Outcome::Miss);
    let first = Counted { number: 13, cas: 1, ttl_s: Some(60) };
    assert_eq!(store.apply(NOW, &from_13), Outcome::Counted(first));
    let second = Counted { number: 14, cas: 2, ttl_s: Some(59) };
    assert_eq!(store.apply(later(1), &from_13), Outcome::Counted(second));
    let named = |cas| count("n", Count { if_cas: Some(cas), touch: Some(ExpTime(5)), ..COUNT });
    assert_eq!(store.apply(NOW, &named(1)), Outcome::Exists);
    let third = Counted { number: 15, cas: 3, ttl_s: Some(5) };
    assert_eq!(store.apply(NOW, &named(2)), Outcome::Counted(third));
}

#[test]
fn an_item_is_there_until_its_second() {
    let check = |expires, at: u32, there: bool| {
        let mut store = store();
        store.apply(NOW, &set_until("k", "v", expires));
        let found = value_of(&mut store, later(at), "k").is_some();
        assert_eq!(found, there, "{expires} after {at} s");
    };
    check(0, 1_000_000_000, true);
    check(10, 9, true);
    check(10, 10, false);
    check(-1, 0, false);
    check(2_592_001, 0, false);
    check(1_700_000_005, 4, true);
    check(1_700_000_005, 5, false);
}

#[test]
fn an_expired_item_is_nothing_to_any_operation() {
    let check = |operation: Operation, wanted: fn(&Outcome) -> bool| {
        let mut store = store();
        store.apply(NOW, &set_until("k", "7", 5));
        let outcome = store.apply(later(5), &operation);
        assert!(wanted(&outcome), "{operation:?} came to {outcome:?}");
    };
    let set_as = |mode| on("k", What::Set(set_of(mode, "v")));
    check(get("k"), |outcome| *outcome == Outcome::Miss);
    check(set_as(SetMode::Add), |outcome| matches!(outcome, Outcome::Stored(_)));
    check(set_as(SetMode::Replace), |outcome| *outcome == Outcome::NotStored);
    check(set_as(SetMode::Append), |outcome| *outcome == Outcome::NotStored);
    check(count("k", COUNT), |outcome| *outcome == Outcome::Miss);
    check(delete("k", Delete::default()), |outcome| *outcome == Outcome::Miss);
    check(on("k", What::Describe), |outcome| *outcome == Outcome::Described(None));
}

#[test]
fn a_read_may_move_the_expiry() {
    let mut store = store();
    store.apply(NOW, &set_until("k", "v", 10));
    let touch = Get { touch: Some(ExpTime(100)), value: Wanted::No, ..Get::PLAIN };
    let entry = hit(&mut store, later(5), &on("k", What::Get(touch)));
    assert_eq!((entry.ttl_s, entry.value.len(), entry.value_bytes), (Some(100), 0, 1));
    assert!(value_of(&mut store, later(104), "k").is_some());
    assert!(value_of(&mut store, later(105), "k").is_none());
}

#[test]
fn a_read_tells_of_uses_before_it() {
    let mut store = store();
    store.apply(NOW, &set("k", "v"));
    let told = |store: &mut Store, at| {
        let entry = hit(store, later(at), &get("k"));
        (entry.fetched, entry.idle_s)
    };
    assert_eq!(told(&mut store, 3), (false, 3));
    assert_eq!(told(&mut store, 10), (true, 7));
    let Outcome::Described(Some(description)) = store.apply(later(12), &on("k", What::Describe))
    else {
        panic!("it is there");
    };
    assert_eq!((description.fetched, description.idle_s, description.class), (true, 2, 1));
    assert_eq!(told(&mut store, 12), (true, 2), "describing is no use");
}

#[test]
fn one_reader_wins_the_right_to_fill_what_is_missing_stale_or_old() {
    let mut store = store();
    let vivify =
        on("k", What::Get(Get { vivify: Some(ExpTime(60)), beside: Beside::All, ..Get::PLAIN }));
    let told = |store: &mut Store, operation: &Operation| {
        let entry = hit(store, NOW, operation);
        (entry.win, entry.stale)
    };
    assert_eq!(told(&mut store, &vivify), (Win::Won, false), "missing");
    assert_eq!(told(&mut store, &vivify), (Win::Sent, false));
    store.apply(NOW, &set_until("k", "v", 60));
    assert_eq!(told(&mut store, &vivify), (Win::None, false), "filled");
    let invalidate = Delete { invalidate: true, touch: Some(ExpTime(30)), ..Delete::default() };
    assert_eq!(store.apply(NOW, &delete("k", invalidate)), Outcome::Deleted);
    assert_eq!(told(&mut store, &get("k")), (Win::None, true), "a plain read cannot be told");
    assert_eq!(told(&mut store, &told_all("k")), (Win::Won, true), "stale");
    assert_eq!(told(&mut store, &told_all("k")), (Win::Sent, true));
    store.apply(NOW, &set_until("k", "v", 20));
    let recache = |below_s| {
        on(
            "k",
            What::Get(Get { recache_below_s: Some(below_s), beside: Beside::All, ..Get::PLAIN }),
        )
    };
    assert_eq!(told(&mut store, &recache(20)), (Win::None, false), "old enough for nobody");
    assert_eq!(told(&mut store, &recache(21)), (Win::Won, false), "old");
    assert_eq!(told(&mut store, &recache(21)), (Win::Sent, false));
}

#[test]
fn an_older_value_may_stand_as_stale_with_the_expiry_of_the_newer() {
    let mut store = store();
    let cas = stored(&store.apply(NOW, &set("k", "old")));
    store.apply(NOW, &set_until("k", "newer", 50));
    let late = Set { if_cas: Some(cas), invalidate: true, ..set_of(SetMode::Set, "late") };
    stored(&store.apply(NOW, &on("k", What::Set(late))));
    let entry = hit(&mut store, NOW, &told_all("k"));
    assert_eq!((&entry.value[..], entry.stale, entry.ttl_s), (&b"late"[..], true, Some(50)));
    assert_eq!(entry.win, Win::Won);
}

#[test]
fn a_delete_heeds_the_cas_and_may_leave_the_item_without_its_value() {
    let mut store = store();
    let full = Set { flags: 7, expires: ExpTime(50), ..set_of(SetMode::Set, "value") };
    let cas = stored(&store.apply(NOW, &on("k", What::Set(full))));
    let named = |if_cas| delete("k", Delete { if_cas: Some(if_cas), ..Delete::default() });
    assert_eq!(store.apply(NOW, &named(cas + 1)), Outcome::Exists);
    assert_eq!(store.apply(NOW, &named(0)), Outcome::Exists);
    let emptied = Delete { only_value: true, ..Delete::default() };
    assert_eq!(store.apply(NOW, &delete("k", emptied)), Outcome::Deleted);
    let entry = hit(&mut store, NOW, &get("k"));
    assert_eq!((entry.value_bytes, entry.flags, entry.ttl_s), (0, 0, Some(50)));
    assert_eq!(store.apply(NOW, &named(entry.cas)), Outcome::Deleted);
    assert_eq!(store.apply(NOW, &get("k")), Outcome::Miss);
}

#[test]
fn a_delayed_flush_takes_what_was_stored_before_it_and_nothing_after() {
    let mut store = store();
    store.apply(NOW, &set("k", "v"));
    store.flush_all(NOW, ExpTime(10));
    assert!(value_of(&mut store, later(8), "k").is_some());
    assert!(value_of(&mut store, later(9), "k").is_none());
    store.apply(later(9), &set("k", "v"));
    assert!(value_of(&mut store, later(20), "k").is_some());
}

#[test]
fn a_flush_forgets_one_that_was_delayed() {
    let mut store = store();
    store.flush_all(NOW, ExpTime(10));
    store.flush_all(NOW, ExpTime(0));
    store.apply(NOW, &set("k", "v"));
    assert!(value_of(&mut store, later(20), "k").is_some());
}
