//! Counts what became of the requests of one phase: in all, by class, by client, by reason.
//!
//! Beside the tally that every workload has (which decides what counts at all: what ends behind the
//! window stays in flight). A refusal is not an answer: its time stands in a histogram of its own,
//! so that quick refusals cannot make a slow service look quick.

use std::collections::BTreeMap;

use super::client::Got;
use super::reply::Answer;
use super::settling::Windows;
use crate::load::{Ended, LatencyHistogram, PhaseTally, Ticket};
use crate::workload_file::Phase;

/// Reasons of refusals that are told apart; what comes beyond is counted as `other`. The engine has
/// seven.
const REASONS_MAX: usize = 16;
const OTHER: &str = "other";

/// The counts of a phase.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) tally: PhaseTally,
    deadline_ns: Option<u64>,
    /// In the order of the file.
    pub(super) classes: Vec<ClassCounts>,
    /// In closed loops: by client.
    pub(super) clients: Vec<ClientCounts>,
    /// Of everything that ended otherwise than by a refusal, from the intended start: what was
    /// answered, and what was accepted and came to nothing, at the time that this took. A service
    /// that lets the slow ones time out does not become quick by it.
    pub(super) accepted: LatencyHistogram,
    /// Time to refusal, from the intended start.
    pub(super) refusals: LatencyHistogram,
    pub(super) by_reason: BTreeMap<String, u64>,
    /// Requests that the service answered as too late.
    pub(super) n_late: u64,
    pub(super) windows: Windows,
}

/// What requests of one class came to:
/// `offered = dropped + completed + shed + timed_out + failed + in_flight`.
#[derive(Debug, Clone, Default)]
pub(super) struct ClassCounts {
    pub(super) offered: u64,
    pub(super) dropped: u64,
    pub(super) completed: u64,
    /// Of those completed: with a lesser page.
    pub(super) degraded: u64,
    /// Completed within the phase's deadline.
    pub(super) in_time: u64,
    pub(super) shed: u64,
    /// Given up, or answered as too late.
    pub(super) timed_out: u64,
    /// Lost with their connection, or answered wrongly.
    pub(super) failed: u64,
    /// Of those completed, from the intended start.
    pub(super) response: LatencyHistogram,
}

impl ClassCounts {
    /// Those that have not ended.
    pub(super) const fn in_flight(&self) -> u64 {
        let ended = self.completed + self.shed + self.timed_out + self.failed;
        self.offered - self.dropped - ended
    }
}

/// What one client of a closed loop got.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ClientCounts {
    pub(super) completed: u64,
    /// Of all those together.
    pub(super) response_ns: u64,
}

impl ClientCounts {
    /// `None` of a client that got nothing.
    pub(super) fn mean_response_ns(&self) -> Option<u64> {
        self.response_ns.checked_div(self.completed)
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Begun {
    ticket: Ticket,
    class_idx: usize,
    /// In a closed loop: whose it is.
    client_idx: Option<usize>,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker {
    /// Anybody: the schedule.
    Anybody,
    /// One client of a closed loop.
    Client(usize),
}

impl Book {
    pub(super) fn new(phase: &Phase, n_classes: usize, n_clients: usize) -> Self {
        Self {
            tally: PhaseTally::new(phase),
            deadline_ns: phase.deadline_ms.map(|ms| ms.saturating_mul(1_000_000)),
            classes: vec![ClassCounts::default(); n_classes],
            clients: vec![ClientCounts::default(); n_clients],
            accepted: LatencyHistogram::new(),
            refusals: LatencyHistogram::new(),
            by_reason: BTreeMap::new(),
            n_late: 0,
            windows: Windows::default(),
        }
    }

    /// Counts a request as started. In a closed loop it is intended when it is started.
    pub(super) fn start(
        &mut self,
        class_idx: usize,
        asker: Asker,
        intended_ns: u64,
        now_ns: u64,
    ) -> Begun {
        self.classes[class_idx].offered += 1;
        let client_idx = match asker {
            Asker::Anybody => None,
            Asker::Client(client_idx) => Some(client_idx),
        };
        Begun { ticket: self.tally.recorder.start(intended_ns, now_ns), class_idx, client_idx }
    }

    /// Counts a due request that is never made.
    pub(super) fn drop_due(&mut self, class_idx: usize) {
        self.classes[class_idx].offered += 1;
        self.classes[class_idx].dropped += 1;
        self.tally.recorder.drop_due();
    }

    /// Counts how a request ended.
    pub(super) fn end(&mut self, begun: &Begun, ended_ns: u64, got: Got) {
        let ended = match got {
            Got::Answer(Answer::Whole) => Ended::Right,
            Got::Answer(Answer::Degraded(_)) => Ended::Degraded,
            Got::Answer(Answer::Shed(reason)) => {
                self.shed(begun, ended_ns, reason);
                Ended::Shed
            }
            Got::Answer(Answer::Late) => {
                self.n_late += u64::from(self.tally.counts_at(ended_ns));
                Ended::TimedOut
            }
            Got::Answer(Answer::Wrong(what)) => Ended::Wrong(what),
            Got::GaveUp => Ended::TimedOut,
            Got::Lost(kind) => Ended::Failed(kind),
        };
        if ended != Ended::Shed && self.tally.counts_at(ended_ns) {
            self.accept(begun, ended_ns, &ended);
        }
        self.tally.end(begun.ticket, ended_ns, ended);
    }

    /// Counts the end of a request that was not refused.
    fn accept(&mut self, begun: &Begun, ended_ns: u64, ended: &Ended) {
        let response_ns = ended_ns.saturating_sub(begun.ticket.intended_ns);
        self.accepted.record(response_ns);
        self.windows.note(ended_ns, response_ns);
        let class = &mut self.classes[begun.class_idx];
        match ended {
            Ended::Right => self.complete(begun, response_ns),
            Ended::Degraded => {
                class.degraded += 1;
                self.complete(begun, response_ns);
            }
            Ended::TimedOut => class.timed_out += 1,
            Ended::Failed(_) | Ended::Wrong(_) => class.failed += 1,
            Ended::Shed => unreachable!("the caller has told refusals apart"),
        }
    }

    fn complete(&mut self, begun: &Begun, response_ns: u64) {
        let class = &mut self.classes[begun.class_idx];
        class.completed += 1;
        class.in_time += u64::from(self.deadline_ns.is_some_and(|most| response_ns <= most));
        class.response.record(response_ns);
        if let Some(client_idx) = begun.client_idx {
            let client = &mut self.clients[client_idx];
            client.completed += 1;
            client.response_ns += response_ns;
        }
    }

    #[cold]
    fn shed(&mut self, begun: &Begun, ended_ns: u64, reason: String) {
        if !self.tally.counts_at(ended_ns) {
            return;
        }
        self.classes[begun.class_idx].shed += 1;
        self.refusals.record(ended_ns.saturating_sub(begun.ticket.intended_ns));
        let full = self.by_reason.len() >= REASONS_MAX && !self.by_reason.contains_key(&reason);
        let reason = if full { OTHER.to_owned() } else { reason };
        *self.by_reason.entry(reason).or_insert(0) += 1;
    }

    /// What the phase has shown that the service can do: what was completed in time, or at all where
    /// there is no deadline.
    pub(super) fn goodput_per_s(&self) -> f64 {
        let recorder = &self.tally.recorder;
        let counts = recorder.counts();
        let good = if recorder.has_deadline() { counts.in_time } else { counts.completed };
        let measured_ns = recorder.measured_ns().max(1);
        crate::dump::to_f64(good) * 1e9 / crate::dump::to_f64(measured_ns)
    }
}

#[cfg(test)]
mod tests {
    use forebay_workloads::staged::page::Level;

    use super::*;
    use crate::workload_file::{Arrival, Role, Until};

    const MS: u64 = 1_000_000;

    fn book() -> Book {
        let phase = Phase {
            name: "p".to_owned(),
            role: Role::Measure,
            deadline_ms: Some(10),
            target_ms: None,
            arrival: Arrival::Poisson { rate_per_s: 1 },
            until: Until::DurationMs(1_000),
        };
        Book::new(&phase, 2, 2)
    }

    fn request(book: &mut Book, class_idx: usize, ended_ns: u64, got: Got) {
        let begun = book.start(class_idx, Asker::Client(class_idx), 0, 0);
        book.end(&begun, ended_ns, got);
    }

    fn shed(reason: &str) -> Got {
        Got::Answer(Answer::Shed(reason.to_owned()))
    }

    #[test]
    fn everything_that_is_offered_is_counted_once_by_class_and_in_all() {
        let mut book = book();
        request(&mut book, 0, 5 * MS, Got::Answer(Answer::Whole));
        request(&mut book, 0, 15 * MS, Got::Answer(Answer::Degraded(Level::LEAST)));
        request(&mut book, 0, 5 * MS, shed("queue_full"));
        request(&mut book, 1, 5 * MS, Got::Answer(Answer::Late));
        request(&mut book, 1, 5 * MS, Got::GaveUp);
        request(&mut book, 1, 5 * MS, Got::Lost("connection"));
        request(&mut book, 1, 5 * MS, Got::Answer(Answer::Wrong("a".to_owned())));
        request(&mut book, 1, 2_000 * MS, Got::Answer(Answer::Whole));
        book.drop_due(1);
        book.tally.close();
        let counts = book.tally.recorder.counts();
        assert_eq!((counts.offered, counts.started, counts.dropped), (9, 8, 1));
        assert_eq!((counts.completed, counts.degraded, counts.in_time), (2, 1, 1));
        assert_eq!((counts.shed, counts.timed_out, counts.failed), (1, 2, 2));
        assert_eq!((counts.in_flight(), book.n_late), (1, 1));
        let [first, second] = &book.classes[..] else { panic!("two classes") };
        assert_eq!((first.offered, first.completed, first.in_time, first.shed), (3, 2, 1, 1));
        assert_eq!((first.degraded, first.in_flight()), (1, 0));
        assert_eq!((second.offered, second.completed, second.dropped), (6, 0, 1));
        assert_eq!((second.timed_out, second.failed, second.in_flight()), (2, 2, 1));
        assert_eq!(book.clients[0].mean_response_ns(), Some(10 * MS));
        assert_eq!(book.clients[1].mean_response_ns(), None);
        assert!((book.goodput_per_s() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn refusals_are_told_by_reason_and_a_server_cannot_make_ever_new_ones() {
        let mut book = book();
        for number in 0..100 {
            request(&mut book, 0, MS, shed(&format!("r{number}")));
        }
        request(&mut book, 0, MS, shed("r0"));
        assert_eq!(book.by_reason.len(), REASONS_MAX + 1);
        assert_eq!((book.by_reason["r0"], book.by_reason[OTHER]), (2, 84));
        assert_eq!(book.refusals.values().len(), 101);
    }

    #[test]
    fn what_was_accepted_and_came_to_nothing_counts_at_the_time_that_this_took() {
        let mut book = book();
        request(&mut book, 0, 5 * MS, Got::Answer(Answer::Whole));
        request(&mut book, 0, 6 * MS, shed("queue_full"));
        request(&mut book, 0, 100 * MS, Got::Answer(Answer::Late));
        request(&mut book, 0, 200 * MS, Got::GaveUp);
        request(&mut book, 0, 220 * MS, Got::Lost("connection"));
        assert_eq!((book.accepted.values().len(), book.refusals.values().len()), (4, 1));
        assert!(book.accepted.values().max() >= 220 * MS);
        assert_eq!(book.classes[0].response.values().len(), 1);
        assert_eq!(book.windows.finish(250 * MS), [Some(220 * MS)]);
    }

    #[test]
    fn what_ends_behind_the_window_is_in_no_count() {
        let mut book = book();
        request(&mut book, 0, 1_001 * MS, shed("rate"));
        request(&mut book, 0, 1_001 * MS, Got::Answer(Answer::Late));
        assert_eq!((book.by_reason.len(), book.n_late, book.classes[0].shed), (0, 0, 0));
        assert_eq!((book.refusals.values().len(), book.accepted.values().len()), (0, 0));
        assert_eq!(book.classes[0].in_flight(), 2);
    }
}
