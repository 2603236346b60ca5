//! The model of the table: one server with a queue in front, Poisson arrivals, exponential service.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::control::admission::Verdict;
use crate::control::conditioner::{Conditioner, Ended, Fate};
use crate::control::door::{Door, Passes, Taught, Terms, Told};
use crate::runtime::Time;
use crate::runtime::priority::Priority;

/// Calls per second of each class, until a moment.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) until_s: f64,
    /// Priority, and calls per second.
    pub(super) classes: Vec<(u8, f64)>,
}

/// Who decides about admission.
pub(super) enum Gatekeeper {
    Nobody,
    /// A bounded queue and nothing else.
    Threshold(usize),
    Conditioner(Box<Gate>),
}

/// A conditioner behind a door, as a stage has it.
pub(super) struct Gate {
    pub(super) conditioner: Conditioner,
    pub(super) door: Door,
    /// Calls that were asked about and replies that were told.
    pub(super) n_consulted: usize,
    door_is: DoorIs,
}

/// Whether the conditioner is asked about everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DoorIs {
    /// Only where its terms do not hold.
    Open,
    /// About everybody, and told of every end.
    Shut,
}

impl Gate {
    pub(super) fn new(conditioner: Conditioner) -> Self {
        Self::with_door(conditioner, DoorIs::Open)
    }

    pub(super) fn with_door(conditioner: Conditioner, door_is: DoorIs) -> Self {
        let door = Door::new(conditioner.terms(), Passes::Unlimited);
        let mut gate = Self { conditioner, door, n_consulted: 0, door_is };
        gate.agree();
        gate
    }

    pub(super) fn admit(&mut self, now: Time, priority: u8, queued: usize) -> Verdict {
        let priority = Priority::new(priority).unwrap();
        if self.door.passes(now, priority) {
            return Verdict::Accept;
        }
        let verdict = self.conditioner.admit(now, priority, &self.door, || queued);
        if matches!(verdict, Verdict::Accept | Verdict::Degrade(_)) {
            self.door.let_in(priority);
        }
        self.agree();
        verdict
    }

    pub(super) fn answered(&mut self, now: Time, priority: u8, admitted: Time) {
        let priority = Priority::new(priority).unwrap();
        if self.door.ended(priority, admitted) == Told::Yes {
            let ended = Ended { priority, admitted, expired: false };
            self.conditioner.ended(now, ended, &self.door);
            self.agree();
        }
    }

    pub(super) fn withdrawn(&mut self, now: Time, priority: u8) {
        let priority = Priority::new(priority).unwrap();
        if self.door.withdrawn(priority) == Told::Yes {
            self.conditioner.withdrawn(now, priority);
            self.agree();
        }
    }

    fn agree(&mut self) {
        self.n_consulted += 1;
        let terms = self.conditioner.terms();
        self.door.agree(match self.door_is {
            DoorIs::Open => terms,
            DoorIs::Shut => Terms { taught_until: Taught::Always, ..terms.asking_each() },
        });
    }
}

/// One reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) at_s: f64,
    pub(super) priority: u8,
    /// From admission to reply.
    pub(super) sojourn: Duration,
}

pub(super) struct Server {
    pub(super) gatekeeper: Gatekeeper,
    pub(super) per_s: f64,
    pub(super) replies: Vec<Record>,
    /// Calls refused or dropped, by the second and by priority.
    refused: Vec<[u32; 10]>,
    /// Time drawn for service so far, and for how many calls.
    service: (f64, u32),
    /// The bound on calls in flight at every tenth of a second, where there is one.
    pub(super) limits: Vec<f64>,
    rng: fastrand::Rng,
    queue: VecDeque<Call>,
    running: Option<(f64, Call)>,
}

#[derive(Clone, Copy)]
struct Call {
    admitted_s: f64,
    priority: u8,
}

const PROBE_S: f64 = 0.1;

pub(super) fn time(at_s: f64) -> Time {
    Time::ZERO.after(Duration::from_secs_f64(at_s))
}

impl Server {
    pub(super) fn new(gatekeeper: Gatekeeper, per_s: f64, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        let (replies, refused, limits) = (Vec::new(), Vec::new(), Vec::new());
        let (queue, running, service) = (VecDeque::new(), None, (0.0, 0));
        Self { gatekeeper, per_s, replies, refused, service, limits, rng, queue, running }
    }

    /// Runs through the offers, in order of their ends.
    pub(super) fn run(self, offers: &[Offer]) -> Self {
        self.run_on(0.0, offers)
    }

    /// Goes on at `now`, where an earlier run has ended.
    pub(super) fn run_on(mut self, mut now: f64, offers: &[Offer]) -> Self {
        for offer in offers {
            let total: f64 = offer.classes.iter().map(|(_, per_s)| per_s).sum();
            let mut arrives = now + self.exponential(total);
            while arrives < offer.until_s {
                self.finish_until(arrives);
                self.probe(arrives);
                let priority = self.draw(&offer.classes, total);
                self.arrive(arrives, priority);
                arrives += self.exponential(total);
            }
            now = offer.until_s;
        }
        self.finish_until(now);
        self
    }

    fn exponential(&mut self, per_s: f64) -> f64 {
        -(1.0 - self.rng.f64()).ln() / per_s
    }

    fn draw(&mut self, classes: &[(u8, f64)], total: f64) -> u8 {
        let mut at = self.rng.f64() * total;
        for (priority, per_s) in classes {
            at -= per_s;
            if at < 0.0 {
                return *priority;
            }
        }
        classes[0].0
    }

    fn arrive(&mut self, now: f64, priority: u8) {
        let queued = self.queue.len();
        let in_flight = queued + usize::from(self.running.is_some());
        let verdict = match &mut self.gatekeeper {
            Gatekeeper::Threshold(max) if queued >= *max => {
                Verdict::Reject { retry_after: Duration::ZERO }
            }
            Gatekeeper::Nobody | Gatekeeper::Threshold(_) => Verdict::Accept,
            Gatekeeper::Conditioner(gate) => {
                assert_eq!(gate.door.in_flight(), in_flight, "each is counted in and out once");
                gate.admit(time(now), priority, queued)
            }
        };
        if let Verdict::Reject { .. } | Verdict::Preempt { .. } = verdict {
            self.refuse(now, priority);
            return;
        }
        self.queue.push_back(Call { admitted_s: now, priority });
        if self.running.is_none() {
            self.start(now);
        }
    }

    fn start(&mut self, now: f64) {
        while let Some(call) = self.queue.pop_front() {
            if let Gatekeeper::Conditioner(gate) = &mut self.gatekeeper {
                let waited = Duration::from_secs_f64(now - call.admitted_s);
                let n_left = self.queue.len();
                if gate.conditioner.on_dequeue(time(now), waited, n_left) == Fate::Drop {
                    gate.withdrawn(time(now), call.priority);
                    self.refuse(now, call.priority);
                    continue;
                }
            }
            let service = self.exponential(self.per_s);
            self.service = (self.service.0 + service, self.service.1 + 1);
            self.running = Some((now + service, call));
            return;
        }
        self.running = None;
    }

    fn finish_until(&mut self, until: f64) {
        while let Some((at, call)) = self.running
            && at <= until
        {
            let sojourn = Duration::from_secs_f64(at - call.admitted_s);
            let admitted = time(call.admitted_s);
            if let Gatekeeper::Conditioner(gate) = &mut self.gatekeeper {
                gate.answered(time(at), call.priority, admitted);
            }
            self.replies.push(Record { at_s: at, priority: call.priority, sojourn });
            self.start(at);
        }
    }

    fn probe(&mut self, now: f64) {
        if let Gatekeeper::Conditioner(gate) = &self.gatekeeper
            && let Some(limit) = gate.conditioner.in_flight_max()
        {
            while (self.limits.len() as f64) * PROBE_S <= now {
                self.limits.push(limit);
            }
        }
    }

    /// The capacity that the draws of this run came to, in calls a second.
    pub(super) fn capacity(&self) -> f64 {
        f64::from(self.service.1) / self.service.0
    }

    fn refuse(&mut self, now: f64, priority: u8) {
        let second = second(now);
        if self.refused.len() <= second {
            self.refused.resize(second + 1, [0; 10]);
        }
        self.refused[second][usize::from(priority)] += 1;
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundred seconds")]
fn second(at_s: f64) -> usize {
    at_s as usize
}

/// What is told of a span of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) goodput_per_s: f64,
    pub(super) p90_ms: f64,
    /// Part of the calls.
    pub(super) refused: f64,
    /// Part of the replies.
    pub(super) late: f64,
    /// Part of the calls that were answered in time.
    pub(super) good: f64,
}

impl Server {
    /// The whole seconds from `from_s` to `to_s`.
    pub(super) fn span(&self, from_s: f64, to_s: f64, target: Duration) -> Span {
        self.span_of(from_s, to_s, target, 0..=9)
    }

    /// The same of some priorities.
    pub(super) fn span_of(
        &self,
        from_s: f64,
        to_s: f64,
        target: Duration,
        priorities: RangeInclusive<u8>,
    ) -> Span {
        let within = |reply: &&Record| {
            (from_s..to_s).contains(&reply.at_s) && priorities.contains(&reply.priority)
        };
        let mut sojourns: Vec<Duration> =
            self.replies.iter().filter(within).map(|reply| reply.sojourn).collect();
        sojourns.sort_unstable();
        let n_good = sojourns.partition_point(|sojourn| *sojourn <= target);
        let n_replies = sojourns.len();
        let seconds = self.refused.iter().take(second(to_s)).skip(second(from_s));
        let of = |second: &[u32; 10]| -> u32 {
            priorities.clone().map(|priority| second[usize::from(priority)]).sum()
        };
        let n_refused: u32 = seconds.map(of).sum();
        let n_calls = (n_replies as f64 + f64::from(n_refused)).max(1.0);
        Span {
            goodput_per_s: n_good as f64 / (to_s - from_s),
            p90_ms: sojourns.get(n_replies * 9 / 10).map_or(0.0, |p90| p90.as_secs_f64() * 1e3),
            refused: f64::from(n_refused) / n_calls,
            late: (n_replies - n_good) as f64 / n_replies.max(1) as f64,
            good: n_good as f64 / n_calls,
        }
    }
}
