//! Judges the limits of a workload file on the medians of our cells.

use crate::dump::{Cell, Finite, LimitKind, Measured, SloResult};
use crate::workload_file::Slo;

/// Judges each limit for each of our cells of its phase. A metric that was not measured fails: a
/// limit on nothing must not pass in silence.
pub(super) fn judge(limits: &[Slo], cells: &[Cell]) -> Vec<SloResult> {
    let ours = |slo: &Slo| {
        let phase = slo.phase.clone();
        cells.iter().filter(move |cell| cell.peer.is_none() && cell.phase == phase)
    };
    limits.iter().flat_map(|slo| ours(slo).filter_map(|cell| judge_cell(slo, cell))).collect()
}

fn judge_cell(slo: &Slo, cell: &Cell) -> Option<SloResult> {
    let (limit_kind, limit) = match (slo.at_most, slo.at_least) {
        (Some(limit), None) => (LimitKind::AtMost, limit),
        (None, Some(limit)) => (LimitKind::AtLeast, limit),
        // Refused when the file was checked.
        _ => return None,
    };
    let summary = cell.summary.get(&slo.metric);
    let observed: Measured<Finite> = summary.map_or_else(
        || Measured::absent(format!("this cell has no metric {}", slo.metric)),
        |summary| summary.median.clone(),
    );
    let keeps = |value: f64| match limit_kind {
        LimitKind::AtMost => value <= limit,
        LimitKind::AtLeast => value >= limit,
    };
    let ends = summary.map(|summary| (summary.ci95_low.get(), summary.ci95_high.get()));
    Some(SloResult {
        cell: cell.id.clone(),
        metric: slo.metric.clone(),
        limit_kind,
        limit: Finite::new(limit)?,
        pass: observed.get().is_some_and(keeps),
        marginal: matches!(ends, Some((Some(low), Some(high))) if keeps(low) != keeps(high)),
        observed,
    })
}
