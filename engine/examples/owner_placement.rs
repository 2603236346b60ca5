//! Owner placement: two shards ask for the same keys. All calls for a key meet in one queue, on the
//! shard that owns it, and those that wait there together share one item.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use forebay::{Batch, Builder, Dedup, Kind, Placement, RequestOptions, Stage, StageOptions};

const KEYS: u64 = 1_000;

struct Fetch;

impl Stage for Fetch {
    type Item = u64;
    type Key = u64;
    type Class = ();
    type Value = String;
    type Error = Infallible;
    // Equal keys may share an item: reading changes nothing.
    const KIND: Kind = Kind::Read;

    fn key(item: &u64) -> u64 {
        *item
    }

    fn class(_: &u64) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Infallible> {
        forebay::sleep(Duration::from_millis(1)).await;
        for item in batch.items() {
            item.settle(Ok(format!("row {}", item.item())));
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let n_cpus = forebay::affinity::current_thread_cpus()?.len();
    if n_cpus < 2 {
        println!("this example needs two CPUs for its two shards, and may use {n_cpus}: skipped");
        return Ok(());
    }
    let mut options = StageOptions::default();
    options.placement = Placement::Owner;
    options.dedup = Dedup::Queued;
    let mut builder = Builder::new();
    builder.shards(2);
    // A shared stage: what it asks and answers crosses threads, so it must be `Send`.
    let fetch = builder.shared_stage("fetch", options, |_| async { Ok(Fetch) });
    let engine = builder.start()?;

    let submit = |shard| {
        engine.handle().submit(shard, RequestOptions::default(), move || async move {
            let ask = |key| forebay::spawn(RequestOptions::default(), fetch.call(key));
            for (key, row) in (0..KEYS).map(ask).collect::<Vec<_>>().into_iter().enumerate() {
                assert_eq!(row.await.expect("no panic").expect("no error"), format!("row {key}"));
            }
        })
    };
    let replies = [submit(0)?, submit(1)?];
    for reply in replies {
        reply.wait()?;
    }
    for shard in 0..2 {
        let snapshot = engine.handle().snapshot(shard).expect("a running shard publishes").shard;
        let stage = &snapshot.stages[0];
        println!(
            "shard {shard} owns its keys: {} calls, {} of its own sent away, {} items in {} batches",
            stage.calls, stage.sent_away, stage.items, stage.batches
        );
        assert!(stage.sent_away > 0 && stage.items <= stage.calls);
    }
    assert!(engine.stop(Duration::from_secs(1)).drained);
    Ok(())
}
