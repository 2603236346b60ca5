//! Goal: an engine starts whole or not at all, stops in bounded time whatever hangs, loses nothing
//! that it had time for, and says `Closed` or `PeerGone` for the rest: never a hang.
//! Method: real rings, gates instead of sleeps; threads are counted in a process of their own.

#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod child;
mod ring;

use std::sync::mpsc::channel;
use std::time::Duration;

use child::{Ended, in_child, stderr_of_child};
use forebay::{
    Batch, Bridge, Builder, CallError, Limits, Placement, RequestError, RequestOptions, ShardId,
    StartError, on_shard,
};
use ring::{
    Fault, Gate, Notes, PATIENCE, Ring, Scripted, check_books, double, eventually, n_threads,
    one_stage, policy, scripted, shards, spawn, two_cpus, wait,
};

#[test]
fn panics_unwind() {
    const { assert!(cfg!(panic = "unwind"), "panic isolation needs it, in every profile") };
}

#[test]
fn an_engine_that_starts_prints_what_it_runs_on_and_its_limits_unless_it_is_quiet() {
    let printed = stderr_of_child(|| {
        let mut builder = Builder::new();
        builder.shards(1);
        builder.start().unwrap().stop(Duration::ZERO);
        eprintln!("-- and quiet --");
        shards(1).start().unwrap().stop(Duration::ZERO);
        String::new()
    });
    let (loud, quiet) = printed.split_once("-- and quiet --").unwrap();
    for word in ["idle: park", "limits per shard: 262144 requests", "KiB"] {
        assert!(loud.contains(word), "{word:?} is missing in {loud:?}");
        assert!(!quiet.contains(word), "{quiet:?}");
    }
}

// --- Stopping.

#[test]
fn a_stop_that_drains_loses_nothing_of_what_was_taken() {
    let n_shards = if two_cpus() { 2 } else { 1 };
    let options = policy(|options| options.placement = Placement::Owner);
    let (ring, probe) = one_stage(n_shards, options, |batch| async move {
        for _ in 0..3 {
            forebay::yield_now().await;
        }
        double(batch).await
    });
    let replies: Vec<_> = (0..2_000_u64)
        .map(|key| {
            let calls = probe.clone();
            ring.submit(key as usize % n_shards, move || async move {
                // Some still sleep when the stop comes, some have not begun.
                forebay::sleep(Duration::from_micros(key % 7 * 500)).await;
                calls.call(key).await
            })
        })
        .collect();
    ring.stop();
    for (key, reply) in replies.iter().enumerate() {
        assert_eq!(wait(reply).unwrap().unwrap(), key as u64 * 2);
    }
}

#[test]
fn what_does_not_end_in_time_is_cut_with_closed() {
    // Never opened: requests in a batch, in the queue and in a sleep can only be cut.
    let gate = Gate::default();
    let (ring, probe) = one_stage(1, policy(|options| options.items_max = 4), move |batch| {
        let held = gate.clone();
        async move {
            held.passed().await;
            double(batch).await
        }
    });
    let mut replies: Vec<_> = (0..10)
        .map(|key| {
            let calls = probe.clone();
            ring.submit(0, move || async move { calls.call(key).await })
        })
        .collect();
    replies.push(ring.submit(0, || async {
        forebay::sleep(PATIENCE * 10).await;
        Ok(0)
    }));
    ring.wait_until(0, |shard| shard.live_requests == 11 && shard.stages[0].permits_out == 1);
    let Ring { engine, handle } = ring;
    let report = engine.stop(Duration::from_millis(10));
    assert!(!report.drained, "{report:?}");
    assert_eq!((report.requests_cut, report.batches_abandoned), (11, 1), "{report:?}");
    assert!(report.stuck_shards.is_empty() && report.stuck_bridges.is_empty(), "{report:?}");
    for reply in &replies {
        let cut = wait(reply);
        assert!(matches!(cut, Err(RequestError::Closed)), "{cut:?}");
    }
    assert_eq!(probe.abandoned.all().len(), 1);
    check_books(&handle);
}

#[test]
fn a_request_submitted_to_an_engine_that_drains_is_refused_and_others_go_on() {
    let (ring, probe) = one_stage(1, policy(|_| {}), double);
    let gate = Gate::default();
    let held = gate.clone();
    let working = ring.submit(0, move || async move {
        held.passed().await;
        let spawned = spawn(async {}).await;
        (probe.call(21).await.unwrap(), spawned)
    });
    ring.wait_until(0, |shard| shard.live_requests == 1);
    let Ring { engine, handle } = ring;
    let (stopped, report) = channel();
    #[allow(clippy::disallowed_methods, reason = "stopping blocks its thread")]
    let stopper = std::thread::spawn(move || stopped.send(engine.stop(PATIENCE)).unwrap());
    // From some moment on what comes from outside is refused, while what lives still works.
    eventually(|| {
        let late = handle.submit(0, RequestOptions::default(), || async {});
        late.is_ok_and(|late| wait(&late) == Err(RequestError::Closed))
    });
    gate.open();
    assert_eq!(wait(&working), Ok((42, Err(RequestError::Closed))));
    assert!(report.recv_timeout(PATIENCE).unwrap().drained);
    stopper.join().unwrap();
    check_books(&handle);
}

#[test]
fn a_shard_serves_the_others_while_they_drain() {
    if !two_cpus() {
        return;
    }
    let options = policy(|options| options.placement = Placement::Gather(ShardId::new(1)));
    let (ring, probe) = one_stage(2, options, double);
    // Shard 1 has nothing of its own and is drained at once; shard 0 needs it for long after.
    let reply = ring.submit(0, move || async move {
        for round in 0..100 {
            forebay::sleep(Duration::from_micros(200)).await;
            assert_eq!(probe.call(round).await.unwrap(), round * 2);
            on_shard(ShardId::new(1), || async {}).await.unwrap();
        }
    });
    ring.wait_until(0, |shard| shard.stages[0].sent_away > 0);
    ring.stop();
    assert_eq!(wait(&reply), Ok(()));
}

#[test]
fn a_bridge_that_is_stuck_is_reported_by_name_and_not_awaited() {
    let ended = in_child(|| {
        let mut builder = shards(1);
        let mut limits = Limits::default();
        limits.bridge_join = Duration::from_millis(50);
        builder.limits(limits);
        let (begun, (let_go, blocked)) = (Notes::default(), channel::<()>());
        let ring = Ring::start(builder);
        let told = begun.clone();
        let reply = ring.submit(0, move || async move {
            let stuck = Bridge::new("stuck one", 1, 1, || Some(())).unwrap();
            let fine = Bridge::new("fine one", 2, 1, || Some(())).unwrap();
            fine.call(|()| ()).await.unwrap();
            let job = move |(): &mut ()| {
                told.add(());
                blocked.recv_timeout(PATIENCE).unwrap();
            };
            stuck.call(job).await
        });
        begun.wait_for(1);
        let report = ring.engine.stop(Duration::from_millis(10));
        let cut = wait(&reply);
        let_go.send(()).unwrap();
        // Once its job is done the thread that was left behind ends as well.
        eventually(|| n_threads() <= 2);
        format!("{:?} {:?} {cut:?}", report.stuck_bridges, report.stuck_shards)
    });
    assert_eq!(ended, Ended::Said("[\"stuck one\"] [] Err(Closed)".to_owned()));
}

#[test]
fn a_shard_that_is_stuck_is_reported_and_not_awaited() {
    let ended = in_child(|| {
        let ring = Ring::start(shards(1));
        let (begun, (let_go, blocked)) = (Notes::default(), channel::<()>());
        let told = begun.clone();
        let _reply = ring.submit(0, move || async move {
            told.add(());
            blocked.recv_timeout(PATIENCE).unwrap();
        });
        begun.wait_for(1);
        let report = ring.engine.stop(Duration::from_millis(10));
        let_go.send(()).unwrap();
        format!("{} {:?}", report.drained, report.stuck_shards)
    });
    assert_eq!(ended, Ended::Said("false [(ShardId(0), Running)]".to_owned()));
}

#[test]
fn an_engine_that_is_dropped_stops_at_once() {
    let (ring, probe) = one_stage(1, policy(|_| {}), double);
    assert_eq!(ring.run(0, move || probe.call(1)).unwrap(), 2);
    let reply = ring.submit(0, || Gate::default().passed());
    let Ring { engine, handle } = ring;
    drop(engine);
    assert!(matches!(wait(&reply), Err(RequestError::Closed | RequestError::PeerGone)));
    check_books(&handle);
}

#[test]
fn nothing_runs_on_after_a_stop_and_instances_are_dropped_on_their_shard() {
    let ended = in_child(|| {
        struct Instance(Notes<Option<String>>);
        impl Drop for Instance {
            fn drop(&mut self) {
                self.0.add(std::thread::current().name().map(str::to_owned));
                panic!("planted: an instance's drop");
            }
        }
        impl forebay::Stage for Instance {
            type Item = ();
            type Key = ();
            type Class = ();
            type Value = ();
            type Error = Fault;
            fn key((): &()) {}
            fn class((): &()) {}
            async fn run(self: std::rc::Rc<Self>, batch: Batch<Self>) -> Result<(), Fault> {
                batch.items().for_each(|item| item.settle(Ok(())));
                Ok(())
            }
        }
        let before = n_threads();
        let dropped = Notes::default();
        let noted = dropped.clone();
        let mut builder = shards(1);
        let stage = builder.stage("instance", policy(|_| {}), move |_| {
            let noted = noted.clone();
            async move {
                // The bridge goes with the instance; its thread with the bridge.
                std::mem::forget(Bridge::new("bridge", 2, 1, || Some(()))?);
                Ok(Instance(noted))
            }
        });
        let ring = Ring::start(builder);
        ring.run(0, move || stage.call(())).unwrap();
        ring.stop();
        eventually(|| n_threads() == before);
        format!("{:?}", dropped.all())
    });
    assert_eq!(ended, Ended::Said("[Some(\"forebay-0\")]".to_owned()));
}

// --- A shard that ends before the others.

#[test]
fn whoever_waits_for_a_shard_that_ends_is_told_peer_gone() {
    if !two_cpus() {
        return;
    }
    let gate = Gate::default();
    let held = gate.clone();
    let options = policy(|options| options.placement = Placement::Gather(ShardId::new(1)));
    let (ring, probe) = one_stage(2, options, move |batch| {
        let held = held.clone();
        async move {
            held.passed().await;
            double(batch).await
        }
    });
    let call = |key| {
        let calls = probe.clone();
        ring.submit(0, move || async move { calls.call(key).await })
    };
    let (in_flight, queued) = (call(1), call(2));
    let far = ring.submit(0, || on_shard(ShardId::new(1), std::future::pending::<()>));
    let own = ring.submit(1, std::future::pending::<()>);
    ring.wait_until(1, |shard| shard.live_requests == 2 && shard.stages[0].calls == 2);
    ring.handle.abandon_shard(1);

    for reply in [in_flight, queued] {
        let reply = wait(&reply).unwrap();
        assert!(matches!(reply, Err(CallError::PeerGone(_))), "{reply:?}");
    }
    assert_eq!(wait(&far), Ok(Err(RequestError::PeerGone)));
    assert!(matches!(wait(&own), Err(RequestError::Closed | RequestError::PeerGone)));
    // Whoever comes later is told at once.
    let later = wait(&call(3)).unwrap();
    assert!(matches!(later, Err(CallError::PeerGone(_))), "{later:?}");
    let later = ring.run(0, || on_shard(ShardId::new(1), || async {}));
    assert_eq!(later, Err(RequestError::PeerGone));
    let refused = ring.handle.submit(1, RequestOptions::default(), || async {});
    assert!(refused.is_err_and(|error| error == forebay::SubmitError::Closed));

    let report = ring.engine.stop(PATIENCE);
    assert!(report.drained && report.stuck_shards.is_empty(), "{report:?}");
    for ledger in &ring.handle.snapshot(0).unwrap().shard.ledgers {
        assert_eq!((ledger.imbalance(), ledger.live), (None, 0), "{ledger:?}");
    }
}

#[test]
fn what_a_shard_did_for_one_that_has_ended_is_let_go() {
    if !two_cpus() {
        return;
    }
    let gate = Gate::default();
    let held = gate.clone();
    let options = policy(|options| options.placement = Placement::Gather(ShardId::new(0)));
    let (ring, probe) = one_stage(2, options, move |batch| {
        let held = held.clone();
        async move {
            held.passed().await;
            double(batch).await
        }
    });
    let calls = probe.clone();
    let asks = ring.submit(1, move || async move {
        let call = spawn(calls.call(1));
        let second = spawn(calls.call(2));
        let far = on_shard(ShardId::new(0), std::future::pending::<()>);
        let _ = (far.await, call.await, second.await);
    });
    ring.wait_until(0, |shard| shard.live_requests == 1 && shard.stages[0].calls == 2);
    ring.handle.abandon_shard(1);
    assert!(wait(&asks).is_err());
    ring.wait_until(0, |shard| shard.live_requests == 0);
    gate.open();
    let report = ring.engine.stop(PATIENCE);
    assert!(report.drained && report.stuck_shards.is_empty(), "{report:?}");
    let ledger = ring.handle.snapshot(0).unwrap().shard.ledgers[0];
    assert_eq!((ledger.imbalance(), ledger.guests, ledger.queued), (None, 0, 0), "{ledger:?}");
    assert_eq!(ledger.received, 2, "{ledger:?}");
}

#[test]
fn shards_that_call_each_other_survive_the_end_of_one_under_load() {
    if !two_cpus() {
        return;
    }
    for _ in 0..10 {
        let options = policy(|options| options.placement = Placement::Owner);
        let (ring, probe) = one_stage(2, options, double);
        let load = |shard: usize| {
            let calls = probe.clone();
            ring.submit(shard, move || async move {
                let clients = (0..64_u64).map(|client| {
                    let calls = calls.clone();
                    spawn(async move {
                        for step in 0..200 {
                            match calls.call(client * 1_000 + step).await {
                                Ok(_) | Err(CallError::PeerGone(_)) => {}
                                Err(other) => panic!("{other:?}"),
                            }
                            match on_shard(ShardId::new(1 - shard), || async {}).await {
                                Ok(()) | Err(RequestError::PeerGone) => {}
                                Err(other) => panic!("{other:?}"),
                            }
                        }
                    })
                });
                for client in clients.collect::<Vec<_>>() {
                    client.await.unwrap();
                }
            })
        };
        let (stays, ends) = (load(0), load(1));
        ring.wait_until(1, |shard| shard.parcels_received > 3);
        ring.handle.abandon_shard(1);
        assert_eq!(wait(&stays), Ok(()));
        let _cut_or_just_done = wait(&ends);
        let report = ring.engine.stop(PATIENCE);
        assert!(report.drained && report.stuck_shards.is_empty(), "{report:?}");
        let ledger = ring.handle.snapshot(0).unwrap().shard.ledgers[0];
        assert_eq!((ledger.imbalance(), ledger.live), (None, 0), "{ledger:?}");
    }
}

// --- Starting.

/// Starts in a child process, which then waits until nothing of the attempt runs any more.
fn refused(declare: fn(&mut Builder)) -> String {
    let before = n_threads();
    let mut builder = shards(if two_cpus() { 2 } else { 1 });
    let mut limits = Limits::default();
    limits.start_timeout = Duration::from_secs(10);
    builder.limits(limits);
    // Made before the one that fails, on every shard: it must go again.
    builder.stage("first", policy(|_| {}), |_| async {
        std::mem::forget(Bridge::new("first's bridge", 1, 1, || Some(()))?);
        Ok(Unused)
    });
    declare(&mut builder);
    let error = builder.start().unwrap_err();
    eventually(|| n_threads() == before);
    match error {
        StartError::Factory { stage, source, .. } => format!("factory of {stage}: {source}"),
        StartError::BarrierTimeout { shards, .. } => format!("late: {}", shards.len()),
        other => format!("{other:?}"),
    }
}

struct Unused;

impl forebay::Stage for Unused {
    type Item = ();
    type Key = ();
    type Class = ();
    type Value = ();
    type Error = Fault;
    fn key((): &()) {}
    fn class((): &()) {}
    async fn run(self: std::rc::Rc<Self>, _: Batch<Self>) -> Result<(), Fault> {
        Ok(())
    }
}

#[test]
fn a_factory_that_fails_fails_the_start_and_nothing_runs_on() {
    let ended = in_child(|| {
        refused(|builder| {
            builder.stage("second", policy(|_| {}), |_| async {
                forebay::sleep(Duration::from_millis(1)).await;
                Err::<Unused, _>("no route to the database".into())
            });
        })
    });
    assert_eq!(ended, Ended::Said("factory of second: no route to the database".to_owned()));
}

#[test]
fn a_factory_that_panics_fails_the_start_and_nothing_runs_on() {
    let ended = in_child(|| {
        refused(|builder| {
            builder.stage("second", policy(|_| {}), |_| async {
                if true {
                    panic!("planted: a factory");
                }
                Ok(Unused)
            });
        })
    });
    assert_eq!(ended, Ended::Said("factory of second: it panicked".to_owned()));
}

#[test]
fn a_factory_that_panics_before_it_awaits_fails_the_start_alike() {
    let ended = in_child(|| {
        refused(|builder| {
            let factory = |_| -> std::future::Ready<Result<Unused, _>> { panic!("planted") };
            builder.stage("second", policy(|_| {}), factory);
        })
    });
    assert_eq!(ended, Ended::Said("factory of second: it panicked".to_owned()));
}

#[test]
fn a_factory_that_never_ends_is_a_start_that_times_out_and_nothing_runs_on() {
    let ended = in_child(|| {
        let before = n_threads();
        let mut builder = shards(1);
        let mut limits = Limits::default();
        limits.start_timeout = Duration::from_millis(300);
        builder.limits(limits);
        builder.stage("first", policy(|_| {}), |_| async {
            std::mem::forget(Bridge::new("first's bridge", 1, 1, || Some(()))?);
            Ok(Unused)
        });
        builder.stage("second", policy(|_| {}), |_| std::future::pending::<Result<Unused, _>>());
        let error = builder.start().unwrap_err();
        eventually(|| n_threads() == before);
        matches!(error, StartError::BarrierTimeout { shards, .. } if shards == [ShardId::new(0)])
            .to_string()
    });
    assert_eq!(ended, Ended::Said("true".to_owned()));
}

#[test]
fn a_policy_that_is_impossible_is_refused_before_anything_starts() {
    let check = |change: fn(&mut forebay::StageOptions), wanted: &str| {
        let mut builder = shards(1);
        builder.stage("stage", policy(change), |_| async { Ok(Unused) });
        let refused = builder.start().unwrap_err().to_string();
        assert!(refused.contains(wanted), "{refused}");
    };
    check(|options| options.permits = 0, "permits is 0");
    check(|options| options.items_max = 0, "items_max is 0");
    check(|options| options.run_max = Duration::ZERO, "must not be zero");
    check(|options| options.placement = Placement::Owner, "declared as shared");
    let mut builder = shards(1);
    let far = policy(|options| options.placement = Placement::Gather(ShardId::new(7)));
    scripted(&mut builder, "far", far, double);
    assert!(builder.start().unwrap_err().to_string().contains("there are 1 shards"));
}

// --- Size.

#[test]
fn a_hundred_thousand_requests_live_at_once() {
    const LIVE: u64 = 100_000;
    let gate = Gate::default();
    let held = gate.clone();
    let options = policy(|options| options.queue_max = 2 * LIVE as usize);
    let (ring, probe) = one_stage(1, options, move |batch: Batch<Scripted>| {
        let held = held.clone();
        async move {
            held.passed().await;
            double(batch).await
        }
    });
    let sum = ring.submit(0, move || async move {
        let requests: Vec<_> = (0..LIVE)
            .map(|key| forebay::spawn(RequestOptions::within(PATIENCE * 10), probe.call(key)))
            .collect();
        let mut sum = 0;
        for request in requests {
            sum += request.await.unwrap().unwrap();
        }
        sum
    });
    ring.wait_until(0, |shard| shard.live_requests as u64 == LIVE + 1);
    gate.open();
    assert_eq!(wait(&sum), Ok(LIVE * (LIVE - 1)));
    ring.stop();
}
