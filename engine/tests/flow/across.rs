//! Across shards: owners, gathering, requests on other shards, credits.

use std::time::Duration;

use forebay::{
    CallError, Dedup, Limits, Placement, RequestError, ShardId, Shed, ShedReason, on_shard,
};

use crate::ring::{
    Gate, Notes, Ring, all, double, eventually, one_stage, policy, scripted, shards, spawn,
    two_cpus, wait,
};

#[test]
fn every_key_has_one_owner_and_all_its_calls_share_one_item_there() {
    if !two_cpus() {
        return;
    }
    let options = policy(|options| {
        options.placement = Placement::Owner;
        options.dedup = Dedup::Queued;
        options.items_max = 1_000;
    });
    let gate = Gate::default();
    let held = gate.clone();
    let (ring, probe) = one_stage(2, options, move |batch| {
        let held = held.clone();
        async move {
            held.passed().await;
            double(batch).await
        }
    });
    // The one permit of each shard is out, so that whatever comes is queued.
    let plugs = [0, 1].map(|shard| {
        let calls = probe.clone();
        ring.submit(shard, move || async move {
            let own = |key: &u64| calls.stage.owner(key) == ShardId::new(shard);
            calls.call((1_000..).find(own).unwrap()).await
        })
    });
    probe.batches.wait_for(2);
    let replies = [0, 1].map(|shard| {
        let calls = probe.clone();
        ring.submit(shard, move || async move {
            all((0..200).map(|key| spawn(calls.call(key))).collect()).await
        })
    });
    let depth = |shard: usize| ring.stage(shard, 0).depth;
    eventually(|| ring.stage(0, 0).calls + ring.stage(1, 0).calls == 402);
    assert_eq!(depth(0) + depth(1), 200, "an item for each key, whoever asks");
    gate.open();
    for reply in &replies {
        let values: Vec<_> = wait(reply).unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(values, (0..200).map(|key| key * 2).collect::<Vec<_>>());
    }
    assert!(plugs.iter().all(|plug| wait(plug).unwrap().is_ok()));
    let mut sent: Vec<u64> = probe.batches.all().concat();
    sent.retain(|key| *key < 1_000);
    sent.sort_unstable();
    assert_eq!(sent, (0..200).collect::<Vec<_>>(), "each key was asked once");
    assert!(ring.stop().iter().all(|shard| shard.stages[0].sent_away > 0));
}

#[test]
fn all_shards_feed_the_one_that_gathers() {
    if !two_cpus() {
        return;
    }
    let options = policy(|options| options.placement = Placement::Gather(ShardId::new(1)));
    let (ring, probe) = one_stage(2, options, double);
    for shard in 0..2 {
        let calls = probe.clone();
        let replies = ring.run(shard, move || async move {
            all((0..300).map(|key| spawn(calls.call(key))).collect()).await
        });
        assert!(replies.iter().all(Result::is_ok));
    }
    let shards = ring.stop();
    assert_eq!([shards[0].stages[0].items, shards[1].stages[0].items], [0, 600]);
}

#[test]
fn a_shard_calls_another_with_few_credits_and_loses_nothing() {
    if !two_cpus() {
        return;
    }
    let mut builder = shards(2);
    let mut limits = Limits::default();
    (limits.credits, limits.lane_parcels) = (3, 2);
    builder.limits(limits);
    let options = policy(|options| options.placement = Placement::Owner);
    let probe = scripted(&mut builder, "probe", options, double);
    let ring = Ring::start(builder);
    let replies: Vec<_> = (0..2)
        .map(|shard| {
            let calls = probe.clone();
            ring.submit(shard, move || async move {
                let far = ShardId::new(1 - shard);
                let requests = (0..500_u64).map(|n| {
                    let calls = calls.clone();
                    spawn(async move {
                        let doubled = calls.call(n).await.unwrap();
                        doubled + on_shard(far, move || async move { n }).await.unwrap()
                    })
                });
                all(requests.collect()).await
            })
        })
        .collect();
    for reply in &replies {
        assert_eq!(wait(reply).unwrap(), (0..500).map(|n| n * 3).collect::<Vec<_>>());
    }
    ring.stop();
}

#[test]
fn the_origin_sheds_when_its_own_queue_for_the_owner_is_full() {
    if !two_cpus() {
        return;
    }
    let mut builder = shards(2);
    let mut limits = Limits::default();
    limits.credits = 1;
    builder.limits(limits);
    let options = policy(|options| {
        options.placement = Placement::Gather(ShardId::new(1));
        options.queue_max = 4;
    });
    let gate = Gate::default();
    let held = gate.clone();
    let probe = scripted(&mut builder, "probe", options, move |batch| {
        let held = held.clone();
        async move {
            held.passed().await;
            double(batch).await
        }
    });
    let ring = Ring::start(builder);
    let replies = Notes::default();
    for key in 0..20 {
        let (calls, noted) = (probe.clone(), replies.clone());
        let _noted_there = ring.submit(0, move || async move {
            let reply = calls.call(key).await;
            noted.add(reply.map_err(|error| {
                matches!(
                    error,
                    CallError::Shed(Shed { reason: ShedReason::QueueFull { depth: 4 }, .. })
                )
            }));
        });
    }
    // Four may wait, and one more may have left before the rest came: it had the one credit.
    let shed = replies.wait_for(15);
    assert!(shed.iter().all(|reply| *reply == Err(true)), "{shed:?}");
    gate.open();
    let replies = replies.wait_for(20);
    let n_served = replies.iter().filter(|reply| reply.is_ok()).count();
    let n_shed = replies.iter().filter(|reply| **reply == Err(true)).count();
    assert!(n_served >= 4 && n_served + n_shed == 20, "{replies:?}");
    ring.stop();
}

#[test]
fn a_request_runs_on_the_shard_that_was_named() {
    let n_shards = if two_cpus() { 2 } else { 1 };
    let ring = Ring::start(shards(n_shards));
    let names = ring.run(0, move || async move {
        let mut names = Vec::new();
        assert_eq!(forebay::n_shards(), n_shards);
        for shard in 0..n_shards {
            let name = || async { std::thread::current().name().map(str::to_owned) };
            names.push(on_shard(ShardId::new(shard), name).await.unwrap().unwrap());
        }
        names
    });
    let wanted: Vec<_> = (0..n_shards).map(|shard| format!("forebay-{shard}")).collect();
    assert_eq!(names, wanted);
    ring.stop();
}

#[test]
fn a_request_that_panics_over_there_panics_nothing_here() {
    let n_shards = if two_cpus() { 2 } else { 1 };
    let ring = Ring::start(shards(n_shards));
    for shard in 0..n_shards {
        let reply = ring.run(0, move || async move {
            let panics = || async {
                if true {
                    panic!("planted: over there")
                }
            };
            on_shard(ShardId::new(shard), panics).await
        });
        assert_eq!(reply, Err(RequestError::Panicked));
    }
    ring.stop();
}

#[test]
fn dropping_a_request_elsewhere_ends_it_there() {
    let n_shards = if two_cpus() { 2 } else { 1 };
    let ring = Ring::start(shards(n_shards));
    let (begun, never) = (Notes::default(), Gate::default());
    for shard in 0..n_shards {
        let (noted, held) = (begun.clone(), never.clone());
        ring.run(0, move || async move {
            let noted_there = noted.clone();
            let far = spawn(on_shard(ShardId::new(shard), move || async move {
                noted_there.add(shard);
                held.passed().await;
            }));
            while noted.all().last() != Some(&shard) {
                forebay::sleep(Duration::from_micros(50)).await;
            }
            drop(far);
        });
        ring.wait_until(shard, |shard| shard.live_requests == 0);
    }
    ring.stop();
}

#[test]
fn dropping_a_request_that_waits_for_credit_takes_it_back() {
    if !two_cpus() {
        return;
    }
    let mut builder = shards(2);
    let mut limits = Limits::default();
    limits.credits = 1;
    builder.limits(limits);
    let ring = Ring::start(builder);
    let (begun, gate) = (Notes::default(), Gate::default());
    let (noted, held) = (begun.clone(), gate.clone());
    ring.run(0, move || async move {
        let far = |n: u64| {
            let (noted, held) = (noted.clone(), held.clone());
            spawn(on_shard(ShardId::new(1), move || async move {
                noted.add(n);
                held.passed().await;
            }))
        };
        let first = far(1);
        while noted.all().is_empty() {
            forebay::sleep(Duration::from_micros(50)).await;
        }
        let waits = far(2);
        for _ in 0..5 {
            forebay::yield_now().await;
        }
        drop(waits);
        for _ in 0..5 {
            forebay::yield_now().await;
        }
        gate.open();
        first.await.unwrap().unwrap();
        on_shard(ShardId::new(1), || async {}).await.unwrap();
    });
    assert_eq!(begun.all(), [1], "what was given up before it left was started all the same");
    ring.stop();
}

#[test]
fn a_request_elsewhere_has_the_deadline_of_the_one_that_asked() {
    let n_shards = if two_cpus() { 2 } else { 1 };
    let ring = Ring::start(shards(n_shards));
    let options = forebay::RequestOptions::within(Duration::from_secs(60));
    let reply = ring
        .handle
        .submit(0, options, move || async move {
            let own = forebay::scope().deadline();
            let far = ShardId::new(n_shards - 1);
            on_shard(far, || async { forebay::scope().deadline() }).await == Ok(own)
        })
        .unwrap();
    assert_eq!(wait(&reply), Ok(true));
    ring.stop();
}

#[test]
fn the_owner_lets_a_queued_item_go_when_its_caller_elsewhere_has_gone() {
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
    let calls = probe.clone();
    let first = ring.submit(0, move || async move { calls.call(1).await.unwrap() });
    probe.batches.wait_for(1);
    let (calls, leave) = (probe.clone(), Gate::default());
    let left = leave.clone();
    let second = ring.submit(0, move || async move {
        let call = async { Some(calls.call(2).await) };
        let gone = async {
            left.passed().await;
            None
        };
        futures_lite::future::or(call, gone).await
    });
    ring.wait_until(1, |shard| shard.stages[0].depth == 1);
    leave.open();
    assert!(wait(&second).unwrap().is_none());
    eventually(|| ring.stage(1, 0).depth == 0);
    gate.open();
    assert_eq!(wait(&first), Ok(2));
    assert_eq!(probe.batches.all(), [[1]]);
    ring.stop();
}
