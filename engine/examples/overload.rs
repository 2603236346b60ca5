//! Overload: three times what the downstream can do, for half a second. The conditioner finds how
//! many calls may be in flight for replies to be in time; the rest get less, or are told at once.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use forebay::{
    Batch, Builder, CallError, Conditioning, RequestOptions, Stage, StageOptions, StageRef,
};

const MS: Duration = Duration::from_millis(1);
/// Three a millisecond, where one takes as long.
const CALLS_PER_MS: u32 = 3;
const LOAD_MS: u32 = 500;
const TARGET: Duration = Duration::from_millis(25);

/// A page, whole or short.
#[derive(Clone, Copy)]
struct Page {
    number: u32,
    is_short: bool,
}

struct Pages;

impl Stage for Pages {
    type Item = Page;
    type Key = u32;
    type Class = ();
    type Value = Page;
    type Error = Infallible;
    const DEGRADE_LEVELS: u8 = 1;

    fn key(page: &Page) -> u32 {
        page.number
    }

    fn class(_: &Page) {}

    fn degrade(page: &mut Page, _level: u8) {
        page.is_short = true;
    }

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Infallible> {
        for page in batch.items() {
            forebay::sleep(if page.item().is_short { MS / 4 } else { MS }).await;
            page.settle(Ok(*page.item()));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Counts {
    whole: u32,
    short: u32,
    shed: u32,
}

/// Offers the load, whether or not the stage keeps up.
async fn offer(pages: StageRef<Pages>) -> Counts {
    let mut calls = Vec::new();
    for n in 0..LOAD_MS {
        for number in n * CALLS_PER_MS..(n + 1) * CALLS_PER_MS {
            let page = Page { number, is_short: false };
            calls.push(forebay::spawn(RequestOptions::default(), pages.call(page)));
        }
        forebay::sleep(MS).await;
    }
    let mut counts = Counts::default();
    for call in calls {
        match call.await.expect("nothing panics") {
            Ok(page) if page.is_short => counts.short += 1,
            Ok(_) => counts.whole += 1,
            // It says why and when to try again: what a server puts into its Retry-After.
            Err(CallError::Shed(_)) => counts.shed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    counts
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = StageOptions::default();
    options.items_max = 1;
    options.conditioning = Some(Conditioning { target: TARGET, ..Conditioning::default() });
    let mut builder = Builder::new();
    builder.shards(1);
    let pages = builder.stage("pages", options, |_| async { Ok(Pages) });
    let engine = builder.start()?;

    let counts = engine.handle().submit(0, RequestOptions::default(), move || offer(pages))?;
    let Counts { whole, short, shed } = counts.wait()?;
    println!("{whole} whole pages, {short} short ones, {shed} shed at once");
    let snapshot = engine.handle().snapshot(0).expect("the shard has published");
    for reading in &snapshot.shard.stages[0].controls {
        println!("  {} {:.3}", reading.name, reading.value);
    }
    assert_eq!(whole + short + shed, CALLS_PER_MS * LOAD_MS);
    assert!(short > 0 && shed > 0, "less is tried before nothing, and not all fits");
    assert!(engine.stop(Duration::from_secs(1)).drained);
    Ok(())
}
