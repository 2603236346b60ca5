//! One metric over the repetitions of a cell, and the closed list of metrics.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cell::{MetricKind, Repetition};
use super::measured::{Finite, Measured, record};
use crate::stats;

/// Which direction of a metric is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// For information; never judged.
    None,
}

record! {
    /// Median and 95 % confidence interval of one metric over the repetitions.
    pub struct Summary {
        /// Repetitions that gave a value.
        pub n: u32,
        /// Which direction is good.
        pub better: Better,
        /// Whether equal code must give the equal value.
        pub kind: MetricKind,
    } measured {
        /// Median over the repetitions.
        pub median: Finite,
        /// Lower end of the interval of the median, from order statistics.
        pub ci95_low: Finite,
        /// Upper end of the interval of the median, from order statistics.
        pub ci95_high: Finite,
    }
}

/// A metric that every workload has; what a workload adds of its own stands under `extra.<name>`.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name in `summary`, in limits and in floors.
    pub name: &'static str,
    /// Which direction is good.
    pub better: Better,
    /// The least relative change worth a verdict, in percent, unless the workload file says otherwise.
    pub floor_percent: f64,
    of: fn(&Repetition) -> (Measured<Finite>, MetricKind),
}

/// The closed list of metrics, in the order in which people read them.
pub const METRICS: [Metric; 7] = [
    Metric { name: "throughput_per_s", better: Better::Higher, floor_percent: 2.0, of: throughput },
    Metric { name: "goodput_per_s", better: Better::Higher, floor_percent: 2.0, of: goodput },
    Metric { name: "response_p50_ns", better: Better::Lower, floor_percent: 3.0, of: p50 },
    Metric { name: "response_p99_ns", better: Better::Lower, floor_percent: 5.0, of: p99 },
    Metric { name: "response_p999_ns", better: Better::Lower, floor_percent: 10.0, of: p999 },
    Metric { name: "cpu_ns_per_op", better: Better::Lower, floor_percent: 2.0, of: cpu_ns },
    Metric { name: "allocs_per_op", better: Better::Lower, floor_percent: 2.0, of: allocs },
];

/// Prefix of the metrics that a workload adds.
pub const EXTRA_PREFIX: &str = "extra.";

/// Prefix, behind the other one, of refusals by their reason. A repetition names only reasons that it
/// met, so one that another repetition names and it does not was met 0 times.
pub const REJECTED_PREFIX: &str = "rejected.";

/// One metric of one cell: a value, or the reason for its absence, per repetition.
#[derive(Debug, Clone)]
pub struct Series {
    /// Which direction is good.
    pub better: Better,
    /// `Exact` only when every repetition says so.
    pub kind: MetricKind,
    /// One entry per repetition.
    pub values: Vec<Measured<Finite>>,
}

impl Series {
    /// Returns the values that are there.
    pub fn present(&self) -> Vec<f64> {
        self.values.iter().filter_map(Measured::get).collect()
    }

    /// Returns the reason of the first absence.
    pub fn absence(&self) -> Option<&str> {
        self.values.iter().find_map(Measured::reason)
    }
}

/// Returns the series of every metric that the repetitions hold, by its name in `summary`.
pub fn series(repetitions: &[Repetition]) -> BTreeMap<String, Series> {
    let mut all = BTreeMap::new();
    if repetitions.is_empty() {
        return all;
    }
    for metric in METRICS {
        let values: Vec<_> = repetitions.iter().map(metric.of).collect();
        let exact = values.iter().all(|(_, kind)| *kind == MetricKind::Exact);
        all.insert(
            metric.name.to_owned(),
            Series {
                better: metric.better,
                kind: if exact { MetricKind::Exact } else { MetricKind::Sampled },
                values: values.into_iter().map(|(value, _)| value).collect(),
            },
        );
    }
    for (name, extra) in repetitions.iter().flat_map(|repetition| &repetition.extra) {
        all.entry(format!("{EXTRA_PREFIX}{name}")).or_insert_with(|| Series {
            better: extra.better,
            kind: MetricKind::Sampled,
            values: repetitions.iter().map(|repetition| extra_value(repetition, name)).collect(),
        });
    }
    all
}

/// Builds the summary of a cell from its repetitions.
pub fn summarise(repetitions: &[Repetition]) -> BTreeMap<String, Summary> {
    series(repetitions).into_iter().map(|(name, series)| (name, Summary::of(&series))).collect()
}

impl Summary {
    /// Returns median and interval of a series; an absence takes the reason of the series.
    fn of(series: &Series) -> Self {
        let values = series.present();
        let reason = series.absence().unwrap_or("no repetition gave a value");
        let interval = stats::median_ci95(&values);
        let no_interval = if values.is_empty() {
            reason.to_owned()
        } else {
            format!("n/a (needs 6 repetitions; have {})", values.len())
        };
        let bound = |bound: Option<f64>| {
            Measured::from_option(bound.and_then(Finite::new), no_interval.clone())
        };
        Self {
            n: u32::try_from(values.len()).unwrap_or(u32::MAX),
            better: series.better,
            kind: series.kind,
            median: Measured::from_option(stats::median(&values).and_then(Finite::new), reason),
            ci95_low: bound(interval.map(|(low, _)| low)),
            ci95_high: bound(interval.map(|(_, high)| high)),
        }
    }
}

/// Returns the metric of this name, if it is one of the closed list.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

fn extra_value(repetition: &Repetition, name: &str) -> Measured<Finite> {
    match repetition.extra.get(name) {
        Some(extra) => extra.value.clone(),
        None if name.starts_with(REJECTED_PREFIX) => Measured::number(0.0),
        None => Measured::absent("this repetition did not report it"),
    }
}

fn throughput(repetition: &Repetition) -> (Measured<Finite>, MetricKind) {
    (repetition.throughput_per_s.clone(), MetricKind::Sampled)
}

fn goodput(repetition: &Repetition) -> (Measured<Finite>, MetricKind) {
    (repetition.goodput_per_s.clone(), MetricKind::Sampled)
}

fn p50(repetition: &Repetition) -> (Measured<Finite>, MetricKind) {
    nanoseconds(&repetition.latency.response.p50_ns)
}

fn p99(repetition: &Repetition) -> (Measured<Finite>, MetricKind) {
    nanoseconds(&repetition.latency.response.p99_ns)
}

fn p999(repetition: &Repetition) -> (Measured<Finite>, MetricKind) {
    nanoseconds(&repetition.latency.response.p999_ns)
}

fn cpu_ns(repetition: &Repetition) -> (Measured<Finite>, MetricKind) {
    per_op(repetition, "cpu_ns")
}

fn allocs(repetition: &Repetition) -> (Measured<Finite>, MetricKind) {
    per_op(repetition, "allocs")
}

fn nanoseconds(quantile: &Measured<u64>) -> (Measured<Finite>, MetricKind) {
    let value = match quantile {
        Measured::Value(ns) => Measured::number(super::to_f64(*ns)),
        Measured::Absent(reason) => Measured::Absent(reason.clone()),
    };
    (value, MetricKind::Sampled)
}

fn per_op(repetition: &Repetition, name: &str) -> (Measured<Finite>, MetricKind) {
    match repetition.per_op.get(name) {
        Some(Measured::Value(cost)) => (Measured::Value(cost.value), cost.kind),
        Some(Measured::Absent(reason)) => (Measured::Absent(reason.clone()), MetricKind::Sampled),
        None => (Measured::absent("the subject does not report it"), MetricKind::Sampled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::sample;

    #[test]
    fn fewer_than_six_repetitions_have_a_median_and_no_interval() {
        let summary = summarise(&sample::repetitions(5));
        let throughput = &summary["throughput_per_s"];
        assert_eq!(throughput.n, 5);
        assert!(throughput.median.get().is_some());
        assert_eq!(throughput.ci95_low.reason(), Some("n/a (needs 6 repetitions; have 5)"));
        assert!(summarise(&sample::repetitions(6))["throughput_per_s"].ci95_high.get().is_some());
    }

    #[test]
    fn an_absent_metric_keeps_the_reason_of_its_repetitions() {
        let mut repetitions = sample::repetitions(6);
        for repetition in &mut repetitions {
            repetition.goodput_per_s = Measured::absent("the phase has no deadline");
        }
        let summary = summarise(&repetitions);
        assert_eq!(summary["goodput_per_s"].n, 0);
        assert_eq!(summary["goodput_per_s"].median.reason(), Some("the phase has no deadline"));
    }

    #[test]
    fn a_metric_is_exact_only_when_every_repetition_says_so() {
        let mut repetitions = sample::repetitions(6);
        assert_eq!(summarise(&repetitions)["allocs_per_op"].kind, MetricKind::Exact);
        let sampled = PerOpOf(2.0).sampled();
        repetitions[3].per_op.insert("allocs", sampled);
        assert_eq!(summarise(&repetitions)["allocs_per_op"].kind, MetricKind::Sampled);
    }

    #[test]
    fn what_a_workload_adds_stands_under_extra() {
        let summary = summarise(&sample::repetitions(6));
        assert_eq!(summary["extra.settle_ns"].better, Better::Lower);
        assert_eq!(summary["extra.settle_ns"].n, 6);
    }

    #[test]
    fn a_reason_that_a_repetition_did_not_meet_counts_as_met_no_time() {
        let mut repetitions = sample::repetitions(6);
        let metric = repetitions[0].extra["settle_ns"].clone();
        let refused = crate::dump::ExtraMetric { value: Measured::number(70.0), ..metric };
        repetitions[2].extra.insert("rejected.rate".to_owned(), refused);
        let summary = &summarise(&repetitions)["extra.rejected.rate"];
        assert_eq!((summary.n, summary.median.get()), (6, Some(0.0)));
        // What is no count stays absent where it was not reported.
        repetitions[1].extra.remove("settle_ns");
        assert_eq!(summarise(&repetitions)["extra.settle_ns"].n, 5);
    }

    struct PerOpOf(f64);

    impl PerOpOf {
        fn sampled(&self) -> Measured<crate::dump::PerOp> {
            let value = Finite::new(self.0).unwrap();
            Measured::Value(crate::dump::PerOp { value, kind: MetricKind::Sampled })
        }
    }
}
