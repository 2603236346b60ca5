//! Who gets his turn: classes by their shares, and other shards' calls at their owner.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use forebay::sim::SimOptions;
use forebay::{
    Batch, Builder, Conditioning, Placement, Priority, RequestOptions, ShardId, Stage,
    StageOptions, spawn,
};

use crate::downstream::{Behaviour, End, MS, call, simulate};

thread_local! {
    /// Items by class, in the order of their batches.
    static SERVED: Rc<RefCell<Vec<(u8, usize)>>> = Rc::default();
}

/// Classes whose share is their own number.
struct Shared;

impl Stage for Shared {
    type Item = u8;
    type Key = u8;
    type Class = u8;
    type Value = ();
    type Error = Infallible;

    fn key(item: &u8) -> u8 {
        *item
    }

    fn class(item: &u8) -> u8 {
        *item
    }

    fn share(class: &u8) -> u32 {
        u32::from(*class)
    }

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Infallible> {
        SERVED.with(|served| served.borrow_mut().push((*batch.class(), batch.len())));
        forebay::sleep(MS).await;
        batch.items().for_each(|item| item.settle(Ok(())));
        Ok(())
    }
}

#[test]
fn classes_get_their_shares_of_the_batches_however_large_these_are() {
    let mut options = StageOptions::default();
    options.items_max = 16;
    let mut builder = Builder::new();
    let stage = builder.stage("shared", options, |_| async { Ok(Shared) });
    let mut sim = builder.simulate(SimOptions::new(31, 1)).unwrap();
    let work = move || async move {
        let calls: Vec<_> = (0..6_400)
            .map(|n| {
                let class = if n % 2 == 0 { 1 } else { 9 };
                spawn(RequestOptions::default(), async move { stage.call(class).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    };
    drop(sim.handle().submit(0, RequestOptions::default(), work).unwrap());
    while sim.step() {}
    assert_eq!((sim.violation(), sim.unsettled()), (None, None));
    let served = SERVED.with(|served| served.take());
    // As long as both wait: nine of ten items are of the class that has nine of ten shares.
    let first: Vec<_> = served.iter().take(200).collect();
    let of = |class| -> usize {
        first.iter().filter(|batch| batch.0 == class).map(|batch| batch.1).sum()
    };
    let (small, large) = (of(1), of(9));
    assert!((8 * small..=10 * small).contains(&large), "{small} and {large}");
}

#[test]
fn an_owner_lets_its_bound_grow_though_only_one_of_the_others_asks() {
    // Ten items at once take as long as one: only a bound that grows finds that out.
    let (mut sim, stage) = simulate(32, 2, Behaviour::sound(MS / 50), |options| {
        options.placement = Placement::Gather(ShardId::new(0));
        options.conditioning = Some(Conditioning {
            target: MS * 20,
            in_flight_first: 1,
            degrade_from: 1.0,
            ..Conditioning::default()
        });
    });
    let work = move || async move {
        let callers = (0..64).map(|n| {
            spawn(RequestOptions::default(), async move {
                let mut answered = 0;
                for _ in 0..200 {
                    match call(stage, n, Priority::LOWEST).await.end {
                        End::Answered { .. } => answered += 1,
                        _ => forebay::sleep(MS).await,
                    }
                }
                answered
            })
        });
        let mut answered = 0;
        for caller in callers.collect::<Vec<_>>() {
            answered += caller.await.unwrap();
        }
        answered
    };
    let reply = sim.handle().submit(1, RequestOptions::default(), work).unwrap();
    while sim.step() {}
    assert_eq!((sim.violation(), sim.unsettled()), (None, None));
    let answered = reply.try_take().unwrap().unwrap();
    assert!(
        answered > 6_400,
        "{answered} of 12,800 in {:?}",
        Duration::from_nanos(sim.now().as_nanos())
    );
}
