//! Random operations on the store and on the real memcached: the same outcomes, with times compared
//! to a few seconds and cas numbers not at all.
//!
//! Skipped, saying so, where no `memcached` is on the PATH. All goes by the meta protocol, whose
//! answers tell the most. What 1.6.18 does not know is left out (`Words::Of1_6_18`), and so are
//! seconds since the last use, which memcached only notes for some uses.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::super::super::counts::{CommandCounts, Countable};
use super::super::super::operation::{
    Counted, Description, Entry, ExpTime, Operation, Outcome, Set, SetMode, What,
};
use super::super::super::protocol::Protocol;
use super::super::{Now, Options, Store};
use super::drafts::{Cas, Draft, Words};
use super::server::Server;
use super::{Key, SEED, set};

/// Leaves out what need not be equal.
fn normal(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Hit(entry) => Outcome::Hit(Entry { cas: 0, idle_s: 0, ttl_s: None, ..entry }),
        Outcome::Stored(_) => Outcome::Stored(0),
        Outcome::Counted(counted) => Outcome::Counted(Counted { cas: 0, ttl_s: None, ..counted }),
        Outcome::Described(Some(told)) => Outcome::Described(Some(Box::new(Description {
            ttl_s: None,
            idle_s: 0,
            cas: 0,
            class: 0,
            n_bytes: 0,
            ..*told
        }))),
        other => other,
    }
}

fn ttl_of(outcome: &Outcome) -> Option<u32> {
    match outcome {
        Outcome::Hit(entry) => entry.ttl_s,
        Outcome::Counted(counted) => counted.ttl_s,
        Outcome::Described(Some(told)) => told.ttl_s,
        _ => None,
    }
}

/// Both never expire, or at about the same time.
fn same_ttl(ours: Option<u32>, theirs: Option<u32>) -> bool {
    const APART_S_MAX: u32 = 3;
    match (ours, theirs) {
        (None, None) => true,
        (Some(ours), Some(theirs)) => ours.abs_diff(theirs) <= APART_S_MAX,
        _ => false,
    }
}

fn system_now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Now(since.as_secs().try_into().expect("before 2106"))
}

/// What 1.6.18 does otherwise, and we do not draw: its `ms` drops the item for any mode when the new
/// one is too large, its text commands only for `set`.
fn too_large(name: &str) -> Operation {
    let value = Bytes::from(vec![b'v'; 1 << 20]);
    super::on(name, What::Set(Set::new(SetMode::Set, 0, ExpTime(0), value)))
}

/// Of the operations on a key whose outcomes differ, the last so many are told.
const STORIES_TOLD: usize = 5;

/// The first difference in so many operations, if there is one; `distort` may plant one.
fn run(
    server: &mut Server,
    seed: u64,
    n_operations: u32,
    distort: fn(Outcome) -> Outcome,
) -> Result<(), String> {
    let mut store = Store::new(Options::new(64 << 20, seed));
    let stats_before = server.stats();
    // So that the cas 1 is older than any.
    let mut counts = CommandCounts::default();
    for first in [set("first", ""), set("first", "")] {
        server.apply(&first);
        let outcome = store.apply(system_now(), &first);
        counts.outcome(Countable::done(Protocol::Meta, &first.what), &outcome);
    }
    let mut told: BTreeMap<Key, Vec<String>> = BTreeMap::new();
    let mut rng = fastrand::Rng::with_seed(seed);
    for step in 0..n_operations {
        if rng.u16(..500) == 0 {
            server.ask(b"flush_all\r\n");
            store.flush_all(system_now(), ExpTime(0));
        }
        let draft = Draft::random(&mut rng, 8, Words::Of1_6_18);
        let name = str::from_utf8(draft.key().as_bytes()).expect("a text");
        let (their_cas, our_cas) = match draft.cas {
            Cas::Current => (server.cas_of(name), our_cas_of(&mut store, draft.key())),
            _ => (None, None),
        };
        let (mut theirs, mut ours) = (draft.operation(their_cas), draft.operation(our_cas));
        if rng.u16(..1_000) == 0 {
            (theirs, ours) = (too_large(name), too_large(name));
        }
        let wanted = server.apply(&theirs);
        let found = distort(store.apply(system_now(), &ours));
        counts.outcome(Countable::done(Protocol::Meta, &ours.what), &found);
        let same = same_ttl(ttl_of(&found), ttl_of(&wanted));
        let story = format!("{ours:?}\ncame to {found:?}\nand to  {wanted:?}\n");
        told.entry(draft.key().clone()).or_default().push(story);
        if !same || normal(found) != normal(wanted) {
            let last = told[draft.key()].rchunks(STORIES_TOLD).next().unwrap_or_default();
            return Err(format!("seed {seed}, step {step}:\n{}", last.concat()));
        }
    }
    let total_items = store.stats(system_now()).counts.total_items;
    let ours = counts.each().filter(|(name, _)| !matches!(*name, "cmd_flush" | "cmd_meta"));
    let ours = ours.chain([("total_items", total_items)]);
    let counted = same_counts(&stats_before, &server.stats(), ours);
    server.ask(b"flush_all\r\n");
    counted
}

/// Both have counted the same.
fn same_counts(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
    ours: impl Iterator<Item = (&'static str, u64)>,
) -> Result<(), String> {
    for (name, ours) in ours {
        let theirs = after[name] - before[name];
        if ours != theirs {
            return Err(format!("{name}: {ours}, and memcached {theirs}"));
        }
    }
    Ok(())
}

fn our_cas_of(store: &mut Store, key: &Key) -> Option<u64> {
    let operation = Operation { key: key.clone(), what: What::Describe };
    match store.apply(system_now(), &operation) {
        Outcome::Described(told) => told.map(|told| told.cas),
        other => panic!("{other:?}"),
    }
}

#[test]
fn random_operations_come_to_what_memcached_says() {
    let Some(mut server) = Server::start() else { return };
    for seed in SEED..SEED + 5 {
        let run = run(&mut server, seed, 4_000, |outcome| outcome);
        run.unwrap_or_else(|difference| panic!("{difference}"));
    }
}

#[test]
fn the_comparison_with_memcached_finds_planted_faults() {
    let Some(mut server) = Server::start() else { return };
    let faults: [fn(Outcome) -> Outcome; 3] = [
        |outcome| match outcome {
            Outcome::Exists => Outcome::NotStored,
            other => other,
        },
        |outcome| match outcome {
            Outcome::Hit(entry) => Outcome::Hit(Entry { fetched: true, ..entry }),
            other => other,
        },
        |outcome| match outcome {
            Outcome::Counted(counted) if counted.ttl_s.is_some() => {
                Outcome::Counted(Counted { ttl_s: None, ..counted })
            }
            other => other,
        },
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let run = run(&mut server, SEED, 4_000, fault);
        assert!(run.is_err(), "fault {number}");
        server.ask(b"flush_all\r\n");
    }
}
