//! One operation after the other: each comes to what a single store says, and every copy that may be
//! read is what the lower tier has.

use std::time::Duration;

use super::*;
use crate::cacheproxy::operation::Description;
use crate::cacheproxy::store::tests::drafts::{Draft, Words};

const N_KEYS: u32 = 6;
const N_OPERATIONS: u32 = 1_000;
/// Some of the drawn values do not fit into an upper tier of these.
const SMALL_ITEM_BYTES_MAX: usize = 600;

/// What is tried.
#[derive(Debug, Clone, Copy)]
struct Trial {
    policy: Policy,
    upper: Kind,
    upper_item_bytes_max: usize,
    /// How often the upper tier fails while it does.
    failing_per_mille: u16,
    planted: Planted,
}

const QUIET: Trial = Trial {
    policy: Policy::Fill,
    upper: Kind::Embedded,
    upper_item_bytes_max: ITEM_BYTES_MAX,
    failing_per_mille: 0,
    planted: Planted::Nothing,
};

const TROUBLED: Trial = Trial { upper: Kind::Scripted, failing_per_mille: 300, ..QUIET };

/// What stands beside an answer and differs where copies answer for items: cas of a plain read, when
/// an item was used, sizes.
fn normal(operation: &Operation, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Hit(entry) if is_plain_read(operation) => {
            let Entry { value, value_bytes, flags, .. } = entry;
            let (cas, ttl_s, stale, win) = (0, None, false, Win::None);
            let (idle_s, fetched) = (0, false);
            Outcome::Hit(Entry {
                value,
                value_bytes,
                flags,
                cas,
                ttl_s,
                idle_s,
                fetched,
                stale,
                win,
            })
        }
        Outcome::Hit(entry) => Outcome::Hit(Entry { idle_s: 0, fetched: false, ..entry }),
        Outcome::Described(Some(told)) => {
            let told = Description { idle_s: 0, fetched: false, class: 0, n_bytes: 0, ..*told };
            Outcome::Described(Some(Box::new(told)))
        }
        other => other,
    }
}

/// A drawn operation; of the reads, some are what copies are for.
fn draw(rng: &mut fastrand::Rng, single: &Tier, clock: Clock) -> Operation {
    let draft = Draft::random(rng, N_KEYS, Words::All);
    let current = peek(single, clock, draft.key()).map(|entry| entry.cas);
    let mut operation = draft.operation(current);
    if rng.u8(..3) == 0 {
        operation.what = What::Get(Get::PLAIN);
    } else if let What::Get(get) = &mut operation.what {
        get.beside = [Beside::Flags, Beside::Cas, Beside::Ttl, Beside::All][rng.usize(..4)];
    }
    operation
}

/// The first copy that may be read and is not what its item is.
fn wrong_copy(tiers: &Tiers, clock: Clock) -> Option<String> {
    (0..N_KEYS).map(|number| key(&format!("key{number}"))).find_map(|key| {
        if tiers.is_doubted(&key) {
            return None;
        }
        let copy = peek(&tiers.upper, clock, &key)?;
        let item = peek(&tiers.lower, clock, &key);
        let told = |entry: &Entry| (entry.value.clone(), entry.flags, entry.ttl_s);
        let is_right = item.as_ref().is_some_and(|item| told(item) == told(&copy));
        (!is_right).then(|| format!("the copy of {key:?} is {copy:?}, its item {item:?}"))
    })
}

/// Waits until the next second has just begun. A second that begins between two tiers is told by an
/// answer and by a copy, and is no fault.
async fn turn_of_second(clock: Clock) {
    let began = clock.now();
    while clock.now() == began {
        sleep(Duration::from_millis(20)).await;
    }
}

/// The first difference, if there is one. `n_copies` tells how often a copy was there to be read.
async fn run(seed: u64, trial: Trial) -> Result<u32, String> {
    let clock = Clock::set();
    let upper = tier(trial.upper, store(trial.upper_item_bytes_max), clock, seed);
    let lower = Tier::embedded(store(ITEM_BYTES_MAX), clock);
    let single = Tier::embedded(store(ITEM_BYTES_MAX), clock);
    let mut tiers = Tiers::new(upper, lower, trial.policy, clock);
    let mut rng = fastrand::Rng::with_seed(seed);
    tiers.plant(trial.planted);
    let mut n_copies = 0;
    turn_of_second(clock).await;
    for step in 0..N_OPERATIONS {
        match rng.u8(..20) {
            0 => {
                sleep(Duration::from_secs(rng.u64(..100))).await;
                turn_of_second(clock).await;
            }
            1 if trial.failing_per_mille > 0 => {
                fail(&tiers.upper, [0, trial.failing_per_mille, 1_000][rng.usize(..3)]);
            }
            2 => tiers.work_off().await,
            // A trial of the bulk policy has something above only so.
            3 => tiers.policy = [Policy::Fill, trial.policy][rng.usize(..2)],
            _ => {}
        }
        let operation = draw(&mut rng, &single, clock);
        let is_copied = peek(&tiers.upper, clock, &operation.key).is_some();
        n_copies += u32::from(is_plain_read(&operation) && is_copied);
        let wanted = normal(&operation, single.apply(&operation).await);
        let found = normal(&operation, tiers.ask(&operation).await);
        let told = format!("seed {seed}, step {step}, {trial:?}: {operation:?}");
        if found != wanted {
            return Err(format!("{told}\ncame to {found:?}\nnot   to {wanted:?}"));
        }
        if let Some(wrong) = wrong_copy(&tiers, clock) {
            return Err(format!("{told}\n{wrong}"));
        }
    }
    fail(&tiers.upper, 0);
    tiers.nothing_is_left().await.map(|()| n_copies)
}

/// Runs each seed; a difference is a panic.
fn check(trial: Trial) {
    for seed in seeds(6) {
        let n_copies = on_a_shard(seed, async move || run(seed, trial).await);
        let n_copies = n_copies.unwrap_or_else(|difference| panic!("{difference}"));
        // While the upper tier is away there are none.
        let n_copies_min = if trial.failing_per_mille == 0 { 20 } else { 1 };
        assert!(n_copies >= n_copies_min, "seed {seed}: {n_copies} reads had a copy");
    }
}

#[test]
fn two_tiers_answer_as_one_store() {
    check(QUIET);
    check(Trial { upper: Kind::Scripted, ..QUIET });
    check(Trial { policy: Policy::Bulk, ..QUIET });
}

#[test]
fn what_does_not_fit_above_leaves_no_old_copy() {
    check(Trial { upper_item_bytes_max: SMALL_ITEM_BYTES_MAX, ..QUIET });
}

#[test]
fn an_upper_tier_that_fails_changes_no_answer() {
    check(TROUBLED);
    check(Trial { policy: Policy::Bulk, ..TROUBLED });
    check(Trial { upper_item_bytes_max: SMALL_ITEM_BYTES_MAX, ..TROUBLED });
}

#[test]
fn a_failing_upper_tier_is_found_without_doubts_and_without_their_grace() {
    for planted in [NO_DOUBTS, Planted::NoGrace] {
        let trial = Trial { planted, ..TROUBLED };
        let is_found = |seed| on_a_shard(seed, async move || run(seed, trial).await).is_err();
        assert!((0..20).any(is_found), "{planted:?}");
    }
}

#[test]
fn a_meta_read_leaves_the_copy_where_it_is() {
    on_a_shard(0, async || {
        let (tiers, clock) = two_tiers(Policy::Fill);
        let key = key("key");
        tiers.ask(&set(&key, "value")).await;
        let what = What::Get(Get { beside: Beside::All, ..Get::PLAIN });
        let read = tiers.ask(&Operation { key: key.clone(), what }).await;
        assert!(matches!(read, Outcome::Hit(_)));
        assert!(peek(&tiers.upper, clock, &key).is_some());
        assert_eq!(tiers.n_doubts(), 0);
    });
}

/// Nothing new comes above, so what is there is put there first.
#[test]
fn the_bulk_policy_keeps_right_what_is_above_and_adds_nothing() {
    on_a_shard(0, async || {
        let clock = Clock::set();
        let upper = tier(Kind::Embedded, store(ITEM_BYTES_MAX), clock, 0);
        let lower = Tier::embedded(store(ITEM_BYTES_MAX), clock);
        let (copied, other) = (key("copied"), key("other"));
        upper.apply(&set(&copied, "old")).await;
        lower.apply(&set(&copied, "old")).await;
        let tiers = Tiers::new(upper, lower, Policy::Bulk, clock);
        for value in ["new", "newer"] {
            for key in [&copied, &other] {
                assert!(matches!(tiers.ask(&set(key, value)).await, Outcome::Stored(_)));
                assert!(
                    matches!(tiers.ask(&plain_get(key)).await, Outcome::Hit(entry) if entry.value == value)
                );
            }
            assert_eq!(
                peek(&tiers.upper, clock, &copied).map(|entry| entry.value),
                Some(value.into())
            );
            assert_eq!(peek(&tiers.upper, clock, &other), None);
        }
    });
}

/// A store says the same of it as of a key that is not there.
#[test]
fn what_no_longer_fits_above_once_it_is_appended_to_is_dropped_there() {
    on_a_shard(0, async || {
        let clock = Clock::set();
        let upper = Tier::embedded(store(SMALL_ITEM_BYTES_MAX), clock);
        let lower = Tier::embedded(store(ITEM_BYTES_MAX), clock);
        let tiers = Tiers::new(upper, lower, Policy::Fill, clock);
        let (key, part) = (key("key"), vec![b'x'; SMALL_ITEM_BYTES_MAX / 2]);
        tiers.ask(&set(&key, part.clone())).await;
        assert!(peek(&tiers.upper, clock, &key).is_some());
        let append = Set::new(SetMode::Append, 0, ExpTime(0), part.clone().into());
        tiers.ask(&Operation { key: key.clone(), what: What::Set(append) }).await;
        let read = tiers.ask(&plain_get(&key)).await;
        assert!(matches!(read, Outcome::Hit(entry) if entry.value.len() == 2 * part.len()));
    });
}
