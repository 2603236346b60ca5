//! The engine from inside: its stages and its shards.

use crate::dump::{Cell, Measured, StageStats, to_f64};
use crate::stats;
use crate::text::{Align, Field, Grid, Tone, duration, significant};

/// One row per stage, medians over the repetitions.
pub(super) fn stages(cell: &Cell) -> Grid {
    const HEADINGS: [&str; 9] = [
        "stage",
        "items",
        "per batch",
        "wait p50",
        "wait p99",
        "run p50",
        "shared",
        "shed",
        "sealed",
    ];
    let mut grid =
        Grid::new([[Align::Left].as_slice(), &[Align::Right; 7], &[Align::Left]].concat());
    let mut names: Vec<&String> =
        cell.repetitions.iter().flat_map(|repetition| repetition.stages.keys()).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return grid;
    }
    grid.row(HEADINGS.map(|heading| Field::toned(heading, Tone::Head)).to_vec());
    for name in names {
        let of: Vec<&StageStats> =
            cell.repetitions.iter().filter_map(|repetition| repetition.stages.get(name)).collect();
        let sum = |part: fn(&StageStats) -> u64| of.iter().map(|stage| part(stage)).sum::<u64>();
        let time = |part: fn(&StageStats) -> &Measured<u64>| {
            let values = of.iter().filter_map(|stage| part(stage).value().map(|ns| to_f64(*ns)));
            middle(values).map_or_else(|| "n/a".to_owned(), duration)
        };
        let per_batch = middle(of.iter().filter_map(|stage| stage.items_per_batch_mean.get()));
        grid.row(vec![
            name.as_str().into(),
            crate::dump::grouped(sum(|stage| stage.items)).into(),
            per_batch.map_or_else(|| "n/a".to_owned(), significant).into(),
            time(|stage| &stage.wait_p50_ns).into(),
            time(|stage| &stage.wait_p99_ns).into(),
            time(|stage| &stage.run_p50_ns).into(),
            crate::dump::grouped(sum(|stage| stage.deduplicated)).into(),
            crate::dump::grouped(sum(|stage| stage.shed)).into(),
            seals(&of).into(),
        ]);
    }
    grid
}

/// Shares of the reasons that sealed batches, where there were any.
fn seals(stages: &[&StageStats]) -> String {
    let batches: u64 = stages.iter().map(|stage| stage.batches).sum();
    let share = |name: &str, part: fn(&StageStats) -> u64| {
        let sealed: u64 = stages.iter().map(|stage| part(stage)).sum();
        let percent = to_f64(sealed) * 100.0 / to_f64(batches.max(1));
        (sealed > 0).then(|| format!("{name} {percent:.0} %"))
    };
    let shares = [
        share("full", |stage| stage.sealed.full),
        share("idle", |stage| stage.sealed.idle),
        share("lingered", |stage| stage.sealed.lingered),
        share("closing", |stage| stage.sealed.closing),
    ];
    shares.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// One row per shard, medians over the repetitions.
pub(super) fn shards(cell: &Cell) -> Grid {
    let mut grid = Grid::new([[Align::Left].as_slice(), &[Align::Right; 4]].concat());
    let Some(first) = cell.repetitions.iter().find(|repetition| !repetition.shards.is_empty())
    else {
        return grid;
    };
    let headings = ["shard", "share", "busy", "p99", "longest stall"];
    grid.row(headings.map(|heading| Field::toned(heading, Tone::Head)).to_vec());
    let total: u64 = cell.repetitions.iter().map(|repetition| repetition.ops.completed).sum();
    for shard in first.shards.iter().map(|shard| shard.shard) {
        let of = || {
            let all = cell.repetitions.iter().flat_map(|repetition| &repetition.shards);
            all.filter(move |stats| stats.shard == shard)
        };
        let share = to_f64(of().map(|stats| stats.ops).sum()) * 100.0 / to_f64(total.max(1));
        let busy = middle(of().filter_map(|stats| stats.busy_percent.get()));
        let p99 = middle(of().filter_map(|stats| stats.p99_ns.value().map(|ns| to_f64(*ns))));
        let stall = of().filter_map(|stats| stats.longest_stall_ns.value().copied()).max();
        let or_none = |text: Option<String>| Field::from(text.unwrap_or_else(|| "n/a".to_owned()));
        grid.row(vec![
            format!("{shard}").into(),
            format!("{share:.1} %").into(),
            or_none(busy.map(|percent| format!("{percent:.0} %"))),
            or_none(p99.map(duration)),
            or_none(stall.map(|ns| duration(to_f64(ns)))),
        ]);
    }
    grid
}

fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    stats::median(&values.collect::<Vec<_>>())
}
