//! Isolation: user code that panics, wherever it stands, costs what it belongs to and no more.
//!
//! A panic that got as far as the turn would end the process, so each of these passes only if the
//! engine goes on serving afterwards.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;

use forebay::{
    Batch, CallError, Dedup, Kind, Placement, RequestError, ShardId, Stage, StageRef, UnitError,
};

use crate::ring::{
    Ask, BAD_CLASS, BAD_KEY, Gate, Ring, all, double, one_stage, policy, scripted, shards, spawn,
    two_cpus, wait,
};

/// Panics when dropped, unless it was dropped by a panic already.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "planted: a drop that panics");
    }
}

/// One panic of a request's own, each in another place.
#[track_caller]
fn survives<F, T>(start: impl FnOnce() -> F + Send + 'static) -> Result<T, RequestError>
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let (ring, probe) = one_stage(1, policy(|_| {}), double);
    let reply = wait(&ring.submit(0, start));
    assert_eq!(ring.run(0, move || probe.call(21)).unwrap(), 42);
    ring.stop();
    reply
}

#[test]
fn a_request_that_panics_fails_alone() {
    let reply: Result<(), _> = survives(|| async { panic!("planted: a request") });
    assert_eq!(reply, Err(RequestError::Panicked));
}

#[test]
fn a_request_that_panics_before_its_future_exists_fails_alone() {
    let start = || -> std::future::Ready<()> { panic!("planted: a request's closure") };
    assert_eq!(survives(start), Err(RequestError::Panicked));
}

#[test]
fn a_drop_that_panics_in_an_ended_request_is_contained() {
    let reply = survives(|| async {
        let request = spawn(async {
            let _held = Grenade;
            forebay::yield_now().await;
        });
        request.await
    });
    assert_eq!(reply, Ok(Err(RequestError::Panicked)));
}

#[test]
fn a_drop_that_panics_in_a_cancelled_request_is_contained() {
    let reply = survives(|| async {
        let request = spawn(async {
            let _held = Grenade;
            std::future::pending::<()>().await;
        });
        forebay::yield_now().await;
        drop(request);
        forebay::yield_now().await;
    });
    assert_eq!(reply, Ok(()));
}

#[test]
fn a_reply_nobody_takes_may_panic_when_dropped() {
    let reply = survives(|| async {
        let request = spawn(async { Grenade });
        forebay::yield_now().await;
        forebay::yield_now().await;
        drop(request);
        spawn(async { Grenade }).detach();
        forebay::yield_now().await;
    });
    assert_eq!(reply, Ok(()));
}

#[test]
fn a_reply_to_a_thread_that_has_gone_may_panic_when_dropped() {
    let (ring, probe) = one_stage(1, policy(|_| {}), double);
    let gate = Gate::default();
    let held = gate.clone();
    let reply = ring.submit(0, move || async move {
        held.passed().await;
        Grenade
    });
    drop(reply);
    gate.open();
    assert_eq!(ring.run(0, move || probe.call(21)).unwrap(), 42);
    ring.stop();
}

#[test]
fn a_reply_of_another_shard_nobody_awaits_may_panic_when_dropped() {
    let n_shards = if two_cpus() { 2 } else { 1 };
    let (ring, probe) = one_stage(n_shards, policy(|_| {}), double);
    for shard in 0..n_shards {
        ring.run(0, move || async move {
            let mut far = Box::pin(forebay::on_shard(ShardId::new(shard), || async { Grenade }));
            // Sent, and given up when the far side may have replied already.
            futures_lite::future::poll_once(&mut far).await;
            for _ in 0..3 {
                forebay::yield_now().await;
            }
            drop(far);
            forebay::on_shard(ShardId::new(shard), || async {}).await.unwrap();
        });
    }
    assert_eq!(ring.run(0, move || probe.call(21)).unwrap(), 42);
    ring.stop();
}

#[test]
fn a_units_value_may_panic_when_dropped() {
    let reply = survives(|| async {
        let request = spawn(async {
            forebay::scope().unit("value", async { Ok::<_, ()>(Rc::new(Grenade)) });
        });
        request.await
    });
    assert_eq!(reply, Ok(Ok(())));
}

#[test]
fn a_unit_that_panics_fails_those_that_await_it() {
    let reply = survives(|| async {
        let unit = forebay::scope().unit("panics", async {
            if true { panic!("planted: a unit") } else { Ok::<_, ()>(()) }
        });
        matches!(unit.await, Err(UnitError::Panicked))
    });
    assert_eq!(reply, Ok(true));
}

#[test]
fn a_source_that_panics_ends_alone() {
    let reply = survives(|| async {
        forebay::add_source(|_| panic!("planted: a source"));
        forebay::yield_now().await;
    });
    assert_eq!(reply, Ok(()));
}

#[test]
fn a_key_or_class_that_panics_at_the_owner_fails_its_call_alone() {
    if !two_cpus() {
        return;
    }
    let options = policy(|options| {
        options.placement = Placement::Gather(ShardId::new(1));
        options.dedup = Dedup::Queued;
    });
    let (ring, probe) = one_stage(2, options, double);
    let replies = ring.run(0, move || async move {
        let bad_key = Ask { key: BAD_KEY, class: 0, weight: 1 };
        let bad_class = Ask { key: 3, class: BAD_CLASS, weight: 1 };
        let asks = [1.into(), bad_key, 2.into(), bad_class, 3.into()];
        all(asks.map(|ask: Ask| spawn(probe.call(ask))).into()).await
    });
    let panicked = |reply: &Result<u64, _>| matches!(reply, Err(CallError::Panicked));
    assert!(panicked(&replies[1]) && panicked(&replies[3]), "{replies:?}");
    assert!([0, 2, 4].iter().all(|idx| replies[*idx].is_ok()), "{replies:?}");
    ring.stop();
}

#[test]
fn a_key_that_panics_here_fails_its_request_alone() {
    let options = policy(|options| options.dedup = Dedup::Queued);
    let (ring, probe) = one_stage(1, options, double);
    let (bad, good) = ring.run(0, move || async move {
        let bad = spawn(probe.call(Ask { key: BAD_KEY, class: 0, weight: 1 }));
        let good = spawn(probe.call(1));
        (bad.await, good.await.unwrap())
    });
    assert_eq!(bad.unwrap_err(), RequestError::Panicked);
    assert_eq!(good.unwrap(), 2);
    ring.stop();
}

/// A stage all of whose types run user code that may panic: key, class, item and value on drop,
/// value on clone.
struct Fragile;

thread_local! {
    /// Which of the types panics next, and where.
    static FUSE: Cell<Option<Fuse>> = const { Cell::new(None) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fuse {
    KeyDrop,
    ClassDrop,
    ItemDrop,
    ValueDrop,
    ValueClone,
}

fn burn(fuse: Fuse) {
    if FUSE.get() == Some(fuse) && !std::thread::panicking() {
        panic!("planted: {fuse:?}");
    }
}

macro_rules! fused {
    ($name:ident, $fuse:expr) => {
        #[derive(Debug, PartialEq, Eq, Hash)]
        struct $name(u64);
        impl Drop for $name {
            fn drop(&mut self) {
                burn($fuse);
            }
        }
    };
}

fused!(FusedKey, Fuse::KeyDrop);
fused!(FusedClass, Fuse::ClassDrop);
fused!(FusedItem, Fuse::ItemDrop);
fused!(FusedValue, Fuse::ValueDrop);

impl Clone for FusedKey {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl Clone for FusedValue {
    fn clone(&self) -> Self {
        burn(Fuse::ValueClone);
        Self(self.0)
    }
}

impl Stage for Fragile {
    type Item = FusedItem;
    type Key = FusedKey;
    type Class = FusedClass;
    type Value = FusedValue;
    type Error = Infallible;
    const KIND: Kind = Kind::Read;

    fn key(item: &FusedItem) -> FusedKey {
        FusedKey(item.0)
    }

    fn class(item: &FusedItem) -> FusedClass {
        FusedClass(item.0 % 2)
    }

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Infallible> {
        for item in batch.items() {
            item.settle(Ok(FusedValue(item.item().0)));
        }
        Ok(())
    }
}

async fn calls_with_a_fuse(
    stage: StageRef<Fragile>,
    fuse: Fuse,
) -> Vec<Result<bool, RequestError>> {
    let call = |key: u64, within: u64| {
        let within = std::time::Duration::from_micros(within);
        // The reply is looked at and dropped inside its request, which may panic for it.
        spawn(async move { stage.call(FusedItem(key)).within(within).await.is_ok() })
    };
    let requests: Vec<_> =
        (0..12).map(|idx| call(idx % 4, if idx < 8 { 10_000_000 } else { 1 })).collect();
    let cancelled = call(5, 10_000_000);
    FUSE.set(Some(fuse));
    forebay::yield_now().await;
    drop(cancelled);
    let mut replies = Vec::new();
    for request in requests {
        replies.push(request.await);
    }
    FUSE.set(None);
    replies
}

#[test]
fn no_type_of_a_stage_can_harm_the_shard_by_panicking() {
    let fuses = [Fuse::KeyDrop, Fuse::ClassDrop, Fuse::ItemDrop, Fuse::ValueDrop, Fuse::ValueClone];
    for n_shards in if two_cpus() { 1..=2 } else { 1..=1 } {
        let mut builder = shards(n_shards);
        let options = policy(|options| {
            options.dedup = Dedup::Queued;
            options.items_max = 3;
            options.placement = Placement::Gather(ShardId::new(n_shards - 1));
        });
        let stage = builder.shared_stage("fragile", options, |_| async { Ok(Fragile) });
        let probe = scripted(&mut builder, "sound", policy(|_| {}), double);
        let ring = Ring::start(builder);
        for fuse in fuses {
            let replies = ring.run(0, move || calls_with_a_fuse(stage, fuse));
            // Each ends, in whatever way: that is the claim. And the shard goes on.
            assert_eq!(replies.len(), 12, "{fuse:?}: {replies:?}");
            let probe = probe.clone();
            assert_eq!(ring.run(0, move || probe.call(1)).unwrap(), 2, "{fuse:?}");
        }
        ring.stop();
    }
}

#[test]
fn a_value_whose_clone_panics_costs_one_waiter_and_not_the_others() {
    let mut builder = shards(1);
    let options = policy(|options| options.dedup = Dedup::Queued);
    let stage = builder.stage("fragile", options, |_| async { Ok(Fragile) });
    let ring = Ring::start(builder);
    let replies = ring.run(0, move || async move {
        let call = || spawn(async move { stage.call(FusedItem(1)).await.map(|_| ()) });
        let calls: Vec<_> = (0..3).map(|_| call()).collect();
        FUSE.set(Some(Fuse::ValueClone));
        let replies = all(calls).await;
        FUSE.set(None);
        replies
    });
    // The first waiter takes the value itself; no waiter is left to its `call_max`.
    assert!(replies.iter().any(Result::is_ok), "{replies:?}");
    let others = replies.iter().filter(|reply| matches!(reply, Err(CallError::Panicked)));
    assert_eq!(others.count(), 2, "{replies:?}");
    ring.stop();
}
