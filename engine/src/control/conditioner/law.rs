//! How the presets that bound a rate move it: the laws of the staged design, with their constants.
//!
//! The constants are those of the Sandstorm release of October 2002; the multiclass ones are those
//! of Welsh and Culler, "Adaptive Overload Control for Busy Internet Servers" (USITS 2003). They are
//! absolute (so many calls per second more), so a ramp takes minutes at a capacity of 1,000 a second
//! and is never long enough at 100,000: kept to compare with, and for stages that know them.

use std::collections::VecDeque;
use std::time::Duration;

use super::rated::Class;
use crate::runtime::Time;

/// The bounds of every admission rate.
pub(super) const PER_S_MIN: f64 = 0.05;
pub(super) const PER_S_MAX: f64 = 5_000.0;

/// *Direct*: raise below this part of the target, cut above that one.
const DIRECT_LOW: f64 = -0.1;
const DIRECT_HIGH: f64 = 0.2;
const DIRECT_START_PER_S: f64 = 10.0;
const DIRECT_DEPTH: f64 = 10.0;
const DIRECT_RAISE_PER_S: f64 = 0.5;
const DIRECT_CUT: f64 = 2.0;

const USITS_START_PER_S: f64 = 100.0;
/// Published is a depth of 1 in whole tokens: one, and the part of the next that has come. A bucket
/// of real numbers that is full at 1.0 would lose that part, and at 1.5x never admit its rate.
const USITS_DEPTH: f64 = 2.0;
/// *Usits03*: raise where the error is below this, by so much for each unit beyond the offset.
const USITS_LOW: f64 = -0.5;
const USITS_RAISE_PER_S: f64 = 2.0;
const USITS_RAISE_OFFSET: f64 = 0.1;
const USITS_CUT: f64 = 1.2;
const USITS_CUT_BELOW: f64 = 10.0;
/// Rounds without anybody below to cut, after which a class that is not the lowest cuts itself.
const USITS_ROUNDS_ALONE: u32 = 20;

/// *PID*: gains, and how far back the integral goes.
const PID_PROPORTIONAL: f64 = 1.0;
const PID_DERIVATIVE: f64 = -0.5;
const PID_INTEGRAL: f64 = 0.2 / 100.0;
const PID_WINDOW: Duration = Duration::from_secs(5);
/// Errors kept for the integral: at the highest rate, five seconds are 250 rounds.
const PID_ERRORS_MAX: usize = 256;

/// Which law moves the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Law {
    Usits03,
    Direct,
    Pid,
}

/// What a round ends with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Action {
    Keep,
    Set(f64),
    /// The class is over its target: the lower ones are cut for it.
    CutBelow,
}

/// The errors of the PID law.
#[derive(Debug, Default)]
pub(super) struct PidState {
    errors: VecDeque<(Time, f64)>,
}

impl Law {
    /// The rate that a class starts with, and the depth of its bucket.
    pub(super) fn start(self) -> (f64, f64) {
        match self {
            Self::Usits03 => (USITS_START_PER_S, USITS_DEPTH),
            Self::Direct | Self::Pid => (DIRECT_START_PER_S, DIRECT_DEPTH),
        }
    }

    /// The class that a call counts to: only the multiclass law has several.
    pub(super) fn class_of(self, class: usize) -> usize {
        match self {
            Self::Usits03 => class,
            Self::Direct | Self::Pid => 0,
        }
    }

    /// What follows from a round that ended with `error` = (p90 - target) / target.
    pub(super) fn decide(self, now: Time, error: f64, class: &mut Class) -> Action {
        match self {
            Self::Usits03 => usits03(error, class),
            Self::Direct if error < DIRECT_LOW => Action::Set(class.per_s + DIRECT_RAISE_PER_S),
            Self::Direct if error > DIRECT_HIGH => Action::Set(class.per_s / DIRECT_CUT),
            Self::Direct => Action::Keep,
            Self::Pid => Action::Set(class.per_s + class.pid.change(now, -error)),
        }
    }

    /// Cuts all classes below one that is over its target; and that one itself, where there is none
    /// below, or where for many rounds none could be cut.
    pub(super) fn cut_below<'a>(
        self,
        now: Time,
        class: &mut Class,
        below: impl Iterator<Item = &'a mut Class>,
    ) {
        let (mut is_lowest, mut found) = (true, false);
        for other in below {
            is_lowest = false;
            other.preempted = true;
            if other.per_s > PER_S_MIN {
                found = true;
                other.set_per_s(now, other.per_s / USITS_CUT_BELOW);
            }
        }
        class.rounds_alone = if found { 0 } else { class.rounds_alone.saturating_add(1) };
        if is_lowest || class.rounds_alone >= USITS_ROUNDS_ALONE {
            class.set_per_s(now, class.per_s / USITS_CUT);
        }
    }
}

fn usits03(error: f64, class: &mut Class) -> Action {
    if error > 0.0 {
        return Action::CutBelow;
    }
    if error >= -USITS_RAISE_OFFSET {
        return Action::Keep;
    }
    if std::mem::take(&mut class.preempted) {
        return Action::Keep;
    }
    class.rounds_alone = 0;
    if error < USITS_LOW {
        let raise = USITS_RAISE_PER_S * (-error - USITS_RAISE_OFFSET);
        return Action::Set(class.per_s + raise);
    }
    Action::Keep
}

impl PidState {
    /// By how much the rate changes; the error is positive where calls are faster than they need be.
    fn change(&mut self, now: Time, error: f64) -> f64 {
        let last = self.errors.back().copied();
        while self.errors.len() >= PID_ERRORS_MAX
            || self.errors.front().is_some_and(|(at, _)| now.since(*at) > PID_WINDOW)
        {
            self.errors.pop_front();
        }
        self.errors.push_back((now, error));
        let slope = last.map_or(0.0, |(_, last)| error - last);
        let sum: f64 = self.errors.iter().map(|(_, error)| error).sum();
        PID_PROPORTIONAL * error + PID_DERIVATIVE * slope + PID_INTEGRAL * sum
    }
}
