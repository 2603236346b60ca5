//! The conditioner of a stage: moves its admission limit so that those let in are answered in time.
//!
//! Past saturation a queue only makes everybody late: throughput stays, and not one reply is of use.
//! So a stage is told a target for the time from admission to reply, watches how long its calls take,
//! and lets in what can be answered within it. How it gets there is the preset. The default needs no
//! knowledge of the stage's capacity: it bounds how many are in flight, which is a number without a
//! unit of time, and moves that bound by whether replies are late.

mod in_flight;
mod rated;
mod law;
mod codel;

use std::time::Duration;

use super::admission::Verdict;
use super::door::{Door, Taught, Terms};
use super::{Reading, count_up};
use crate::runtime::Time;
use crate::runtime::priority::Priority;
use codel::Codel;
use in_flight::InFlight;
use law::Law;
use rated::Rated;

/// How a stage is protected from overload.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditioning {
    /// The rule. Default [`Preset::InFlight`].
    pub preset: Preset,
    /// The time from admission to reply that is still in time. Default 50 ms.
    pub target: Duration,
    /// Calls in flight that [`Preset::InFlight`] begins with; its bound doubles in each round trip
    /// until the first reply is late. Default 10, as TCP's initial window (RFC 6928): with 1 the first
    /// calls of a stage would nearly all be refused.
    pub in_flight_first: usize,
    /// From which part of the limit on replies are degraded, where the stage has levels for it.
    /// Default 0.7.
    pub degrade_from: f64,
    /// How long a queue must not have been empty for its delay to stand ([`Preset::Codel`]).
    /// Default 100 ms.
    pub interval: Duration,
}

impl Default for Conditioning {
    fn default() -> Self {
        Self {
            preset: Preset::InFlight,
            target: Duration::from_millis(50),
            in_flight_first: 10,
            degrade_from: 0.7,
            interval: Duration::from_millis(100),
        }
    }
}

/// The rules of overload control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// Bounds the calls in flight, and moves the bound by whether replies are late.
    #[default]
    InFlight,
    /// The multiclass controller of Welsh and Culler (USITS 2003) with its published constants: an
    /// admission rate for each class, moved by the 90th percentile.
    Usits03,
    /// The direct controller of the Sandstorm release: one rate, up by 0.5/s, halved when late.
    Direct,
    /// The PID controller of the Sandstorm release: one rate.
    Pid,
    /// Lets everybody in, and drops from the queue what has waited too long while the delay stands.
    Codel,
}

/// What becomes of an item that is taken from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Keep,
    /// It has waited too long: it is shed.
    Drop,
}

/// A call that was let in and has its reply, or has expired.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) priority: Priority,
    /// When it was let in.
    pub(crate) admitted: Time,
    pub(crate) expired: bool,
}

/// The conditioner of one stage on one shard. Who is in is counted at the [`Door`], by whoever asks
/// or tells it.
#[derive(Debug)]
pub(crate) struct Conditioner {
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    /// In a box, since it is several times as large as the others.
    InFlight(Box<InFlight>),
    Rated(Rated),
    Codel(Codel),
}

impl Conditioner {
    /// A conditioner for a stage whose replies have `degrade_levels` levels below the full one.
    pub(crate) fn new(options: &Conditioning, degrade_levels: u8) -> Self {
        let steps = Steps { levels: degrade_levels, from: options.degrade_from };
        let rated = |law| Rule::Rated(Rated::new(law, options.target, degrade_levels));
        let rule = match options.preset {
            Preset::InFlight => Rule::InFlight(Box::new(InFlight::new(
                options.target,
                options.in_flight_first,
                steps,
            ))),
            Preset::Usits03 => rated(Law::Usits03),
            Preset::Direct => rated(Law::Direct),
            Preset::Pid => rated(Law::Pid),
            Preset::Codel => Rule::Codel(Codel::new(options.target, options.interval, steps)),
        };
        Self { rule }
    }

    /// On which terms nobody needs to be asked about or told of.
    pub(crate) fn terms(&self) -> Terms {
        match &self.rule {
            Rule::InFlight(rule) => rule.terms(),
            Rule::Rated(_) => Terms { taught_until: Taught::Always, ..Terms::OPEN.asking_each() },
            Rule::Codel(_) => Terms::OPEN.asking_each(),
        }
    }

    /// Answers one call that asks to be let in, and is not counted yet. `queued` tells how many of
    /// those that are in wait; it is asked only where that counts.
    pub(crate) fn admit(
        &mut self,
        now: Time,
        priority: Priority,
        door: &Door,
        queued: impl FnOnce() -> usize,
    ) -> Verdict {
        match &mut self.rule {
            Rule::InFlight(rule) => rule.admit(now, priority, door),
            Rule::Rated(rule) => rule.admit(now, priority.idx()),
            Rule::Codel(rule) => rule.admit(now, queued()),
        }
    }

    /// One has been taken in, and counted, that was let in elsewhere: an owner takes whatever has
    /// left its origin. Tells by how much it is degraded.
    pub(crate) fn took_in(&mut self, now: Time, priority: Priority, door: &Door) -> u8 {
        let Rule::InFlight(rule) = &mut self.rule else { return 0 };
        match rule.took_in(now, priority, door) {
            Verdict::Degrade(level) => level,
            Verdict::Accept | Verdict::Reject { .. } | Verdict::Preempt { .. } => 0,
        }
    }

    /// An origin has as many here as it was told it may: the bound binds, though it is not reached
    /// by all together. Without this word a bound that is dealt out in shares would stand still while
    /// only some of the origins ask.
    pub(crate) fn pressed(&mut self, now: Time) {
        if let Rule::InFlight(rule) = &mut self.rule {
            rule.pressed(now);
        }
    }

    /// One has its reply, or has expired, and is counted out.
    pub(crate) fn ended(&mut self, now: Time, ended: Ended, door: &Door) {
        match &mut self.rule {
            Rule::InFlight(rule) => rule.ended(now, ended, door),
            Rule::Rated(rule) => rule.ended(now, ended),
            Rule::Codel(_) => {}
        }
    }

    /// One is gone and counted out that says nothing of how long an answer takes: cancelled, shed,
    /// failed.
    pub(crate) fn withdrawn(&mut self, now: Time, priority: Priority) {
        if let Rule::InFlight(rule) = &mut self.rule {
            rule.left(now, priority);
        }
    }

    /// Whether items may be dropped from the queue: otherwise [`Self::on_dequeue`] keeps them all.
    pub(crate) fn drops_from_the_queue(&self) -> bool {
        matches!(self.rule, Rule::Codel(_))
    }

    /// Tells what becomes of an item that has waited for `waited` and is taken from the queue, which
    /// then holds `queue_left`.
    pub(crate) fn on_dequeue(&mut self, now: Time, waited: Duration, queue_left: usize) -> Fate {
        match &mut self.rule {
            Rule::Codel(rule) => rule.on_dequeue(now, waited, queue_left),
            Rule::InFlight(_) | Rule::Rated(_) => Fate::Keep,
        }
    }

    /// Changes the target while the stage runs.
    pub(crate) fn retarget(&mut self, target: Duration) {
        match &mut self.rule {
            Rule::InFlight(rule) => rule.retarget(target),
            Rule::Rated(rule) => rule.retarget(target),
            Rule::Codel(rule) => rule.retarget(target),
        }
    }

    /// How many may be in flight, where that is what the rule bounds. An owner of keys sends it back
    /// with its replies.
    pub(crate) fn in_flight_max(&self) -> Option<f64> {
        match &self.rule {
            Rule::InFlight(rule) => Some(rule.limit()),
            Rule::Rated(_) | Rule::Codel(_) => None,
        }
    }

    pub(crate) fn readings(&self, out: &mut Vec<Reading>) {
        match &self.rule {
            Rule::InFlight(rule) => rule.readings(out),
            Rule::Rated(rule) => rule.readings(out),
            Rule::Codel(rule) => rule.readings(out),
        }
    }
}

/// The levels of degrading, spread evenly over the upper part of a limit.
#[derive(Clone, Copy, Debug)]
struct Steps {
    levels: u8,
    from: f64,
}

impl Steps {
    /// From how many on replies are degraded.
    fn begin(self, limit: f64) -> f64 {
        if self.levels == 0 { f64::INFINITY } else { self.from * limit }
    }

    /// The answer to one who is let in and makes `n_used` of the `limit` used.
    fn verdict(self, n_used: f64, limit: f64) -> Verdict {
        if n_used < self.begin(limit) {
            return Verdict::Accept;
        }
        let used = n_used / limit;
        let step = (used - self.from) / (1.0 - self.from) * f64::from(self.levels);
        let level = count_up(step, 1, usize::from(self.levels));
        Verdict::Degrade(u8::try_from(level).unwrap_or(self.levels))
    }
}
