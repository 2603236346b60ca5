//! The controllers of a stage as a workload file has them, put on its options.

use std::time::Duration;

use forebay::{
    BatchRule, BreakerOptions, Conditioning, Preset, RateLimit, Retry, ScalingRule, SmallestBatch,
    StageOptions,
};

use crate::workload_file::{
    self, AdmissionLimits, BatchSize, Breaker, Conditioner, Counts, Scaling, Stage,
};

/// Sets what the file names; the rest keeps the service's own.
pub(super) fn set(options: &mut StageOptions, stage: &Stage) {
    if let Some(conditioner) = stage.conditioner {
        options.conditioning = conditioning(conditioner);
    }
    if let Some(AdmissionLimits { in_flight_max, rate_per_s }) = stage.admission {
        options.in_flight_max = in_flight_max.map_or(options.in_flight_max, |most| most as usize);
        options.admitted_per_s = rate_per_s.or(options.admitted_per_s);
    }
    let newest_first_after = stage.newest_first_us.map(Duration::from_micros);
    options.newest_first_after = newest_first_after.or(options.newest_first_after);
    let short_form = stage.rate_per_s.map(RateLimit::per_s);
    options.rate = stage.rate.map(rate_limit).or(short_form).or(options.rate.take());
    if let Some(rule) = stage.scaling {
        options.permits_rule = scaling_rule(rule);
    }
    if let Some(size) = stage.batch {
        options.batch = batch_rule(size);
    }
    if let Some(weights) = &stage.weights {
        set_weights(&mut options.weights, weights);
    }
    if let Some(workload_file::Retry { attempts_max, budget_percent }) = stage.retry {
        options.retry = Some(Retry { attempts_max, budget_percent, ..Retry::default() });
    }
    if let Some(Breaker { failures_percent, calls_min, window_ms, open_ms }) = stage.breaker {
        options.breaker = Some(BreakerOptions {
            failures_percent,
            calls_min,
            window: Duration::from_millis(window_ms),
            open_for: Duration::from_millis(open_ms),
        });
    }
}

fn conditioning(conditioner: Conditioner) -> Option<Conditioning> {
    let (preset, target) = match conditioner {
        Conditioner::None => return None,
        Conditioner::Inflight(target) => (Preset::InFlight, target),
        Conditioner::Usits03(target) => (Preset::Usits03, target),
        Conditioner::Direct(target) => (Preset::Direct, target),
        Conditioner::Pid(target) => (Preset::Pid, target),
        Conditioner::Codel(target) => (Preset::Codel, target),
    };
    let target = Duration::from_micros(target.target_us);
    Some(Conditioning { preset, target, ..Conditioning::default() })
}

fn rate_limit(rate: workload_file::Rate) -> RateLimit {
    let counts = match rate.counts {
        Counts::Calls => forebay::Counts::Calls,
        Counts::Items => forebay::Counts::Items,
        Counts::Weight => forebay::Counts::Weight,
    };
    RateLimit { counts, ..RateLimit::per_s(rate.per_s) }
}

fn scaling_rule(scaling: Scaling) -> ScalingRule {
    match scaling {
        Scaling::QueueThreshold { threshold, sample_ms } => ScalingRule::QueueThreshold {
            threshold: threshold as usize,
            sample: Duration::from_millis(sample_ms),
        },
        Scaling::Gradient { sample_ms } => {
            ScalingRule::Gradient { sample: Duration::from_millis(sample_ms) }
        }
    }
}

fn batch_rule(size: BatchSize) -> BatchRule {
    match size {
        BatchSize::Fixed => BatchRule::Fixed,
        BatchSize::Smallest => BatchRule::Smallest(SmallestBatch::default()),
        BatchSize::BudgetUs(us) => BatchRule::Budget { p99: Duration::from_micros(us) },
    }
}

/// Those from priority 0 on; the priorities above weigh as the last that is named.
fn set_weights(all: &mut [u32], named: &[u32]) {
    let Some(last) = named.last() else { return };
    for (weight, named) in all.iter_mut().zip(named.iter().chain(std::iter::repeat(last))) {
        *weight = *named;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> StageOptions {
        let mut options = StageOptions::default();
        set(&mut options, &serde_json::from_str(text).unwrap());
        options
    }

    #[test]
    fn every_preset_reaches_the_engine_with_its_target() {
        for (word, preset) in [
            ("inflight", Preset::InFlight),
            ("usits03", Preset::Usits03),
            ("direct", Preset::Direct),
            ("pid", Preset::Pid),
            ("codel", Preset::Codel),
        ] {
            let text = format!(r#"{{"conditioner": {{"{word}": {{"target_us": 70000}}}}}}"#);
            let conditioning = options(&text).conditioning.unwrap();
            assert_eq!(conditioning.preset, preset);
            assert_eq!(conditioning.target, Duration::from_millis(70));
        }
        assert!(options(r#"{"conditioner": "none"}"#).conditioning.is_none());
    }

    #[test]
    fn a_rate_counts_calls_unless_it_says_what() {
        let rate = |text| options(text).rate.unwrap();
        assert_eq!(rate(r#"{"rate_per_s": 100}"#).counts, forebay::Counts::Calls);
        let items = rate(r#"{"rate": {"per_s": 100, "counts": "items"}}"#);
        assert_eq!((items.per_s, items.counts), (100, forebay::Counts::Items));
        assert!(options("{}").rate.is_none());
    }

    #[test]
    fn every_other_setting_reaches_the_engine() {
        let options = options(
            r#"{"admission": {"in_flight_max": 3, "rate_per_s": 9},
                "scaling": {"queue_threshold": {"threshold": 7, "sample_ms": 11}},
                "batch": {"budget_us": 250}, "weights": [1, 5],
                "retry": {"attempts_max": 2, "budget_percent": 5}, "breaker": {"calls_min": 4}}"#,
        );
        assert_eq!((options.in_flight_max, options.admitted_per_s), (3, Some(9)));
        let sample = Duration::from_millis(11);
        let rule = ScalingRule::QueueThreshold { threshold: 7, sample };
        assert_eq!(options.permits_rule, rule);
        assert_eq!(options.batch, BatchRule::Budget { p99: Duration::from_micros(250) });
        assert_eq!(options.weights[..3], [1, 5, 5]);
        let retry = options.retry.unwrap();
        assert_eq!((retry.attempts_max, retry.budget_percent), (2, 5));
        let breaker = options.breaker.unwrap();
        assert_eq!((breaker.calls_min, breaker.failures_percent), (4, 50));
    }
}
