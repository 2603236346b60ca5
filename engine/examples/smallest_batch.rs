//! The smallest batch: a hundred requests, one downstream call.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use forebay::{Batch, Builder, RequestOptions, Stage, StageOptions};

struct Double;

impl Stage for Double {
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
        println!("one call for {} requests", batch.len());
        for item in batch.items() {
            item.settle(Ok(item.item() * 2));
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = Builder::new();
    builder.shards(1);
    let double = builder.stage("double", StageOptions::default(), |_| async { Ok(Double) });
    let engine = builder.start()?;

    let sum = engine.handle().submit(0, RequestOptions::default(), move || async move {
        let requests: Vec<_> = (0..100)
            .map(|n| forebay::spawn(RequestOptions::default(), async move { double.call(n).await }))
            .collect();
        let mut sum = 0;
        for request in requests {
            sum += request.await.expect("nothing panics").expect("doubling never fails");
        }
        sum
    })?;
    println!("the doubles add up to {}", sum.wait()?);
    engine.stop(Duration::from_secs(1));
    Ok(())
}
