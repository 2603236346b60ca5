//! The store's eviction against segmented LRU, over traces of what caches see.
//!
//! Both hold as many items as the store has room for, all of one size. A miss stores the item, as
//! clients do.

use std::collections::BTreeMap;

use rand_distr::{Distribution, Zipf};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::SeedableRng as _;

use super::super::super::operation::Outcome;
use super::{NOW, SEED, get, set, store_of};

/// How far below segmented LRU a hit ratio may be.
const EPSILON: f64 = 0.005;
const STORE_BYTES: usize = 1 << 20;

/// Segmented LRU as it was first described: a first hit lifts an item from probation to the
/// protected segment, whose overflow goes back to the front of probation.
struct SegmentedLru {
    n_items_max: usize,
    n_protected_max: usize,
    clock: u64,
    /// The segment of each key and when it came there, or was used there last.
    keys: BTreeMap<u64, (Segment, u64)>,
    probation: BTreeMap<u64, u64>,
    protected: BTreeMap<u64, u64>,
}

#[derive(Clone, Copy)]
enum Segment {
    Probation,
    Protected,
}

impl SegmentedLru {
    /// Four fifths are protected, as is usual.
    fn new(n_items_max: usize) -> Self {
        Self {
            n_items_max,
            n_protected_max: n_items_max * 4 / 5,
            clock: 0,
            keys: BTreeMap::new(),
            probation: BTreeMap::new(),
            protected: BTreeMap::new(),
        }
    }

    /// Whether the key was there; it is now.
    fn ask(&mut self, key: u64) -> bool {
        let found = self.keys.get(&key).copied();
        match found {
            Some((Segment::Probation, at)) => self.probation.remove(&at),
            Some((Segment::Protected, at)) => self.protected.remove(&at),
            None => None,
        };
        match found {
            Some(_) => self.push(key, Segment::Protected),
            None => self.push(key, Segment::Probation),
        }
        if self.protected.len() > self.n_protected_max {
            let (_, demoted) = self.protected.pop_first().unwrap();
            self.push(demoted, Segment::Probation);
        }
        if self.keys.len() > self.n_items_max {
            let (_, evicted) = self.probation.pop_first().unwrap();
            self.keys.remove(&evicted);
        }
        found.is_some()
    }

    fn push(&mut self, key: u64, segment: Segment) {
        self.clock += 1;
        self.keys.insert(key, (segment, self.clock));
        match segment {
            Segment::Probation => self.probation.insert(self.clock, key),
            Segment::Protected => self.protected.insert(self.clock, key),
        };
    }
}

fn ratio_of(trace: &[u64], mut ask: impl FnMut(u64) -> bool) -> f64 {
    let n_hits = trace.iter().filter(|key| ask(**key)).count();
    n_hits as f64 / trace.len() as f64
}

/// The hit ratio, and the most items that were held.
fn store_ratio(trace: &[u64]) -> (f64, usize) {
    let mut store = store_of(STORE_BYTES);
    let mut n_items_max = 0;
    let ratio = ratio_of(trace, |key| {
        let name = format!("{key:016}");
        let hit = matches!(store.apply(NOW, &get(&name)), Outcome::Hit(_));
        if !hit {
            store.apply(NOW, &set(&name, VALUE));
            n_items_max = n_items_max.max(store.stats(NOW).held.curr_items);
        }
        hit
    });
    (ratio, usize::try_from(n_items_max).unwrap())
}

const VALUE: &str = "one hundred bytes of a value, more or less, such as a cache has them by the million, each its own.";

/// As many items as the store has room for.
fn n_room() -> usize {
    let distinct: Vec<u64> = (0..20_000).collect();
    store_ratio(&distinct).1
}

fn zipf(exponent: f64, n_keys: usize, n_asked: usize) -> Vec<u64> {
    let law = Zipf::new(n_keys as f64, exponent).unwrap();
    let mut rng = SplitMix64::seed_from_u64(SEED);
    (0..n_asked).map(|_| law.sample(&mut rng).to_bits()).collect()
}

/// Keys that are asked for once each, from here on.
const ONCE: u64 = 1 << 32;

/// After each so many of a trace, as many keys that nobody asks for again.
fn with_scans(trace: &[u64], every: usize, n_scanned: usize) -> Vec<u64> {
    let mut once = ONCE..;
    trace
        .chunks(every)
        .flat_map(|part| {
            part.iter().copied().chain(once.by_ref().take(n_scanned)).collect::<Vec<_>>()
        })
        .collect()
}

fn round_and_round(n_keys: usize, n_asked: usize) -> Vec<u64> {
    (0..n_asked).map(|step| (step % n_keys) as u64).collect()
}

/// First one set of keys is popular, then quite another.
fn shifting(n_keys: usize, n_asked: usize) -> Vec<u64> {
    let trace = zipf(0.9, n_keys, n_asked);
    let half = trace.len() / 2;
    trace.iter().enumerate().map(|(at, key)| if at < half { *key } else { key + ONCE }).collect()
}

fn falls_short(ours: f64, theirs: f64) -> bool {
    ours < theirs - EPSILON
}

#[test]
fn the_comparison_finds_a_cache_that_has_a_tenth_less_room() {
    let n_room = n_room();
    let trace = zipf(0.8, n_room * 10, 150_000);
    let ratio = |n_items_max| {
        let mut segmented = SegmentedLru::new(n_items_max);
        ratio_of(&trace, |key| segmented.ask(key))
    };
    assert!(falls_short(ratio(n_room * 9 / 10), ratio(n_room)));
}

#[test]
fn keeps_at_least_as_much_of_what_is_asked_again_as_segmented_lru() {
    let n_room = n_room();
    let traces = [
        ("zipf 1.0 over 10 times the room", zipf(1.0, n_room * 10, 150_000)),
        ("zipf 0.8 over 10 times the room", zipf(0.8, n_room * 10, 150_000)),
        ("zipf 0.99 over 100 times the room", zipf(0.99, n_room * 100, 150_000)),
        ("zipf 1.2 over 4 times the room", zipf(1.2, n_room * 4, 150_000)),
        ("zipf with scans", with_scans(&zipf(0.9, n_room * 4, 100_000), n_room, n_room / 2)),
        (
            "zipf with long scans",
            with_scans(&zipf(0.9, n_room * 4, 100_000), n_room * 2, n_room * 2),
        ),
        ("a loop that fits", round_and_round(n_room * 9 / 10, 100_000)),
        ("a loop beyond the room", round_and_round(n_room * 11 / 10, 100_000)),
        ("a loop of twice the room", round_and_round(n_room * 2, 100_000)),
        ("zipf that shifts", shifting(n_room * 4, 150_000)),
    ];
    let mut short = vec![];
    for (name, trace) in traces {
        let mut segmented = SegmentedLru::new(n_room);
        let theirs = ratio_of(&trace, |key| segmented.ask(key));
        let (ours, _) = store_ratio(&trace);
        println!("{ours:.4} of {theirs:.4} with segmented LRU: {name}");
        if falls_short(ours, theirs) {
            short.push(name);
        }
    }
    assert!(short.is_empty(), "{short:?}");
}
