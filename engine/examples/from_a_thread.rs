//! From an ordinary thread: requests are submitted to a shard, listed, cancelled, and awaited.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use forebay::{Batch, Builder, RequestError, RequestOptions, Stage, StageOptions};

struct Greet;

impl Stage for Greet {
    type Item = &'static str;
    type Key = &'static str;
    type Class = ();
    type Value = String;
    type Error = Infallible;

    fn key(item: &&'static str) -> &'static str {
        item
    }

    fn class(_: &&'static str) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Infallible> {
        for item in batch.items() {
            item.settle(Ok(format!("hello, {}", item.item())));
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = Builder::new();
    builder.shards(1);
    let greet = builder.stage("greet", StageOptions::default(), |_| async { Ok(Greet) });
    let engine = builder.start()?;

    // The handle is `Send + Sync` and cheap to clone: any thread may have one.
    let handle = engine.handle().clone();
    #[allow(clippy::disallowed_methods, reason = "the example is about ordinary threads")]
    let thread = std::thread::spawn(move || {
        let options = RequestOptions::within(Duration::from_secs(1));
        let reply = handle.submit(0, options, move || greet.call("thread"));
        reply.expect("the engine runs").wait()
    });
    let greeting = thread.join().expect("the thread does not panic")??;
    println!("{greeting}");
    assert_eq!(greeting, "hello, thread");

    // A request that would sleep for an hour is found in the list and cancelled by message.
    let hour = Duration::from_secs(3_600);
    let sleeps =
        engine.handle().submit(0, RequestOptions::default(), move || forebay::sleep(hour))?;
    let live = loop {
        // A shard that is busy for 200 ms answers with an empty list: ask again.
        let live = engine.handle().requests(0);
        if !live.is_empty() {
            break live;
        }
    };
    println!("cancelling {live:?}");
    engine.handle().cancel(&live[0]);
    assert_eq!(sleeps.wait(), Err(RequestError::Cancelled));
    assert!(engine.stop(Duration::from_secs(1)).drained);
    Ok(())
}
