//! A run on real rings, replayed in simulation: both halves decide alike.
//!
//! Goal: show that the simulated half stands for the pinned one. Method: two pinned shards work on
//! submitted requests (owned calls, units, sleeps) and record every turn: the clock readings, where
//! passes were cut, what arrived when. The simulation gets the same stages and submissions and
//! that record; turn by turn it must poll, fire, seal and leave alive exactly the same.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use forebay::sim::Simulation;
use forebay::{
    Batch, Builder, Dedup, Handle, Kind, Placement, RequestOptions, Stage, StageOptions, StageRef,
    TurnRecord, sleep,
};

const SEED: u64 = 11;
const N_REQUESTS: u64 = 400;

struct Slow;

impl Stage for Slow {
    type Item = u64;
    type Key = u64;
    type Class = ();
    type Value = u64;
    type Error = Infallible;
    const KIND: Kind = Kind::Read;

    fn key(item: &u64) -> u64 {
        *item
    }

    fn class(_: &u64) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Infallible> {
        sleep(Duration::from_micros(300)).await;
        for item in batch.items() {
            item.settle(Ok(item.item() + 1));
        }
        Ok(())
    }
}

/// Answers within the turn that sealed its batch.
struct Quick;

impl Stage for Quick {
    type Item = u64;
    type Key = u64;
    type Class = ();
    type Value = u64;
    type Error = Infallible;

    fn key(item: &u64) -> u64 {
        *item
    }

    fn class(_: &u64) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Infallible> {
        for item in batch.items() {
            item.settle(Ok(*item.item()));
        }
        Ok(())
    }
}

fn declare() -> (Builder, (StageRef<Slow>, StageRef<Quick>)) {
    let mut builder = Builder::new();
    builder.shards(2).seed(SEED).record_turns(true);
    let mut options = StageOptions::default();
    options.items_max = 16;
    options.permits = 2;
    options.placement = Placement::Owner;
    options.dedup = Dedup::Queued;
    let slow = builder.shared_stage("slow", options, |_| async { Ok(Slow) });
    let quick = builder.stage("quick", StageOptions::default(), |_| async { Ok(Quick) });
    (builder, (slow, quick))
}

fn submit(
    handle: &Handle,
    (slow, quick): (StageRef<Slow>, StageRef<Quick>),
) -> Vec<forebay::Reply<u64>> {
    let one = |n: u64| {
        let shard = usize::try_from(n % 2).expect("small");
        handle.submit(shard, RequestOptions::default(), move || async move {
            let first = slow.call(n % 50).await.expect("never fails");
            for turn in 0..n % 5 {
                quick.call(turn).await.expect("never fails");
            }
            sleep(Duration::from_micros(n * 13 % 700)).await;
            slow.call(first * 7 % 60).await.expect("never fails")
        })
    };
    (0..N_REQUESTS).map(|n| one(n).expect("the inbox holds more")).collect()
}

fn recorded_run() -> Vec<TurnRecord> {
    let (builder, stage) = declare();
    let engine = builder.start().expect("this host runs two shards");
    for (n, reply) in submit(engine.handle(), stage).into_iter().enumerate() {
        assert_eq!(reply.wait(), Ok((n as u64 % 50 + 1) * 7 % 60 + 1));
    }
    let turns = engine.handle().take_turns();
    engine.stop(Duration::from_secs(1));
    turns
}

fn replay(turns: &[TurnRecord]) -> Result<usize, String> {
    let (builder, stage) = declare();
    let mut kept = Vec::new();
    Simulation::replay(builder, 2, SEED, |handle| kept = submit(handle, stage), turns)
}

#[test]
fn a_recorded_run_replays_with_the_same_decisions() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("skipped: needs two CPUs");
        return;
    }
    let turns = recorded_run();
    let sealed: usize = turns.iter().flat_map(|turn| &turn.sealed).map(|(_, items)| items).sum();
    assert!(sealed > 100, "the run did something: {sealed} items in {} turns", turns.len());
    assert!(turns.iter().any(|turn| !turn.parcels.is_empty()), "parcels crossed");
    assert!(turns.iter().any(|turn| turn.answered > 1), "callers were answered in their turn");
    assert_eq!(replay(&turns), Ok(turns.len()));

    // And the comparison can fail: one clock reading moved by a millisecond changes a decision.
    let mut bent = turns;
    let middle = bent.iter().position(|turn| turn.fired > 0).expect("timers fired");
    bent[middle].fired += 1;
    assert!(replay(&bent).is_err(), "a record that does not fit is refused");
}
