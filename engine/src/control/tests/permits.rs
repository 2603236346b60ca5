//! The model of permits: batches arrive by a Poisson process at a downstream that works on some of
//! them at full speed, and on more of them the slower.

use std::collections::VecDeque;
use std::time::Duration;

use super::server::time;
use crate::control::scaling::{Scaler, Scaling, ScalingRule};

/// What a batch takes where the downstream is not full, on average.
const RUN_S: f64 = 0.004;

/// How the downstream's run times depend on how many it works on.
#[derive(Clone, Copy, Debug)]
enum Downstream {
    /// Not at all.
    Wide,
    /// It shares the capacity for so many.
    Sharing(usize),
}

/// Runs through loads, each as batches in flight that are needed until a moment. The permits after
/// each event.
fn run(scaling: &Scaling, downstream: Downstream, loads: &[(f64, f64)]) -> Vec<(f64, usize)> {
    let mut scaler = Scaler::new(scaling);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut exponential = move |mean: f64| -(1.0 - rng.f64()).ln() * mean;
    let (mut seen, mut now, mut arrives) = (vec![], 0.0, 0.0);
    let mut queue: VecDeque<()> = VecDeque::new();
    let mut out: Vec<(f64, f64)> = vec![];
    for &(need, until) in loads {
        while now < until {
            let ends = out.iter().map(|(_, ends)| *ends).fold(f64::INFINITY, f64::min);
            let looks =
                scaler.next_sample().map_or(f64::INFINITY, |at| at.as_nanos() as f64 * 1e-9);
            now = f64::min(f64::min(ends, arrives), f64::max(looks, now));
            if now >= arrives {
                queue.push_back(());
                arrives = now + exponential(RUN_S / f64::max(need, 1e-3));
            }
            if let Some(idx) = out.iter().position(|(_, ends)| *ends <= now) {
                let (started, ends) = out.swap_remove(idx);
                scaler.on_batch(time(ends), 1, Duration::from_secs_f64(ends - started));
            }
            while out.len() < scaler.permits() && queue.pop_front().is_some() {
                let slower = match downstream {
                    Downstream::Wide => 1.0,
                    Downstream::Sharing(n) => f64::max(1.0, (out.len() + 1) as f64 / n as f64),
                };
                // Half of the run time varies.
                let run = RUN_S * slower * (0.5 + exponential(0.5));
                out.push((now, now + run));
                scaler.observe(time(now), queue.len(), out.len());
            }
            scaler.observe(time(now), queue.len(), out.len());
            let (min, max) = (scaling.min, scaling.max);
            assert!((min..=max).contains(&scaler.permits()), "{scaler:?}");
            seen.push((now, scaler.permits()));
        }
    }
    seen
}

fn scaling(rule: ScalingRule) -> Scaling {
    Scaling { min: 1, max: 20, rule }
}

const QUEUE: ScalingRule = ScalingRule::queue_threshold(4);
const GRADIENT: ScalingRule = ScalingRule::gradient();

/// The least and the most permits in a span.
fn range(seen: &[(f64, usize)], from: f64, to: f64) -> (usize, usize) {
    let within = seen.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, permits)| *permits);
    (within.clone().min().unwrap(), within.max().unwrap())
}

/// How often the permits turn from up to down or back, in a span.
fn n_turns(seen: &[(f64, usize)], from: f64, to: f64) -> usize {
    let within: Vec<_> = seen.iter().filter(|(at, _)| (from..to).contains(at)).collect();
    let moves: Vec<bool> = within
        .windows(2)
        .filter(|pair| pair[0].1 != pair[1].1)
        .map(|pair| pair[1].1 > pair[0].1)
        .collect();
    moves.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[test]
fn permits_rise_to_the_need_and_go_away_when_idle() {
    for rule in [QUEUE, GRADIENT] {
        let loads = [(0.5, 10.0), (6.5, 70.0), (0.5, 90.0), (0.0, 100.0)];
        let seen = run(&scaling(rule.clone()), Downstream::Wide, &loads);
        let busy = range(&seen, 12.0, 70.0);
        println!("{rule:?}: {busy:?} for 6.5, then {:?}", range(&seen, 75.0, 90.0));
        // Bursts need more than the mean.
        assert!(busy.0 >= 7 && busy.1 <= 18, "{rule:?}: {busy:?}");
        assert!(range(&seen, 75.0, 90.0).1 <= 6, "{rule:?}");
        assert_eq!(seen.last().unwrap().1, 1, "{rule:?}");
    }
}

#[test]
fn a_need_that_stands_makes_at_most_three_turns_a_minute() {
    for rule in [QUEUE, GRADIENT] {
        for need in [0.7, 2.5, 6.5, 12.0] {
            let seen = run(&scaling(rule.clone()), Downstream::Wide, &[(need, 130.0)]);
            for from in [10.0, 70.0] {
                let n_turns = n_turns(&seen, from, from + 60.0);
                println!(
                    "{rule:?} for {need}: {n_turns} turns, {:?}",
                    range(&seen, from, from + 60.0)
                );
                assert!(n_turns <= 3, "{rule:?} for {need} from {from}: {n_turns}");
            }
        }
    }
}

#[test]
fn the_gradient_stops_where_the_downstream_is_full_and_the_queue_rule_does_not() {
    let loads = [(0.5, 10.0), (8.0, 60.0)];
    let full = Downstream::Sharing(4);
    let (least, most) = range(&run(&scaling(GRADIENT), full, &loads), 20.0, 60.0);
    assert!(least >= 4 && most <= 8, "{least} to {most} for 4");
    assert_eq!(range(&run(&scaling(QUEUE), full, &loads), 20.0, 60.0), (20, 20));
}

#[test]
fn permits_that_do_not_bind_stay_as_they_are() {
    for rule in [QUEUE, GRADIENT] {
        let mut scaler = Scaler::new(&Scaling { min: 4, ..scaling(rule) });
        for step in 0..1_000 {
            // Three are out and a queue stands: whatever keeps it, it is not the permits.
            let now = time(f64::from(step) * 0.02);
            scaler.on_batch(now, 1, Duration::from_millis(4));
            scaler.observe(now, 100, 3);
        }
        assert_eq!(scaler.permits(), 4);
    }
}

#[test]
fn larger_batches_that_run_longer_are_no_slowness() {
    let mut scaler = Scaler::new(&scaling(GRADIENT));
    // At rest: half a millisecond, and one for each of a few items.
    for step in 0..100_usize {
        let (now, n_items) = (time(step as f64 * 0.02), 1 + step % 3);
        scaler.on_batch(now, n_items, Duration::from_micros(500 + 1_000 * n_items as u64));
        scaler.observe(now, 0, 0);
    }
    for step in 100..400_u32 {
        let now = time(f64::from(step) * 0.02);
        scaler.on_batch(now, 100, Duration::from_micros(100_500));
        scaler.observe(now, 1_000, scaler.permits());
    }
    assert_eq!(scaler.permits(), 20);
}

#[test]
fn without_a_rule_there_are_as_many_as_may_be() {
    let mut scaler = Scaler::new(&scaling(ScalingRule::Fixed));
    scaler.observe(time(100.0), 0, 0);
    assert_eq!((scaler.permits(), scaler.next_sample()), (20, None));
}
