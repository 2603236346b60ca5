//! The rules that every dump keeps, checked before anyone believes it.
//!
//! `validate` and the smoke run use this on files, the writer on what it is about to write. Every problem
//! is reported, not the first only, each with the JSON pointer of the place.

use serde_json::Value;

use super::cell::{Cell, LoopKind, Ops, Repetition, StageStats};
use super::latency::Latency;
use super::measured::Measured;
use super::{Dump, RunStatus, SCHEMA, summarise, to_f64};

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer of the place.
    pub pointer: String,
    /// What is wrong, with the numbers.
    pub message: String,
}

/// How far `throughput_per_s` may lie from `completed / measured_ns`: rounding only.
const RATE_TOLERANCE: f64 = 1e-6;

/// Fields that may be null without a reason, being names and not numbers, by the end of their pointer.
const NULLABLE: [&str; 3] = ["/peer", "/label", "/interleaved_with"];

/// Subtrees in the words of the workload file, whose nulls and strings are its own.
const FOREIGN: [&str; 3] = ["resolved", "arrival", "parameters"];

/// Returns every rule that the dump breaks.
pub fn check(dump: &Dump) -> Vec<Problem> {
    let mut problems = Problems::default();
    if dump.schema != SCHEMA {
        problems.add("/schema", format!("is `{}`, must be `{SCHEMA}`", dump.schema));
    }
    if dump.run.status == RunStatus::Complete && dump.cells.is_empty() {
        problems.add("/cells", "a complete run has at least one cell");
    }
    for (cell_idx, cell) in dump.cells.iter().enumerate() {
        let at = format!("/cells/{cell_idx}");
        if dump.cells[..cell_idx].iter().any(|earlier| earlier.id == cell.id) {
            problems.add(format!("{at}/id"), format!("`{}` stands twice", cell.id));
        }
        check_cell(cell, &at, &mut problems);
    }
    for (slo_idx, slo) in dump.slo.iter().enumerate() {
        if slo.pass && slo.observed.value().is_none() {
            problems.add(format!("/slo/{slo_idx}/pass"), "a limit on nothing observed cannot pass");
        }
    }
    match serde_json::to_value(dump) {
        Ok(tree) => check_tree(&tree, "", &mut problems),
        Err(error) => problems.add("", format!("cannot be written: {error}")),
    }
    problems.0
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { pointer: pointer.into(), message: message.into() });
    }

    /// Adds a problem unless the two counts are equal.
    fn equal(&mut self, pointer: String, left: (&str, u64), right: (&str, u64)) {
        if left.1 != right.1 {
            let message = format!("{} is {}, but {} is {}", left.0, left.1, right.0, right.1);
            self.add(pointer, message);
        }
    }

    /// Adds a problem when the part is greater than the whole.
    fn part(&mut self, pointer: String, part: (&str, u64), whole: (&str, u64)) {
        if part.1 > whole.1 {
            self.add(pointer, format!("{} {} of {} {}", part.1, part.0, whole.1, whole.0));
        }
    }
}

fn check_cell(cell: &Cell, at: &str, problems: &mut Problems) {
    if cell.valid != cell.invalid_reasons.is_empty() {
        problems.add(
            format!("{at}/valid"),
            format!("is {} with {} invalid_reasons", cell.valid, cell.invalid_reasons.len()),
        );
    }
    check_id(cell, at, problems);
    for (repetition_idx, repetition) in cell.repetitions.iter().enumerate() {
        let at = format!("{at}/repetitions/{repetition_idx}");
        if cell.valid && !repetition.invalid_reasons.is_empty() {
            problems.add(format!("{at}/invalid_reasons"), "the cell says that it is valid");
        }
        check_ops(&repetition.ops, &at, problems);
        check_rates(repetition, &at, problems);
        check_latency_set(repetition, cell.loop_kind, &at, problems);
        for (name, stage) in &repetition.stages {
            check_stage(stage, &format!("{at}/stages/{}", escaped(name)), problems);
        }
        check_shards(repetition, cell.peer.is_some(), &at, problems);
    }
    check_summary(cell, at, problems);
}

/// The id is made of phase, peer and parameters: `<phase>[@<peer>][/<path=value>,…]`.
fn check_id(cell: &Cell, at: &str, problems: &mut Problems) {
    let head = match &cell.peer {
        Some(peer) => format!("{}@{peer}", cell.phase),
        None => cell.phase.clone(),
    };
    let fits = match cell.id.strip_prefix(&head) {
        Some("") => true,
        Some(rest) => rest.starts_with('/'),
        None => false,
    };
    if !fits {
        problems.add(format!("{at}/id"), format!("`{}` must begin with `{head}`", cell.id));
    }
}

fn check_ops(ops: &Ops, at: &str, problems: &mut Problems) {
    let at = format!("{at}/ops");
    problems.equal(
        format!("{at}/offered"),
        ("offered", ops.offered),
        ("started + dropped", ops.started.saturating_add(ops.dropped)),
    );
    let ended = [ops.completed, ops.failed, ops.timed_out, ops.shed, ops.in_flight_at_end]
        .into_iter()
        .fold(0_u64, u64::saturating_add);
    problems.equal(
        format!("{at}/started"),
        ("started", ops.started),
        ("completed + failed + timed_out + shed + in_flight_at_end", ended),
    );
    let completed = ("completed", ops.completed);
    problems.part(format!("{at}/verified"), ("verified", ops.verified), completed);
    problems.part(format!("{at}/degraded"), ("degraded", ops.degraded), completed);
}

fn check_rates(repetition: &Repetition, at: &str, problems: &mut Problems) {
    let Some(throughput) = repetition.throughput_per_s.get() else {
        return;
    };
    let seconds = to_f64(repetition.measured_ns) / 1e9;
    let counted = to_f64(repetition.ops.completed) / seconds;
    if seconds == 0.0 {
        problems.add(format!("{at}/throughput_per_s"), "is a rate over no time");
    } else if (throughput - counted).abs() > counted.max(1.0) * RATE_TOLERANCE {
        problems.add(
            format!("{at}/throughput_per_s"),
            format!("is {throughput}, but completed / measured_ns is {counted}"),
        );
    }
    let goodput = repetition.goodput_per_s.get();
    if goodput.is_some_and(|goodput| goodput > throughput * (1.0 + RATE_TOLERANCE)) {
        problems.add(format!("{at}/goodput_per_s"), "is above throughput_per_s");
    }
}

fn check_latency_set(
    repetition: &Repetition,
    loop_kind: LoopKind,
    at: &str,
    problems: &mut Problems,
) {
    let at = format!("{at}/latency");
    let set = &repetition.latency;
    for (name, latency) in [
        ("response", &set.response),
        ("service", &set.service),
        ("schedule_lag", &set.schedule_lag),
    ] {
        check_latency(latency, &format!("{at}/{name}"), problems);
    }
    if loop_kind == LoopKind::Closed && set.response != set.service {
        problems.add(format!("{at}/response"), "differs from service in a closed loop");
    }
}

fn check_latency(latency: &Latency, at: &str, problems: &mut Problems) {
    use super::latency::Quantile;
    let quantiles = [
        ("p50_ns", &latency.p50_ns, Quantile::P50),
        ("p90_ns", &latency.p90_ns, Quantile::P90),
        ("p99_ns", &latency.p99_ns, Quantile::P99),
        ("p999_ns", &latency.p999_ns, Quantile::P999),
        ("p9999_ns", &latency.p9999_ns, Quantile::P9999),
    ];
    for (name, value, quantile) in quantiles {
        if value.value().is_some() && latency.count < quantile.samples_needed() {
            let needed = quantile.samples_needed();
            let message = format!("needs {needed} samples and has {}", latency.count);
            problems.add(format!("{at}/{name}"), message);
        }
    }
    let inner = quantiles.map(|(name, value, _)| (name, value));
    let rising: Vec<_> = std::iter::once(("min_ns", &latency.min_ns))
        .chain(inner)
        .chain(std::iter::once(("max_ns", &latency.max_ns)))
        .filter_map(|(name, value)| value.value().map(|value| (name, *value)))
        .collect();
    for pair in rising.windows(2) {
        let ((lower, low), (upper, high)) = (pair[0], pair[1]);
        if low > high {
            problems.add(format!("{at}/{upper}"), format!("is {high}, below {lower} {low}"));
        }
    }
}

fn check_stage(stage: &StageStats, at: &str, problems: &mut Problems) {
    problems.equal(
        format!("{at}/calls"),
        ("calls", stage.calls),
        ("items + deduplicated", stage.items.saturating_add(stage.deduplicated)),
    );
    let sealed = &stage.sealed;
    problems.equal(
        format!("{at}/batches"),
        ("batches", stage.batches),
        ("the sum of sealed", sealed.full + sealed.idle + sealed.lingered + sealed.closing),
    );
}

fn check_shards(repetition: &Repetition, is_peer: bool, at: &str, problems: &mut Problems) {
    if repetition.shards.is_empty() {
        // Which of its shards answered, a server in another process does not tell.
        if !is_peer && repetition.generator_in_subject {
            problems.add(format!("{at}/shards"), "only a peer or a server may leave them empty");
        }
        return;
    }
    let sum = repetition.shards.iter().fold(0_u64, |sum, shard| sum.saturating_add(shard.ops));
    problems.equal(
        format!("{at}/shards"),
        ("the sum of shard ops", sum),
        ("ops.completed", repetition.ops.completed),
    );
}

/// The summary is what the repetitions give, to the last digit but rounding.
fn check_summary(cell: &Cell, at: &str, problems: &mut Problems) {
    let expected = summarise(&cell.repetitions);
    for (name, summary) in &cell.summary {
        let at = format!("{at}/summary/{}", escaped(name));
        let Some(expected) = expected.get(name) else {
            problems.add(at, "no repetition holds this metric");
            continue;
        };
        if summary.n != expected.n {
            problems.add(format!("{at}/n"), format!("is {}, must be {}", summary.n, expected.n));
        }
        let fields = [
            ("median", &summary.median, &expected.median),
            ("ci95_low", &summary.ci95_low, &expected.ci95_low),
            ("ci95_high", &summary.ci95_high, &expected.ci95_high),
        ];
        for (field, have, want) in fields {
            if !agrees(have.get(), want.get()) {
                let message = format!("is {}, the repetitions give {}", shown(have), shown(want));
                problems.add(format!("{at}/{field}"), message);
            }
        }
    }
    for name in expected.keys().filter(|name| !cell.summary.contains_key(*name)) {
        problems.add(format!("{at}/summary"), format!("lacks `{name}`"));
    }
}

fn agrees(have: Option<f64>, want: Option<f64>) -> bool {
    match (have, want) {
        (Some(have), Some(want)) => (have - want).abs() <= want.abs() * 1e-9,
        (None, None) => true,
        _ => false,
    }
}

fn shown(number: &Measured<super::Finite>) -> String {
    number.get().map_or_else(|| "null".to_owned(), |number| number.to_string())
}

/// Walks the dump as JSON: nulls have reasons, and no string is an absolute path.
fn check_tree(value: &Value, at: &str, problems: &mut Problems) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let at = format!("{at}/{}", escaped(key));
                let reason = fields.get(&format!("{key}_reason")).and_then(Value::as_str);
                if field.is_null()
                    && reason.is_none_or(str::is_empty)
                    && !NULLABLE.iter().any(|end| at.ends_with(end))
                {
                    problems.add(at.clone(), format!("is null without a `{key}_reason`"));
                }
                if FOREIGN.contains(&key.as_str()) {
                    check_paths(field, &at, problems);
                } else {
                    check_tree(field, &at, problems);
                }
            }
        }
        Value::Array(entries) => {
            for (entry_idx, entry) in entries.iter().enumerate() {
                check_tree(entry, &format!("{at}/{entry_idx}"), problems);
            }
        }
        Value::String(_) => check_paths(value, at, problems),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn check_paths(value: &Value, at: &str, problems: &mut Problems) {
    match value {
        Value::String(text) if is_absolute_path(text) => {
            problems.add(at, format!("holds the absolute path `{text}`"));
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                check_paths(field, &format!("{at}/{}", escaped(key)), problems);
            }
        }
        Value::Array(entries) => {
            for (entry_idx, entry) in entries.iter().enumerate() {
                check_paths(entry, &format!("{at}/{entry_idx}"), problems);
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_absolute_path(text: &str) -> bool {
    let value = text.split_once('=').map_or(text, |(_, value)| value);
    [text, value].into_iter().any(|text| text.starts_with('/') && text.len() > 1)
}

/// Writes a key as one token of a JSON pointer.
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::{Finite, LatencySet, sample};

    /// Damages a valid dump and expects the one problem at the place.
    fn plant(pointer: &str, damage: impl FnOnce(&mut Dump)) {
        let mut dump = sample::dump(6);
        damage(&mut dump);
        let problems = check(&dump);
        let at: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert!(at.contains(&pointer), "no problem at {pointer}, only {problems:?}");
    }

    fn first(dump: &mut Dump) -> &mut Repetition {
        &mut dump.cells[0].repetitions[0]
    }

    const R0: &str = "/cells/0/repetitions/0";

    #[test]
    fn a_dump_made_by_the_rules_has_no_problem() {
        assert_eq!(check(&sample::dump(1)), []);
        assert_eq!(check(&sample::dump(6)), []);
    }

    #[test]
    fn requests_must_add_up() {
        plant(&format!("{R0}/ops/offered"), |dump| first(dump).ops.dropped += 1);
        plant(&format!("{R0}/ops/started"), |dump| first(dump).ops.timed_out += 1);
        plant(&format!("{R0}/ops/verified"), |dump| first(dump).ops.verified = u64::MAX);
        plant(&format!("{R0}/ops/degraded"), |dump| first(dump).ops.degraded = u64::MAX);
    }

    #[test]
    fn rates_must_follow_from_counts() {
        plant(&format!("{R0}/throughput_per_s"), |dump| {
            first(dump).throughput_per_s = Measured::number(663_801_593.0);
        });
        plant(&format!("{R0}/throughput_per_s"), |dump| first(dump).measured_ns = 0);
        plant(&format!("{R0}/goodput_per_s"), |dump| {
            first(dump).goodput_per_s = Measured::number(20_001.0);
        });
    }

    #[test]
    fn stages_must_add_up() {
        let at = format!("{R0}/stages/flights");
        plant(&format!("{at}/calls"), |dump| {
            first(dump).stages.get_mut("flights").unwrap().deduplicated = 0;
        });
        plant(&format!("{at}/batches"), |dump| {
            first(dump).stages.get_mut("flights").unwrap().sealed.lingered = 3;
        });
    }

    #[test]
    fn shards_must_sum_to_the_total_and_be_there() {
        plant(&format!("{R0}/shards"), |dump| first(dump).shards[1].ops += 1);
        plant(&format!("{R0}/shards"), |dump| first(dump).shards.clear());
    }

    #[test]
    fn quantiles_must_rise_and_have_their_samples() {
        plant(&format!("{R0}/latency/response/p99_ns"), |dump| {
            first(dump).latency.response.p99_ns = 1.into();
        });
        plant(&format!("{R0}/latency/service/p9999_ns"), |dump| {
            first(dump).latency.service.count = 99_999;
        });
        plant("/cells/1/repetitions/0/latency/response", |dump| {
            let LatencySet { response, .. } = &mut dump.cells[1].repetitions[0].latency;
            response.mean_ns = Measured::number(1.0);
        });
    }

    #[test]
    fn validity_and_its_reasons_go_together() {
        plant("/cells/0/valid", |dump| dump.cells[0].valid = false);
        plant("/cells/0/valid", |dump| dump.cells[0].invalid_reasons.push("why".to_owned()));
        plant(&format!("{R0}/invalid_reasons"), |dump| {
            first(dump).invalid_reasons.push("a reply was wrong".to_owned());
        });
    }

    #[test]
    fn the_summary_must_be_what_the_repetitions_give() {
        let at = "/cells/0/summary/throughput_per_s";
        let summary = |dump: &mut Dump, change: fn(&mut crate::dump::Summary)| {
            change(dump.cells[0].summary.get_mut("throughput_per_s").unwrap());
        };
        plant(&format!("{at}/median"), |dump| {
            summary(dump, |summary| summary.median = Measured::number(1.0));
        });
        plant(&format!("{at}/ci95_low"), |dump| {
            summary(dump, |summary| summary.ci95_low = Measured::absent("none"));
        });
        plant(&format!("{at}/n"), |dump| summary(dump, |summary| summary.n = 7));
        plant("/cells/0/summary", |dump| {
            dump.cells[0].summary.remove("cpu_ns_per_op");
        });
        plant("/cells/0/summary/zeal", |dump| {
            let copy = dump.cells[0].summary["cpu_ns_per_op"].clone();
            dump.cells[0].summary.insert("zeal".to_owned(), copy);
        });
    }

    #[test]
    fn a_null_needs_its_reason() {
        plant(&format!("{R0}/memory/max_rss_bytes"), |dump| {
            first(dump).memory.max_rss_bytes = Measured::absent("");
        });
        plant(&format!("{R0}/per_op/cycles"), |dump| {
            first(dump).per_op.insert("cycles", Measured::absent(""));
        });
        plant("/environment/cpu/governor", |dump| {
            dump.environment.cpu.governor = Measured::absent("");
        });
    }

    #[test]
    fn ids_are_unique_and_made_of_their_parts() {
        plant("/cells/1/id", |dump| dump.cells[1].id = dump.cells[0].id.clone());
        plant("/cells/0/id", |dump| dump.cells[0].id = "steadyish".to_owned());
        plant("/cells/1/id", |dump| dump.cells[1].peer = Some("epoll".to_owned()));
    }

    #[test]
    fn the_dump_as_a_whole_keeps_its_word() {
        plant("/schema", |dump| dump.schema = "bench-harness.dump/2".to_owned());
        plant("/cells", |dump| dump.cells.clear());
        plant("/slo/0/pass", |dump| dump.slo[0].observed = Measured::<Finite>::absent("not run"));
    }

    #[test]
    fn no_absolute_path_stands_anywhere() {
        plant("/run/argv/1", |dump| dump.run.argv[1] = "/home/user/units.json".to_owned());
        plant("/run/argv/1", |dump| dump.run.argv[1] = "--output=/tmp/out".to_owned());
        plant("/workload/resolved/data", |dump| {
            dump.workload.resolved = serde_json::json!({"data": "/srv/data", "none": null});
        });
    }
}
