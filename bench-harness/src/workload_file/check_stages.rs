//! What of stages has the right shape and still cannot be run.

use forebay_workloads::staged::config::PRIORITY_MAX;

use super::check::{Faults, IMPOSSIBLE, PAUSE_MS_MAX};
use super::control::{BatchSize, Breaker, Scaling};
use super::position::push_segment;
use super::shape::{Fault, nearest};
use super::types::{Placement, Stage, Window, WorkloadFile};
use super::values::ShardCount;

/// Most items of a batch or of a queue.
const ITEMS_MAX: u32 = 10_000_000;
/// Highest rate of calls, items or weight: one a nanosecond.
const RATE_PER_S_MAX: u64 = 1_000_000_000;
/// Most tries of one batch: beyond it the budget is gone long before.
const ATTEMPTS_MAX: u32 = 10;
/// Highest weight of a priority; the lowest is 1.
const WEIGHT_MAX: u32 = 1_000;

pub(super) fn check_stages(file: &WorkloadFile, faults: &mut Faults) {
    let declared = file.workload.stages();
    for (name, stage) in &file.stages {
        let mut pointer = "/stages".to_owned();
        push_segment(&mut pointer, name);
        if !declared.contains(name) {
            let workload = file.workload.tag();
            let help = nearest(name, &declared).map(|near| format!("did you mean `{near}`?"));
            let message = format!("this {workload} workload has no stage `{name}`");
            let fault = Fault::new(IMPOSSIBLE, pointer.clone(), message);
            faults.put(Fault { on_key: true, help, allowed: declared.clone(), ..fault });
        }
        for (option, why) in file.workload.fixed_options(name) {
            if is_set(stage, option) {
                let message = format!("cannot be set for `{name}`: {why}");
                faults.add(format!("{pointer}/{option}"), message);
            }
        }
        check_queue(&pointer, stage, file.engine.shards, faults);
        check_controllers(&pointer, stage, faults);
    }
}

/// Whether a file sets an option that some services fix.
fn is_set(stage: &Stage, option: &str) -> bool {
    match option {
        "placement" => stage.placement.is_some(),
        "permits" => stage.permits.is_some(),
        "newest_first_us" => stage.newest_first_us.is_some(),
        _ => unreachable!("no service fixes `{option}`"),
    }
}

/// The queue, the window and the permits.
fn check_queue(pointer: &str, stage: &Stage, shards: ShardCount, faults: &mut Faults) {
    let at = |field: &str| format!("{pointer}/{field}");
    if let Some(items_max) = stage.items_max {
        faults.range(at("items_max"), items_max, 1, ITEMS_MAX);
    }
    if let Some(queue_max) = stage.queue_max {
        faults.range(at("queue_max"), queue_max, 1, ITEMS_MAX);
    }
    if let Some(Window::LingerUs(linger_us)) = stage.window {
        faults.range(at("window/linger_us"), linger_us, 1, PAUSE_MS_MAX * 1_000);
    }
    if let Some(permits) = stage.permits
        && (permits.min == 0 || permits.max < permits.min || permits.max > ITEMS_MAX)
    {
        let (min, max) = (permits.min, permits.max);
        faults.add(at("permits"), format!("must be at least 1, and min ({min}) <= max ({max})"));
    }
    if let (Some(Placement::Gather(shard)), ShardCount::Fixed(shards)) = (stage.placement, shards)
        && shard >= shards
    {
        let last = shards.saturating_sub(1);
        faults.add(
            at("placement/gather"),
            format!("no shard {shard}: {shards} shards are numbered 0 to {last}"),
        );
    }
    for (field, value) in [("run_max_ms", stage.run_max_ms), ("call_max_ms", stage.call_max_ms)] {
        if let Some(value) = value {
            faults.range(at(field), value, 1, PAUSE_MS_MAX);
        }
    }
}

/// What moves while the stage runs, and what it may send downstream.
fn check_controllers(pointer: &str, stage: &Stage, faults: &mut Faults) {
    let at = |field: &str| format!("{pointer}/{field}");
    if let Some(target_us) = stage.conditioner.and_then(super::control::Conditioner::target_us) {
        let pointer = at("conditioner");
        faults.range(pointer, target_us, 1, PAUSE_MS_MAX * 1_000);
    }
    if let Some(limits) = stage.admission {
        if limits.in_flight_max.is_none() && limits.rate_per_s.is_none() {
            faults.add(at("admission"), "needs `in_flight_max` or `rate_per_s`".to_owned());
        }
        let in_flight_max = limits.in_flight_max.unwrap_or(1);
        faults.range(at("admission/in_flight_max"), in_flight_max, 1, ITEMS_MAX);
        let rate_per_s = limits.rate_per_s.unwrap_or(1);
        faults.range(at("admission/rate_per_s"), rate_per_s, 1, RATE_PER_S_MAX);
    }
    if let Some(us) = stage.newest_first_us {
        faults.range(at("newest_first_us"), us, 1, PAUSE_MS_MAX * 1_000);
    }
    if stage.rate.is_some() && stage.rate_per_s.is_some() {
        faults.add(at("rate_per_s"), "says the same as `rate`: use one of them".to_owned());
    }
    faults.range(at("rate/per_s"), stage.rate.map_or(1, |rate| rate.per_s), 1, RATE_PER_S_MAX);
    faults.range(at("rate_per_s"), stage.rate_per_s.unwrap_or(1), 1, RATE_PER_S_MAX);
    check_scaling(pointer, stage, faults);
    if let Some(BatchSize::BudgetUs(budget_us)) = stage.batch {
        faults.range(at("batch/budget_us"), budget_us, 1, PAUSE_MS_MAX * 1_000);
    }
    check_weights(pointer, stage, faults);
    if let Some(retry) = stage.retry {
        faults.range(at("retry/attempts_max"), retry.attempts_max, 1, ATTEMPTS_MAX);
        faults.range(at("retry/budget_percent"), retry.budget_percent, 0, 100);
    }
    if let Some(Breaker { failures_percent, calls_min, window_ms, open_ms }) = stage.breaker {
        faults.range(at("breaker/failures_percent"), failures_percent, 1, 100);
        faults.range(at("breaker/calls_min"), calls_min, 1, ITEMS_MAX);
        faults.range(at("breaker/window_ms"), window_ms, 1, PAUSE_MS_MAX);
        faults.range(at("breaker/open_ms"), open_ms, 1, PAUSE_MS_MAX);
    }
}

fn check_scaling(pointer: &str, stage: &Stage, faults: &mut Faults) {
    let Some(scaling) = stage.scaling else { return };
    if stage.permits.is_none_or(|permits| permits.min == permits.max) {
        let why = "needs bounds to move between: `\"permits\": {\"min\": n, \"max\": n}`";
        faults.add(format!("{pointer}/scaling"), why.to_owned());
    }
    let (rule, sample_ms) = match scaling {
        Scaling::QueueThreshold { threshold, sample_ms } => {
            let at = format!("{pointer}/scaling/queue_threshold/threshold");
            faults.range(at, threshold, 1, ITEMS_MAX);
            ("queue_threshold", sample_ms)
        }
        Scaling::Gradient { sample_ms } => ("gradient", sample_ms),
    };
    faults.range(format!("{pointer}/scaling/{rule}/sample_ms"), sample_ms, 1, PAUSE_MS_MAX);
}

fn check_weights(pointer: &str, stage: &Stage, faults: &mut Faults) {
    let Some(weights) = &stage.weights else { return };
    let most = usize::from(PRIORITY_MAX) + 1;
    if weights.is_empty() || weights.len() > most {
        let why = format!("must hold 1 to {most} weights, from priority 0 on");
        faults.add(format!("{pointer}/weights"), why);
    }
    for (priority, weight) in weights.iter().enumerate() {
        faults.range(format!("{pointer}/weights/{priority}"), *weight, 1, WEIGHT_MAX);
    }
}
