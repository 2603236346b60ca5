//! A request at full weight on the shard's own queue: what it costs, alone and beside another
//! shard.
//!
//! Full weight: spawn, scope, a deadline in the wheel, the panic guard, a slot in a deduplicating
//! stage, the batch, two clock readings and a histogram record. Each finished request starts the
//! next, as a task of its own. Prints one line per cell: requests/s and nanoseconds of CPU each.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench reads the host's clock, prints, and has small numbers"
)]

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use forebay::{Batch, Builder, Dedup, Kind, RequestOptions, Stage, StageOptions, StageRef};
use hdrhistogram::Histogram;

struct Double;

impl Stage for Double {
    type Item = u64;
    type Key = u64;
    type Class = ();
    type Value = u64;
    type Error = Infallible;
    const KIND: Kind = Kind::Read;

    fn key(item: &u64) -> u64 {
        *item
    }

    fn class(_: &u64) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Infallible> {
        for item in batch.items() {
            item.settle(Ok(item.item() * 2));
        }
        Ok(())
    }
}

struct Load {
    stage: StageRef<Double>,
    deadline: bool,
    next_key: Cell<u64>,
    until: Instant,
    done: Cell<u64>,
    live: Cell<u64>,
    latency: RefCell<Histogram<u64>>,
}

fn start_one(load: Rc<Load>, begun: Instant) {
    let options = match load.deadline {
        true => RequestOptions::within(Duration::from_secs(5)),
        false => RequestOptions::default(),
    };
    load.live.set(load.live.get() + 1);
    forebay::spawn(options, async move {
        let key = load.next_key.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        load.next_key.set(key);
        let value = load.stage.call(key >> 20).await.expect("doubling never fails");
        assert_eq!(value, (key >> 20) * 2);
        let now = Instant::now();
        load.latency.borrow_mut().saturating_record((now - begun).as_nanos() as u64);
        load.done.set(load.done.get() + 1);
        load.live.set(load.live.get() - 1);
        if now < load.until {
            start_one(load, now);
        }
    })
    .detach();
}

fn cell(n_shards: usize, in_flight: u64, dedup: Dedup, deadline: bool) {
    let mut builder = Builder::new();
    builder.shards(n_shards);
    let mut options = StageOptions::default();
    options.dedup = dedup;
    let stage = builder.stage("double", options, |_| async { Ok(Double) });
    let engine = builder.start().expect("this host runs the engine");
    let until = Instant::now() + Duration::from_millis(800);
    let cpu_before = cpu();
    let replies: Vec<_> = (0..n_shards)
        .map(|shard| {
            engine.handle().submit(shard, RequestOptions::default(), move || async move {
                let load = Rc::new(Load {
                    stage,
                    deadline,
                    next_key: Cell::new(shard as u64 * 1_000 + 7),
                    until,
                    done: Cell::new(0),
                    live: Cell::new(0),
                    latency: RefCell::new(
                        Histogram::new_with_bounds(1, 60_000_000_000, 2).unwrap(),
                    ),
                });
                for _ in 0..in_flight {
                    start_one(Rc::clone(&load), Instant::now());
                }
                while load.live.get() > 0 {
                    forebay::sleep(Duration::from_millis(1)).await;
                }
                let latency = load.latency.borrow();
                (load.done.get(), latency.value_at_quantile(0.5), latency.value_at_quantile(0.99))
            })
        })
        .collect();
    let results: Vec<_> = replies.into_iter().map(|reply| reply.unwrap().wait().unwrap()).collect();
    let cpu = cpu() - cpu_before;
    let done: u64 = results.iter().map(|result| result.0).sum();
    println!(
        "shards {n_shards} in_flight {in_flight:>6} dedup {dedup:?} deadline {deadline}: \
         {:.2} M/s, {:.0} ns cpu, p50 {} ns, p99 {} ns",
        done as f64 / 0.8e6,
        cpu.as_nanos() as f64 / done as f64,
        results[0].1,
        results[0].2,
    );
    engine.stop(Duration::from_secs(1));
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() {
    if let Some(only) =
        std::env::args().find_map(|arg| arg.strip_prefix("in_flight=")?.parse().ok())
    {
        return cell(1, only, Dedup::Off, false);
    }
    for n_shards in [1, 2] {
        for in_flight in [1, 64, 1_024, 10_000] {
            cell(n_shards, in_flight, Dedup::Off, false);
            cell(n_shards, in_flight, Dedup::Queued, true);
        }
    }
}
