//! A request with dependencies: a flight, then side by side its two airports, then the card. Two
//! parts of the request need the flight; it is loaded once.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use forebay::{Batch, Builder, RequestOptions, Stage, StageOptions};

/// Stands for a table: the row of a key is its square.
struct Rows;

impl Stage for Rows {
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
        println!("one database call for {} rows", batch.len());
        forebay::sleep(Duration::from_millis(1)).await;
        for item in batch.items() {
            item.settle(Ok(item.item() * item.item()));
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = Builder::new();
    builder.shards(1);
    let rows = builder.stage("rows", StageOptions::default(), |_| async { Ok(Rows) });
    let engine = builder.start()?;

    let card = engine.handle().submit(0, RequestOptions::default(), move || async move {
        let scope = forebay::scope();
        let flight = scope.unit("flight", async move { rows.call(3).await });
        // A unit of work may be awaited by many; each of these waits for the flight first.
        let airport = |number: u64| {
            let flight = flight.clone();
            scope.unit(("airport", number), async move {
                let flight = flight.await.map_err(|error| error.to_string())?;
                rows.call(flight + number).await.map_err(|error| error.to_string())
            })
        };
        let (from, to) = forebay::join(airport(1), airport(2)).await;
        from.and_then(|from| Ok((from, to?)))
    })?;
    let card = card.wait()??;
    println!("flight 9 goes from {} to {}", card.0, card.1);
    assert_eq!(card, (100, 121));
    let batches = engine.handle().snapshot(0).expect("a running shard publishes").shard;
    assert_eq!(batches.stages[0].batches, 2, "the airports share one database call");
    assert!(engine.stop(Duration::from_secs(1)).drained);
    Ok(())
}
