//! What a service tells of itself, on each shard.

use std::cell::Cell;
use std::convert::Infallible;
use std::panic;
use std::rc::Rc;

use forebay::{
    Batch, Builder, Labels, Metric, MetricValue, ShardSnapshot, Stage, StageOptions, this_shard,
};

use crate::ring::{Notes, Ring, shards, two_cpus};

/// Replies with its item, and counts whether it was odd.
#[derive(Default)]
struct Parity {
    n_odd: Cell<u64>,
    n_even: Cell<u64>,
}

impl Stage for Parity {
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
        for item in batch.items() {
            let counted = if item.item() % 2 == 1 { &self.n_odd } else { &self.n_even };
            counted.set(counted.get() + 1);
            item.settle(Ok(*item.item()));
        }
        Ok(())
    }
}

const NUMBERS: &[Metric<(u64, u64)>] = &[Metric::counter(
    "numbers",
    "Numbers that came.",
    &[(&[("parity", "odd")], |(odd, _)| *odd), (&[("parity", "even")], |(_, even)| *even)],
)];
const PLACE: &[Metric<f64>] = &[Metric::gauge("shard", "Where it is read.", &[(&[], |at| *at)])];

/// Rows by name.
fn told(shard: &ShardSnapshot) -> Vec<(String, Vec<(Labels, MetricValue)>)> {
    let name = |place, name| format!("{place}_{name}");
    let metrics = shard.service.iter();
    metrics.map(|metric| (name(metric.place, metric.name), metric.rows.clone())).collect()
}

#[test]
fn each_shard_publishes_what_its_own_stage_has_counted() {
    if !two_cpus() {
        return;
    }
    let mut builder = shards(2);
    let parity =
        builder.stage("parity", StageOptions::default(), |_| async { Ok(Parity::default()) });
    let count = move || {
        let here = parity.instance();
        (here.n_odd.get(), here.n_even.get())
    };
    builder.metrics("parity", NUMBERS, count);
    builder.metrics("parity", PLACE, || this_shard().index() as f64);
    let ring = Ring::start(builder);
    for (shard, number) in [(0, 1), (0, 2), (0, 3), (1, 5)] {
        assert_eq!(ring.run(shard, move || parity.call(number)).unwrap(), number);
    }
    for (shard, odd, even, at) in [(0, 2, 1, 0.0), (1, 1, 0, 1.0)] {
        let parities: [(Labels, _); 2] = [
            (&[("parity", "odd")], MetricValue::Counter(odd)),
            (&[("parity", "even")], MetricValue::Counter(even)),
        ];
        let expected = [
            ("parity_numbers".to_owned(), parities.to_vec()),
            ("parity_shard".to_owned(), vec![(&[] as Labels, MetricValue::Gauge(at))]),
        ];
        assert_eq!(told(&ring.shard(shard)), expected);
    }
    ring.stop();
}

#[test]
fn a_service_that_panics_while_it_tells_of_itself_is_left_out_for_that_time() {
    thread_local!(static IS_WELL: Cell<bool> = const { Cell::new(true) });
    let mut builder = shards(1);
    builder.metrics("ill", PLACE, || {
        assert!(IS_WELL.get(), "planted");
        0.0
    });
    builder.metrics("well", PLACE, || 0.0);
    let ring = Ring::start(builder);
    for (is_well, expected) in [
        (true, &["ill_shard", "well_shard"][..]),
        (false, &["well_shard"]),
        (true, &["ill_shard", "well_shard"]),
    ] {
        ring.run(0, move || async move { IS_WELL.set(is_well) });
        let shard = ring.shard(0);
        assert_eq!(told(&shard).iter().map(|(name, _)| name).collect::<Vec<_>>(), expected);
    }
    ring.stop();
}

#[test]
fn a_service_finds_its_stage_whenever_it_is_read() {
    let mut builder = shards(1);
    let parity =
        builder.stage("parity", StageOptions::default(), |_| async { Ok(Parity::default()) });
    let found = Notes::default();
    let told = found.clone();
    builder.metrics("parity", NUMBERS, move || {
        told.add(panic::catch_unwind(|| parity.instance()).is_ok());
        (0, 0)
    });
    // From the turn that made it to the turn that is the last.
    Ring::start(builder).stop();
    let found = found.all();
    assert!(found.len() >= 2 && found.iter().all(|is_found| *is_found), "{found:?}");
}

#[test]
#[should_panic(expected = "two metrics named parity_shard")]
fn a_name_that_is_taken_is_a_panic_like_that_of_a_stage() {
    Builder::new().metrics("parity", PLACE, || 0.0).metrics("parity", PLACE, || 0.0);
}
