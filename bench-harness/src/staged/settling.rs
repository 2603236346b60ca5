//! How soon and by how much response times follow a change of the load.
//!
//! The phase is cut into windows of [`WINDOW_NS`]; each has the 90th percentile of what ended in it,
//! refusals apart: what was answered, and what was accepted and came to nothing, at the time that
//! this took. Those of one step are compared with a level, the phase's `target_ms`: the same for
//! every cell of a file, so that one which refuses nothing is held to it as well. A window is *calm*
//! when it does not lie above the level by more than [`BAND_PERCENT`]; one in which nothing ended
//! is not. A step has *settled* at the beginning of its first calm run of [`CALM_WINDOWS`] windows
//! that holds to the end of the step: of the windows from there on at most [`OUTLIERS_PERCENT`] are
//! not calm, for the percentile of few answers is noisy, and no two of them in a row, for that is an
//! outbreak. A step that does not settle counts as its whole length: there is then a figure, and it
//! is worse than any of a step that did. *Overshoot* is by how much the worst window lies above the
//! level. Lying below is no fault: a light load is answered sooner than any target.

/// Length of a window: short enough to see a second of settling, long enough for a percentile.
pub(super) const WINDOW_NS: u64 = 250_000_000;
/// Windows in a row without a fault: a second.
pub(super) const CALM_WINDOWS: usize = 4;
/// How far above the level a window may lie.
pub(super) const BAND_PERCENT: u64 = 25;
/// Windows of a calm run that may not be calm: of the twenty of a step of 5 s two.
pub(super) const OUTLIERS_PERCENT: usize = 10;
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
    /// From the step's beginning; its whole length when it did not settle.
    pub(super) settle_ms: u64,
    /// `None` when nothing but refusals came in the whole step.
    pub(super) overshoot_percent: Option<f64>,
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

/// The nearest rank: the least value that nine tenths do not exceed.
fn percentile_90(values: &mut [u64]) -> Option<u64> {
    let rank = (values.len() * 9).div_ceil(10);
    Some(*values.select_nth_unstable(rank.checked_sub(1)?).1)
}

/// How a step went, by its windows; why not where that cannot be told.
pub(super) fn settling(
    p90s_ns: &[Option<u64>],
    step: Step,
    level_ns: u64,
) -> Result<Settling, String> {
    // A window that two steps share tells of neither.
    let first = usize::try_from(step.from_ns.div_ceil(WINDOW_NS)).unwrap_or(usize::MAX);
    let end = usize::try_from(step.to_ns / WINDOW_NS).unwrap_or(usize::MAX).min(p90s_ns.len());
    let windows = p90s_ns.get(first..end).unwrap_or_default();
    if windows.len() < CALM_WINDOWS {
        let ms = WINDOW_NS / 1_000_000;
        return Err(format!("the step has fewer than {CALM_WINDOWS} windows of {ms} ms"));
    }
    let highest_ns = level_ns.saturating_mul(100 + BAND_PERCENT) / 100;
    let is_calm = |window: &Option<u64>| window.is_some_and(|p90_ns| p90_ns <= highest_ns);
    let calm: Vec<bool> = windows.iter().map(is_calm).collect();
    let settled_ns = settled(&calm).map_or(step.to_ns, |idx| (first + idx) as u64 * WINDOW_NS);
    let above_percent = |worst_ns: u64| {
        let above_ns = crate::dump::to_f64(worst_ns.saturating_sub(level_ns));
        above_ns * 100.0 / crate::dump::to_f64(level_ns)
    };
    Ok(Settling {
        settle_ms: (settled_ns - step.from_ns) / 1_000_000,
        overshoot_percent: windows.iter().flatten().max().copied().map(above_percent),
    })
}

/// The window at which the calm run begins that holds to the end.
fn settled(calm: &[bool]) -> Option<usize> {
    let n_outliers = |run: &[bool]| run.iter().filter(|calm| !**calm).count();
    let holds = |from: &usize| {
        let run = &calm[*from..];
        n_outliers(&run[..CALM_WINDOWS]) == 0
            && run.windows(2).all(|two| two[0] || two[1])
            && n_outliers(run) * 100 <= run.len() * OUTLIERS_PERCENT
    };
    (0..(calm.len() + 1).saturating_sub(CALM_WINDOWS)).find(holds)
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

    /// Settling time and overshoot against a level of 50 ms.
    fn went(p90s_ms: &[u64]) -> (u64, Option<f64>) {
        let windows = windows(p90s_ms);
        let settling = settling(&windows, whole(&windows), 50 * MS).unwrap();
        (settling.settle_ms, settling.overshoot_percent)
    }

    #[test]
    fn a_step_settles_where_its_lasting_calm_begins() {
        assert_eq!(went(&[50, 50, 50, 50]), (0, Some(0.0)));
        assert_eq!(went(&[200, 100, 62, 60, 55, 50]), (500, Some(300.0)));
        // Below the target is no fault; silence is no calm; just above the band is above it.
        assert_eq!(went(&[1, 1, 1, 1]), (0, Some(0.0)));
        assert_eq!(went(&[50, 0, 50, 50, 50, 50]), (500, Some(0.0)));
        assert_eq!(went(&[90, 50, 50, 50, 63, 50, 50, 50, 50]), (1_250, Some(80.0)));
    }

    #[test]
    fn a_later_outbreak_ends_a_calm_second() {
        assert_eq!(went(&[50, 50, 50, 50, 90, 90, 50, 50, 50, 50]), (1_500, Some(80.0)));
        // However long the calm before: two windows in a row are no outlier.
        let mut long = [50; 60];
        long[30..32].fill(90);
        assert_eq!(went(&long), (8_000, Some(80.0)));
        long[59] = 90;
        assert_eq!(went(&long), (8_000, Some(80.0)), "one of 28 windows is an outlier");
    }

    #[test]
    fn one_window_in_ten_may_be_an_outlier_and_no_more() {
        let step = |above: &[usize]| {
            let mut p90s_ms = [50; 20];
            above.iter().for_each(|idx| p90s_ms[*idx] = 90);
            went(&p90s_ms).0
        };
        assert_eq!(step(&[7, 12]), 0);
        assert_eq!(step(&[5, 7, 12]), 2_000, "behind the second: one of twelve");
        // The run itself begins calm.
        assert_eq!(step(&[2]), 750);
    }

    #[test]
    fn a_step_that_does_not_settle_counts_as_its_whole_length() {
        assert_eq!(went(&[90, 90, 50, 50, 50]), (1_250, Some(80.0)));
        assert_eq!(went(&[50, 50, 50, 50, 90, 90]), (1_500, Some(80.0)));
        assert_eq!(went(&[0, 0, 0, 0]), (1_000, None));
        // At the end of a load that never comes down, its own last level is no excuse.
        assert_eq!(went(&[900; 8]), (2_000, Some(1_700.0)));
    }

    #[test]
    fn steps_are_told_apart_and_time_counts_from_their_beginning() {
        let windows = windows(&[10, 10, 10, 10, 90, 90, 10, 10, 10, 10]);
        let from_ns = 4 * WINDOW_NS;
        let step = Step { from_ns, to_ns: 10 * WINDOW_NS };
        let second = settling(&windows, step, 10 * MS).unwrap();
        assert_eq!(second, Settling { settle_ms: 500, overshoot_percent: Some(800.0) });
        let first = Step { from_ns: 0, to_ns: from_ns };
        let first = settling(&windows, first, 10 * MS).unwrap();
        assert_eq!(first, Settling { settle_ms: 0, overshoot_percent: Some(0.0) });
        // A step that begins within a window has its first one behind it.
        let late = Step { from_ns: from_ns - 50 * MS, ..step };
        let late = settling(&windows, late, 10 * MS).unwrap();
        assert_eq!(late.settle_ms, 550);
    }

    #[test]
    fn a_step_too_short_to_be_calm_has_a_reason() {
        let few = windows(&[10, 10, 10]);
        let why = settling(&few, whole(&few), 10 * MS).unwrap_err();
        assert!(why.contains("fewer than 4"), "{why}");
    }

    #[test]
    fn nine_tenths_do_not_exceed_the_percentile() {
        let of = |n: u64| percentile_90(&mut (1..=n).rev().collect::<Vec<_>>());
        let ranks = [(1, 1), (2, 2), (5, 5), (9, 9), (10, 9), (11, 10), (100, 90), (101, 91)];
        for (n, rank) in ranks {
            assert_eq!(of(n), Some(rank), "of {n}");
        }
        assert_eq!(of(0), None);
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
