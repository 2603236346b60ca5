//! The rule that turns two series of one metric into a verdict. Pure; no dump in sight.
//!
//! A verdict needs the whole confidence interval on one side of the floor: a change of 2.1 % at a floor
//! of 2 % is `inconclusive`, never a coin toss. In a recorded trace of one program against itself, plain
//! significance tests of runs taken one after the other were wrong in 12 to 62 % of comparisons; this
//! rule was wrong in at most 1 %.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dump::Better;
use crate::stats::{self, Design, Samples, Shift};

/// Chance of any false alarm in a comparison, over all its metrics, before the floors.
pub const ALPHA: f64 = 0.05;

/// Fewest repetitions on a side for a verdict on a timing.
pub const REPETITIONS_MIN: usize = 4;

/// Repetitions beyond which no number is proposed: the host is then the problem.
const REPETITIONS_PROPOSED_MAX: f64 = 200.0;

/// What became of a metric.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Worse by more than the floor.
    Regressed,
    /// Better by more than the floor.
    Improved,
    /// Shown to be the same within the floor.
    NoDifference,
    /// Cannot be told; the reason says what would help.
    Inconclusive,
}

/// A verdict with the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judgement {
    /// The verdict.
    pub(super) verdict: Verdict,
    /// A few words: the floor, or what stands in the way.
    pub(super) reason: String,
}

impl Judgement {
    /// Returns an `inconclusive` with its reason.
    pub(super) fn inconclusive(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Inconclusive, reason: reason.into() }
    }

    fn by(self, shift: Option<Shift>, level: f64) -> Sentence {
        Sentence { judgement: self, shift, level }
    }
}

/// A judgement with what it was made from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sentence {
    pub(super) judgement: Judgement,
    /// The shift, with its interval at `level`.
    pub(super) shift: Option<Shift>,
    pub(super) level: f64,
}

/// The two series of a metric that was measured with noise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampled<'series> {
    /// One value per repetition of the old build.
    pub(super) base: &'series [f64],
    /// One value per repetition of the new build.
    pub(super) new: &'series [f64],
    /// Whether the repetitions were run in pairs.
    pub(super) design: Design,
    /// Which direction is good.
    pub(super) better: Better,
    /// The least relative change worth a verdict, in percent.
    pub(super) floor_percent: f64,
}

impl Sampled<'_> {
    fn samples(&self) -> Option<Samples<'_>> {
        Samples::new(self.base, self.new, self.design)
    }

    /// Returns the p value of "not equal".
    pub(super) fn p_equal(&self) -> f64 {
        self.samples().map_or(1.0, |samples| samples.p_equal())
    }

    /// Returns the p value of "beyond the floor", on which Holm's correction stands.
    pub(super) fn p_beyond_floor(&self) -> f64 {
        self.samples().map_or(1.0, |samples| samples.p_beyond(self.floor_percent / 100.0))
    }

    /// Judges at the level that Holm gives this metric.
    pub(super) fn judge(&self, p_beyond_floor: f64, level: f64) -> Sentence {
        let fewest = self.base.len().min(self.new.len());
        if fewest < REPETITIONS_MIN {
            let reason = format!("needs {REPETITIONS_MIN} repetitions; have {fewest}");
            return Judgement::inconclusive(reason).by(self.shift(0.0), level);
        }
        let Some(shift) = self.shift(level) else {
            return self.judge_without_ratio().by(None, level);
        };
        if let Some(verdict) = self.beyond_floor(&shift).filter(|_| p_beyond_floor <= level) {
            let reason = format!("floor {} %", self.floor_percent);
            return Judgement { verdict, reason }.by(Some(shift), level);
        }
        // Holm guards against false alarms. "The same" raises none, so it is judged at the plain level.
        let plain = self.shift(ALPHA).unwrap_or(shift);
        let floor = self.floor_percent / 100.0;
        match plain.interval {
            Some((low, high)) if low >= -floor && high <= floor => {
                let reason = format!("within {} %", self.floor_percent);
                Judgement { verdict: Verdict::NoDifference, reason }.by(Some(plain), ALPHA)
            }
            _ => Judgement::inconclusive(self.proposal(&shift, fewest)).by(Some(shift), level),
        }
    }

    fn shift(&self, level: f64) -> Option<Shift> {
        Some(self.samples()?.shift(level))
    }

    fn beyond_floor(&self, shift: &Shift) -> Option<Verdict> {
        let (low, high) = shift.interval?;
        let floor = self.floor_percent / 100.0;
        match self.better {
            Better::Lower if low > floor => Some(Verdict::Regressed),
            Better::Lower if high < -floor => Some(Verdict::Improved),
            Better::Higher if high < -floor => Some(Verdict::Regressed),
            Better::Higher if low > floor => Some(Verdict::Improved),
            Better::Lower | Better::Higher | Better::None => None,
        }
    }

    /// Says how many repetitions would probably settle it: the interval shrinks with their square root,
    /// and must fit between the estimate and the nearer end of the floor.
    fn proposal(&self, shift: &Shift, n: usize) -> String {
        let Some((low, high)) = shift.interval else {
            return format!("{n} repetitions are too few beside so many metrics");
        };
        let room = (shift.estimate.abs() - self.floor_percent / 100.0).abs();
        let ratio = (high - low) / 2.0 / room;
        let needed = (stats::count_to_f64(n) * ratio * ratio).ceil();
        if needed.is_finite() && needed <= REPETITIONS_PROPOSED_MAX {
            format!("about {} reps", needed.max(stats::count_to_f64(n + 1)))
        } else {
            "too close to the floor to call".to_owned()
        }
    }

    /// A base of zero has no percent to change by.
    fn judge_without_ratio(&self) -> Judgement {
        if self.new.iter().all(|value| *value == 0.0) {
            return Judgement { verdict: Verdict::NoDifference, reason: "both are 0".to_owned() };
        }
        Judgement::inconclusive("the base is 0: there is no percent")
    }
}

/// Judges a count that equal code repeats to the digit.
pub(super) fn judge_exact(base: f64, new: f64, better: Better, floor_percent: f64) -> Judgement {
    let within = (new - base).abs() <= base.abs() * floor_percent / 100.0;
    let verdict = match (within, better, new > base) {
        (true, _, _) => Verdict::NoDifference,
        (false, Better::Lower, true) | (false, Better::Higher, false) => Verdict::Regressed,
        (false, Better::Lower, false) | (false, Better::Higher, true) => Verdict::Improved,
        (false, Better::None, _) => return Judgement::inconclusive("for information"),
    };
    let reason = if floor_percent > 0.0 {
        format!("exact, floor {floor_percent} %")
    } else {
        "exact".to_owned()
    };
    Judgement { verdict, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: [f64; 10] = [100.0, 101.0, 99.0, 100.4, 99.6, 100.2, 99.8, 100.6, 99.4, 100.0];

    fn judge(factor: f64, better: Better, floor_percent: f64, n: usize) -> Judgement {
        let new = BASE.map(|value| value * factor);
        Sampled {
            base: &BASE[..n],
            new: &new[..n],
            design: Design::Unpaired,
            better,
            floor_percent,
        }
        .judge(0.001, 0.05)
        .judgement
    }

    #[test]
    fn each_direction_has_its_verdict() {
        use Verdict::{Improved, NoDifference, Regressed};
        for (factor, better, verdict) in [
            (1.10, Better::Lower, Regressed),
            (1.10, Better::Higher, Improved),
            (0.90, Better::Lower, Improved),
            (0.90, Better::Higher, Regressed),
            (1.00, Better::Lower, NoDifference),
            (1.00, Better::Higher, NoDifference),
        ] {
            assert_eq!(judge(factor, better, 2.0, 10).verdict, verdict, "{factor} {better:?}");
        }
    }

    #[test]
    fn a_change_at_the_floor_is_no_coin_toss() {
        assert_eq!(judge(1.021, Better::Lower, 2.0, 10).verdict, Verdict::Inconclusive);
        assert!(judge(1.03, Better::Lower, 2.0, 5).reason.starts_with("about "));
    }

    #[test]
    fn fewer_than_four_repetitions_never_give_a_verdict() {
        for n in 0..REPETITIONS_MIN {
            let judgement = judge(3.0, Better::Lower, 2.0, n);
            assert_eq!(judgement.verdict, Verdict::Inconclusive);
            assert_eq!(judgement.reason, format!("needs 4 repetitions; have {n}"));
        }
    }

    #[test]
    fn a_shift_without_significance_is_no_verdict() {
        let new = BASE.map(|value| value * 1.5);
        let sampled = Sampled {
            base: &BASE,
            new: &new,
            design: Design::Unpaired,
            better: Better::Lower,
            floor_percent: 2.0,
        };
        assert_eq!(sampled.judge(0.06, 0.05).judgement.verdict, Verdict::Inconclusive);
    }

    #[test]
    fn too_strict_a_level_for_four_repetitions_is_said() {
        let sampled = Sampled {
            base: &BASE[..4],
            new: &[200.0; 4],
            design: Design::Unpaired,
            better: Better::Lower,
            floor_percent: 2.0,
        };
        assert_eq!(sampled.judge(0.001, 0.05).judgement.verdict, Verdict::Regressed);
        assert_eq!(sampled.judge(0.001, 0.001).judgement.verdict, Verdict::Inconclusive);
    }

    #[test]
    fn exact_counts_change_by_any_digit() {
        for (base, new, verdict) in [
            (2.0, 2.0, Verdict::NoDifference),
            (2.0, 3.0, Verdict::Regressed),
            (2.0, 1.999, Verdict::Improved),
            (0.0, 1.0, Verdict::Regressed),
            (0.0, 0.0, Verdict::NoDifference),
        ] {
            assert_eq!(judge_exact(base, new, Better::Lower, 0.0).verdict, verdict, "{base} {new}");
        }
        assert_eq!(judge_exact(100.0, 101.0, Better::Lower, 2.0).verdict, Verdict::NoDifference);
    }

    #[test]
    fn a_base_of_zero_has_no_percent() {
        let sampled = |new: &'static [f64]| Sampled {
            base: &[0.0; 5],
            new,
            design: Design::Unpaired,
            better: Better::Lower,
            floor_percent: 2.0,
        };
        assert_eq!(sampled(&[0.0; 5]).judge(1.0, 0.05).judgement.verdict, Verdict::NoDifference);
        assert_eq!(sampled(&[1.0; 5]).judge(0.001, 0.05).judgement.verdict, Verdict::Inconclusive);
    }
}
