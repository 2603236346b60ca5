//! Goal: come through the three failures that the libraries we measured ourselves against do not:
//! a batch function that panics, a leading caller that leaves, callers that leave their queue.
//! Method: their own probes, on real rings: eight callers each time, and one more afterwards.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod ring;

use forebay::{CallError, Dedup};
use ring::{Fault, Gate, all, double, one_stage, policy, spawn};

const CALLERS: u64 = 8;

#[test]
fn after_a_panic_in_the_batch_function_its_callers_know_and_the_next_call_works() {
    let (ring, probe) = one_stage(1, policy(|_| {}), |batch| async move {
        assert!(batch.items().all(|item| item.item().key != 3), "planted: a batch function");
        double(batch).await
    });
    for _ in 0..3 {
        let calls = probe.clone();
        let replies = ring.run(0, move || async move {
            all((0..CALLERS).map(|key| spawn(calls.call(key))).collect()).await
        });
        let panicked = replies.iter().filter(|reply| matches!(reply, Err(CallError::Panicked)));
        assert_eq!(panicked.count() as u64, CALLERS, "one batch, and none of it was settled");
        let calls = probe.clone();
        assert_eq!(ring.run(0, move || calls.call(21)).unwrap(), 42);
    }
    ring.stop();
}

#[test]
fn what_was_settled_before_the_panic_keeps_its_answer() {
    let (ring, probe) = one_stage(1, policy(|_| {}), |batch| async move {
        for item in batch.items() {
            assert_ne!(item.item().key, 3, "planted: half way");
            item.settle(Ok(item.item().key));
        }
        Ok::<_, Fault>(())
    });
    let replies = ring.run(0, move || async move {
        all((0..CALLERS).map(|key| spawn(probe.call(key))).collect()).await
    });
    for (key, reply) in replies.iter().enumerate() {
        match reply {
            Ok(value) => assert!(key < 3 && *value == key as u64, "{key}: {value}"),
            Err(error) => assert!(key >= 3 && matches!(error, CallError::Panicked), "{key}"),
        }
    }
    ring.stop();
}

/// Starts eight callers of a batch that is held, lets some of them leave, and gives what the
/// others got.
fn leave(leavers: impl Fn(u64) -> bool + Send + 'static, dedup: Dedup) {
    let gate = Gate::default();
    let held = gate.clone();
    let options = policy(|options| options.dedup = dedup);
    let (ring, probe) = one_stage(1, options, move |batch| {
        let held = held.clone();
        async move {
            held.passed().await;
            double(batch).await
        }
    });
    let calls = probe.clone();
    let values = ring.run(0, move || async move {
        let key = |caller| if dedup == Dedup::Off { caller } else { 1 };
        let mut callers: Vec<_> =
            (0..CALLERS).map(|caller| Some(spawn(calls.call(key(caller))))).collect();
        while calls.batches.all().is_empty() {
            forebay::yield_now().await;
        }
        for caller in (0..CALLERS).filter(|caller| leavers(*caller)) {
            callers[caller as usize] = None;
        }
        forebay::yield_now().await;
        gate.open();
        let stayed = callers.into_iter().flatten().collect();
        let values: Vec<_> = all(stayed).await.into_iter().map(Result::unwrap).collect();
        // And whoever comes later finds the stage as it was.
        assert_eq!(calls.call(21).await.unwrap(), 42);
        let expected: Vec<_> = (0..CALLERS).filter(|caller| !leavers(*caller)).map(key).collect();
        (values, expected)
    });
    assert_eq!(values.0, values.1.iter().map(|key| key * 2).collect::<Vec<_>>());
    assert_eq!(probe.batches.all().len(), 2);
    ring.stop();
}

#[test]
fn the_leading_caller_may_leave_and_the_others_get_their_answers() {
    leave(|caller| caller == 0, Dedup::Off);
    leave(|caller| caller == 0, Dedup::Queued);
}

#[test]
fn half_of_the_callers_may_leave_a_batch_in_flight() {
    leave(|caller| caller < 4, Dedup::Off);
    leave(|caller| caller % 2 == 0, Dedup::Queued);
}

#[test]
fn keys_of_callers_that_have_gone_are_not_sent() {
    let gate = Gate::default();
    let held = gate.clone();
    let (ring, probe) = one_stage(1, policy(|_| {}), move |batch| {
        let held = held.clone();
        async move {
            held.passed().await;
            double(batch).await
        }
    });
    let calls = probe.clone();
    ring.run(0, move || async move {
        let first = spawn(calls.call(100));
        while calls.batches.all().is_empty() {
            forebay::yield_now().await;
        }
        let gone: Vec<_> = (0..CALLERS).map(|key| spawn(calls.call(key))).collect();
        forebay::yield_now().await;
        drop(gone);
        let live = spawn(calls.call(200));
        forebay::yield_now().await;
        gate.open();
        first.await.unwrap().unwrap();
        assert_eq!(live.await.unwrap().unwrap(), 400);
    });
    assert_eq!(probe.batches.all(), [[100], [200]]);
    ring.stop();
}
