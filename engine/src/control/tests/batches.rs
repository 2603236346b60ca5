//! The model of batch sizes: a stage with one permit, where a dispatch costs `a` and each item `b`.
//! The smallest batch that suffices at `L` items a second is then `ceil(L a / (1 - L b))`.

use std::time::Duration;

use super::server::time;
use crate::control::batch::{BatchRule, BatchSize, SmallestBatch};

const ITEMS_MAX: usize = 1_000;

/// Costs in seconds, and how much a run time varies.
#[derive(Clone, Copy, Debug)]
struct Cost {
    dispatch: f64,
    item: f64,
    noise: Noise,
}

#[derive(Clone, Copy, Debug)]
enum Noise {
    None,
    /// Every run time is multiplied by an exponential of mean 1.
    Exponential,
}

const COST: Cost = Cost { dispatch: 50e-6, item: 5e-6, noise: Noise::None };

/// What was seen after one batch.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: f64,
    items_max: usize,
    run: f64,
    depth: usize,
}

/// A rule for the size, of ours or another.
trait Sizes {
    fn items_max(&self) -> usize;
    fn on_batch(&mut self, at: f64, n_items: usize, run: f64, depth: usize);
}

impl Sizes for BatchSize {
    fn items_max(&self) -> usize {
        self.items_max()
    }

    fn on_batch(&mut self, at: f64, n_items: usize, run: f64, depth: usize) {
        self.on_batch(time(at), n_items, Duration::from_secs_f64(run), depth);
    }
}

/// Runs through loads, each in items a second until a moment, with Poisson arrivals.
fn run(sizes: &mut impl Sizes, cost: Cost, loads: &[(f64, f64)]) -> Vec<Seen> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut exponential = move |mean: f64| -(1.0 - rng.f64()).ln() * mean;
    let (mut seen, mut now, mut depth, mut arrives) = (Vec::new(), 0.0, 0_usize, 0.0);
    for &(per_s, until) in loads {
        while now < until {
            if depth == 0 {
                now = f64::max(now, arrives);
            }
            while arrives <= now {
                depth += 1;
                arrives += exponential(1.0 / per_s);
            }
            let n_items = depth.min(sizes.items_max());
            let mut run = cost.dispatch + cost.item * n_items as f64;
            if let Noise::Exponential = cost.noise {
                run *= exponential(1.0);
            }
            depth -= n_items;
            now += run;
            while arrives <= now {
                depth += 1;
                arrives += exponential(1.0 / per_s);
            }
            sizes.on_batch(now, n_items, run, depth);
            seen.push(Seen { at: now, items_max: sizes.items_max(), run, depth });
        }
    }
    seen
}

fn smallest() -> BatchSize {
    BatchSize::new(&BatchRule::Smallest(SmallestBatch::default()), ITEMS_MAX)
}

fn needed(per_s: f64, cost: Cost) -> f64 {
    (per_s * cost.dispatch / (1.0 - per_s * cost.item)).ceil()
}

/// What is wrong with how a rule did from a moment on.
fn fault(seen: &[Seen], from: f64, per_s: f64, cost: Cost) -> Option<String> {
    let needed = needed(per_s, cost);
    let seen: Vec<&Seen> = seen.iter().filter(|seen| seen.at >= from).collect();
    // A try of a smaller size may cost two windows of the shortfall.
    let depth_max = (per_s * 0.05).max(needed * 20.0);
    let small = seen.iter().find(|seen| (seen.items_max as f64) < needed * 0.8);
    let deep = seen.iter().find(|seen| seen.depth as f64 > depth_max);
    let mean = seen.iter().map(|seen| seen.items_max as f64).sum::<f64>() / seen.len() as f64;
    println!("{per_s}/s needs {needed}: mean {mean:.1}, {:?}", seen.last());
    match (small, deep) {
        (Some(small), _) => Some(format!("needs {needed}: {small:?}")),
        (None, Some(deep)) => Some(format!("a backlog beyond {depth_max}: {deep:?}")),
        (None, None) if mean > needed * 2.0 + 1.0 => Some(format!("{mean} instead of {needed}")),
        (None, None) => None,
    }
}

#[test]
fn the_smallest_batch_that_suffices_is_found_and_no_backlog_grows() {
    for per_s in [5_000.0, 30_000.0, 60_000.0, 100_000.0, 150_000.0, 180_000.0] {
        let seen = run(&mut smallest(), COST, &[(per_s, 60.0)]);
        assert_eq!(fault(&seen, 30.0, per_s, COST), None);
    }
    let slow = Cost { dispatch: 2e-3, item: 20e-6, ..COST };
    for per_s in [1_000.0, 10_000.0, 30_000.0] {
        let seen = run(&mut smallest(), slow, &[(per_s, 60.0)]);
        assert_eq!(fault(&seen, 30.0, per_s, slow), None);
    }
}

#[test]
fn a_load_that_comes_and_goes_is_followed() {
    let seen =
        run(&mut smallest(), COST, &[(100_000.0, 30.0), (30_000.0, 70.0), (150_000.0, 90.0)]);
    let until = |until: f64| seen.partition_point(|seen| seen.at < until);
    assert_eq!(fault(&seen[..until(70.0)], 55.0, 30_000.0, COST), None);
    assert_eq!(fault(&seen, 80.0, 150_000.0, COST), None);
}

/// The published rule where it stands on 1: a factor that is applied to an integer.
struct Truncating {
    items_max: usize,
}

impl Sizes for Truncating {
    fn items_max(&self) -> usize {
        self.items_max
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the fault that is shown"
    )]
    fn on_batch(&mut self, _: f64, _: usize, _: f64, depth: usize) {
        if depth > self.items_max {
            self.items_max = (self.items_max as f64 * 1.2) as usize;
        }
    }
}

#[test]
fn a_size_of_one_grows_to_two_where_the_published_integer_stands_still() {
    let loads = [(1_000.0, 30.0), (30_000.0, 60.0)];
    let mut ours = smallest();
    let seen = run(&mut ours, COST, &loads);
    let before = seen.iter().rfind(|seen| seen.at < 30.0).unwrap();
    assert_eq!(before.items_max, 1);
    assert_eq!(fault(&seen, 40.0, 30_000.0, COST), None);
    let published = run(&mut Truncating { items_max: 1 }, COST, &loads);
    assert!(fault(&published, 40.0, 30_000.0, COST).is_some());
}

#[test]
fn the_budget_is_kept_by_99_of_100_batches_and_used() {
    for (noise, per_s) in [(Noise::None, 195_000.0), (Noise::Exponential, 195_000.0)] {
        let cost = Cost { noise, ..COST };
        let p99 = Duration::from_millis(2);
        let mut sizes = BatchSize::new(&BatchRule::Budget { p99 }, ITEMS_MAX);
        let seen = run(&mut sizes, cost, &[(per_s * 2.0, 30.0)]);
        let late: Vec<bool> = seen
            .iter()
            .filter(|seen| seen.at > 5.0)
            .map(|seen| seen.run > p99.as_secs_f64())
            .collect();
        let n_late = late.iter().filter(|late| **late).count();
        let part = n_late as f64 / late.len() as f64;
        println!("{noise:?}: {part} late, at most {} items", sizes.items_max());
        assert!(part <= 0.015, "{part} of {}", late.len());
        match noise {
            Noise::None => assert!((370..=391).contains(&sizes.items_max()), "390 take 2 ms"),
            // 4.6 times the mean is the 99th percentile: 0.43 ms, which is 77 items.
            Noise::Exponential => assert!((40..=130).contains(&sizes.items_max())),
        }
    }
}

#[test]
fn a_budget_below_one_item_still_sends_one() {
    let mut sizes = BatchSize::new(&BatchRule::Budget { p99: Duration::from_micros(1) }, ITEMS_MAX);
    run(&mut sizes, COST, &[(1_000.0, 1.0)]);
    assert_eq!(sizes.items_max(), 1);
}

#[test]
fn without_a_rule_a_batch_may_be_as_large_as_the_stage_allows() {
    assert_eq!(BatchSize::new(&BatchRule::Fixed, 128).items_max(), 128);
}
