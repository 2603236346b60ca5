//! Bounds: what expires, what is shed, what is cut off, and what is cancelled.

use std::time::Duration;

use forebay::{
    CallError, Dedup, Limits, Outcome, RequestError, RequestOptions, Shed, ShedReason, SubmitError,
};

use crate::ring::{
    Gate, Notes, PATIENCE, Ring, all, double, eventually, one_stage, policy, scripted, shards,
    spawn, wait,
};

const MS: Duration = Duration::from_millis(1);

/// A batch function that holds its batch until the gate opens, then doubles.
fn held(
    gate: &Gate,
) -> impl Fn(
    forebay::Batch<crate::ring::Scripted>,
) -> std::pin::Pin<Box<dyn Future<Output = Result<(), crate::ring::Fault>>>>
+ Send
+ Sync
+ use<> {
    let gate = gate.clone();
    move |batch| {
        let gate = gate.clone();
        Box::pin(async move {
            gate.passed().await;
            double(batch).await
        })
    }
}

#[test]
fn an_item_that_expires_in_the_queue_is_never_sent() {
    let gate = Gate::default();
    let (ring, probe) = one_stage(1, policy(|_| {}), held(&gate));
    let calls = probe.clone();
    let (first, late) = ring.run(0, move || async move {
        let first = spawn(calls.call(1));
        while calls.batches.all().is_empty() {
            forebay::yield_now().await;
        }
        let late = calls.call(2).within(MS).await;
        gate.open();
        (first.await.unwrap(), late)
    });
    assert_eq!(first.unwrap(), 2);
    assert!(matches!(late, Err(CallError::Expired(Outcome::NotSent))), "{late:?}");
    assert_eq!(probe.batches.all(), [[1]]);
    ring.stop();
}

#[test]
fn a_call_that_expires_in_flight_tells_that_its_outcome_is_unknown() {
    let gate = Gate::default();
    let (ring, probe) = one_stage(1, policy(|_| {}), held(&gate));
    let reply = ring.run(0, move || async move { probe.call(1).within(MS).await });
    assert!(matches!(reply, Err(CallError::Expired(Outcome::Unknown))), "{reply:?}");
    gate.open();
    assert_eq!(ring.stop()[0].stages[0].late, 1);
}

#[test]
fn a_call_has_the_deadline_of_its_request() {
    let gate = Gate::default();
    let (ring, probe) = one_stage(1, policy(|_| {}), held(&gate));
    let options = RequestOptions::within(MS);
    let reply = ring.handle.submit(0, options, move || probe.call(1)).unwrap();
    let reply = wait(&reply).unwrap();
    assert!(matches!(reply, Err(CallError::Expired(_))), "{reply:?}");
    gate.open();
    ring.stop();
}

#[test]
fn a_call_without_a_deadline_has_the_stages_own() {
    let gate = Gate::default();
    let (ring, probe) = one_stage(1, policy(|options| options.call_max = MS), held(&gate));
    let reply = ring.run(0, move || probe.call(1));
    assert!(matches!(reply, Err(CallError::Expired(_))), "{reply:?}");
    gate.open();
    ring.stop();
}

#[test]
fn a_batch_that_overruns_is_dropped_and_its_permit_returns() {
    // Never opened: the first batch can only be cut off.
    let gate = Gate::default();
    let options = policy(|options| options.run_max = 5 * MS);
    let (ring, probe) = one_stage(1, options, move |batch| {
        let gate = gate.clone();
        async move {
            if batch.items().any(|item| item.item().key == 0) {
                gate.passed().await;
            }
            double(batch).await
        }
    });
    let calls = probe.clone();
    let (cut, next) = ring.run(0, move || async move {
        let cut = spawn(calls.call(0));
        while calls.batches.all().is_empty() {
            forebay::yield_now().await;
        }
        let next = spawn(calls.call(1));
        (cut.await.unwrap(), next.await.unwrap())
    });
    assert!(matches!(cut, Err(CallError::Expired(Outcome::Unknown))), "{cut:?}");
    assert_eq!(next.unwrap(), 2);
    assert_eq!(probe.abandoned.all().len(), 1);
    assert_eq!(probe.batches.all(), [[0], [1]]);
    assert_eq!(ring.stop()[0].stages[0].abandoned, 1);
}

#[test]
fn a_call_that_finds_the_queue_full_is_shed() {
    let gate = Gate::default();
    let options = policy(|options| options.queue_max = 2);
    let (ring, probe) = one_stage(1, options, held(&gate));
    let replies = ring.run(0, move || async move {
        let first = spawn(probe.call(0));
        while probe.batches.all().is_empty() {
            forebay::yield_now().await;
        }
        let rest: Vec<_> = (1..5).map(|key| spawn(probe.call(key))).collect();
        forebay::yield_now().await;
        gate.open();
        let mut replies = vec![first.await.unwrap()];
        replies.extend(all(rest).await);
        replies
    });
    let [Ok(0), Ok(2), Ok(4), Err(shed), Err(_)] = &replies[..] else { panic!("{replies:?}") };
    assert!(
        matches!(shed, CallError::Shed(Shed { reason: ShedReason::QueueFull { depth: 2 }, .. })),
        "{shed:?}"
    );
    assert_eq!(shed.outcome(), Outcome::NotSent);
    assert_eq!(ring.stop()[0].stages[0].shed, 2);
}

#[test]
fn a_call_that_shares_a_queued_item_takes_no_room_and_is_not_shed() {
    let gate = Gate::default();
    let options = policy(|options| {
        options.queue_max = 1;
        options.dedup = Dedup::Queued;
    });
    let (ring, probe) = one_stage(1, options, held(&gate));
    let replies = ring.run(0, move || async move {
        let first = spawn(probe.call(0));
        while probe.batches.all().is_empty() {
            forebay::yield_now().await;
        }
        let calls = [probe.call(1), probe.call(1), probe.call(2), probe.call(1).fresh()];
        let rest = calls.map(spawn).into_iter().collect();
        forebay::yield_now().await;
        gate.open();
        let mut replies = vec![first.await.unwrap()];
        replies.extend(all(rest).await);
        replies
    });
    let [Ok(0), Ok(2), Ok(2), Err(other), Err(fresh)] = &replies[..] else { panic!("{replies:?}") };
    assert!(
        matches!(other, CallError::Shed(Shed { reason: ShedReason::QueueFull { depth: 1 }, .. })),
        "{other:?}"
    );
    assert!(
        matches!(fresh, CallError::Shed(Shed { reason: ShedReason::QueueFull { depth: 1 }, .. })),
        "{fresh:?}"
    );
    ring.stop();
}

#[test]
fn a_request_whose_handle_is_dropped_ends_and_its_queued_item_is_not_sent() {
    let gate = Gate::default();
    let (ring, probe) = one_stage(1, policy(|_| {}), held(&gate));
    let calls = probe.clone();
    ring.run(0, move || async move {
        let first = spawn(calls.call(1));
        while calls.batches.all().is_empty() {
            forebay::yield_now().await;
        }
        let gone = spawn(calls.call(2));
        let never_polled = spawn(calls.call(3));
        forebay::yield_now().await;
        drop(gone);
        drop(never_polled);
        gate.open();
        first.await.unwrap().unwrap();
    });
    assert_eq!(probe.batches.all(), [[1]]);
    assert_eq!(ring.stop()[0].stages[0].cancelled, 2);
}

#[test]
fn a_request_that_outlives_its_deadline_and_grace_is_ended() {
    let mut builder = shards(1);
    let mut limits = Limits::default();
    limits.grace = MS;
    builder.limits(limits);
    let ring = Ring::start(builder);
    let never = Gate::default();
    let reply = ring.handle.submit(0, RequestOptions::within(MS), move || never.passed()).unwrap();
    assert_eq!(wait(&reply), Err(RequestError::Expired));
    ring.stop();
}

#[test]
fn a_shard_with_too_many_live_requests_refuses_one_more() {
    let mut builder = shards(1);
    let mut limits = Limits::default();
    limits.requests_max = 3;
    builder.limits(limits);
    let ring = Ring::start(builder);
    let (gate, begun) = (Gate::default(), Notes::default());
    let submit = || {
        let (gate, begun) = (gate.clone(), begun.clone());
        ring.submit(0, move || async move {
            begun.add(());
            gate.passed().await;
        })
    };
    let held: Vec<_> = (0..3).map(|_| submit()).collect();
    begun.wait_for(3);
    assert_eq!(wait(&submit()), Err(RequestError::Shed));
    gate.open();
    assert!(held.iter().all(|reply| wait(reply).is_ok()));
    ring.stop();
}

#[test]
fn a_full_inbox_refuses_and_takes_more_once_it_has_been_read() {
    let mut builder = shards(1);
    let mut limits = Limits::default();
    limits.inbox_max = 4;
    builder.limits(limits);
    let ring = Ring::start(builder);
    let (begun, go) = (Notes::default(), std::sync::mpsc::channel::<()>());
    let (tell, (let_go, blocked)) = (begun.clone(), go);
    // A poll that blocks its shard: what a user must not do, and what fills an inbox.
    let stalled = ring.submit(0, move || async move {
        tell.add(());
        blocked.recv_timeout(PATIENCE).unwrap();
    });
    begun.wait_for(1);
    let waiting: Vec<_> = (0..4).map(|_| ring.submit(0, || async {})).collect();
    let refused = ring.handle.submit(0, RequestOptions::default(), || async {});
    assert_eq!(refused.unwrap_err(), SubmitError::Full { depth: 4 });
    let_go.send(()).unwrap();
    assert!(wait(&stalled).is_ok() && waiting.iter().all(|reply| wait(reply).is_ok()));
    eventually(|| ring.handle.submit(0, RequestOptions::default(), || async {}).is_ok());
    ring.stop();
}

#[test]
fn further_permits_open_for_half_a_batch_and_never_more_than_there_are() {
    let gate = Gate::default();
    let mut builder = shards(1);
    let options = policy(|options| (options.items_max, options.permits) = (10, 3));
    let probe = scripted(&mut builder, "probe", options, held(&gate));
    let ring = Ring::start(builder);
    let calls = probe.clone();
    let reply = ring.submit(0, move || async move {
        all((0..100).map(|key| spawn(calls.call(key))).collect()).await
    });
    ring.wait_until(0, |shard| {
        let stage = &shard.stages[0];
        (stage.permits_out, stage.permits, stage.depth) == (3, 3, 70)
    });
    assert_eq!(probe.batches.all().len(), 3);
    gate.open();
    assert!(wait(&reply).unwrap().iter().all(Result::is_ok));
    ring.stop();
}
