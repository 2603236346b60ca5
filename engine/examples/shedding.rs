//! Shedding under load: a slow downstream, a bounded queue, and more calls than both can hold.
//! What is refused is told so at once; what was accepted is answered.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use forebay::{Batch, Builder, CallError, RequestOptions, Stage, StageOptions};

const CALLS: u64 = 1_000;

struct Slow;

impl Stage for Slow {
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
        forebay::sleep(Duration::from_millis(2)).await;
        for item in batch.items() {
            item.settle(Ok(item.item() + 1));
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = StageOptions::default();
    options.items_max = 10;
    // Ten batches' worth: whoever waits longer than that is better told no.
    options.queue_max = 100;
    let mut builder = Builder::new();
    builder.shards(1);
    let slow = builder.stage("slow", options, |_| async { Ok(Slow) });
    let engine = builder.start()?;

    let counts = engine.handle().submit(0, RequestOptions::default(), move || async move {
        let calls: Vec<_> =
            (0..CALLS).map(|n| forebay::spawn(RequestOptions::default(), slow.call(n))).collect();
        let (mut accepted, mut shed) = (0, 0);
        for (n, call) in (0..CALLS).zip(calls) {
            match call.await.expect("nothing panics") {
                Ok(value) => {
                    assert_eq!(value, n + 1);
                    accepted += 1;
                }
                Err(CallError::Shed(_)) => shed += 1,
                Err(other) => panic!("{other}"),
            }
        }
        (accepted, shed)
    })?;
    let (accepted, shed) = counts.wait()?;
    println!("{accepted} calls answered, {shed} shed at once");
    assert_eq!(accepted + shed, CALLS);
    assert!(accepted >= 100 && shed > 0, "a full queue is served, what is beyond it is refused");
    assert!(engine.stop(Duration::from_secs(1)).drained);
    Ok(())
}
