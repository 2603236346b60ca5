//! How soon and by how much response times follow a change of the load.
//!
//! The phase is cut into windows of [`WINDOW_NS`]; each has the 90th percentile of what was answered
//! in it. Those of one step are compared with a level: the target of the conditioner where one is
//! set, else what the step itself comes to, the median of its last third. A step has *settled* at
//! the beginning of the first [`CALM_WINDOWS`] windows in a row, without a gap, none of which lies
//! above the level by more than [`BAND_PERCENT`]; windows in which nothing was answered are a gap.
//! Its *overshoot* is by how much its worst window lies above the level. Lying below is no fault: a
//! light load is answered sooner than any target.

/// Length of a window: short enough to see a second of settling, long enough for a percentile.
pub(super) const WINDOW_NS: u64 = 250_000_000;
/// Windows in a row without a fault: a second.
pub(super) const CALM_WINDOWS: usize = 4;
/// How far above the level a window may lie.
pub(super) const BAND_PERCENT: u64 = 25;
/// Answers of one window that are looked at; further ones change its percentile little. At 8 bytes
/// each it bounds what a busy window holds.
const ANSWERS_MAX: usize = 65_536;
/// Windows of the longest phase that is followed: an hour.
const WINDOWS_MAX: usize = 14_400;

/// Gathers response times, window by window.
#[derive(Debug, Clone, Default)]
pub(super) struct Windows {
    /// Of the window under way.
    response_ns: Vec<u64>,
    p90s_ns: Vec<Option<u64>>,
}

/// One step of a phase: when it began and ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Settling {
    /// From the step's beginning; `None` when it did not settle.
    pub(super) settle_ms: Option<u64>,
    pub(super) overshoot_percent: f64,
}

impl Windows {
    /// Notes an answer. Times of ends do not go back.
    pub(super) fn note(&mut self, ended_ns: u64, response_ns: u64) {
        self.close_until(ended_ns);
        if self.response_ns.len() < ANSWERS_MAX {
            self.response_ns.push(response_ns);
        }
    }

    /// The windows of a phase that ends now.
    pub(super) fn finish(mut self, end_ns: u64) -> Vec<Option<u64>> {
        self.close_until(end_ns);
        self.p90s_ns
    }

    fn close_until(&mut self, now_ns: u64) {
        let n_closed = usize::try_from(now_ns / WINDOW_NS).unwrap_or(WINDOWS_MAX).min(WINDOWS_MAX);
        while self.p90s_ns.len() < n_closed {
            let p90_ns = percentile_90(&mut self.response_ns);
            self.p90s_ns.push(p90_ns);
            self.response_ns.clear();
        }
    }
}

fn percentile_90(values: &mut [u64]) -> Option<u64> {
    let last = values.len().checked_sub(1)?;
    Some(*values.select_nth_unstable(last * 9 / 10).1)
}

/// How a step went, by its windows; why not where that cannot be told.
pub(super) fn settling(
    p90s_ns: &[Option<u64>],
    step: Step,
    target_ns: Option<u64>,
) -> Result<Settling, String> {
    // A window that two steps share tells of neither.
    let first = usize::try_from(step.from_ns.div_ceil(WINDOW_NS)).unwrap_or(usize::MAX);
    let end = usize::try_from(step.to_ns / WINDOW_NS).unwrap_or(usize::MAX).min(p90s_ns.len());
    let windows = p90s_ns.get(first..end).unwrap_or_default();
    if windows.len() < CALM_WINDOWS {
        let ms = WINDOW_NS / 1_000_000;
        return Err(format!("the step has fewer than {CALM_WINDOWS} windows of {ms} ms"));
    }
    let level_ns = target_ns.or_else(|| final_level(windows));
    let level_ns = level_ns.filter(|level_ns| *level_ns > 0);
    let level_ns = level_ns.ok_or("nothing was answered in the last third of the step")?;
    let highest_ns = level_ns.saturating_mul(100 + BAND_PERCENT) / 100;
    let is_calm = |window: &Option<u64>| window.is_some_and(|p90_ns| p90_ns <= highest_ns);
    let settled = windows.windows(CALM_WINDOWS).position(|row| row.iter().all(is_calm));
    let worst_ns = windows.iter().flatten().max().copied().unwrap_or(0);
    let above_ns = worst_ns.saturating_sub(level_ns);
    let begun_ns = |idx: usize| (first + idx) as u64 * WINDOW_NS - step.from_ns;
    Ok(Settling {
        settle_ms: settled.map(|idx| begun_ns(idx) / 1_000_000),
        overshoot_percent: crate::dump::to_f64(above_ns) * 100.0 / crate::dump::to_f64(level_ns),
    })
}

/// The median of the last third.
fn final_level(windows: &[Option<u64>]) -> Option<u64> {
    let last = &windows[windows.len() - windows.len().div_ceil(3)..];
    let mut values: Vec<u64> = last.iter().flatten().copied().collect();
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Windows by their percentiles in milliseconds; 0 where nothing was answered.
    fn windows(p90s_ms: &[u64]) -> Vec<Option<u64>> {
        p90s_ms.iter().map(|ms| (*ms > 0).then_some(ms * MS)).collect()
    }

    fn whole(windows: &[Option<u64>]) -> Step {
        Step { from_ns: 0, to_ns: windows.len() as u64 * WINDOW_NS }
    }

    fn settled(p90s_ms: &[u64], target_ms: Option<u64>) -> (Option<u64>, u64) {
        let windows = windows(p90s_ms);
        let target_ns = target_ms.map(|ms| ms * MS);
        let settling = settling(&windows, whole(&windows), target_ns).unwrap();
        let overshoot = settling.overshoot_percent.round();
        assert!((0.0..1e6).contains(&overshoot));
        (settling.settle_ms, format!("{overshoot}").parse().unwrap())
    }

    #[test]
    fn a_step_settles_where_a_calm_second_begins() {
        assert_eq!(settled(&[50, 50, 50, 50], Some(50)), (Some(0), 0));
        assert_eq!(settled(&[200, 100, 62, 60, 55, 50], Some(50)), (Some(500), 300));
        // A second outbreak puts it off; one just above the band, too.
        assert_eq!(settled(&[90, 50, 50, 50, 63, 50, 50, 50, 50], Some(50)), (Some(1_250), 80));
        assert_eq!(settled(&[90, 90, 50, 50, 50], Some(50)), (None, 80));
        // Below the target is no fault, silence is no calm.
        assert_eq!(settled(&[1, 1, 1, 1], Some(50)), (Some(0), 0));
        assert_eq!(settled(&[50, 0, 50, 50, 50, 50], Some(50)), (Some(500), 0));
    }

    #[test]
    fn without_a_target_a_step_is_compared_with_what_it_comes_to() {
        assert_eq!(settled(&[400, 200, 10, 10, 10, 10, 11, 10, 10], None), (Some(500), 3_900));
        assert_eq!(settled(&[10; 8], None), (Some(0), 0));
    }

    #[test]
    fn steps_are_told_apart_and_time_counts_from_their_beginning() {
        let windows = windows(&[10, 10, 10, 10, 90, 90, 10, 10, 10, 10]);
        let from_ns = 4 * WINDOW_NS;
        let step = Step { from_ns, to_ns: 10 * WINDOW_NS };
        let second = settling(&windows, step, Some(10 * MS)).unwrap();
        assert_eq!(second, Settling { settle_ms: Some(500), overshoot_percent: 800.0 });
        let first = Step { from_ns: 0, to_ns: from_ns };
        let first = settling(&windows, first, Some(10 * MS)).unwrap();
        assert_eq!(first, Settling { settle_ms: Some(0), overshoot_percent: 0.0 });
        // A step that begins within a window has its first one behind it.
        let late = Step { from_ns: from_ns - 50 * MS, ..step };
        let late = settling(&windows, late, Some(10 * MS)).unwrap();
        assert_eq!(late.settle_ms, Some(550));
    }

    #[test]
    fn what_cannot_be_told_has_a_reason() {
        let few = windows(&[10, 10, 10]);
        assert!(settling(&few, whole(&few), None).unwrap_err().contains("fewer than 4"));
        let silent = windows(&[10, 10, 10, 10, 0, 0]);
        assert!(settling(&silent, whole(&silent), None).unwrap_err().contains("nothing"));
    }

    #[test]
    fn a_window_has_the_percentile_of_its_own_answers() {
        let mut windows = Windows::default();
        for ms in 1..=100 {
            windows.note(ms, ms * MS);
        }
        windows.note(3 * WINDOW_NS + 1, 7);
        let p90s_ns = windows.finish(4 * WINDOW_NS);
        assert_eq!(p90s_ns, [Some(90 * MS), None, None, Some(7)]);
    }
}
