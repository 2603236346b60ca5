//! Stages are ranked: what a batch function begins cannot come back to its own stage.
//!
//! Goal: no deadlock by construction, also not by way of a request that a batch function spawns.
//! Method: in simulation a batch function spawns a request that calls the very stage it runs for.

use std::convert::Infallible;
use std::rc::Rc;

use forebay::sim::SimOptions;
use forebay::{Batch, Builder, CallError, RequestOptions, Stage, StageOptions, StageRef, spawn};

/// Answers whether a request spawned from the batch function was kept from calling this stage.
struct Calls;

impl Stage for Calls {
    type Item = StageRef<Calls>;
    type Key = u16;
    type Class = ();
    type Value = bool;
    type Error = Infallible;

    fn key(_: &StageRef<Calls>) -> u16 {
        0
    }

    fn class(_: &StageRef<Calls>) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Infallible> {
        for item in batch.items() {
            let stage = *item.item();
            let spawned = spawn(RequestOptions::default(), async move { stage.call(stage).await });
            let kept = matches!(spawned.await, Ok(Err(CallError::Cycle { .. })));
            item.settle(Ok(kept));
        }
        Ok(())
    }
}

#[test]
fn a_request_spawned_by_a_batch_function_cannot_call_its_stage() {
    let mut builder = Builder::new();
    let stage = builder.stage("calls", StageOptions::default(), |_| async { Ok(Calls) });
    let mut sim = builder.simulate(SimOptions::new(1, 1)).unwrap();
    let options = RequestOptions::default();
    let reply = sim.handle().submit(0, options, move || stage.call(stage)).unwrap();
    sim.run_until(10_000, |sim| sim.unsettled().is_none() && sim.now().as_nanos() > 1_000_000);
    assert!(reply.try_take().expect("it has ended").unwrap().unwrap(), "Cycle, on its first call");
}
