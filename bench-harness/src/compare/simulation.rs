//! How often the rule is right, on simulated runs of a host that drifts.
//!
//! The model follows a recorded trace of one fixed CPU kernel on a shared two-core guest: repetition
//! means wander with a coefficient of variation of 1.9 % and a correlation of 0.5 from one to the next,
//! and from run to run the whole level moves. The canary sees the same host, with noise of its own.
//! Seeds are fixed, so the counts below are the same on every machine.

use super::*;
use crate::dump::{Canary, Measured, sample};

const WANDER: f64 = 0.019;
const CORRELATION: f64 = 0.5;
const RUNS: u64 = 200;

/// SplitMix64, and normal numbers from it.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = u32::try_from((z ^ (z >> 31)) >> 32).unwrap();
        (f64::from(bits) + 0.5) / 4_294_967_296.0
    }

    fn normal(&mut self) -> f64 {
        crate::stats::normal_quantile(self.uniform())
    }
}

/// One simulated comparison.
#[derive(Debug, Clone, Copy)]
struct Setting {
    n_repetitions: u32,
    /// How much slower the new build is.
    slower: f64,
    order: Order,
    /// Standard deviation of the host's level from run to run.
    level_moves: f64,
}

/// How slow the host is at each repetition of both sides.
fn hosts(random: &mut Random, setting: Setting) -> [Vec<f64>; 2] {
    let n = usize::try_from(setting.n_repetitions).unwrap();
    let mut wander = random.normal();
    let mut trace = Vec::with_capacity(2 * n);
    for _ in 0..2 * n {
        let fresh = (1.0 - CORRELATION * CORRELATION).sqrt();
        wander = CORRELATION * wander + fresh * random.normal();
        trace.push(1.0 + WANDER * wander);
    }
    match setting.order {
        Order::Sequential => {
            let levels = [0, 1].map(|_| 1.0 + setting.level_moves * random.normal());
            let side =
                |idx: usize| trace[idx * n..][..n].iter().map(|host| host * levels[idx]).collect();
            [side(0), side(1)]
        }
        // The order within each pair is tossed.
        Order::Interleaved => {
            let mut sides = [Vec::new(), Vec::new()];
            for pair in trace.chunks(2) {
                let first = usize::from(random.uniform() < 0.5);
                sides[first].push(pair[0]);
                sides[1 - first].push(pair[1]);
            }
            sides
        }
    }
}

/// A run on that host.
fn simulated(random: &mut Random, template: &Dump, hosts: &[f64], slower: f64) -> Dump {
    let mut dump = template.clone();
    for (repetition, host) in dump.cells[0].repetitions.iter_mut().zip(hosts) {
        let mut slow = |own_noise: f64| host * slower * (1.0 + own_noise * random.normal());
        repetition.throughput_per_s = Measured::number(20_000.0 / slow(0.003));
        repetition.goodput_per_s = Measured::absent("no deadline");
        let response = &mut repetition.latency.response;
        response.p50_ns = whole(84_000.0 * slow(0.005)).into();
        response.p99_ns = whole(410_000.0 * slow(0.01)).into();
        response.p999_ns = whole(1_300_000.0 * slow(0.03)).into();
        repetition.extra.clear();
        let mut canary = || whole(50_000_000.0 * host * (1.0 + 0.004 * random.normal()));
        let (before, after) = (canary(), canary());
        repetition.canary = Canary::from_timings(before, after, Measured::number(0.1));
    }
    dump
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive and far below 2^53"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// Compares many simulated pairs and counts those of which `is` holds.
fn count(setting: Setting, is: impl Fn(&Comparison) -> bool) -> u64 {
    count_of(setting, |_| {}, is)
}

/// The same, of dumps with less in them.
fn count_of(setting: Setting, reduce: impl Fn(&mut Dump), is: impl Fn(&Comparison) -> bool) -> u64 {
    let mut random = Random(20_260_101);
    let mut template = sample::dump(setting.n_repetitions);
    template.cells.truncate(1);
    let mut holds = 0;
    for _ in 0..RUNS {
        let [old, fresh] = hosts(&mut random, setting);
        let mut base = simulated(&mut random, &template, &old, 1.0);
        let mut new = simulated(&mut random, &template, &fresh, setting.slower);
        reduce(&mut base);
        reduce(&mut new);
        if setting.order == Order::Interleaved {
            new.run.id = "new".to_owned();
            new.run.interleaved_with = Some(base.run.id.clone());
            base.run.interleaved_with = Some(new.run.id.clone());
        }
        holds += u64::from(is(&compare(&base, &new, &Options::default())));
    }
    holds
}

fn verdict_of(comparison: &Comparison, name: &str) -> Verdict {
    let metrics = &comparison.cells[0].metrics;
    metrics.iter().find(|metric| metric.metric == name).unwrap().verdict
}

fn is_false_alarm(comparison: &Comparison) -> bool {
    comparison.counts.regressed + comparison.counts.improved > 0
}

use Order::{Interleaved, Sequential};

#[test]
fn a_program_against_itself_on_a_drifting_host_is_accused_in_at_most_1_percent() {
    for (n_repetitions, order, level_moves) in [
        (5, Sequential, 0.0),
        (5, Sequential, 0.02),
        (10, Sequential, 0.0),
        (10, Sequential, 0.02),
        (20, Sequential, 0.03),
        (10, Interleaved, 0.0),
        (20, Interleaved, 0.0),
    ] {
        let setting = Setting { n_repetitions, slower: 1.0, order, level_moves };
        let accused = count(setting, is_false_alarm);
        assert!(
            accused * 100 <= RUNS,
            "{accused} of {RUNS}: {n_repetitions} {order:?} {level_moves}"
        );
    }
}

fn is_throughput_regressed(comparison: &Comparison) -> bool {
    comparison.exit_code == 5 && verdict_of(comparison, "throughput_per_s") == Verdict::Regressed
}

/// Leaves throughput alone in the dump: the recorded trace had one metric, too.
fn with_one_metric(dump: &mut Dump) {
    for repetition in &mut dump.cells[0].repetitions {
        repetition.latency.response = crate::dump::Latency::absent("not looked at");
        repetition.per_op = crate::dump::MeasuredMap::default();
    }
}

#[test]
fn five_percent_slower_is_found_in_at_least_90_percent_of_interleaved_tens() {
    let setting = Setting { n_repetitions: 10, slower: 1.05, order: Interleaved, level_moves: 0.0 };
    let found = count_of(setting, with_one_metric, is_throughput_regressed);
    assert!(found * 100 >= 90 * RUNS, "{found} of {RUNS}");
}

#[test]
fn holms_price_for_five_metrics_is_small() {
    let setting = Setting { n_repetitions: 10, slower: 1.05, order: Interleaved, level_moves: 0.0 };
    let found = count(setting, is_throughput_regressed);
    assert!(found * 100 >= 80 * RUNS, "{found} of {RUNS}");
}

#[test]
fn runs_one_after_the_other_find_less_and_then_do_not_decide() {
    let setting = Setting { n_repetitions: 10, slower: 1.05, order: Sequential, level_moves: 0.0 };
    let found = count_of(setting, with_one_metric, is_throughput_regressed);
    let undecided =
        count_of(setting, with_one_metric, |comparison| comparison.counts.inconclusive == 1);
    assert!(found * 100 >= 60 * RUNS, "{found} of {RUNS}");
    assert_eq!(found + undecided, RUNS);
}

#[test]
fn what_is_slower_is_never_praised() {
    for (n_repetitions, slower, order) in
        [(10, 1.02, Sequential), (20, 1.03, Interleaved), (10, 1.05, Sequential)]
    {
        let setting = Setting { n_repetitions, slower, order, level_moves: 0.01 };
        let praised = count(setting, |comparison| comparison.counts.improved > 0);
        assert!(praised * 100 <= RUNS, "{praised} of {RUNS} at {slower}");
    }
}

#[test]
fn the_same_program_is_called_the_same_in_most_interleaved_runs() {
    let setting = Setting { n_repetitions: 20, slower: 1.0, order: Interleaved, level_moves: 0.0 };
    let same = count(setting, |comparison| {
        verdict_of(comparison, "throughput_per_s") == Verdict::NoDifference
    });
    assert!(same * 100 >= 90 * RUNS, "{same} of {RUNS}");
}

#[test]
fn fewer_than_four_repetitions_never_give_a_verdict_on_a_timing() {
    for n_repetitions in 1..4 {
        let setting = Setting { n_repetitions, slower: 2.0, order: Interleaved, level_moves: 0.0 };
        let judged =
            count(setting, |comparison| comparison.exit_code != 0 || is_false_alarm(comparison));
        assert_eq!(judged, 0, "n = {n_repetitions}");
    }
}

#[test]
fn a_host_that_drifted_beyond_the_floor_gives_no_verdict_on_a_timing() {
    let mut random = Random(1);
    let hosts = [1.0; 10];
    let base = simulated(&mut random, &sample::dump(10), &hosts, 1.0);
    let mut new = simulated(&mut random, &sample::dump(10), &hosts, 2.0);
    for repetition in &mut new.cells[0].repetitions {
        repetition.canary = Canary::from_timings(54_000_000, 54_000_000, Measured::number(0.1));
    }
    let comparison = compare(&base, &new, &Options::default());
    assert_eq!(verdict_of(&comparison, "throughput_per_s"), Verdict::Inconclusive);
    assert!(comparison.cells[0].metrics[0].reason.contains("host drift"));
    // A floor above the drift lets its metric through.
    assert_eq!(verdict_of(&comparison, "response_p999_ns"), Verdict::Regressed);
}
