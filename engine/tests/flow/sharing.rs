//! Dedup: equal keys of a read share one item, and never across a write.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use forebay::{Batch, Dedup, Placement, Stage, StageOptions, StageRef};

use crate::ring::{
    Fault, Gate, Ring, Scripted, all, double, one_stage, policy, shards, spawn, two_cpus, wait,
};

fn dedup(dedup: Dedup) -> StageOptions {
    policy(|options| options.dedup = dedup)
}

#[test]
fn equal_keys_that_are_queued_share_one_item() {
    let (ring, probe) = one_stage(1, dedup(Dedup::Queued), double);
    let calls = probe.clone();
    let replies = ring.run(0, move || async move {
        all((0..30).map(|idx| spawn(calls.call(idx % 3))).collect()).await
    });
    for (idx, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), idx as u64 % 3 * 2);
    }
    assert_eq!(probe.batches.all(), [[0, 1, 2]]);
    assert_eq!(ring.stop()[0].stages[0].deduplicated, 27);
}

#[test]
fn a_fresh_call_declines_to_share() {
    let (ring, probe) = one_stage(1, dedup(Dedup::Queued), double);
    let calls = probe.clone();
    ring.run(0, move || async move {
        all(vec![spawn(calls.call(1)), spawn(calls.call(1).fresh()), spawn(calls.call(1))]).await
    });
    assert_eq!(probe.batches.all(), [[1, 1]]);
    ring.stop();
}

#[test]
fn a_waiter_that_leaves_or_expires_leaves_the_others_their_item() {
    let gate = Gate::default();
    let held = gate.clone();
    let (ring, probe) = one_stage(1, dedup(Dedup::Queued), move |batch| {
        let held = held.clone();
        async move {
            held.passed().await;
            double(batch).await
        }
    });
    let batches = probe.batches.clone();
    let replies = ring.run(0, move || async move {
        // The one permit is out, so that the next item stays queued.
        let first = spawn(probe.call(0));
        forebay::yield_now().await;
        forebay::yield_now().await;
        let stays = spawn(probe.call(1));
        let leaves = spawn(probe.call(1));
        let expires = spawn(probe.call(1).within(std::time::Duration::from_millis(1)));
        forebay::yield_now().await;
        drop(leaves);
        let expired = expires.await.unwrap();
        gate.open();
        (first.await.unwrap(), stays.await.unwrap(), expired)
    });
    assert_eq!((replies.0.unwrap(), replies.1.unwrap()), (0, 2));
    assert!(replies.2.is_err());
    assert_eq!(batches.all(), [[0], [1]]);
    ring.stop();
}

#[test]
fn a_call_joins_what_is_in_flight_until_a_touch() {
    joins_until(|stage| stage.touch(&1));
}

#[test]
fn a_call_joins_what_is_in_flight_until_all_is_touched() {
    joins_until(StageRef::touch_all);
}

fn joins_until(touch: fn(&StageRef<Scripted>)) {
    let gate = Gate::default();
    let held = gate.clone();
    let options = policy(|options| (options.dedup, options.permits) = (Dedup::InFlight, 4));
    let (ring, probe) = one_stage(1, options, move |batch| {
        let held = held.clone();
        async move {
            held.passed().await;
            double(batch).await
        }
    });
    let noted = probe.batches.clone();
    let batches = ring.run(0, move || async move {
        let first = spawn(probe.call(1));
        while probe.batches.all().is_empty() {
            forebay::yield_now().await;
        }
        let joined = spawn(probe.call(1));
        for _ in 0..5 {
            forebay::yield_now().await;
        }
        let before = probe.batches.all().len();
        touch(&probe.stage);
        let apart = spawn(probe.call(1));
        while probe.batches.all().len() < 2 {
            forebay::yield_now().await;
        }
        gate.open();
        for reply in all(vec![first, joined, apart]).await {
            assert_eq!(reply.unwrap(), 2);
        }
        before
    });
    assert_eq!(batches, 1, "the second call joined the first batch");
    assert_eq!(noted.all(), [[1], [1]]);
    ring.stop();
}

#[test]
fn only_touched_reads_may_join_what_is_in_flight() {
    struct Plain;
    impl Stage for Plain {
        type Item = u64;
        type Key = u64;
        type Class = ();
        type Value = ();
        type Error = Fault;
        fn key(item: &u64) -> u64 {
            *item
        }
        fn class(_: &u64) {}
        async fn run(self: Rc<Self>, _: Batch<Self>) -> Result<(), Fault> {
            Ok(())
        }
    }
    let mut builder = shards(1);
    builder.stage("writes", dedup(Dedup::Queued), |_| async { Ok(Plain) });
    let refused = builder.start().unwrap_err().to_string();
    assert!(refused.contains("writes") && refused.contains("Write"), "{refused}");
}

/// A store of one shard: reads and writes take some turns, as a real one's would.
#[derive(Default)]
struct Store {
    rows: RefCell<BTreeMap<u64, u64>>,
}

thread_local! {
    static STORE: Rc<Store> = Rc::default();
}

/// Reads of the store: the rows are looked up when the batch begins, the answer comes later.
async fn read(batch: Batch<crate::ring::Scripted>) -> Result<(), Fault> {
    let store = STORE.with(Rc::clone);
    let found: Vec<u64> = {
        let rows = store.rows.borrow();
        batch.items().map(|item| rows.get(&item.item().key).copied().unwrap_or(0)).collect()
    };
    for _ in 0..3 {
        forebay::yield_now().await;
    }
    batch.items().zip(found).for_each(|(item, value)| item.settle(Ok(value)));
    Ok(())
}

#[test]
fn a_read_after_ones_own_write_never_sees_the_old_value() {
    let n_shards = if two_cpus() { 2 } else { 1 };
    let mut builder = shards(n_shards);
    let options = policy(|options| {
        (options.dedup, options.permits) = (Dedup::InFlight, 8);
        options.placement = Placement::Owner;
    });
    // Not deduplicated: each write is an item of its own, on the shard that owns the key.
    let reads_ref = crate::ring::Later::default();
    let touched = reads_ref.clone();
    let writes = policy(|options| {
        options.placement = Placement::Owner;
        options.permits = 8;
    });
    let writes = crate::ring::scripted(&mut builder, "writes", writes, move |batch| {
        let reads = *touched.get().unwrap();
        async move {
            forebay::yield_now().await;
            let store = STORE.with(Rc::clone);
            for item in batch.items() {
                let key = item.item().key;
                let version = store.rows.borrow().get(&key).copied().unwrap_or(0) + 1;
                store.rows.borrow_mut().insert(key, version);
                reads.touch(&key);
                item.settle(Ok(version));
            }
            Ok(())
        }
    });
    let reads = crate::ring::scripted(&mut builder, "reads", options, read);
    reads_ref.set(reads.stage).unwrap();
    let ring = Ring::start(builder);
    let replies: Vec<_> = (0..n_shards)
        .map(|shard| {
            let (reads, writes) = (reads.clone(), writes.clone());
            ring.submit(shard, move || async move {
                let clients = (0..16_u64).map(|client| {
                    let (reads, writes) = (reads.clone(), writes.clone());
                    spawn(async move {
                        for step in 0..200_u64 {
                            let key = (client * 7 + step) % 5;
                            let written = writes.call(key).await.unwrap();
                            let seen = reads.call(key).await.unwrap();
                            assert!(seen >= written, "wrote {written}, then read {seen}");
                        }
                    })
                });
                all(clients.collect()).await;
            })
        })
        .collect();
    for reply in &replies {
        wait(reply).unwrap();
    }
    let shared: u64 = ring.stop().iter().map(|shard| shard.stages[1].deduplicated).sum();
    assert!(shared > 0, "no two reads shared an item: the claim was not tried");
}
