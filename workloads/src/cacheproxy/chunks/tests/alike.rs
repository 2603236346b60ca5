//! The same random operations here and at a memcached of one's own, which is the model: outcomes are
//! compared, all but what tells two servers' items apart (cas, class, bytes, who looked when).
//!
//! More seeds: `FOREBAY_CHUNKS_SEEDS=100`.

use std::ops::Range;

use rand_xoshiro::rand_core::Rng as _;

use super::*;
use crate::cacheproxy::memcached::Memcached;
use crate::cacheproxy::operation::{Count, CountsAsUse, Direction};

const KEYS: [&str; 3] = ["a", "b", "c"];
const OPERATIONS: usize = 600;
/// The key that alone is counted at, and that alone is never stale or to be filled again: memcached
/// counts in place, unless its own threads hold the item, and then forgets such marks.
const COUNTED: &str = KEYS[0];
/// A cas that no item has.
const NO_CAS: Cas = 1 << 60;

fn seeds() -> Range<u64> {
    let told = std::env::var("FOREBAY_CHUNKS_SEEDS").ok();
    0..told.map_or(4, |text| text.parse().expect("a number"))
}

struct Random(Xoshiro256PlusPlus);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.0.next_u64() % end as u64).unwrap()
    }

    fn pick<T: Clone>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())].clone()
    }

    fn is_one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn value(&mut self, marks: Marks) -> Bytes {
        let piece = PIECE_BYTES as usize;
        let salt = self.below(256);
        let n_bytes = [0, 1, 40, piece - 1, piece, piece + 1, 2 * piece, 2 * piece + 1, 40_000];
        match self.below(12) {
            0 => Bytes::from_static(b"99"),
            1 => Bytes::from_static(b"10"),
            // What a client has read past this proxy, and stores.
            2 if marks == Marks::Some => {
                Metadata::new(metadata::Token::of(&key("a"), b"x", 1), b"x", 1).encode()
            }
            3 if marks == Marks::Some => [&b"\0fbcut\r\x01"[..], &[0; 32]].concat().into(),
            // No byte that ends a number: memcached counts in whatever begins with one.
            _ => bytes(self.pick(&n_bytes) + salt)[salt..].iter().map(|byte| byte | 0x80).collect(),
        }
    }

    fn expires(&mut self) -> ExpTime {
        // Long enough for a busy host, for ever, at once, far, and in the past of the epoch.
        ExpTime(self.pick(&[0, 0, 0, 500, 2_592_000, -1, 2_592_001]))
    }

    fn beside(&mut self) -> Beside {
        self.pick(&[Beside::Flags, Beside::Cas, Beside::Ttl, Beside::All])
    }

    fn what(&mut self, key: &str) -> Draft {
        let marks = if key == COUNTED { Marks::Never } else { Marks::Some };
        let what = match (self.below(12), marks) {
            (0..3, _) => What::Get(self.get(marks)),
            (3..9, _) => What::Set(self.set(marks)),
            (9, Marks::Never) => What::Count(self.count()),
            (9 | 10, _) => What::Delete(self.delete(marks)),
            _ => What::Describe,
        };
        Draft { what, cas: self.pick(&[IfCas::None, IfCas::None, IfCas::Right, IfCas::Wrong]) }
    }

    fn get(&mut self, marks: Marks) -> Get {
        let plain = Get { beside: self.beside(), ..Get::PLAIN };
        match self.below(6) {
            0 => Get { value: Wanted::No, beside: Beside::All, ..plain },
            1 => Get { touch: Some(self.expires()), ..plain },
            2 => Get { value: Wanted::No, touch: Some(self.expires()), ..Get::PLAIN },
            3 if marks == Marks::Some => {
                Get { vivify: Some(ExpTime(500)), beside: Beside::All, ..plain }
            }
            4 if marks == Marks::Some => {
                Get { recache_below_s: Some(600), beside: Beside::All, ..plain }
            }
            _ if self.is_one_in(4) => Get { counts_as_use: CountsAsUse::No, ..plain },
            _ => plain,
        }
    }

    fn set(&mut self, marks: Marks) -> Set {
        use SetMode::{Add, Append, Prepend, Replace};
        let mode = self.pick(&[SetMode::Set, SetMode::Set, Add, Replace, Append, Prepend]);
        let flags = self.pick(&[0, 7, u32::MAX]);
        let mut set = Set::new(mode, flags, self.expires(), self.value(marks));
        set.beside = self.pick(&[Beside::Flags, Beside::Cas]);
        // No append that makes its item: memcached 1.6.18 knows the flag and does not do it.
        set.invalidate = mode == SetMode::Set && marks == Marks::Some && self.is_one_in(6);
        set
    }

    fn count(&mut self) -> Count {
        Count {
            // A number that gets shorter is padded in place, and not otherwise.
            direction: Direction::Up,
            delta: self.pick(&[0, 1, 1_000]),
            initial: self.is_one_in(3).then_some((5, ExpTime(500))),
            if_cas: None,
            touch: None,
            beside: self.beside(),
        }
    }

    fn delete(&mut self, marks: Marks) -> Delete {
        let invalidate = marks == Marks::Some && self.is_one_in(2);
        let touch = (invalidate && self.is_one_in(2)).then_some(ExpTime(300));
        Delete { invalidate, touch, ..Delete::default() }
    }
}

/// Whether items are marked: as stale, or to be filled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marks {
    Never,
    Some,
}

/// An operation before each side has put its own cas in.
struct Draft {
    what: What,
    cas: IfCas,
}

#[derive(Debug, Clone, Copy)]
enum IfCas {
    None,
    Right,
    Wrong,
}

impl Draft {
    /// As it is for the side on which the item has this cas.
    fn at(&self, cas: Cas) -> What {
        let cas = match self.cas {
            IfCas::None => None,
            IfCas::Right => Some(cas),
            // Lower than any: what `invalidate` is about.
            IfCas::Wrong if matches!(&self.what, What::Set(set) if set.invalidate) => Some(1),
            IfCas::Wrong => Some(NO_CAS),
        };
        let mut what = self.what.clone();
        match &mut what {
            What::Set(set) => set.if_cas = cas,
            What::Delete(delete) => delete.if_cas = cas,
            What::Count(count) => count.if_cas = cas,
            What::Get(_) | What::Describe => {}
        }
        what
    }
}

/// The outcome without what differs between two items that are alike. A cas is there or is not;
/// seconds may pass between two servers.
fn bare(outcome: Outcome) -> Outcome {
    let seconds = |ttl_s: Option<u32>| ttl_s.map(|ttl_s| (ttl_s + 50) / 100);
    match outcome {
        Outcome::Hit(entry) => {
            let (cas, ttl_s) = (entry.cas.min(1), seconds(entry.ttl_s));
            Outcome::Hit(Entry { cas, ttl_s, idle_s: 0, fetched: false, ..entry })
        }
        Outcome::Stored(cas) => Outcome::Stored(cas.min(1)),
        Outcome::Counted(counted) => {
            let mut counted = counted;
            (counted.cas, counted.ttl_s) = (counted.cas.min(1), seconds(counted.ttl_s));
            Outcome::Counted(counted)
        }
        Outcome::Described(Some(mut told)) => {
            told.ttl_s = seconds(told.ttl_s);
            (told.idle_s, told.cas, told.fetched) = (0, 0, false);
            (told.class, told.n_bytes) = (0, 0);
            Outcome::Described(Some(told))
        }
        other => other,
    }
}

/// The outcome as far as its operation asked for it: a plain touch tells nothing of the item.
fn asked_for(what: &What, outcome: Outcome) -> Outcome {
    match (what, outcome) {
        (
            What::Get(Get { value: Wanted::No, touch: Some(_), beside: Beside::Flags, .. }),
            Outcome::Hit(entry),
        ) => Outcome::Hit(Entry { flags: 0, value_bytes: 0, ..entry }),
        (_, outcome) => outcome,
    }
}

/// As it is printed where outcomes differ: without the bytes of its value.
fn brief(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Hit(entry) => {
            let begins = entry.value.slice(..entry.value.len().min(8));
            format!("{:?} of {}", Entry { value: begins, ..entry.clone() }, entry.value.len())
        }
        other => format!("{other:?}"),
    }
}

fn brief_what(what: &What) -> String {
    match what {
        What::Set(set) => {
            let begins = set.value.slice(..set.value.len().min(8));
            format!("{:?} of {}", Set { value: begins, ..set.clone() }, set.value.len())
        }
        other => format!("{other:?}"),
    }
}

/// The cas of what stands there, or one that nothing has.
fn cas(outcome: &Outcome) -> Cas {
    match outcome {
        Outcome::Hit(entry) => entry.cas,
        _ => NO_CAS,
    }
}

fn assert_alike(outcome: &Outcome, model: &Outcome, told: &str) {
    let alike = bare(outcome.clone()) == bare(model.clone());
    assert!(alike, "{told}: {} should be {}", brief(outcome), brief(model));
}

/// Does random operations on both sides; gives how many there were on values in pieces.
async fn compare(here: Chunked, there: Downstream, seed: u64) -> usize {
    let mut random = Random(Xoshiro256PlusPlus::seed_from_u64(seed));
    // Takes the lowest cas, which is then no other item's.
    for _side in [here.apply(set("first", "")).await, there.apply(set("first", "")).await] {}
    let mut n_large = 0;
    for number in 0..OPERATIONS {
        let text = random.pick(&KEYS);
        let key = key(text);
        let look = What::Get(Get { beside: Beside::Cas, ..Get::PLAIN });
        let look = Operation { key: key.clone(), what: look };
        let stands_here = here.apply(look.clone()).await;
        let stands_there = there.apply(look).await;
        let told = format!("seed {seed}, before number {number}");
        assert_alike(&stands_here, &stands_there, &told);
        n_large += usize::from(value(&stands_here).is_some_and(|value| value.len() > 512));
        let drafted = random.what(text);
        let what = drafted.at(cas(&stands_here));
        let outcome = here.apply(Operation { key: key.clone(), what }).await;
        let what = drafted.at(cas(&stands_there));
        let outcome = asked_for(&what, outcome);
        let (asked, stood) = (brief_what(&what), brief(&stands_there));
        let model = there.apply(Operation { key, what }).await;
        assert_alike(
            &outcome,
            &model,
            &format!("seed {seed}, number {number}: {asked} on {stood}"),
        );
    }
    n_large
}

#[test]
fn no_operation_tells_pieces_from_a_memcached() {
    for seed in seeds() {
        let (Some(pieces), Some(model)) = (Memcached::start(), Memcached::start()) else { return };
        let process = Process::start_beside(&[pieces.address()], model.address());
        let there = process.beside.clone();
        let n_large = process.run(move |downstream| async move {
            compare(chunked(downstream, seed), there, seed).await
        });
        assert!(n_large > OPERATIONS / 10, "seed {seed}: {n_large}");
        process.stop();
    }
}
