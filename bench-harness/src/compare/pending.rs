//! Cells and metrics on their way to a verdict: gated first, tested together, then judged.
//!
//! Holm's correction needs the p values of all metrics before the first verdict, so a metric waits here
//! between its gate and its judgement.

use std::collections::BTreeMap;

use super::gates;
use super::record::{CellComparison, MetricComparison, Order};
use super::verdict::{ALPHA, Judgement, REPETITIONS_MIN, Sampled, Verdict, judge_exact};
use crate::dump::{
    Better, Cell, Dump, Finite, METRICS, Measured, MetricKind, Series, metric, series,
};
use crate::stats::{self, Design};

/// Floor of what a workload adds, unless its file says otherwise.
pub const EXTRA_FLOOR_PERCENT: f64 = 5.0;

/// Reads the floors of the workload file, which stand outside its digest.
pub(super) fn floors_percent(dump: &Dump) -> BTreeMap<String, f64> {
    let floors = dump.workload.resolved.pointer("/compare/floors_percent");
    let entries = floors.and_then(|floors| floors.as_object()).into_iter().flatten();
    entries
        .filter_map(|(name, floor)| Some((name.clone(), floor.as_f64()?)))
        .filter(|(_, floor)| *floor >= 0.0)
        .collect()
}

/// Fewest pairs for a test of pairs: fewer signs cannot reach the levels that Holm asks for.
const PAIRS_MIN: usize = 8;

/// What holds for every cell of a comparison.
#[derive(Debug)]
pub(super) struct Context {
    /// Why no timing of these runs is believed.
    pub(super) run_noise: Option<String>,
    /// Whether the runs took turns.
    pub(super) order: Order,
    /// Whether they differ where they may not, but were allowed to.
    pub(super) across: bool,
    /// Floors of the workload file.
    pub(super) floors: BTreeMap<String, f64>,
}

/// A cell whose metrics wait for the level that Holm gives them.
pub(super) struct Pending {
    id: String,
    gates: bool,
    metrics: Vec<PendingMetric>,
}

struct PendingMetric {
    base: Series,
    new: Series,
    /// Why a timing verdict cannot be given, found by a gate.
    gate: Option<String>,
    design: Design,
    p_beyond_floor: f64,
    result: MetricComparison,
}

impl Pending {
    pub(super) fn new(
        base: &Cell,
        new: &Cell,
        context: &Context,
        warnings: &mut Vec<String>,
    ) -> Self {
        let surroundings = Surroundings {
            context,
            noise: (context.run_noise.clone())
                .or_else(|| gates::stolen("base", base))
                .or_else(|| gates::stolen("new", new)),
            drift: gates::canary_drift_percent(base, new),
        };
        let (old, mut fresh) = (series(&base.repetitions), series(&new.repetitions));
        let metrics: Vec<PendingMetric> = in_reading_order(old)
            .into_iter()
            .filter_map(|(name, old)| {
                let lost =
                    || Series { values: vec![Measured::absent("not reported")], ..old.clone() };
                let fresh = fresh.remove(&name).unwrap_or_else(lost);
                PendingMetric::new(&name, old, fresh, &surroundings)
            })
            .collect();
        for metric in &metrics {
            metric.warn(&base.id, warnings);
        }
        let gates = base.peer.is_none() && !context.across;
        Self { id: base.id.clone(), gates, metrics }
    }

    pub(super) fn finish(self) -> CellComparison {
        let metrics = self.metrics.into_iter().map(|metric| metric.result).collect();
        CellComparison { id: self.id, gates: self.gates, metrics }
    }
}

/// What holds for every metric of a cell.
struct Surroundings<'context> {
    context: &'context Context,
    /// Why no timing of this cell is believed.
    noise: Option<String>,
    /// Change of the canary from base to new.
    drift: Option<f64>,
}

impl PendingMetric {
    /// Returns nothing for a metric that is for information, or that neither side has.
    fn new(name: &str, base: Series, new: Series, around: &Surroundings<'_>) -> Option<Self> {
        let (old, fresh) = (base.present(), new.present());
        if base.better == Better::None || (old.is_empty() && fresh.is_empty()) {
            return None;
        }
        let kind = kind(&base, &new);
        let (drift, floors) = (around.drift, &around.context.floors);
        let (floor, source) = floor(name, kind, drift, floors);
        let gate = gate(&base, &new)
            .or_else(|| around.noise.clone())
            .or_else(|| drifted(name, drift, floors));
        let median = |values: &[f64], series: &Series| {
            let reason = series.absence().unwrap_or("no value");
            Measured::from_option(stats::median(values).and_then(Finite::new), reason)
        };
        let result = MetricComparison {
            metric: name.to_owned(),
            kind,
            better: base.better,
            n_base: u32::try_from(old.len()).unwrap_or(u32::MAX),
            n_new: u32::try_from(fresh.len()).unwrap_or(u32::MAX),
            floor_percent: Finite::new(floor)?,
            floor_source: source.to_owned(),
            verdict: Verdict::Inconclusive,
            reason: String::new(),
            base: median(&old, &base),
            new: median(&fresh, &new),
            shift_percent: Measured::absent("the base is 0 or missing"),
            ci_low_percent: Measured::absent("too few repetitions"),
            ci_high_percent: Measured::absent("too few repetitions"),
            level: Measured::absent("an exact count needs none"),
            p_value: Measured::absent("an exact count needs none"),
            p_beyond_floor: Measured::absent("an exact count needs none"),
            canary_drift_percent: Measured::from_option(drift.and_then(Finite::new), "no canary"),
        };
        let design = design(&base, &new, around.context.order);
        let mut pending = Self { base, new, gate, design, p_beyond_floor: 1.0, result };
        if pending.is_tested() {
            pending.p_beyond_floor = pending.sampled(&old, &fresh).p_beyond_floor();
        }
        Some(pending)
    }

    /// True when Holm has to count it.
    fn is_tested(&self) -> bool {
        self.result.kind == MetricKind::Sampled && self.gate.is_none()
    }

    fn judge(&mut self, level: f64) {
        let (old, new) = (self.base.present(), self.new.present());
        let judgement = match self.result.kind {
            MetricKind::Exact => self.judge_exact(&old, &new),
            MetricKind::Sampled => self.judge_sampled(&old, &new, level),
        };
        self.result.verdict = judgement.verdict;
        self.result.reason = judgement.reason;
    }

    fn judge_exact(&mut self, old: &[f64], new: &[f64]) -> Judgement {
        let (Some(old), Some(new)) = (old.first(), new.first()) else {
            return Judgement::inconclusive(self.gate.clone().unwrap_or_default());
        };
        let shift = Measured::ratio((new - old) * 100.0, old.abs(), "the base is 0");
        for field in [
            &mut self.result.shift_percent,
            &mut self.result.ci_low_percent,
            &mut self.result.ci_high_percent,
        ] {
            *field = shift.clone();
        }
        judge_exact(*old, *new, self.result.better, self.result.floor_percent.get())
    }

    fn judge_sampled(&mut self, old: &[f64], new: &[f64], level: f64) -> Judgement {
        let sentence = self.sampled(old, new).judge(self.p_beyond_floor, level);
        if let Some(shift) = sentence.shift {
            self.result.shift_percent = Measured::number(shift.estimate * 100.0);
            if let Some((low, high)) = shift.interval {
                self.result.ci_low_percent = Measured::number(low * 100.0);
                self.result.ci_high_percent = Measured::number(high * 100.0);
            }
        }
        self.result.level = Measured::number(sentence.level);
        self.result.p_value = Measured::number(self.sampled(old, new).p_equal());
        self.result.p_beyond_floor = Measured::number(self.p_beyond_floor);
        match &self.gate {
            Some(reason) => Judgement::inconclusive(reason.clone()),
            None => sentence.judgement,
        }
    }

    fn sampled<'series>(&self, base: &'series [f64], new: &'series [f64]) -> Sampled<'series> {
        let floor_percent = self.result.floor_percent.get();
        Sampled { base, new, design: self.design, better: self.result.better, floor_percent }
    }

    /// An exact count that wavers is not exact: say so.
    fn warn(&self, cell_id: &str, warnings: &mut Vec<String>) {
        let said_exact =
            [&self.base, &self.new].iter().all(|series| series.kind == MetricKind::Exact);
        if said_exact && self.result.kind == MetricKind::Sampled {
            let name = &self.result.metric;
            warnings
                .push(format!("{cell_id}: {name} is called exact but wavers; judged as sampled"));
        }
    }
}

/// A count is exact when both sides say so and neither wavers.
fn kind(base: &Series, new: &Series) -> MetricKind {
    let steady = |series: &Series| {
        let values = series.present();
        series.kind == MetricKind::Exact && values.windows(2).all(|pair| pair[0] == pair[1])
    };
    if steady(base) && steady(new) { MetricKind::Exact } else { MetricKind::Sampled }
}

/// Repetitions are pairs when the runs took turns and each has its partner.
fn design(base: &Series, new: &Series, order: Order) -> Design {
    let whole = |series: &Series| series.absence().is_none() && series.values.len() >= PAIRS_MIN;
    let paired = order == Order::Interleaved
        && whole(base)
        && whole(new)
        && base.values.len() == new.values.len();
    if paired { Design::Paired } else { Design::Unpaired }
}

/// Returns why these two series cannot give a verdict on a timing.
fn gate(base: &Series, new: &Series) -> Option<String> {
    for (side, series) in [("base", base), ("new", new)] {
        let values = series.present().len();
        if values == 0 {
            return Some(format!("{side}: {}", series.absence().unwrap_or("no value")));
        }
        if values < REPETITIONS_MIN {
            return Some(format!("{side}: needs {REPETITIONS_MIN} repetitions; have {values}"));
        }
    }
    None
}

/// Returns why the host's drift stands in the way: the metric's own floor is the measure, before the
/// drift itself may raise it.
fn drifted(name: &str, drift: Option<f64>, floors: &BTreeMap<String, f64>) -> Option<String> {
    let (own_floor, _) = own_floor(name, MetricKind::Sampled, floors);
    match drift {
        None => Some("no canary tells whether the host drifted".to_owned()),
        Some(drift) if drift.abs() > own_floor => {
            Some(format!("host drift {drift:+.1} % (canary), floor {own_floor} %"))
        }
        Some(_) => None,
    }
}

/// Returns the floor of a verdict and which rule set it.
fn floor(
    name: &str,
    kind: MetricKind,
    drift: Option<f64>,
    floors: &BTreeMap<String, f64>,
) -> (f64, &'static str) {
    let (own, source) = own_floor(name, kind, floors);
    match drift.map(f64::abs) {
        Some(drift) if kind == MetricKind::Sampled && drift > own => (drift, "canary drift"),
        _ => (own, source),
    }
}

fn own_floor(name: &str, kind: MetricKind, floors: &BTreeMap<String, f64>) -> (f64, &'static str) {
    if let Some(floor) = floors.get(name) {
        return (*floor, "workload file");
    }
    match kind {
        MetricKind::Exact => (0.0, "exact"),
        MetricKind::Sampled => {
            (metric(name).map_or(EXTRA_FLOOR_PERCENT, |metric| metric.floor_percent), "default")
        }
    }
}

/// Judges the metrics of the engine's own cells, or those of peers, as one family.
pub(super) fn judge_family(cells: &mut [Pending], gates: bool) {
    let mut family: Vec<&mut PendingMetric> = cells
        .iter_mut()
        .filter(|cell| cell.gates == gates)
        .flat_map(|cell| cell.metrics.iter_mut())
        .collect();
    let p_values: Vec<f64> = family
        .iter()
        .filter(|metric| metric.is_tested())
        .map(|metric| metric.p_beyond_floor)
        .collect();
    let mut levels = stats::holm_levels(&p_values, ALPHA).into_iter();
    for metric in &mut family {
        // A metric that no test is made of shows its plain interval.
        let level = if metric.is_tested() { levels.next() } else { None };
        metric.judge(level.unwrap_or(ALPHA));
    }
}

/// Puts the closed list first, in its own order, and then what the workload adds, by name.
fn in_reading_order(mut series: BTreeMap<String, Series>) -> Vec<(String, Series)> {
    let mut ordered: Vec<(String, Series)> =
        METRICS.iter().filter_map(|metric| series.remove_entry(metric.name)).collect();
    ordered.extend(series);
    ordered
}
