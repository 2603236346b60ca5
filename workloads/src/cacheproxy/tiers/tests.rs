//! Goal: two tiers answer as one store would, and nobody reads an older value than was acknowledged,
//! whatever becomes of the upper tier and of callers.
//!
//! Method: `sequential` holds random operations against a single store, with an upper tier that fails
//! by a seed; `outage` takes the upper tier away and brings it back; `served` has a tier of servers as
//! they speak, with the limits of their protocol; `concurrent` polls several callers in random order on
//! tiers that give way, drops some half-way, and judges every read by what was acknowledged before it.
//! Faults are planted in both kinds of random operations.
//!
//! One seed again: `FOREBAY_TIERS_SEED=17 cargo test -p forebay-workloads tiers`; more of them:
//! `FOREBAY_TIERS_SEEDS=300`.

mod sequential;
mod concurrent;
mod outage;
mod served;
mod rules;

use std::rc::Rc;

use bytes::Bytes;
use forebay::sim::SimOptions;
use forebay::{Builder, RequestOptions, sleep};

use super::*;
use crate::cacheproxy::operation::{CountsAsUse, Entry, ExpTime, Set, SetMode, Win};
use crate::cacheproxy::scripted::Scripted;
use crate::cacheproxy::store::{Options, Store};

/// Enough that nothing is evicted.
const BYTES_MAX: usize = 16 << 20;
const ITEM_BYTES_MAX: usize = 1 << 20;
const STEPS_MAX: u64 = 1_000_000;

/// So many, unless others are asked for.
fn seeds(n_usual: u64) -> Vec<u64> {
    let read = |name| std::env::var(name).ok().map(|text: String| text.parse().expect("a number"));
    match (read("FOREBAY_TIERS_SEED"), read("FOREBAY_TIERS_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, n_seeds) => (0..n_seeds.unwrap_or(n_usual)).collect(),
    }
}

/// Does `work` on a shard in virtual time: the tiers read its clock.
fn on_a_shard<T, F>(seed: u64, work: F) -> T
where
    T: Send + 'static,
    F: AsyncFnOnce() -> T + Send + 'static,
{
    let mut sim = Builder::new().simulate(SimOptions::new(seed, 1)).unwrap();
    let start = move || async move { work().await };
    let reply = sim.handle().submit(0, RequestOptions::default(), start).unwrap();
    let mut done = None;
    let ended = sim.run_until(STEPS_MAX, |_sim| {
        done = reply.try_take();
        done.is_some()
    });
    assert!(ended, "seed {seed} has no end");
    done.expect("it has ended").unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

/// What a tier of a test is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Embedded,
    Scripted,
}

/// Tiers of which the upper one can be made to fail.
fn two_tiers(policy: Policy) -> (Tiers, Clock) {
    let clock = Clock::set();
    let upper = tier(Kind::Scripted, store(ITEM_BYTES_MAX), clock, 0);
    let lower = Tier::embedded(store(ITEM_BYTES_MAX), clock);
    (Tiers::new(upper, lower, policy, clock), clock)
}

fn store(item_bytes_max: usize) -> Store {
    Store::new(Options { item_bytes_max, ..Options::new(BYTES_MAX, 0) })
}

fn tier(kind: Kind, store: Store, clock: Clock, seed: u64) -> Tier {
    match kind {
        Kind::Embedded => Tier::embedded(store, clock),
        Kind::Scripted => Tier::Scripted(Rc::new(Scripted::new(store, clock, seed))),
    }
}

/// What there is of a key in this tier, seen by nobody.
fn peek(tier: &Tier, clock: Clock, key: &Key) -> Option<Entry> {
    let get = Get { beside: Beside::Ttl, counts_as_use: CountsAsUse::No, ..Get::PLAIN };
    let looking = Operation { key: key.clone(), what: What::Get(get) };
    let store = match tier {
        Tier::Embedded { store, .. } => store,
        Tier::Scripted(scripted) => scripted.store(),
        Tier::Memcached(_) | Tier::Chunked(_) => panic!("no server here"),
    };
    match store.borrow_mut().apply(clock.now(), &looking) {
        Outcome::Hit(entry) => Some(entry),
        _ => None,
    }
}

/// Lets a scripted tier fail so often.
fn fail(tier: &Tier, per_mille: u16) {
    if let Tier::Scripted(scripted) = tier {
        scripted.fail(per_mille);
    }
}

fn key(name: &str) -> Key {
    Key::new(name.as_bytes()).unwrap()
}

fn set(key: &Key, value: impl Into<Bytes>) -> Operation {
    let set = Set::new(SetMode::Set, 0, ExpTime(0), value.into());
    Operation { key: key.clone(), what: What::Set(set) }
}

fn plain_get(key: &Key) -> Operation {
    Operation { key: key.clone(), what: What::Get(Get::PLAIN) }
}

/// Says of a flush what the cache says on every shard.
async fn flush(tiers: &Tiers, delay: ExpTime) -> Result<(), Failure> {
    tiers.flush_begins(delay);
    let flushed = tiers.lower.flush_all(delay).await;
    tiers.flush_begins(delay);
    flushed
}

impl Tiers {
    /// As a batch does it.
    async fn ask(&self, operation: &Operation) -> Outcome {
        match self.apply_at_once(operation) {
            Some(outcome) => outcome,
            None => self.apply(operation).await,
        }
    }

    fn n_doubts(&self) -> usize {
        self.ledger.borrow().doubts.len()
    }

    /// Whether the upper tier is passed by.
    fn is_passing(&self) -> bool {
        self.is_doubted(&key("any"))
    }

    /// Lets so many steps be done that end doubts, a second apart.
    async fn work_off_steps(&self, n_steps: u32) {
        for _ in 0..n_steps {
            sleep(GRACE).await;
            self.work_off().await;
        }
    }

    /// With all tiers there and nobody at work, doubts end within a few steps.
    async fn nothing_is_left(&self) -> Result<(), String> {
        // Two for a flush, another before them for one that waits, and two for what may be done late.
        self.work_off_steps(5).await;
        match (self.n_doubts(), self.ledger.borrow().n_works(), self.is_passing()) {
            (0, 0, false) => Ok(()),
            left => Err(format!("doubts, keys at work on, and passing by are left: {left:?}")),
        }
    }

    fn plant(&self, planted: Planted) {
        let mut ledger = self.ledger.borrow_mut();
        match planted {
            Planted::Nothing => {}
            Planted::Rule(rule) => ledger.planted = rule,
            Planted::NoGrace => ledger.doubts.planted = doubts::Planted::NoGrace,
        }
    }
}

/// A fault that tests have to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    Rule(ledger::Planted),
    /// What was not answered is taken for not done.
    NoGrace,
}

const NO_DOUBTS: Planted = Planted::Rule(ledger::Planted::NoDoubts);
const ALONE: Planted = Planted::Rule(ledger::Planted::Alone);
const NO_FLUSH: Planted = Planted::Rule(ledger::Planted::NoFlush);
const OLD_COPIES: Planted = Planted::Rule(ledger::Planted::OldCopies);
