//! The table of a dump, for people: made from the dump and from nothing else.
//!
//! One block per phase and parameter setting. Its columns are the implementations that did the same
//! work side by side, ours first; a peer's value has ours divided by it beside it, so that 2x always
//! means that ours is twice the peer's number.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::dump::{
    Cell, Dump, LimitKind, LoopKind, METRICS, Measured, MetricKind, Repetition, RunStatus, Summary,
};
use crate::text::{Align, Field, Grid, Paint, Tone, quantity, significant};

mod inside;

use inside::{shards, stages};

/// Returns the table of a dump.
pub fn render(dump: &Dump, paint: Paint) -> String {
    let mut text = String::new();
    for line in head(dump) {
        line_to(&mut text, &line);
    }
    for group in groups(&dump.cells) {
        text.push('\n');
        text.push_str(&block(&group, paint));
    }
    let tail = tail(dump, paint);
    if !tail.is_empty() {
        text.push('\n');
        text.push_str(&tail);
    }
    text
}

fn line_to(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

/// What was run, and where.
fn head(dump: &Dump) -> Vec<String> {
    let environment = &dump.environment;
    let status = match dump.run.status {
        RunStatus::Complete => "",
        RunStatus::Interrupted => "   INTERRUPTED: what had finished",
        RunStatus::Failed => "   FAILED: what had finished",
    };
    let quick = if dump.run.quick { "   quick: not for comparison" } else { "" };
    let label = dump.run.label.as_deref().map(|label| format!("   {label}")).unwrap_or_default();
    let model = environment.cpu.model.value().map_or("unknown CPU", String::as_str);
    let kernel = environment.system.kernel.value().map_or("unknown kernel", String::as_str);
    let revision = match (&environment.build.git_commit, &environment.build.git_dirty) {
        (Measured::Value(commit), Measured::Value(true)) => format!("{commit:.8} and edits"),
        (Measured::Value(commit), _) => format!("{commit:.8}"),
        (Measured::Absent(_), _) => "unknown revision".to_owned(),
    };
    vec![
        format!("{}{label}{quick}{status}", dump.workload.name),
        format!(
            "host  {model}, {} CPUs, {kernel}   build  {}, {revision}   idle  {}",
            environment.cpu.online, environment.build.profile, environment.idle_policy
        ),
    ]
}

/// Cells of one phase and one parameter setting, ours first.
struct Group<'dump> {
    title: String,
    cells: Vec<&'dump Cell>,
}

impl Group<'_> {
    fn ours(&self) -> Option<&Cell> {
        self.cells.first().copied().filter(|cell| cell.peer.is_none())
    }
}

/// Puts peers beside the cell that they are to be compared with, in the order of the dump.
fn groups(cells: &[Cell]) -> Vec<Group<'_>> {
    let mut order: Vec<String> = Vec::new();
    let mut by_title: BTreeMap<String, Vec<&Cell>> = BTreeMap::new();
    for cell in cells {
        let title = title(cell);
        if !by_title.contains_key(&title) {
            order.push(title.clone());
        }
        by_title.entry(title).or_default().push(cell);
    }
    order
        .into_iter()
        .map(|title| {
            let mut cells = by_title.remove(&title).unwrap_or_default();
            cells.sort_by_key(|cell| cell.peer.is_some());
            Group { title, cells }
        })
        .collect()
}

/// The id without its peer.
fn title(cell: &Cell) -> String {
    match &cell.peer {
        Some(peer) => cell.id.replacen(&format!("@{peer}"), "", 1),
        None => cell.id.clone(),
    }
}

fn block(group: &Group<'_>, paint: Paint) -> String {
    let Some(first) = group.cells.first() else {
        return String::new();
    };
    let n_repetitions = group.cells.iter().map(|cell| cell.repetitions.len()).max().unwrap_or(0);
    let mut text = String::new();
    let title = format!("{}   {}   {n_repetitions} repetitions", group.title, arrival(first));
    line_to(&mut text, &title);
    if first.loop_kind == LoopKind::Closed {
        line_to(&mut text, " closed loop: service time, not a response-time measurement");
    }
    if let Some(sockets) = server(group) {
        line_to(&mut text, &sockets);
    }
    text.push_str(&metrics(group).render(paint));
    text.push_str(&requests(&group.cells).render(paint));
    if let Some(ours) = group.ours() {
        text.push_str(&stages(ours).render(paint));
        text.push_str(&shards(ours).render(paint));
    }
    text
}

/// Says how our server reaches its sockets, where the service has one.
fn server(group: &Group<'_>) -> Option<String> {
    let sockets = group.ours()?.repetitions.first()?.sockets.value()?;
    Some(format!(" a server in a process of its own, sockets by {sockets}: costs are its alone"))
}

/// Says the arrival in words, whatever its fields.
fn arrival(cell: &Cell) -> String {
    let Some((name, fields)) = cell.arrival.as_object().and_then(|fields| fields.iter().next())
    else {
        return cell.arrival.to_string();
    };
    let fields = fields.as_object().into_iter().flatten();
    let fields: Vec<String> = fields.map(|(field, value)| format!("{field} {value}")).collect();
    format!("{name} {}", fields.join(", "))
}

/// One row per metric; per implementation its median and, for the engine, the interval, else the ratio.
fn metrics(group: &Group<'_>) -> Grid {
    let mut aligns = vec![Align::Left];
    let mut heading = vec![Field::toned("", Tone::Head)];
    for cell in &group.cells {
        aligns.extend([Align::Right, Align::Left]);
        let name = cell.peer.as_deref().unwrap_or("forebay");
        let note = if cell.peer.is_none() { "95 % interval" } else { "ours / theirs" };
        heading.extend([Field::toned(name, Tone::Head), Field::toned(note, Tone::Faint)]);
    }
    let mut grid = Grid::new(aligns);
    grid.row(heading);
    for name in names(group) {
        let mut row = vec![Field::from(label(&name))];
        let ours = group.ours().and_then(|cell| cell.summary.get(&name));
        for cell in &group.cells {
            row.extend(match cell.summary.get(&name) {
                Some(summary) => value_fields(cell, &name, summary, ours),
                None => [Field::toned("n/a", Tone::Faint), Field::from("")],
            });
        }
        grid.row(row);
    }
    grid
}

/// Metrics that some cell of the group has a value for, or says why it has none, in reading order.
fn names(group: &Group<'_>) -> Vec<String> {
    let known = METRICS.iter().map(|metric| metric.name.to_owned());
    let summaries = || group.cells.iter().flat_map(|cell| &cell.summary);
    let mut added: Vec<String> = summaries()
        .map(|(name, _)| name.clone())
        .filter(|name| crate::dump::metric(name).is_none())
        .collect();
    added.sort();
    added.dedup();
    known
        .chain(added)
        // Goodput where no request has a deadline is no news; a tail that lacks samples is.
        .filter(|name| {
            summaries().any(|(of, summary)| {
                of == name && (summary.median.value().is_some() || name != "goodput_per_s")
            })
        })
        .collect()
}

/// Turns `response_p999_ns` into `response p99.9`: the unit stands beside the number.
fn label(name: &str) -> String {
    let name =
        name.strip_suffix("_per_op").map_or_else(|| name.to_owned(), |name| format!("{name}/op"));
    let name = name.strip_suffix("_per_s").map_or_else(|| name.clone(), |name| format!("{name}/s"));
    let name =
        name.replace("_ns/op", "/op").replace("_p9999_", "_p99.99_").replace("_p999_", "_p99.9_");
    name.strip_suffix("_ns").unwrap_or(&name).replace('_', " ")
}

fn value_fields(cell: &Cell, name: &str, summary: &Summary, ours: Option<&Summary>) -> [Field; 2] {
    let Some(median) = summary.median.get() else {
        let reason = summary.median.reason().unwrap_or_default().trim_start_matches("n/a ");
        return [Field::toned("n/a", Tone::Faint), Field::toned(reason, Tone::Faint)];
    };
    let tone = if cell.valid { Tone::Plain } else { Tone::Bad };
    let note = match (&cell.peer, ours.and_then(|ours| ours.median.get())) {
        (None, _) => interval(name, summary),
        (Some(_), Some(ours)) if median != 0.0 => format!("{}x", significant(ours / median)),
        (Some(_), _) => String::new(),
    };
    [Field::toned(quantity(name, median), tone), Field::toned(note, Tone::Faint)]
}

fn interval(name: &str, summary: &Summary) -> String {
    if summary.kind == MetricKind::Exact {
        return "exact".to_owned();
    }
    match (summary.ci95_low.get(), summary.ci95_high.get()) {
        (Some(low), Some(high)) => format!("{}..{}", quantity(name, low), quantity(name, high)),
        _ => String::new(),
    }
}

/// What became of the requests, one row per implementation.
fn requests(cells: &[&Cell]) -> Grid {
    let mut grid = Grid::new([Align::Left, Align::Left]);
    for cell in cells {
        let name = cell.peer.as_deref().unwrap_or("requests");
        grid.row(vec![name.into(), outcomes(cell).into()]);
        for reason in &cell.invalid_reasons {
            grid.row(vec![Field::toned("INVALID", Tone::Bad), Field::toned(reason, Tone::Bad)]);
        }
    }
    grid
}

/// Counts over all repetitions; the first three are always said, the rest when they happened.
fn outcomes(cell: &Cell) -> String {
    let total = |part: fn(&Repetition) -> u64| -> u64 {
        cell.repetitions.iter().map(part).fold(0, u64::saturating_add)
    };
    let parts = [
        ("offered", total(|repetition| repetition.ops.offered)),
        ("completed", total(|repetition| repetition.ops.completed)),
        ("verified", total(|repetition| repetition.ops.verified)),
        ("degraded", total(|repetition| repetition.ops.degraded)),
        ("failed", total(|repetition| repetition.ops.failed)),
        ("timed out", total(|repetition| repetition.ops.timed_out)),
        ("shed", total(|repetition| repetition.ops.shed)),
        ("dropped", total(|repetition| repetition.ops.dropped)),
        ("in flight at end", total(|repetition| repetition.ops.in_flight_at_end)),
    ];
    let shown = parts.iter().enumerate().filter(|(idx, (_, count))| *idx < 3 || *count > 0);
    let shown = shown.map(|(_, (what, count))| format!("{} {what}", crate::dump::grouped(*count)));
    shown.collect::<Vec<_>>().join(", ")
}

/// Limits, canary and warnings.
fn tail(dump: &Dump, paint: Paint) -> String {
    let mut grid = Grid::new([Align::Left, Align::Left, Align::Left]);
    for slo in &dump.slo {
        let (word, tone) = match (slo.pass, slo.marginal) {
            (true, false) => ("pass", Tone::Good),
            (true, true) => ("pass, marginal", Tone::Doubt),
            (false, _) => ("FAIL", Tone::Bad),
        };
        let sign = match slo.limit_kind {
            LimitKind::AtMost => "<=",
            LimitKind::AtLeast => ">=",
        };
        let limit = quantity(&slo.metric, slo.limit.get());
        let observed = match (slo.observed.get(), slo.observed.reason()) {
            (Some(value), _) => quantity(&slo.metric, value),
            (None, reason) => format!("n/a: {}", reason.unwrap_or_default()),
        };
        let what = format!("{}  {} {sign} {limit}  ({observed})", slo.cell, label(&slo.metric));
        grid.row(vec!["SLO".into(), Field::toned(word, tone), what.into()]);
    }
    if let Some(drift) = worst_drift(dump) {
        let text = format!("{drift:+.1} % at most between before and after a repetition");
        grid.row(vec!["canary".into(), "".into(), text.into()]);
    }
    if let Some(text) = pauses(dump) {
        grid.row(vec!["".into(), "".into(), text.into()]);
    }
    for warning in &dump.warnings {
        let code = Field::toned(&warning.code, Tone::Doubt);
        grid.row(vec!["note".into(), code, warning.message.as_str().into()]);
    }
    grid.render(paint)
}

fn worst_drift(dump: &Dump) -> Option<f64> {
    let repetitions = dump.cells.iter().flat_map(|cell| &cell.repetitions);
    repetitions
        .filter_map(|repetition| repetition.canary.drift_percent.get())
        .max_by(|left, right| left.abs().total_cmp(&right.abs()))
}

/// How much of the time around the repetitions nothing ran: a percentile of a response time is the
/// host's where its pauses take that share.
fn pauses(dump: &Dump) -> Option<String> {
    let canaries = || {
        let repetitions = dump.cells.iter().flat_map(|cell| &cell.repetitions);
        repetitions.map(|repetition| &repetition.canary)
    };
    let mut percents: Vec<f64> =
        canaries().filter_map(|canary| canary.paused_percent.get()).collect();
    percents.sort_by(f64::total_cmp);
    let longest = canaries().filter_map(|canary| canary.longest_pause_ns.value()).max()?;
    Some(format!(
        "the host paused {:.1} % of the time around a repetition (median), {} at most at once",
        percents.get(percents.len() / 2)?,
        quantity("longest_pause_ns", crate::dump::to_f64(*longest)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::sample;

    const EXPECTED: &str = "\
units
host  Xeon, 2 CPUs, 6.18.44   build  release, 3f2c9ab1   idle  park

steady/engine.shards=2   poisson rate_per_s 20000   6 repetitions
";

    #[test]
    fn the_table_says_what_the_dump_holds() {
        let table = render(&sample::dump(6), Paint::Plain);
        assert!(table.starts_with(EXPECTED), "{table}");
        for piece in [
            "20,002",
            "82.4 us",
            "412 us",
            "1.24 ms",
            "flights",
            "ours / theirs",
            "1x",
            "idle 91 %",
            "SLO",
            "pass",
            "canary",
            "50.1 %",
        ] {
            assert!(table.contains(piece), "{piece} is missing in\n{table}");
        }
        assert!(!table.contains('\x1b') && !table.lines().any(|line| line.ends_with(' ')));
    }

    #[test]
    fn peers_stand_beside_the_cell_they_answer_to() {
        let dump = sample::dump(6);
        let groups = groups(&dump.cells);
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].cells[1].peer.as_deref(), Some("tokio"));
    }

    #[test]
    fn ratios_are_ours_over_theirs() {
        let mut dump = sample::dump(6);
        for repetition in &mut dump.cells[1].repetitions {
            repetition.throughput_per_s = Measured::number(4_000.0);
        }
        dump.cells[1].summary = crate::dump::summarise(&dump.cells[1].repetitions);
        let table = render(&dump, Paint::Plain);
        let line = table.lines().find(|line| line.contains("throughput")).unwrap();
        assert!(line.ends_with("4,000  5x"), "{line}");
    }

    #[test]
    fn what_has_too_few_samples_says_what_it_needs() {
        let mut dump = sample::dump(6);
        for repetition in &mut dump.cells[0].repetitions {
            repetition.latency.response.p999_ns = Measured::absent("n/a (needs 10,000; have 900)");
        }
        dump.cells[0].summary = crate::dump::summarise(&dump.cells[0].repetitions);
        let table = render(&dump, Paint::Plain);
        assert!(table.contains("n/a  (needs 10,000; have 900)"), "{table}");
    }

    #[test]
    fn an_invalid_cell_and_a_failed_limit_stand_out_in_words() {
        let mut dump = sample::dump(6);
        dump.cells[0].valid = false;
        dump.cells[0].invalid_reasons.push("3 replies were wrong".to_owned());
        dump.slo[0].pass = false;
        dump.run.status = RunStatus::Interrupted;
        dump.run.quick = true;
        let table = render(&dump, Paint::Plain);
        for piece in
            ["INVALID", "3 replies were wrong", "FAIL", "INTERRUPTED", "quick: not for comparison"]
        {
            assert!(table.contains(piece), "{piece} is missing in\n{table}");
        }
    }

    #[test]
    fn a_dump_without_cells_has_a_table_too() {
        let mut dump = sample::dump(1);
        dump.cells.clear();
        assert!(render(&dump, Paint::Plain).starts_with("units\n"));
    }
}
