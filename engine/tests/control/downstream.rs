//! A downstream in virtual time, and the load that is put on the stage before it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use forebay::sim::{SimOptions, Simulation};
use forebay::{
    Batch, Builder, CallError, Priority, RequestOptions, ShedReason, Stage, StageOptions, StageRef,
    Time, now, spawn,
};

pub(crate) const MS: Duration = Duration::from_millis(1);

/// What one call asks: an item of this number, at this level of degradation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) number: u64,
    pub(crate) level: u8,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// What the downstream was asked, and when.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) batches: Vec<(Time, Vec<u64>)>,
}

thread_local! {
    /// Of the simulation that runs on this thread.
    static SEEN: Rc<RefCell<Seen>> = Rc::default();
}

pub(crate) fn seen() -> Rc<RefCell<Seen>> {
    SEEN.with(Rc::clone)
}

/// How the downstream behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    /// Time for each item at full level; a degraded one takes a quarter.
    pub(crate) item: Duration,
    /// Whether a batch fails as a whole, by its items and how many batches came before.
    pub(crate) fails: fn(&[u64], usize) -> bool,
}

impl Behaviour {
    pub(crate) fn sound(item: Duration) -> Self {
        Self { item, fails: |_, _| false }
    }
}

/// A serial downstream.
pub(crate) struct Serial {
    behaviour: Behaviour,
}

impl Stage for Serial {
    type Item = Ask;
    type Key = u64;
    type Class = ();
    type Value = Ask;
    type Error = Broken;
    const IDEMPOTENT: bool = true;
    const DEGRADE_LEVELS: u8 = 1;

    fn key(item: &Ask) -> u64 {
        item.number
    }

    fn class(_: &Ask) {}

    fn degrade(item: &mut Ask, level: u8) {
        item.level = level;
    }

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Broken> {
        let numbers: Vec<u64> = batch.items().map(|item| item.item().number).collect();
        let n_before = {
            let seen = seen();
            let mut seen = seen.borrow_mut();
            seen.batches.push((now(), numbers.clone()));
            seen.batches.len() - 1
        };
        for item in batch.items() {
            let takes =
                if item.item().level > 0 { self.behaviour.item / 4 } else { self.behaviour.item };
            forebay::sleep(takes).await;
            if !(self.behaviour.fails)(&numbers, n_before) {
                item.settle(Ok(*item.item()));
            }
        }
        if (self.behaviour.fails)(&numbers, n_before) { Err(Broken) } else { Ok(()) }
    }
}

/// A simulation with one stage.
pub(crate) fn simulate(
    seed: u64,
    n_shards: usize,
    behaviour: Behaviour,
    change: impl FnOnce(&mut StageOptions),
) -> (Simulation, StageRef<Serial>) {
    seen().borrow_mut().batches.clear();
    let mut options = StageOptions::default();
    change(&mut options);
    let mut builder = Builder::new();
    let make = move |_| async move { Ok(Serial { behaviour }) };
    let stage = builder.shared_stage("serial", options, make);
    (builder.simulate(SimOptions::new(seed, n_shards)).unwrap(), stage)
}

/// How one call ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Answered { level: u8 },
    Shed(ShedReason),
    Expired,
    Failed,
}

/// One call of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) began: Time,
    pub(crate) took: Duration,
    pub(crate) priority: Priority,
    pub(crate) end: End,
}

/// Runs requests that arrive evenly, `per_s` of each priority a second on one shard, for `time`.
pub(crate) fn load(
    sim: &mut Simulation,
    stage: StageRef<Serial>,
    priorities: &[(Priority, u64)],
    time: Duration,
    within: Duration,
) -> Vec<Call> {
    let arrivals = priorities.to_vec();
    let work = move || async move {
        let sources = arrivals.into_iter().map(|(priority, per_s)| {
            spawn(RequestOptions::default(), offer(stage, priority, per_s, time, within))
        });
        let mut calls = Vec::new();
        for source in sources.collect::<Vec<_>>() {
            calls.extend(source.await.unwrap());
        }
        calls
    };
    let reply = sim.handle().submit(0, RequestOptions::default(), work).unwrap();
    // The books are looked through at the end: after each step that would take time for each item
    // of a long queue, and the campaigns of `simulation.rs` do so.
    while sim.step() {}
    assert_eq!((sim.violation(), sim.unsettled()), (None, None));
    reply.try_take().expect("all have ended").unwrap()
}

async fn offer(
    stage: StageRef<Serial>,
    priority: Priority,
    per_s: u64,
    time: Duration,
    within: Duration,
) -> Vec<Call> {
    let gap = Duration::from_secs(1) / u32::try_from(per_s).unwrap();
    let begun = now();
    let mut calls = Vec::new();
    for number in 0.. {
        let due = gap * u32::try_from(number).unwrap();
        if due >= time {
            break;
        }
        forebay::sleep(due.saturating_sub(now().since(begun))).await;
        let options = RequestOptions::within(within).priority(priority);
        calls.push(spawn(options, call(stage, number, priority)));
    }
    let mut ended = Vec::new();
    for call in calls {
        ended.push(call.await.unwrap());
    }
    ended
}

pub(crate) async fn call(stage: StageRef<Serial>, number: u64, priority: Priority) -> Call {
    let began = now();
    let end = match stage.call(Ask { number, level: 0 }).await {
        Ok(got) => End::Answered { level: got.level },
        Err(CallError::Shed(shed)) => End::Shed(shed.reason),
        Err(CallError::Expired(_)) => End::Expired,
        Err(_) => End::Failed,
    };
    Call { began, took: now().since(began), priority, end }
}

/// Answers within `deadline` a second, from `from` on.
pub(crate) fn goodput(calls: &[Call], deadline: Duration, from: Duration, time: Duration) -> f64 {
    let start = calls.first().map_or(Time::ZERO, |call| call.began).after(from);
    let good = calls.iter().filter(|call| {
        call.began >= start && matches!(call.end, End::Answered { .. }) && call.took <= deadline
    });
    good.count() as f64 / (time - from).as_secs_f64()
}
