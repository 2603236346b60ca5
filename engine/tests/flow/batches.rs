//! Batches: who is in one, how its items settle, what each caller gets.

use std::time::Duration;

use forebay::{CallError, Outcome, Window};

use crate::ring::{
    Ask, Fault, Gate, Later, Notes, PATIENCE, Ring, all, double, one_stage, policy, scripted,
    shards, spawn, wait,
};

#[test]
fn calls_get_their_own_answers_from_one_batch() {
    let (ring, probe) = one_stage(1, policy(|_| {}), double);
    let calls = probe.clone();
    let replies = ring.run(0, move || async move {
        all((0..100).map(|key| spawn(calls.call(key))).collect()).await
    });
    let doubles: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
    assert_eq!(doubles, (0..100).map(|key| key * 2).collect::<Vec<_>>());
    assert_eq!(probe.batches.all(), [(0..100).collect::<Vec<_>>()]);
    ring.stop();
}

#[test]
fn no_batch_holds_more_items_than_its_limit() {
    let (ring, probe) = one_stage(1, policy(|options| options.items_max = 8), double);
    let calls = probe.clone();
    ring.run(
        0,
        move || async move { all((0..100).map(|key| spawn(calls.call(key))).collect()).await },
    );
    let sizes: Vec<_> = probe.batches.all().iter().map(Vec::len).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 100);
    assert!(sizes.iter().all(|size| *size <= 8), "{sizes:?}");
    ring.stop();
}

#[test]
fn items_settle_in_any_order_and_each_caller_is_woken_at_once() {
    let gate = Gate::default();
    let held = gate.clone();
    let (ring, probe) = one_stage(1, policy(|_| {}), move |batch| {
        let held = held.clone();
        async move {
            let items: Vec<_> = batch.items().collect();
            for item in items.iter().rev().take(2) {
                item.settle(Ok(item.item().key));
            }
            held.passed().await;
            items[0].settle(Ok(0));
            Ok(())
        }
    });
    let order = ring.run(0, move || async move {
        let calls: Vec<_> = (0..3).map(|key| spawn(probe.call(key))).collect();
        let mut calls = calls.into_iter();
        let first = calls.next().unwrap();
        // The last two settle while the batch still runs; only then may it go on.
        let mut order: Vec<_> = all(calls.collect()).await;
        gate.open();
        order.push(first.await.unwrap());
        order
    });
    assert_eq!(order.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 0]);
    ring.stop();
}

#[test]
fn by_key_answers_every_item_of_a_key_and_counts_keys_nobody_asked_for() {
    let (ring, probe) = one_stage(1, policy(|_| {}), |batch| async move {
        let by_key = batch.by_key();
        let mut keys: Vec<u64> = by_key.keys().copied().collect();
        keys.sort_unstable();
        assert_eq!(keys, [1, 2]);
        for key in [99, 2, 1] {
            by_key.settle(&key, Ok(key * 10));
        }
        Ok(())
    });
    let replies = ring.run(0, move || async move {
        all([1, 2, 1].map(|key| spawn(probe.call(key))).into()).await
    });
    assert_eq!(replies.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [10, 20, 10]);
    assert_eq!(ring.stop()[0].stages[0].foreign_keys, 1);
}

#[test]
fn a_split_batch_is_settled_in_parts() {
    let (ring, probe) = one_stage(1, policy(|_| {}), |batch| async move {
        let sizes: Vec<_> = batch.split(4).map(|part| part.len()).collect();
        assert_eq!(sizes, [4, 4, 2]);
        for (idx, part) in batch.split(4).enumerate() {
            for item in part.items() {
                item.settle(Ok(idx as u64));
            }
        }
        Ok(())
    });
    let replies = ring.run(0, move || async move {
        all((0..10).map(|key| spawn(probe.call(key))).collect()).await
    });
    let parts: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
    assert_eq!(parts, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]);
    ring.stop();
}

#[test]
fn a_second_settle_is_counted_and_changes_nothing() {
    let (ring, probe) = one_stage(1, policy(|_| {}), |batch| async move {
        let item = batch.items().next().unwrap();
        item.settle(Ok(1));
        item.settle(Ok(2));
        Ok(())
    });
    assert_eq!(ring.run(0, move || probe.call(0)).unwrap(), 1);
    assert_eq!(ring.stop()[0].stages[0].settled_twice, 1);
}

#[test]
fn what_a_batch_function_leaves_unsettled_is_missing() {
    let (ring, probe) = one_stage(1, policy(|_| {}), |batch| async move {
        batch.items().next().unwrap().settle(Ok(7));
        Ok(())
    });
    let replies = ring.run(0, move || async move {
        all((0..2).map(|key| spawn(probe.call(key))).collect()).await
    });
    assert!(matches!(replies[..], [Ok(7), Err(CallError::Missing)]), "{replies:?}");
    ring.stop();
}

#[test]
fn an_item_fails_alone_and_a_batch_fails_what_it_has_not_settled() {
    let (ring, probe) = one_stage(1, policy(|_| {}), |batch| async move {
        let items: Vec<_> = batch.items().collect();
        items[0].settle(Ok(1));
        items[1].settle(Err(Fault("row")));
        Err(Fault("connection"))
    });
    let replies = ring.run(0, move || async move {
        all((0..3).map(|key| spawn(probe.call(key))).collect()).await
    });
    let [Ok(1), Err(CallError::Item(item)), Err(CallError::Batch(batch))] = &replies[..] else {
        panic!("{replies:?}");
    };
    assert_eq!((**item, **batch), (Fault("row"), Fault("connection")));
    assert_eq!(replies[2].as_ref().unwrap_err().outcome(), Outcome::Unknown);
    ring.stop();
}

#[test]
fn a_batch_never_mixes_classes() {
    let (ring, probe) = one_stage(1, policy(|_| {}), |batch| async move {
        let class = *batch.class();
        for item in batch.items() {
            assert_eq!(item.item().class, class);
            item.settle(Ok(u64::from(class)));
        }
        Ok(())
    });
    let replies = ring.run(0, move || async move {
        let ask = |key: u64| Ask { key, class: u8::try_from(key % 3).unwrap(), weight: 1 };
        all((0..90).map(|key| spawn(probe.call(ask(key)))).collect()).await
    });
    for (key, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), key as u64 % 3);
    }
    assert!(ring.stop()[0].stages[0].batches >= 3);
}

#[test]
fn no_batch_is_heavier_than_its_limit_unless_one_item_alone_is() {
    let options = policy(|options| options.weight_max = 10);
    let (ring, probe) = one_stage(1, options, |batch| async move {
        let weight: u64 = batch.items().map(|item| item.item().weight).sum();
        assert!(weight <= 10 || batch.len() == 1, "{weight} in {} items", batch.len());
        double(batch).await
    });
    let replies = ring.run(0, move || async move {
        let ask = |key: u64| Ask { key, class: 0, weight: [4, 4, 4, 25, 1, 9][key as usize % 6] };
        all((0..60).map(|key| spawn(probe.call(ask(key)))).collect()).await
    });
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    ring.stop();
}

#[test]
fn a_window_lingers_for_one_that_could_join_and_seals_once_nobody_could() {
    let options = policy(|options| options.window = Window::Linger(PATIENCE));
    let (ring, probe) = one_stage(1, options, double);
    let (calls, answers) = (probe.clone(), Notes::default());
    let told = answers.clone();
    ring.run(0, move || async move {
        for key in [1, 2] {
            let (calls, told) = (calls.clone(), told.clone());
            spawn(async move {
                // The second comes when a whole pass and more have gone by.
                for _ in 1..key * 5 {
                    forebay::yield_now().await;
                }
                told.add(calls.call(key).await.unwrap());
            })
            .detach();
        }
    });
    answers.wait_for(2);
    assert_eq!(probe.batches.all(), [[1, 2]]);
    assert_eq!(ring.stop()[0].stages[0].sealed.idle, 1);
}

#[test]
fn a_window_lingers_no_longer_than_it_may() {
    let options = policy(|options| options.window = Window::Linger(Duration::from_millis(1)));
    let (ring, probe) = one_stage(1, options, double);
    let gate = Gate::default();
    let idler = ring.submit(0, {
        let gate = gate.clone();
        move || gate.passed()
    });
    assert_eq!(ring.run(0, move || probe.call(1)).unwrap(), 2);
    gate.open();
    wait(&idler).unwrap();
    assert_eq!(ring.stop()[0].stages[0].sealed.lingered, 1);
}

#[test]
fn a_batch_function_may_call_a_later_stage_and_no_earlier_one() {
    let mut builder = shards(1);
    let (inner_ref, outer_ref) = (Later::default(), Later::default());
    let (to_inner, to_outer) = (inner_ref.clone(), outer_ref.clone());
    let outer = scripted(&mut builder, "outer", policy(|_| {}), move |batch| {
        let inner = *to_inner.get().unwrap();
        async move {
            for item in batch.items() {
                let value = inner.call((item.item().key + 1).into()).await;
                item.settle(value.map_err(|_| Fault("inner")));
            }
            Ok(())
        }
    });
    let inner = scripted(&mut builder, "inner", policy(|_| {}), move |batch| {
        let outer = *to_outer.get().unwrap();
        async move {
            let refused = outer.call(0.into()).await.unwrap_err();
            let CallError::Cycle { from: "inner", to: "outer" } = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(refused.outcome(), Outcome::NotSent);
            double(batch).await
        }
    });
    inner_ref.set(inner.stage).unwrap();
    outer_ref.set(outer.stage).unwrap();
    let ring = Ring::start(builder);
    assert_eq!(ring.run(0, move || outer.call(20)).unwrap(), 42);
    ring.stop();
}

#[test]
fn a_call_made_by_a_batch_function_is_sealed_without_a_sleep() {
    let mut builder = shards(1);
    let inner_ref = Later::default();
    let to_inner = inner_ref.clone();
    let outer = scripted(&mut builder, "outer", policy(|_| {}), move |batch| {
        let inner = *to_inner.get().unwrap();
        async move {
            let value = inner.call(1.into()).await.map_err(|_| Fault("inner"))?;
            batch.items().for_each(|item| item.settle(Ok(value)));
            Ok(())
        }
    });
    let inner = scripted(&mut builder, "inner", policy(|_| {}), double);
    inner_ref.set(inner.stage).unwrap();
    let ring = Ring::start(builder);
    let before = ring.shard(0).parks;
    ring.run(0, move || async move {
        for _ in 0..100 {
            outer.call(1).await.unwrap();
        }
    });
    // Nothing here waits for anything outside, so the shard has no reason to sleep.
    let parks = ring.shard(0).parks - before;
    assert!(parks < 20, "slept {parks} times over a queued item");
    ring.stop();
}
