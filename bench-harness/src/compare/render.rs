//! A comparison as a table, as JSON and as Markdown.

use std::fmt::Write;

use super::{CellComparison, Comparison, MetricComparison, Order, Outcome, Side, Verdict};
use crate::dump::Measured;
use crate::text::{Align, Field, Grid, Paint, Tone, quantity, signed, signed_percent};

const HEADINGS: [&str; 6] = ["cell", "metric", "base", "new", "change [interval]", "verdict"];

/// Returns the record itself.
///
/// # Panics
/// Never: every number in it is finite.
pub fn to_json(comparison: &Comparison) -> String {
    let mut text = serde_json::to_string_pretty(comparison).expect("every number in it is finite");
    text.push('\n');
    text
}

/// Returns the table for people.
pub fn to_table(comparison: &Comparison, paint: Paint) -> String {
    let mut text = String::new();
    for line in head(comparison) {
        line_to(&mut text, &line);
    }
    if !comparison.cells.is_empty() {
        text.push('\n');
        text.push_str(&grid(comparison).render(paint));
        text.push('\n');
    }
    for line in tail(comparison) {
        line_to(&mut text, &line);
    }
    text
}

/// Returns the table for a pull request.
pub fn to_markdown(comparison: &Comparison) -> String {
    let mut text = String::new();
    for line in head(comparison) {
        line_to(&mut text, &format!("{}  ", escaped(&line)));
    }
    if !comparison.cells.is_empty() {
        line_to(&mut text, &format!("\n| {} |", HEADINGS.join(" | ")));
        line_to(&mut text, "|---|---|--:|--:|--:|---|");
        for (cell, metric) in rows(comparison) {
            let fields = fields(comparison, cell, metric).map(|(text, _)| escaped(&text));
            line_to(&mut text, &format!("| {} |", fields.join(" | ")));
        }
        text.push('\n');
    }
    for line in tail(comparison) {
        line_to(&mut text, &format!("{}  ", escaped(&line)));
    }
    text
}

fn line_to(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

/// Who is compared, and what forbids it.
fn head(comparison: &Comparison) -> Vec<String> {
    let mut lines = vec![side("base", &comparison.base), side("new ", &comparison.new)];
    lines.push(match comparison.order {
        Order::Interleaved => "order interleaved".to_owned(),
        Order::Sequential => "order sequential: the host's drift falls on one side".to_owned(),
    });
    if comparison.outcome == Outcome::Invalid {
        lines.push("invalid: there is nothing to compare".to_owned());
        lines.extend(comparison.invalid_reasons.iter().map(|reason| format!("  {reason}")));
    }
    let mut axes: Vec<_> =
        comparison.differences.iter().map(|difference| difference.axis).collect();
    axes.dedup();
    for axis in axes {
        let of_axis = || comparison.differences.iter().filter(|difference| difference.axis == axis);
        let allowed = of_axis().all(|difference| difference.allowed);
        let verdict =
            if allowed { "differs (allowed: nothing decides the exit code)" } else { "differs" };
        lines.push(format!("incomparable: {} {verdict}", axis.name()));
        lines.extend(of_axis().map(|difference| {
            format!("  {}  {} -> {}", difference.field, difference.base, difference.new)
        }));
    }
    lines
}

fn side(name: &str, side: &Side) -> String {
    let label = side.label.as_deref().unwrap_or("-");
    let revision: String = side.git_commit.chars().take(8).collect();
    format!("{name}  {label}  {revision}  {}  {}", side.started_at, side.run_id)
}

fn grid(comparison: &Comparison) -> Grid {
    use Align::{Left, Right};
    let mut grid = Grid::new([Left, Left, Right, Right, Right, Left]);
    grid.row(HEADINGS.map(|heading| Field::toned(heading, Tone::Head)).to_vec());
    let mut last_cell = "";
    for (cell, metric) in rows(comparison) {
        let mut fields = fields(comparison, cell, metric);
        if cell.id == last_cell {
            fields[0].0.clear();
        }
        last_cell = &cell.id;
        grid.row(fields.map(|(text, tone)| Field::toned(text, tone)).to_vec());
    }
    grid
}

fn rows(comparison: &Comparison) -> impl Iterator<Item = (&CellComparison, &MetricComparison)> {
    comparison.cells.iter().flat_map(|cell| cell.metrics.iter().map(move |metric| (cell, metric)))
}

fn fields(
    comparison: &Comparison,
    cell: &CellComparison,
    metric: &MetricComparison,
) -> [(String, Tone); 6] {
    let value = |value: &Measured<_>| {
        value.get().map_or_else(|| "n/a".to_owned(), |value| quantity(&metric.metric, value))
    };
    let (sign, word, tone) = match metric.verdict {
        Verdict::Regressed => ("-", "REGRESSED", Tone::Bad),
        Verdict::Improved => ("+", "improved", Tone::Good),
        Verdict::NoDifference => ("=", "no difference", Tone::Plain),
        Verdict::Inconclusive => ("?", "inconclusive", Tone::Doubt),
    };
    let note = if cell.gates {
        ""
    } else if comparison.differences.is_empty() {
        " peer"
    } else {
        " !=host"
    };
    [
        (cell.id.clone(), Tone::Plain),
        (metric.metric.clone(), Tone::Plain),
        (value(&metric.base), Tone::Plain),
        (value(&metric.new), Tone::Plain),
        (change(metric), Tone::Plain),
        (format!("{sign} {word} ({}){note}", metric.reason), tone),
    ]
}

/// The change with its interval: of an exact count there is none.
fn change(metric: &MetricComparison) -> String {
    let Some(shift) = metric.shift_percent.get() else {
        return "n/a".to_owned();
    };
    let shift_shown = signed_percent(shift);
    let ends = (metric.ci_low_percent.get(), metric.ci_high_percent.get());
    match (metric.kind, ends) {
        (crate::dump::MetricKind::Sampled, (Some(low), Some(high))) => {
            format!("{shift_shown} [{}, {}]", signed(low), signed(high))
        }
        _ => shift_shown,
    }
}

/// The sum of it, and what to do next.
fn tail(comparison: &Comparison) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(geomean) = comparison.geomean {
        let shift = signed_percent(geomean.shift_percent.get());
        lines.push(format!("geomean of throughput over {} cells  {shift}", geomean.n_cells));
    }
    lines.extend(comparison.removed.iter().map(|id| format!("removed  {id}")));
    lines.extend(comparison.added.iter().map(|id| format!("added    {id}")));
    lines.extend(comparison.warnings.iter().map(|warning| format!("warning  {warning}")));
    let counts = &comparison.counts;
    let exit = format!("exit {}", comparison.exit_code);
    if comparison.outcome == Outcome::Compared {
        lines.push(format!(
            "{} regressed, {} improved, {} no difference, {} inconclusive   {exit}",
            counts.regressed, counts.improved, counts.no_difference, counts.inconclusive
        ));
        let undecided = counts.regressed + counts.inconclusive > 0;
        if undecided && comparison.order == Order::Sequential {
            lines.push("hint  these runs did not take turns; interleaving decides more".to_owned());
        }
    } else {
        lines.push(exit);
    }
    lines
}
