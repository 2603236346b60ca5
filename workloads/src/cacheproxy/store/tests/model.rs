//! Random operations on the store and on a naive model of it: the same outcomes, to the cas.
//!
//! The model is a map without a bound, written from memcached's protocol document and what the real
//! server does. `memcached.rs` holds the store against that server; the model is there for what
//! version 1.6.18 does not know, for time that passes, and where no server is installed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::super::operation::{
    Count, Counted, CountsAsUse, Delete, Description, Direction, Entry, ExpTime, Get, Operation,
    Outcome, Set, SetMode, Wanted, What, Win,
};
use super::super::{Now, Options, Store};
use super::drafts::{Draft, Words};
use super::{Key, NOW, SEED, later};

#[derive(Debug, Clone)]
struct Known {
    value: Vec<u8>,
    flags: u32,
    /// The second it is gone from.
    until: Option<u32>,
    cas: u64,
    used_at: u32,
    fetched: bool,
    stale: bool,
    won: bool,
}

/// A fault that is put into the model, to show that a run would tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// Items live for a second too long.
    LateExpiry,
    /// An append takes the new flags.
    FlagsOfAppend,
    /// A stale item is won again by every reader.
    EveryoneWins,
    /// A number that gets shorter gives up its room.
    NoBlanks,
}

#[derive(Debug)]
struct Model {
    known: BTreeMap<Key, Known>,
    cas_last: u64,
    planted: Planted,
}

fn until(now: u32, sent: ExpTime) -> Option<u32> {
    match sent.0 {
        0 => None,
        past if past < 0 => Some(1),
        relative if relative <= 2_592_000 => Some(now + relative.unsigned_abs()),
        absolute => Some(absolute.unsigned_abs()),
    }
}

fn ttl(now: u32, until: Option<u32>) -> Option<u32> {
    until.map(|until| until.saturating_sub(now))
}

/// The number that C reads, if a blank or the end follows.
fn number_in(value: &[u8]) -> Option<u64> {
    let text = str::from_utf8(value).unwrap().trim_start();
    let word = text.split_ascii_whitespace().next()?;
    let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let magnitude: u64 = digits.parse().ok()?;
    let number = if word.starts_with('-') { magnitude.wrapping_neg() } else { magnitude };
    (!word.starts_with('-') || number.cast_signed() >= 0).then_some(number)
}

impl Model {
    fn apply(&mut self, Now(now): Now, Operation { key, what }: &Operation) -> Outcome {
        let grace = u32::from(self.planted == Planted::LateExpiry);
        self.known.retain(|_, known| known.until.is_none_or(|until| until + grace > now));
        match what {
            What::Get(get) => self.get(now, key, get),
            What::Set(set) => self.set(now, key, set),
            What::Delete(delete) => self.delete(now, key, delete),
            What::Count(count) => self.count(now, key, count),
            What::Describe => Outcome::Described(self.known.get(key).map(|known| {
                Box::new(Description {
                    ttl_s: ttl(now, known.until),
                    idle_s: now - known.used_at,
                    cas: known.cas,
                    fetched: known.fetched,
                    class: 0,
                    n_bytes: 0,
                })
            })),
        }
    }

    fn new_cas(&mut self) -> u64 {
        self.cas_last += 1;
        self.cas_last
    }

    fn get(&mut self, now: u32, key: &Key, get: &Get) -> Outcome {
        let found = self.known.contains_key(key);
        if let (false, Some(sent)) = (found, get.vivify) {
            let cas = self.new_cas();
            let fresh = Known {
                value: vec![],
                flags: 0,
                until: until(now, sent),
                cas,
                used_at: now,
                fetched: false,
                stale: false,
                won: false,
            };
            self.known.insert(key.clone(), fresh);
        }
        let planted = self.planted;
        let Some(known) = self.known.get_mut(key) else { return Outcome::Miss };
        if let (true, Some(sent)) = (found, get.touch) {
            known.until = until(now, sent);
        }
        let limit = get.recache_below_s.and_then(|below| until(now, ExpTime(below)));
        let soon = found && limit.is_some_and(|limit| known.until.is_some_and(|at| at < limit));
        let win = match (known.won, known.stale || soon || !found) {
            (true, _) if planted != Planted::EveryoneWins => Win::Sent,
            (_, true) => Win::Won,
            _ => Win::None,
        };
        known.won |= win == Win::Won;
        let entry = Entry {
            value: match get.value {
                Wanted::Yes => Bytes::from(known.value.clone()),
                Wanted::No => Bytes::new(),
            },
            value_bytes: known.value.len().try_into().unwrap(),
            flags: known.flags,
            cas: known.cas,
            ttl_s: ttl(now, known.until),
            idle_s: now - known.used_at,
            fetched: known.fetched,
            stale: known.stale,
            win,
        };
        if get.counts_as_use == CountsAsUse::Yes {
            (known.fetched, known.used_at) = (true, now);
        }
        Outcome::Hit(entry)
    }

    fn set(&mut self, now: u32, key: &Key, set: &Set) -> Outcome {
        let named = set.if_cas.filter(|cas| *cas != 0);
        let mut fresh = Known {
            value: set.value.to_vec(),
            flags: set.flags,
            until: until(now, set.expires),
            cas: 0,
            used_at: now,
            fetched: false,
            stale: false,
            won: false,
        };
        match (set.mode, self.known.get(key)) {
            (SetMode::Add, Some(_)) => return Outcome::NotStored,
            (SetMode::Add, None) => {}
            (SetMode::Append | SetMode::Prepend, Some(old)) => {
                if named.is_some_and(|cas| cas != old.cas) {
                    return Outcome::Exists;
                }
                fresh.value = match set.mode {
                    SetMode::Append => [&old.value[..], &set.value[..]].concat(),
                    _ => [&set.value[..], &old.value[..]].concat(),
                };
                fresh.until = old.until;
                if self.planted != Planted::FlagsOfAppend {
                    fresh.flags = old.flags;
                }
            }
            (SetMode::Append | SetMode::Prepend, None) => match set.vivify {
                Some(sent) => fresh.until = until(now, sent),
                None => return Outcome::NotStored,
            },
            (SetMode::Set | SetMode::Replace, None) if set.if_cas.is_some() => {
                return Outcome::NotFound;
            }
            (SetMode::Replace, None) => return Outcome::NotStored,
            (SetMode::Set, None) => {}
            (SetMode::Set | SetMode::Replace, Some(old)) => match set.if_cas {
                Some(cas) if cas == old.cas => {}
                Some(cas) if set.invalidate && cas != 0 && cas < old.cas => {
                    (fresh.until, fresh.won, fresh.stale) = (old.until, old.won, true);
                }
                Some(_) => return Outcome::Exists,
                None => {}
            },
        }
        fresh.cas = self.new_cas();
        let cas = fresh.cas;
        self.known.insert(key.clone(), fresh);
        Outcome::Stored(cas)
    }

    fn delete(&mut self, now: u32, key: &Key, delete: &Delete) -> Outcome {
        let Some(known) = self.known.get_mut(key) else { return Outcome::Miss };
        if delete.if_cas.is_some_and(|cas| cas != known.cas) {
            return Outcome::Exists;
        }
        if !delete.invalidate {
            self.known.remove(key);
            return Outcome::Deleted;
        }
        (known.stale, known.won) = (true, false);
        if let Some(sent) = delete.touch {
            known.until = until(now, sent);
        }
        let cas = self.new_cas();
        self.known.get_mut(key).unwrap().cas = cas;
        Outcome::Deleted
    }

    fn count(&mut self, now: u32, key: &Key, count: &Count) -> Outcome {
        let mut fresh = Known {
            value: vec![],
            flags: 0,
            until: None,
            cas: 0,
            used_at: now,
            fetched: false,
            stale: false,
            won: false,
        };
        let number = match (self.known.get(key), count.initial) {
            (None, None) => return Outcome::Miss,
            (None, Some((first, sent))) => {
                fresh.until = until(now, sent);
                fresh.value = first.to_string().into_bytes();
                first
            }
            (Some(old), _) => {
                if old.value.is_empty() {
                    return Outcome::NotANumber;
                }
                if count.if_cas.is_some_and(|cas| cas != 0 && cas != old.cas) {
                    return Outcome::Exists;
                }
                let Some(number) = number_in(&old.value) else { return Outcome::NotANumber };
                let number = match count.direction {
                    Direction::Up => number.wrapping_add(count.delta),
                    Direction::Down => number.saturating_sub(count.delta),
                };
                fresh.value = number.to_string().into_bytes();
                if fresh.value.len() <= old.value.len() {
                    if self.planted != Planted::NoBlanks {
                        fresh.value.resize(old.value.len(), b' ');
                    }
                    (fresh.fetched, fresh.stale, fresh.won) = (old.fetched, old.stale, old.won);
                }
                (fresh.flags, fresh.until) = (old.flags, old.until);
                if let Some(sent) = count.touch {
                    fresh.until = until(now, sent);
                }
                number
            }
        };
        fresh.cas = self.new_cas();
        let counted = Counted { number, cas: fresh.cas, ttl_s: ttl(now, fresh.until) };
        self.known.insert(key.clone(), fresh);
        Outcome::Counted(counted)
    }
}

/// What is no part of the comparison: sizes and classes.
fn normal(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Described(Some(told)) => {
            Outcome::Described(Some(Box::new(Description { class: 0, n_bytes: 0, ..*told })))
        }
        other => other,
    }
}

/// The first difference in so many operations, if there is one.
fn run(seed: u64, n_operations: u32, planted: Planted) -> Result<(), String> {
    let mut store = Store::new(Options::new(64 << 20, seed));
    let mut model = Model { known: BTreeMap::new(), cas_last: 0, planted };
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut now = NOW;
    for step in 0..n_operations {
        if rng.u8(..10) == 0 {
            now = Now(now.0 + rng.u32(..300));
        }
        match rng.u16(..2_000) {
            0 => {
                store.flush_all(now, ExpTime(0));
                model.known.clear();
            }
            1..20 => {
                store.sweep(now, 5);
            }
            _ => {}
        }
        let draft = Draft::random(&mut rng, 8, Words::All);
        let current = model.known.get(draft.key()).map(|known| known.cas);
        let operation = draft.operation(current);
        let wanted = normal(model.apply(now, &operation));
        let found = normal(store.apply(now, &operation));
        if found != wanted {
            return Err(format!(
                "seed {seed}, step {step}: {operation:?}\ncame to {found:?}\nnot   to {wanted:?}"
            ));
        }
    }
    Ok(())
}

/// Rerun one seed with `FOREBAY_STORE_SEED=n`.
fn seeds() -> impl Iterator<Item = u64> {
    let asked =
        std::env::var("FOREBAY_STORE_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = if asked.is_some() { 0..0 } else { SEED..SEED + 20 };
    seeds.chain(asked)
}

#[test]
fn random_operations_come_to_what_a_naive_model_says() {
    for seed in seeds() {
        run(seed, 5_000, Planted::Nothing).unwrap_or_else(|difference| panic!("{difference}"));
    }
}

#[test]
fn the_comparison_finds_each_planted_fault() {
    use Planted::{EveryoneWins, FlagsOfAppend, LateExpiry, NoBlanks};
    for planted in [LateExpiry, FlagsOfAppend, EveryoneWins, NoBlanks] {
        let found = seeds().any(|seed| run(seed, 5_000, planted).is_err());
        assert!(found, "{planted:?}");
    }
}

#[test]
fn a_run_of_one_seed_is_the_same_each_time() {
    let outcomes = |hash_seed| {
        let mut store = Store::new(Options::new(1 << 20, hash_seed));
        let mut rng = fastrand::Rng::with_seed(SEED);
        let steps = (0..20_000).map(|step| {
            let draft = Draft::random(&mut rng, 4_000, Words::All);
            store.apply(later(step / 100), &draft.operation(None))
        });
        steps.collect::<Vec<_>>()
    };
    assert!(outcomes(1) == outcomes(1));
}
