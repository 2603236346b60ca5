//! Comparison of two dumps: gates first, then one verdict per cell and metric.
//!
//! Gates, in order: the files' own rules (when they are read), validity, comparability, enough
//! repetitions, a quiet host. Then the rule of [`verdict`]. The result is a record of its own,
//! `bench-harness.comparison/1`, from which every rendering is made, so that a CI job keeps the evidence.

use std::collections::BTreeSet;

use crate::dump::{Dump, Finite, METRICS};
use crate::stats;

mod gates;
mod verdict;
mod pending;
mod record;
mod render;
#[cfg(test)]
mod simulation;

pub use gates::{Axis, Difference};
pub use pending::EXTRA_FLOOR_PERCENT;
pub use record::{
    CellComparison, Comparison, Counts, Geomean, MetricComparison, Order, Outcome, SCHEMA, Side,
};
pub use render::{to_json, to_markdown, to_table};
pub use verdict::{ALPHA, REPETITIONS_MIN, Verdict};

use pending::{Context, Pending, floors_percent, judge_family};

/// What the caller asks for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Axes on which the dumps may differ; then nothing decides the exit code.
    pub allow: BTreeSet<Axis>,
    /// Whether cells that the new dump lacks are no failure.
    pub allow_missing: bool,
    /// Whether `inconclusive` is a failure.
    pub strict: bool,
}

/// Compares two dumps whose own rules hold.
pub fn compare(base: &Dump, new: &Dump, options: &Options) -> Comparison {
    let mut comparison = frame(base, new, options);
    if comparison.outcome != Outcome::Compared {
        comparison.exit_code = comparison.decide_exit(options);
        return comparison;
    }
    let context = Context {
        run_noise: gates::noisy_run("base", base).or_else(|| gates::noisy_run("new", new)),
        order: comparison.order,
        across: !comparison.differences.is_empty(),
        floors: floors_percent(new),
    };
    let mut cells: Vec<Pending> = base
        .cells
        .iter()
        .filter_map(|old| Some((old, new.cells.iter().find(|cell| cell.id == old.id)?)))
        .map(|(old, fresh)| Pending::new(old, fresh, &context, &mut comparison.warnings))
        .collect();
    // Peers cannot fail the comparison, so they do not raise the bar for the engine's own metrics.
    judge_family(&mut cells, true);
    judge_family(&mut cells, false);
    comparison.cells = cells.into_iter().map(Pending::finish).collect();
    comparison.geomean = geomean(&comparison.cells, new);
    comparison.counts = count(&comparison.cells, new);
    comparison.exit_code = comparison.decide_exit(options);
    comparison
}

/// Everything but the cells.
fn frame(base: &Dump, new: &Dump, options: &Options) -> Comparison {
    let mut invalid_reasons = gates::invalid_reasons("base", base);
    invalid_reasons.extend(gates::invalid_reasons("new", new));
    let differences = gates::differences(base, new, &options.allow);
    let outcome = if !invalid_reasons.is_empty() {
        Outcome::Invalid
    } else if differences.iter().any(|difference| !difference.allowed) {
        Outcome::Incomparable
    } else {
        Outcome::Compared
    };
    let interleaved = base.run.interleaved_with.as_ref() == Some(&new.run.id)
        && new.run.interleaved_with.as_ref() == Some(&base.run.id);
    Comparison {
        schema: SCHEMA.to_owned(),
        base: Side::of(base),
        new: Side::of(new),
        order: if interleaved { Order::Interleaved } else { Order::Sequential },
        outcome,
        invalid_reasons,
        differences,
        cells: Vec::new(),
        removed: missing_in(new, base),
        added: missing_in(base, new),
        geomean: None,
        warnings: Vec::new(),
        counts: Counts::default(),
        exit_code: 0,
    }
}

impl Comparison {
    /// The gravest finding decides.
    fn decide_exit(&self, options: &Options) -> u8 {
        let across = !self.differences.is_empty();
        match self.outcome {
            Outcome::Invalid => 9,
            Outcome::Incomparable => 6,
            Outcome::Compared if !across && self.counts.regressed > 0 => 5,
            Outcome::Compared if !self.removed.is_empty() && !options.allow_missing => 6,
            Outcome::Compared if options.strict && !across && self.counts.inconclusive > 0 => 7,
            Outcome::Compared => 0,
        }
    }
}

impl Side {
    fn of(dump: &Dump) -> Self {
        Self {
            run_id: dump.run.id.clone(),
            label: dump.run.label.clone(),
            started_at: dump.run.started_at.clone(),
            git_commit: dump.environment.build.git_commit.value().cloned().unwrap_or_default(),
            workload_digest: dump.workload.digest.clone(),
        }
    }
}

/// Returns the ids of the cells that `there` has and `here` lacks.
fn missing_in(here: &Dump, there: &Dump) -> Vec<String> {
    let ids: BTreeSet<_> = here.cells.iter().map(|cell| &cell.id).collect();
    there.cells.iter().map(|cell| &cell.id).filter(|id| !ids.contains(id)).cloned().collect()
}

/// True for a cell of the engine itself, whatever may gate.
fn is_ours(id: &str, dump: &Dump) -> bool {
    dump.cells.iter().any(|cell| cell.id == id && cell.peer.is_none())
}

fn geomean(cells: &[CellComparison], dump: &Dump) -> Option<Geomean> {
    let shifts: Vec<f64> = cells
        .iter()
        .filter(|cell| is_ours(&cell.id, dump))
        .filter_map(|cell| cell.metrics.iter().find(|metric| metric.metric == METRICS[0].name))
        .filter_map(|metric| metric.shift_percent.get())
        .map(|percent| (percent / 100.0).ln_1p())
        .collect();
    if shifts.len() < 2 {
        return None;
    }
    let mean = shifts.iter().sum::<f64>() / stats::count_to_f64(shifts.len());
    Some(Geomean {
        n_cells: u32::try_from(shifts.len()).unwrap_or(u32::MAX),
        shift_percent: Finite::new(mean.exp_m1() * 100.0)?,
    })
}

fn count(cells: &[CellComparison], dump: &Dump) -> Counts {
    let mut counts = Counts::default();
    let ours = cells.iter().filter(|cell| is_ours(&cell.id, dump));
    for metric in ours.flat_map(|cell| &cell.metrics) {
        *match metric.verdict {
            Verdict::Regressed => &mut counts.regressed,
            Verdict::Improved => &mut counts.improved,
            Verdict::NoDifference => &mut counts.no_difference,
            Verdict::Inconclusive => &mut counts.inconclusive,
        } += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::{Better, ExtraMetric, Measured, MetricKind, PerOp, RunStatus, sample};

    fn run(change: impl FnOnce(&mut Dump)) -> Comparison {
        run_with(&Options::default(), change)
    }

    fn run_with(options: &Options, change: impl FnOnce(&mut Dump)) -> Comparison {
        let base = sample::dump(6);
        let mut new = sample::dump(6);
        change(&mut new);
        compare(&base, &new, options)
    }

    fn allocs(dump: &mut Dump, value: f64, kind: MetricKind) {
        for repetition in &mut dump.cells[0].repetitions {
            let cost = PerOp { value: sample::finite(value), kind };
            repetition.per_op.insert("allocs", Measured::Value(cost));
        }
    }

    fn metric<'record>(comparison: &'record Comparison, name: &str) -> &'record MetricComparison {
        comparison.cells[0].metrics.iter().find(|metric| metric.metric == name).unwrap()
    }

    #[test]
    fn equal_dumps_show_no_difference_and_exit_0() {
        let comparison = run(|_| {});
        assert_eq!(comparison.exit_code, 0);
        assert_eq!(comparison.counts.regressed + comparison.counts.inconclusive, 0);
        assert_eq!(comparison.outcome, Outcome::Compared);
    }

    #[test]
    fn one_allocation_more_is_a_regression_with_one_repetition() {
        let base = sample::dump(1);
        let mut new = sample::dump(1);
        allocs(&mut new, 3.0, MetricKind::Exact);
        let comparison = compare(&base, &new, &Options::default());
        assert_eq!(metric(&comparison, "allocs_per_op").verdict, Verdict::Regressed);
        assert_eq!(metric(&comparison, "throughput_per_s").verdict, Verdict::Inconclusive);
        assert_eq!(comparison.exit_code, 5);
        let fewer = run(|dump| allocs(dump, 1.0, MetricKind::Exact));
        assert_eq!(metric(&fewer, "allocs_per_op").verdict, Verdict::Improved);
        assert_eq!(fewer.exit_code, 0);
    }

    #[test]
    fn an_exact_count_that_wavers_is_judged_as_sampled_with_a_warning() {
        let comparison = run(|dump| {
            let cost = PerOp { value: sample::finite(2.001), kind: MetricKind::Exact };
            dump.cells[0].repetitions[2].per_op.insert("allocs", Measured::Value(cost));
        });
        assert_eq!(metric(&comparison, "allocs_per_op").kind, MetricKind::Sampled);
        assert!(comparison.warnings[0].contains("allocs_per_op"));
    }

    #[test]
    fn a_slower_build_exits_5_and_a_slower_peer_does_not() {
        let slow = |dump: &mut Dump, cell_idx: usize| {
            for repetition in &mut dump.cells[cell_idx].repetitions {
                repetition.throughput_per_s = Measured::number(15_000.0);
            }
        };
        let comparison = run(|dump| slow(dump, 0));
        assert_eq!(metric(&comparison, "throughput_per_s").verdict, Verdict::Regressed);
        assert_eq!(comparison.exit_code, 5);
        let comparison = run(|dump| slow(dump, 1));
        assert_eq!(comparison.cells[1].metrics[0].verdict, Verdict::Regressed);
        assert!(!comparison.cells[1].gates);
        assert_eq!((comparison.counts.regressed, comparison.exit_code), (0, 0));
    }

    #[test]
    fn a_dump_not_to_be_believed_exits_9() {
        let comparison = run(|dump| dump.run.status = RunStatus::Interrupted);
        assert_eq!((comparison.outcome, comparison.exit_code), (Outcome::Invalid, 9));
        let comparison = run(|dump| {
            dump.cells[0].valid = false;
            dump.cells[0].invalid_reasons.push("3 replies were wrong".to_owned());
        });
        assert_eq!(comparison.exit_code, 9);
        assert!(to_table(&comparison, crate::text::Paint::Plain).contains("3 replies were wrong"));
    }

    #[test]
    fn another_workload_exits_6_and_names_the_fields() {
        let comparison = run(|dump| {
            dump.workload.digest = "sha256:00".to_owned();
            dump.workload.resolved["engine"] = serde_json::json!({"shards": 4});
            dump.workload.resolved["slo"] = serde_json::json!([]);
        });
        assert_eq!((comparison.outcome, comparison.exit_code), (Outcome::Incomparable, 6));
        let fields: Vec<_> =
            comparison.differences.iter().map(|difference| &difference.field).collect();
        assert_eq!(fields, ["engine"]);
        assert!(comparison.cells.is_empty());
    }

    #[test]
    fn what_makes_timings_incomparable_is_refused() {
        type Change = (Axis, fn(&mut Dump));
        let changes: [Change; 6] = [
            (Axis::Host, |dump| dump.environment.host_fingerprint = "sha256:01".to_owned()),
            (Axis::Kernel, |dump| dump.environment.system.kernel = "7.0".to_owned().into()),
            (Axis::Features, |dump| dump.environment.build.features.push("peers".to_owned())),
            (Axis::Profile, |dump| dump.environment.build.profile = "debug".to_owned()),
            (Axis::Verify, |dump| dump.measurement.verify = "off".to_owned()),
            (Axis::Workload, |dump| dump.run.quick = true),
        ];
        for (axis, change) in changes {
            let comparison = run(change);
            assert_eq!(comparison.exit_code, 6, "{axis:?}");
            assert_eq!(comparison.differences[0].axis, axis);
        }
    }

    #[test]
    fn an_allowed_difference_gives_verdicts_that_decide_nothing() {
        let options = Options { allow: BTreeSet::from([Axis::Host]), ..Options::default() };
        let comparison = run_with(&options, |dump| {
            dump.environment.host_fingerprint = "sha256:01".to_owned();
            allocs(dump, 3.0, MetricKind::Exact);
        });
        assert_eq!(metric(&comparison, "allocs_per_op").verdict, Verdict::Regressed);
        assert_eq!((comparison.counts.regressed, comparison.exit_code), (1, 0));
        assert!(to_table(&comparison, crate::text::Paint::Plain).contains("!=host"));
    }

    #[test]
    fn a_cell_that_vanished_fails_unless_allowed() {
        let comparison = run(|dump| dump.cells.truncate(1));
        assert_eq!(comparison.removed, ["steady@tokio/engine.shards=2"]);
        assert_eq!(comparison.exit_code, 6);
        let options = Options { allow_missing: true, ..Options::default() };
        assert_eq!(run_with(&options, |dump| dump.cells.truncate(1)).exit_code, 0);
    }

    #[test]
    fn strict_turns_inconclusive_into_exit_7() {
        let blind = |dump: &mut Dump| {
            for repetition in &mut dump.cells[0].repetitions {
                repetition.canary = crate::dump::Canary::absent("switched off");
            }
        };
        let comparison = run(blind);
        assert_eq!(metric(&comparison, "throughput_per_s").verdict, Verdict::Inconclusive);
        assert_eq!(comparison.exit_code, 0);
        let options = Options { strict: true, ..Options::default() };
        assert_eq!(run_with(&options, blind).exit_code, 7);
    }

    #[test]
    fn a_busy_or_robbed_host_gives_no_timing_verdict() {
        for (change, reason) in [
            (
                (|dump| dump.environment.preflight.load1 = Measured::number(9.0)) as fn(&mut Dump),
                "load 9",
            ),
            (
                |dump| {
                    for repetition in &mut dump.cells[0].repetitions {
                        repetition.canary.steal_percent = Measured::number(7.5);
                    }
                },
                "took 7.5 %",
            ),
        ] {
            let comparison = run(change);
            let throughput = metric(&comparison, "throughput_per_s");
            assert_eq!(throughput.verdict, Verdict::Inconclusive);
            assert!(throughput.reason.contains(reason), "{}", throughput.reason);
            assert_eq!(metric(&comparison, "allocs_per_op").verdict, Verdict::NoDifference);
        }
    }

    #[test]
    fn a_metric_that_one_side_lacks_is_inconclusive() {
        let comparison = run(|dump| {
            for repetition in &mut dump.cells[0].repetitions {
                repetition.goodput_per_s = Measured::absent("no deadline");
            }
        });
        let goodput = metric(&comparison, "goodput_per_s");
        assert_eq!(
            (goodput.verdict, goodput.reason.as_str()),
            (Verdict::Inconclusive, "new: no deadline")
        );
    }

    #[test]
    fn a_metric_that_the_new_dump_no_longer_reports_is_not_lost() {
        let comparison = run(|dump| {
            for repetition in &mut dump.cells[0].repetitions {
                repetition.extra.clear();
            }
        });
        assert_eq!(metric(&comparison, "extra.settle_ns").reason, "new: not reported");
    }

    #[test]
    fn the_files_floor_and_the_metrics_direction_are_heeded() {
        let comparison = run(|dump| {
            dump.workload.resolved["compare"] =
                serde_json::json!({"floors_percent": {"throughput_per_s": 40.0}});
            for repetition in &mut dump.cells[0].repetitions {
                repetition.throughput_per_s = Measured::number(15_000.0);
                let extra = ExtraMetric {
                    unit: "ns".to_owned(),
                    better: Better::None,
                    value: Measured::number(1.0),
                };
                repetition.extra.insert("settle_ns".to_owned(), extra);
            }
        });
        let throughput = metric(&comparison, "throughput_per_s");
        assert_eq!(throughput.verdict, Verdict::NoDifference);
        assert_eq!(throughput.floor_source, "workload file");
    }

    #[test]
    fn runs_that_took_turns_are_recognised() {
        let mut base = sample::dump(6);
        let mut new = sample::dump(6);
        new.run.id = "new".to_owned();
        new.run.interleaved_with = Some(base.run.id.clone());
        assert_eq!(compare(&base, &new, &Options::default()).order, Order::Sequential);
        base.run.interleaved_with = Some("new".to_owned());
        assert_eq!(compare(&base, &new, &Options::default()).order, Order::Interleaved);
    }

    #[test]
    fn every_rendering_holds_every_verdict() {
        let comparison = run(|dump| allocs(dump, 3.0, MetricKind::Exact));
        let read: Comparison = serde_json::from_str(&to_json(&comparison)).unwrap();
        assert_eq!(read, comparison);
        let table = to_table(&comparison, crate::text::Paint::Plain);
        assert!(table.contains("allocs_per_op"), "{table}");
        assert!(table.contains("- REGRESSED (exact)"), "{table}");
        assert!(table.contains("exit 5") && !table.contains('\x1b'), "{table}");
        let markdown = to_markdown(&comparison);
        let rows = markdown.lines().filter(|line| line.starts_with("| steady")).count();
        assert_eq!(rows, comparison.cells.iter().map(|cell| cell.metrics.len()).sum::<usize>());
    }
}
