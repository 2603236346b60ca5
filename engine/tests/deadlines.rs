//! Goal: a call expires at its own deadline, near or far, whether its item is queued or in flight.
//! Method: a batch function that never ends, in virtual time, on random seeds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use forebay::sim::SimOptions;
use forebay::{
    Batch, Builder, CallError, Outcome, RequestOptions, Stage, StageOptions, now, spawn,
};

struct Never;

impl Stage for Never {
    type Item = u64;
    type Key = u64;
    type Class = ();
    type Value = u64;
    type Error = Infallible;

    fn key(item: &u64) -> u64 {
        *item
    }

    fn class(_: &u64) {}

    async fn run(self: Rc<Self>, _: Batch<Self>) -> Result<(), Infallible> {
        std::future::pending().await
    }
}

/// From well within a turn to beyond several sweeps for far deadlines.
const WITHIN_MS: [u64; 8] = [1, 40, 999, 1_999, 2_001, 2_999, 3_500, 29_000];
/// A tick of the wheel and the turns that stand in the way.
const LATE_MAX: Duration = Duration::from_millis(1);

#[test]
fn a_call_expires_at_its_deadline_however_far_that_is() {
    for seed in 0..20 {
        let mut builder = Builder::new();
        let mut options = StageOptions::default();
        options.run_max = Duration::from_secs(60);
        let stage = builder.stage("never", options, |_| async { Ok(Never) });
        let mut sim = builder.simulate(SimOptions::new(seed, 1)).unwrap();
        let work = move || async move {
            // The first takes the only permit; the others stay in the queue.
            let in_flight = spawn(RequestOptions::default(), async move {
                let begun = now();
                (stage.call(0).within(Duration::from_millis(700)).await, now().since(begun))
            });
            forebay::sleep(Duration::from_millis(5)).await;
            let calls = WITHIN_MS.map(|ms| {
                spawn(RequestOptions::default(), async move {
                    let begun = now();
                    (stage.call(ms).within(Duration::from_millis(ms)).await, now().since(begun))
                })
            });
            let mut ended = vec![in_flight.await.unwrap()];
            for call in calls {
                ended.push(call.await.unwrap());
            }
            ended
        };
        let reply = sim.handle().submit(0, RequestOptions::default(), work).unwrap();
        while sim.step() {}
        let ended = reply.try_take().expect("all have expired").unwrap();
        let within = [700].into_iter().chain(WITHIN_MS);
        for (ms, (reply, took)) in within.zip(ended) {
            let expected = if ms == 700 { Outcome::Unknown } else { Outcome::NotSent };
            assert!(
                matches!(&reply, Err(CallError::Expired(outcome)) if *outcome == expected),
                "seed {seed}, {ms} ms: {reply:?}"
            );
            let due = Duration::from_millis(ms);
            assert!((due..due + LATE_MAX).contains(&took), "seed {seed}, {ms} ms: {took:?}");
        }
    }
}
