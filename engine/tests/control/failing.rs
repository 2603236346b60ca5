//! A downstream that fails: tried again within bounds, split for a poisoned item, left alone.

use std::rc::Rc;
use std::time::Duration;

use forebay::sim::SimOptions;
use forebay::{
    Batch, BreakerOptions, Builder, CallError, Priority, RequestOptions, Retry, ShedReason, Stage,
    StageOptions, Time, now, spawn,
};

use crate::downstream::{Behaviour, Broken, Call, End, MS, call, load, seen, simulate};

const LOWEST: Priority = Priority::LOWEST;

fn behaviour(fails: fn(&[u64], usize) -> bool) -> Behaviour {
    Behaviour { item: Duration::from_micros(10), fails }
}

/// How `n_calls` made at once end.
fn at_once(
    n_calls: u64,
    behaviour: Behaviour,
    change: impl FnOnce(&mut StageOptions),
) -> Vec<Call> {
    let (mut sim, stage) = simulate(21, 1, behaviour, change);
    let work = move || async move {
        let calls: Vec<_> = (0..n_calls)
            .map(|n| spawn(RequestOptions::default(), call(stage, n, LOWEST)))
            .collect();
        let mut ended = Vec::new();
        for call in calls {
            ended.push(call.await.unwrap());
        }
        ended
    };
    let reply = sim.handle().submit(0, RequestOptions::default(), work).unwrap();
    while sim.step() {}
    assert_eq!(sim.violation(), None);
    reply.try_take().expect("all have ended").unwrap()
}

fn retry() -> Retry {
    // One burst of batches earns little: these tests are not about the budget.
    Retry { min_per_s: 100, ..Retry::default() }
}

#[test]
fn a_batch_that_fails_once_succeeds_at_its_second_try() {
    let calls = at_once(50, behaviour(|_, n_before| n_before == 0), |options| {
        options.retry = Some(retry());
    });
    assert!(calls.iter().all(|call| call.end == End::Answered { level: 0 }), "{calls:?}");
    assert_eq!(seen().borrow().batches.len(), 2);
    let calls = at_once(50, behaviour(|_, n_before| n_before == 0), |_| {});
    assert!(calls.iter().all(|call| call.end == End::Failed), "nobody asked for a second try");
}

#[test]
fn a_poisoned_item_fails_alone_and_nothing_is_sent_again_once_it_has_succeeded() {
    let poisoned = behaviour(|items, _| items.contains(&77));
    let calls = at_once(128, poisoned, |options| {
        options.retry = Some(Retry { attempts_max: 2, ..retry() });
    });
    let failed: Vec<usize> = (0..128).filter(|number| calls[*number].end == End::Failed).collect();
    assert_eq!(failed, [77]);
    let seen = seen();
    let batches = &seen.borrow().batches;
    // One more try of the whole, then two halves for each of the seven times 128 can be halved.
    assert_eq!(batches.len(), 1 + 1 + 2 * 7);
    for number in 0..128 {
        let succeeded = |(_, items): &&(forebay::Time, Vec<u64>)| {
            items.contains(&number) && !items.contains(&77)
        };
        assert!(batches.iter().filter(succeeded).count() <= 1, "{number} succeeded twice");
    }
}

#[test]
fn retries_stay_within_their_budget_when_everything_fails() {
    let (mut sim, stage) = simulate(22, 1, behaviour(|_, _| true), |options| {
        options.items_max = 1;
        options.retry = Some(Retry { min_per_s: 0, backoff: MS, ..retry() });
    });
    let calls = load(&mut sim, stage, &[(LOWEST, 500)], MS * 2_000, Duration::from_secs(5));
    assert!(calls.iter().all(|call| call.end == End::Failed));
    let n_batches = seen().borrow().batches.len();
    assert!((1_150..=1_201).contains(&n_batches), "1,000 first tries and a fifth: {n_batches}");
}

#[test]
fn an_open_circuit_refuses_at_once_and_closes_after_a_probe() {
    // It fails from the 100th to the 160th batch: the last of them are probes.
    let behaviour = behaviour(|_, n_before| (100..160).contains(&n_before));
    let (mut sim, stage) = simulate(23, 1, behaviour, |options| {
        options.items_max = 1;
        let (window, open_for) = (MS * 100, MS * 50);
        options.breaker = Some(BreakerOptions { window, open_for, ..BreakerOptions::default() });
    });
    let calls = load(&mut sim, stage, &[(LOWEST, 1_000)], MS * 2_000, Duration::from_secs(5));
    let open = |call: &&Call| call.end == End::Shed(ShedReason::CircuitOpen);
    let n_failed = calls.iter().filter(|call| call.end == End::Failed).count();
    assert!(calls.iter().filter(open).count() > 100, "the circuit never opened");
    assert!((50..=60).contains(&n_failed), "{n_failed} failed: half of a window, and probes");
    let tail = &calls[calls.len() - 100..];
    assert!(tail.iter().all(|call| call.end == End::Answered { level: 0 }), "it never closed");
}

#[test]
fn what_waits_for_a_circuit_that_opens_is_told_and_not_kept_waiting() {
    let behaviour = Behaviour { item: MS, fails: |_, _| true };
    let calls = at_once(100, behaviour, |options| {
        options.items_max = 1;
        options.breaker = Some(BreakerOptions { calls_min: 5, ..BreakerOptions::default() });
    });
    let shed = calls.iter().filter(|call| call.end == End::Shed(ShedReason::CircuitOpen)).count();
    assert_eq!(shed, 95);
    assert!(calls.iter().all(|call| call.took < MS * 10), "five services and a turn");
}

/// A downstream that is known to be down, so that nobody asks it.
struct Unasked;

impl Stage for Unasked {
    type Item = u64;
    type Key = u64;
    type Class = ();
    type Value = ();
    type Error = Broken;

    fn key(number: &u64) -> u64 {
        *number
    }

    fn class(_: &u64) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Broken> {
        // Every tenth is asked after all, and fails.
        if batch.items().any(|item| !item.item().is_multiple_of(10)) {
            batch.not_sent();
        }
        Err(Broken)
    }
}

/// How many batches in turn fail until the circuit opens, if it does.
fn failed_until_open(n_calls: u64, calls_min: u32) -> Option<u64> {
    let breaker = BreakerOptions { calls_min, ..BreakerOptions::default() };
    let mut builder = Builder::new();
    let mut options = StageOptions::default();
    options.breaker = Some(breaker);
    let stage = builder.shared_stage("unasked", options, |_| async { Ok(Unasked) });
    let mut sim = builder.simulate(SimOptions::new(25, 1)).unwrap();
    let work = move || async move {
        for number in 1..=n_calls {
            match stage.call(number).await {
                Err(CallError::Batch(_)) => {}
                Err(CallError::Shed(shed)) if shed.reason == ShedReason::CircuitOpen => {
                    return Some(number - 1);
                }
                other => panic!("{other:?}"),
            }
        }
        None
    };
    let reply = sim.handle().submit(0, RequestOptions::default(), work).unwrap();
    while sim.step() {}
    reply.try_take().expect("all have ended").unwrap()
}

#[test]
fn a_batch_that_was_not_sent_opens_no_circuit() {
    assert_eq!(failed_until_open(100, 11), None);
    assert_eq!(failed_until_open(100, 5), Some(50));
}

#[test]
fn a_pause_before_a_retry_ends_with_the_stop() {
    let (mut sim, stage) = simulate(24, 1, behaviour(|_, _| true), |options| {
        options.retry = Some(Retry { backoff: Duration::from_secs(20), ..retry() });
    });
    let work = move || async move { (call(stage, 1, LOWEST).await.end, now()) };
    let reply = sim.handle().submit(0, RequestOptions::default(), work).unwrap();
    sim.run_until(10_000, |sim| sim.snapshot(0).stages[0].batches == 1);
    sim.enter_phase(forebay::Phase::Draining);
    sim.enter_phase(forebay::Phase::Cancelled);
    while sim.step() {}
    assert_eq!((sim.violation(), sim.unsettled()), (None, None));
    assert!(sim.now() < Time::ZERO.after(Duration::from_secs(5)), "{:?}: it slept on", sim.now());
    drop(reply);
}

#[test]
fn what_nobody_awaits_any_more_is_not_sent_again() {
    let (mut sim, stage) = simulate(25, 1, behaviour(|_, n_before| n_before == 0), |options| {
        options.retry = Some(Retry { backoff: MS * 20, ..retry() });
    });
    let work = move || async move {
        let short = RequestOptions::within(MS * 2);
        let gone: Vec<_> = (0..5).map(|n| spawn(short, call(stage, n, LOWEST))).collect();
        let stays = spawn(RequestOptions::default(), call(stage, 9, LOWEST));
        for call in gone {
            assert_eq!(call.await.unwrap().end, End::Expired);
        }
        stays.await.unwrap().end
    };
    let reply = sim.handle().submit(0, RequestOptions::default(), work).unwrap();
    while sim.step() {}
    assert_eq!((sim.violation(), sim.unsettled()), (None, None));
    assert_eq!(reply.try_take().unwrap().unwrap(), End::Answered { level: 0 });
    let seen = seen();
    let second = &seen.borrow().batches[1].1;
    assert_eq!(*second, [9], "{:?}", seen.borrow().batches);
}
