//! How late a shard sees the reply of a bridge: idle, at 70 % load, beside a task that yields for
//! ever.
//!
//! The bridge's thread notes when its job is done; the request that awaits it notes when it goes
//! on. Prints one line per situation. The load is a source that burns 70 µs of every 100.

use std::hint::black_box;
use std::time::{Duration, Instant};

use forebay::{Bridge, Builder, IdlePolicy, RequestOptions, add_source, sleep, spawn, yield_now};

const N_JOBS: usize = 5_000;

#[derive(Clone, Copy, Debug)]
enum Beside {
    Nothing,
    SeventyPercent,
    YieldingForEver,
}

fn burn(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        black_box(0);
    }
}

fn load(beside: Beside) {
    match beside {
        Beside::Nothing => {}
        Beside::SeventyPercent => add_source(|now| {
            burn(Duration::from_micros(70));
            Some(now.after(Duration::from_micros(100)))
        }),
        Beside::YieldingForEver => spawn(RequestOptions::default(), async {
            loop {
                burn(Duration::from_micros(20));
                yield_now().await;
            }
        })
        .detach(),
    }
}

async fn lateness() -> Vec<u64> {
    let bridge = Bridge::new("bench", 1, 16, || Some(())).expect("a thread can be had");
    let mut late_ns = Vec::with_capacity(N_JOBS);
    for _ in 0..N_JOBS {
        let done = bridge
            .call(|()| {
                burn(Duration::from_micros(50));
                Instant::now()
            })
            .await
            .expect("the bridge answers");
        late_ns.push(done.elapsed().as_nanos() as u64);
        sleep(Duration::from_micros(100)).await;
    }
    late_ns.sort_unstable();
    late_ns
}

fn cell(idle: IdlePolicy, beside: Beside) {
    let mut builder = Builder::new();
    builder.cpus(&[0]).idle(idle);
    let engine = builder.start().expect("this host runs a shard");
    let reply = engine.handle().submit(0, RequestOptions::default(), move || async move {
        load(beside);
        lateness().await
    });
    let late_ns = reply.expect("the inbox is empty").wait().expect("nothing panics");
    let capped = engine.handle().snapshot(0).map_or(0, |snapshot| snapshot.shard.waits_capped);
    let at = |share: f64| late_ns[((late_ns.len() - 1) as f64 * share) as usize] / 1_000;
    println!(
        "{idle:?}, beside {beside:?}: reply seen after p50 {} us, p99 {} us, p99.9 {} us; {capped} lost wakes",
        at(0.5),
        at(0.99),
        at(0.999),
    );
    engine.stop(Duration::ZERO);
}

fn main() {
    for beside in [Beside::Nothing, Beside::SeventyPercent, Beside::YieldingForEver] {
        for idle in [IdlePolicy::Park, IdlePolicy::SpinUs(50)] {
            cell(idle, beside);
        }
    }
}
