//! The ledger's rules one by one, with what random operations would meet too seldom.

use std::time::Duration;

use forebay::Time;

use super::super::ledger::Step;
use super::super::work::{Above, Answered};
use super::*;

fn at(ms: u64) -> Time {
    Time::default().after(Duration::from_millis(ms))
}

/// What a set means for the copy.
fn by_set(value: &'static str) -> Copied {
    Copied::By(What::Set(Set::new(SetMode::Set, 0, ExpTime(0), value.into())))
}

/// A ledger in which a write of this key was not answered below.
fn with_a_late_write(key: &Key) -> Ledger {
    let mut ledger = Ledger::default();
    let late = ledger.begin_write(key, at(0));
    let change = ledger.end_write(key, late, Copied::Gone, Answered::No).unwrap();
    ledger.end_change(key, &change, Above::Right, at(1));
    assert!(ledger.is_doubted(key));
    ledger
}

/// A write that both tiers answer.
fn write(ledger: &mut Ledger, key: &Key, asked_ms: u64, answered_ms: u64) {
    let write = ledger.begin_write(key, at(asked_ms));
    let change = ledger.end_write(key, write, by_set("new"), Answered::Yes).unwrap();
    ledger.end_change(key, &change, Above::Right, at(answered_ms));
}

#[test]
fn what_was_asked_below_within_a_grace_of_the_first_answer_proves_nothing() {
    let key = key("key");
    let mut ledger = with_a_late_write(&key);
    let first = ledger.begin_write(&key, at(5));
    let change = ledger.end_write(&key, first, by_set("1"), Answered::Yes).unwrap();
    // The server stands still between the two, for longer than the grace.
    let second = ledger.begin_write(&key, at(105));
    ledger.end_change(&key, &change, Above::Right, at(110));
    let change = ledger.end_write(&key, second, by_set("2"), Answered::Yes).unwrap();
    ledger.end_change(&key, &change, Above::Right, at(1_201));
    assert!(ledger.is_doubted(&key));
    write(&mut ledger, &key, 1_202, 1_203);
    assert!(!ledger.is_doubted(&key));
}

#[test]
fn a_write_that_is_not_answered_below_proves_nothing_of_another() {
    let key = key("key");
    let mut ledger = with_a_late_write(&key);
    // Was its own change above a proof, one answer from below would do.
    write(&mut ledger, &key, 5_000, 5_001);
    assert!(ledger.is_doubted(&key));
    write(&mut ledger, &key, 9_000, 9_001);
    assert!(!ledger.is_doubted(&key));
}

#[test]
fn a_flush_ends_no_doubt_of_what_may_be_done_late_below() {
    let [late, old] = ["late", "old"].map(key);
    let mut ledger = with_a_late_write(&late);
    let write = ledger.begin_write(&old, at(1));
    let change = ledger.end_write(&old, write, Copied::Gone, Answered::Yes).unwrap();
    ledger.end_change(&old, &change, Above::Old, at(2));
    ledger.pass_by();
    flush_above(&mut ledger);
    assert!(!ledger.is_doubted(&old));
    assert!(ledger.is_doubted(&late));
    assert_eq!(ledger.next_step(at(9_000)), Step::Repair(vec![late]));
}

/// The upper tier is flushed, twice.
fn flush_above(ledger: &mut Ledger) {
    for ms in [4_000, 6_000] {
        let Step::Flush(begun) = ledger.next_step(at(ms)) else { panic!("it is due") };
        ledger.flushed(begun, at(ms));
    }
}

/// Whether the flush below came before the write or after it, nobody can tell.
#[test]
fn a_write_that_began_before_a_flush_makes_no_copy_after_it() {
    let key = key("key");
    let mut ledger = Ledger::default();
    let write = ledger.begin_write(&key, at(0));
    ledger.pass_by();
    flush_above(&mut ledger);
    let change = ledger.end_write(&key, write, by_set("flushed"), Answered::Yes).unwrap();
    assert_eq!(change.what, What::Delete(Delete::default()));
}

#[test]
fn a_read_that_began_before_a_flush_makes_no_copy_after_it() {
    let key = key("key");
    let mut ledger = Ledger::default();
    let read = ledger.begin_read(&key).unwrap();
    ledger.pass_by();
    flush_above(&mut ledger);
    assert!(ledger.end_read(&key, read, by_set("flushed")).is_none());
    // One that begins now does.
    let read = ledger.begin_read(&key).unwrap();
    assert!(ledger.end_read(&key, read, by_set("new")).is_some());
}

/// The copy of what was read before may still be made.
#[test]
fn a_key_is_doubted_until_all_changes_above_have_ended_that_a_write_has_met() {
    let key = key("key");
    let mut ledger = Ledger::default();
    let read = ledger.begin_read(&key).unwrap();
    let old = ledger.end_read(&key, read, by_set("old")).unwrap();
    assert!(!ledger.is_doubted(&key), "it is no older than what is below");
    let write = ledger.begin_write(&key, at(0));
    let new = ledger.end_write(&key, write, by_set("new"), Answered::Yes).unwrap();
    ledger.end_change(&key, &new, Above::Right, at(1));
    assert!(ledger.is_doubted(&key));
    ledger.end_change(&key, &old, Above::Right, at(1));
    assert!(!ledger.is_doubted(&key));
}
