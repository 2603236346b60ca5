//! Counts what became of the requests of one phase: numbers, kinds of failure, the first wrong reply.
//!
//! One generator has one tally. What ends after the window has closed stays counted as in flight.

use std::collections::BTreeMap;

use super::{Recorder, Ticket};
use crate::load::Outcome;
use crate::workload_file::{Arrival, Phase, Until};

/// From this share of its capacity on, in percent, a service is expected to be overloaded.
const FULL: u64 = 100;

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With the right reply; every reply is checked.
    Right,
    /// With a lesser reply that is right as such.
    Degraded,
    /// With a wrong reply, in words.
    Wrong(String),
    /// With an error, by its kind.
    Failed(&'static str),
    /// By its deadline.
    TimedOut,
    /// Refused because a queue on its way was full.
    Shed,
}

/// What one generator has seen of one phase.
#[derive(Debug, Clone)]
pub struct PhaseTally {
    /// The counts and the latencies.
    pub recorder: Recorder,
    /// Failures and refusals by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// The first wrong reply, in words.
    pub first_wrong: Option<String>,
    end_ns: u64,
    last_end_ns: u64,
}

/// When the window of a phase closes; never for one that ends after a number of requests.
#[must_use]
pub const fn end_ns(until: Until) -> u64 {
    match until {
        Until::DurationMs(ms) => ms.saturating_mul(1_000_000),
        Until::Requests(_) => u64::MAX,
    }
}

impl PhaseTally {
    /// An empty tally of a phase whose clock starts at 0.
    #[must_use]
    pub fn new(phase: &Phase) -> Self {
        let deadline_ns = phase.deadline_ms.map(|ms| ms.saturating_mul(1_000_000));
        let recorder = Recorder::new(phase.arrival.loop_kind(), deadline_ns, 0);
        let overloads = matches!(phase.arrival, Arrival::Relative { percent } if percent >= FULL);
        Self {
            recorder: if overloads { recorder.overloading() } else { recorder },
            errors: BTreeMap::new(),
            first_wrong: None,
            end_ns: end_ns(phase.until),
            last_end_ns: 0,
        }
    }

    /// Whether what ends at this time is counted.
    #[must_use]
    pub const fn counts_at(&self, ended_ns: u64) -> bool {
        ended_ns <= self.end_ns
    }

    /// Counts a request as ended, unless the window has closed: then it stays in flight, and only a
    /// wrong reply is noted.
    pub fn end(&mut self, ticket: Ticket, ended_ns: u64, how: Ended) {
        if !self.counts_at(ended_ns) {
            if let Ended::Wrong(what) = how {
                self.note_wrong(what);
            }
            return;
        }
        self.last_end_ns = self.last_end_ns.max(ended_ns);
        let outcome = match how {
            Ended::Right | Ended::Degraded => {
                if how == Ended::Degraded {
                    self.recorder.note_degraded();
                }
                self.recorder.note_checked(true);
                Outcome::Completed
            }
            how => self.count_fault(how),
        };
        self.recorder.finish(ticket, ended_ns, outcome);
    }

    #[cold]
    fn count_fault(&mut self, how: Ended) -> Outcome {
        let (kind, outcome) = match how {
            Ended::Right | Ended::Degraded => unreachable!("the caller has counted it"),
            Ended::Wrong(what) => {
                self.note_wrong(what);
                ("wrong", Outcome::Failed)
            }
            Ended::Failed(kind) => (kind, Outcome::Failed),
            Ended::TimedOut => ("timed_out", Outcome::TimedOut),
            Ended::Shed => ("shed", Outcome::Shed),
        };
        *self.errors.entry(kind).or_insert(0) += 1;
        outcome
    }

    #[cold]
    fn note_wrong(&mut self, what: String) {
        self.recorder.note_checked(false);
        self.first_wrong.get_or_insert(what);
    }

    /// Closes the window: at its time, or with the last request where a number of them ends it.
    pub fn close(&mut self) {
        let by_count = self.end_ns == u64::MAX;
        self.recorder.close(if by_count { self.last_end_ns } else { self.end_ns });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload_file::Role;

    fn tally(until: Until) -> PhaseTally {
        let arrival = Arrival::Closed { in_flight: 1, think_time_ns: 0 };
        let (name, role) = ("p".to_owned(), Role::Measure);
        PhaseTally::new(&Phase { name, role, deadline_ms: None, target_ms: None, arrival, until })
    }

    fn request(tally: &mut PhaseTally, ended_ns: u64, how: Ended) {
        let ticket = tally.recorder.start(0, 0);
        tally.end(ticket, ended_ns, how);
    }

    #[test]
    fn what_ends_after_the_window_stays_in_flight() {
        let mut tally = tally(Until::DurationMs(1));
        request(&mut tally, 1_000_000, Ended::Right);
        request(&mut tally, 1_000_001, Ended::Right);
        request(&mut tally, 5, Ended::Wrong("7 is not 8".to_owned()));
        request(&mut tally, 6, Ended::Wrong("later".to_owned()));
        tally.close();
        let counts = tally.recorder.counts();
        assert_eq!((counts.completed, counts.failed, counts.in_flight()), (1, 2, 1));
        assert_eq!((counts.verified, counts.mismatched), (1, 2));
        assert_eq!(tally.first_wrong.as_deref(), Some("7 is not 8"));
        assert_eq!(tally.recorder.measured_ns(), 1_000_000);
    }

    #[test]
    fn a_wrong_reply_after_the_window_is_noted() {
        let mut tally = tally(Until::DurationMs(1));
        request(&mut tally, 10, Ended::Right);
        request(&mut tally, 1_000_001, Ended::Wrong("7 is not 8".to_owned()));
        tally.close();
        let counts = tally.recorder.counts();
        assert_eq!((counts.failed, counts.in_flight(), counts.mismatched), (0, 1, 1));
        assert_eq!(tally.first_wrong.as_deref(), Some("7 is not 8"));
    }

    #[test]
    fn a_lesser_reply_is_counted_as_completed_and_as_degraded() {
        let mut tally = tally(Until::DurationMs(1));
        request(&mut tally, 10, Ended::Degraded);
        request(&mut tally, 11, Ended::Right);
        tally.close();
        let counts = tally.recorder.counts();
        assert_eq!((counts.completed, counts.degraded, counts.verified), (2, 1, 2));
    }

    #[test]
    fn a_counted_phase_is_as_long_as_its_last_request() {
        let mut tally = tally(Until::Requests(3));
        request(&mut tally, 40, Ended::Right);
        request(&mut tally, 70, Ended::Shed);
        request(&mut tally, 60, Ended::Failed("closed"));
        tally.close();
        assert_eq!(tally.recorder.measured_ns(), 70);
        assert_eq!(tally.errors, BTreeMap::from([("closed", 1), ("shed", 1)]));
    }
}
