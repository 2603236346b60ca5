//! What became of the requests of one generator: three histograms and the counts that must add up.
//!
//! One recorder belongs to one shard (or one thread of a peer); at the end of the phase they are
//! merged. Three times stand beside each other for every request, so that a late generator can
//! never hide a slow subject:
//!
//! ```text
//! intended ──schedule lag──► started ──service──► finished
//!     └────────────────response────────────────────┘
//! ```
//!
//! In a closed loop a request is intended when the one before it has finished, so there is no lag
//! and response is service. Latency counts completed requests only: a quick refusal is not a quick
//! answer. Nothing is allocated after `new`; a request costs three histogram increments.

use super::histogram::LatencyHistogram;
use super::schedule::{ArrivalCheck, GapError};
use crate::dump::LoopKind;

/// How a started request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With the right answer.
    Completed,
    /// With an error or a wrong answer.
    Failed,
    /// By its deadline.
    TimedOut,
    /// Refused because a queue on its way was full.
    Shed,
}

/// Counts of one phase. `offered = started + dropped` and
/// `started = completed + failed + timed_out + shed + in_flight_at_end` at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpCounts {
    /// Due requests.
    pub offered: u64,
    /// Requests handed to the subject.
    pub started: u64,
    /// Ended with the right answer inside the window.
    pub completed: u64,
    /// Ended with an error or a wrong answer inside the window.
    pub failed: u64,
    /// Ended by their deadline inside the window.
    pub timed_out: u64,
    /// Refused by a full queue inside the window.
    pub shed: u64,
    /// Completed with less than was asked (counted in `completed` too).
    pub degraded: u64,
    /// Due but never started: the generator's own bound was reached.
    pub dropped: u64,
    /// Completed within the phase's deadline; 0 when the phase has none.
    pub in_time: u64,
    /// Answers whose content was checked and right.
    pub verified: u64,
    /// Answers whose content was checked and wrong (counted in `failed` too).
    pub mismatched: u64,
}

impl OpCounts {
    /// Started requests that have ended.
    #[must_use]
    pub const fn settled(&self) -> u64 {
        self.completed + self.failed + self.timed_out + self.shed
    }

    /// Started requests that have not ended.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.started - self.settled()
    }

    fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.started += other.started;
        self.completed += other.completed;
        self.failed += other.failed;
        self.timed_out += other.timed_out;
        self.shed += other.shed;
        self.degraded += other.degraded;
        self.dropped += other.dropped;
        self.in_time += other.in_time;
        self.verified += other.verified;
        self.mismatched += other.mismatched;
    }
}

/// What a request in flight carries, to be handed back when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a started request must be finished, or it counts as in flight at the end"]
pub struct Ticket {
    /// When it should have started.
    pub intended_ns: u64,
    /// When it did.
    pub started_ns: u64,
}

/// What it means that requests of an open loop pile up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overload {
    /// The figures are of no use: more was offered than the subject or the generator can do.
    Unwanted,
    /// It is what the phase is about; only the generator must keep up.
    Wanted,
}

/// Records one phase of one generator.
#[derive(Debug, Clone)]
pub struct Recorder {
    kind: LoopKind,
    overload: Overload,
    deadline_ns: Option<u64>,
    opened_ns: u64,
    closed_ns: Option<u64>,
    counts: OpCounts,
    service: LatencyHistogram,
    /// `Some` in open loops only; in closed ones response is service and there is no lag.
    open: Option<OpenHistograms>,
    arrivals: ArrivalCheck,
    /// Worst mean gap error of the generators merged so far, this one not included.
    merged_gap_error: Option<GapError>,
}

#[derive(Debug, Clone, Default)]
struct OpenHistograms {
    response: LatencyHistogram,
    schedule_lag: LatencyHistogram,
}

impl Recorder {
    /// Makes a recorder whose window opens at `opened_ns`, usually 0.
    ///
    /// `deadline_ns`: within which response time a completed request counts as in time.
    #[must_use]
    pub fn new(kind: LoopKind, deadline_ns: Option<u64>, opened_ns: u64) -> Self {
        let open = (kind == LoopKind::Open).then(OpenHistograms::default);
        Self {
            kind,
            overload: Overload::Unwanted,
            deadline_ns,
            opened_ns,
            closed_ns: None,
            counts: OpCounts::default(),
            service: LatencyHistogram::new(),
            open,
            arrivals: ArrivalCheck::default(),
            merged_gap_error: None,
        }
    }

    /// Says that more is offered than can be done, on purpose.
    #[must_use]
    pub const fn overloading(mut self) -> Self {
        self.overload = Overload::Wanted;
        self
    }

    /// Counts a due request as started at `now_ns`. In a closed loop `intended_ns` is `now_ns`.
    #[inline]
    pub fn start(&mut self, intended_ns: u64, now_ns: u64) -> Ticket {
        debug_assert!(self.closed_ns.is_none(), "a request was started after the window closed");
        self.counts.offered += 1;
        self.counts.started += 1;
        if let Some(open) = &mut self.open {
            open.schedule_lag.record(now_ns.saturating_sub(intended_ns));
            self.arrivals.note(intended_ns, now_ns);
        }
        Ticket { intended_ns, started_ns: now_ns }
    }

    /// Counts a due request that the generator could not start, its own bound being reached.
    pub fn drop_due(&mut self) {
        self.counts.offered += 1;
        self.counts.dropped += 1;
    }

    /// Counts how a started request ended. After `close` it changes nothing: the request stays
    /// counted as in flight at the end.
    ///
    /// # Panics
    /// When more requests end than have started: the caller finished one twice.
    #[inline]
    pub fn finish(&mut self, ticket: Ticket, now_ns: u64, outcome: Outcome) {
        if self.closed_ns.is_some() {
            return;
        }
        assert!(self.counts.in_flight() > 0, "a request ended that had not started");
        match outcome {
            Outcome::Completed => self.complete(ticket, now_ns),
            Outcome::Failed => self.counts.failed += 1,
            Outcome::TimedOut => self.counts.timed_out += 1,
            Outcome::Shed => self.counts.shed += 1,
        }
    }

    fn complete(&mut self, ticket: Ticket, now_ns: u64) {
        self.counts.completed += 1;
        self.service.record(now_ns.saturating_sub(ticket.started_ns));
        let response_ns = now_ns.saturating_sub(ticket.intended_ns);
        if let Some(open) = &mut self.open {
            open.response.record(response_ns);
        }
        if self.deadline_ns.is_some_and(|deadline_ns| response_ns <= deadline_ns) {
            self.counts.in_time += 1;
        }
    }

    /// Notes the check of one answer's content. A wrong one must also be finished as failed.
    #[inline]
    pub fn note_checked(&mut self, right: bool) {
        if self.closed_ns.is_some() {
            return;
        }
        if right {
            self.counts.verified += 1;
        } else {
            self.counts.mismatched += 1;
        }
    }

    /// Notes that a completed request got less than it asked.
    pub fn note_degraded(&mut self) {
        if self.closed_ns.is_none() {
            self.counts.degraded += 1;
        }
    }

    /// Closes the window: what ends later stays in flight at the end. The first close holds.
    ///
    /// # Panics
    /// When it would close before it opened.
    pub fn close(&mut self, now_ns: u64) {
        assert!(now_ns >= self.opened_ns, "closed at {now_ns} before {}", self.opened_ns);
        self.closed_ns.get_or_insert(now_ns);
    }

    /// Adds what another generator of the same phase has recorded.
    ///
    /// # Panics
    /// When one is open and the other closed: they are not of one phase.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.kind, other.kind, "recorders of two kinds of loop");
        self.counts.add(&other.counts);
        self.service.merge(&other.service);
        if let (Some(ours), Some(theirs)) = (&mut self.open, &other.open) {
            ours.response.merge(&theirs.response);
            ours.schedule_lag.merge(&theirs.schedule_lag);
        }
        self.opened_ns = self.opened_ns.min(other.opened_ns);
        self.closed_ns = self.closed_ns.max(other.closed_ns);
        self.merged_gap_error = worse(self.merged_gap_error, other.gap_error());
    }

    /// The counts so far.
    #[must_use]
    pub const fn counts(&self) -> &OpCounts {
        &self.counts
    }

    /// Whether the phase says by when a request must be done.
    #[must_use]
    pub const fn has_deadline(&self) -> bool {
        self.deadline_ns.is_some()
    }

    /// Whether requests wait for one another.
    #[must_use]
    pub const fn kind(&self) -> LoopKind {
        self.kind
    }

    /// What it means that requests pile up.
    #[must_use]
    pub const fn overload(&self) -> Overload {
        self.overload
    }

    /// Length of the window; 0 while it is open.
    #[must_use]
    pub fn measured_ns(&self) -> u64 {
        self.closed_ns.map_or(0, |closed_ns| closed_ns - self.opened_ns)
    }

    /// Intended start to end, completed requests. In a closed loop it is `service`.
    #[must_use]
    pub fn response(&self) -> &LatencyHistogram {
        self.open.as_ref().map_or(&self.service, |open| &open.response)
    }

    /// Actual start to end, completed requests.
    #[must_use]
    pub const fn service(&self) -> &LatencyHistogram {
        &self.service
    }

    /// Intended to actual start, started requests; `None` in a closed loop.
    #[must_use]
    pub fn schedule_lag(&self) -> Option<&LatencyHistogram> {
        self.open.as_ref().map(|open| &open.schedule_lag)
    }

    /// By how much the generators missed their schedule, the worst of those merged: the mean gap
    /// between starts against the scheduled one. `None` in closed loops.
    #[must_use]
    pub fn gap_error(&self) -> Option<GapError> {
        worse(self.merged_gap_error, self.arrivals.gap_error())
    }
}

/// The larger of two errors; one that is absent does not count.
fn worse(a: Option<GapError>, b: Option<GapError>) -> Option<GapError> {
    a.into_iter().chain(b).reduce(|a, b| if b.percent > a.percent { b } else { a })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Recorder {
        Recorder::new(LoopKind::Open, None, 0)
    }

    #[test]
    fn a_stall_of_one_second_shows_in_the_response_of_every_request_it_delayed() {
        // 1,000 requests a second for 10 s; the subject answers in 1 us but stands still in
        // second 5. A clock that starts at the actual send would see one slow request.
        let mut recorder = open();
        for i in 0..10_000_u64 {
            let intended_ns = i * 1_000_000;
            let stalled = (5_000_000_000..6_000_000_000).contains(&intended_ns);
            let started_ns = if stalled { 6_000_000_000 } else { intended_ns };
            let ticket = recorder.start(intended_ns, started_ns);
            recorder.finish(ticket, started_ns + 1_000, Outcome::Completed);
        }
        recorder.close(10_000_000_000);
        let response_p99 = recorder.response().values().value_at_quantile(0.99);
        let service_p99 = recorder.service().values().value_at_quantile(0.99);
        assert!(response_p99 > 850_000_000, "{response_p99}");
        assert!(service_p99 < 1_100, "{service_p99}");
    }

    #[test]
    fn counts_add_up_at_any_time_and_late_ends_stay_in_flight() {
        let mut recorder = open();
        let tickets: Vec<Ticket> = (0..5).map(|i| recorder.start(i, i + 1)).collect();
        recorder.drop_due();
        let ends = [Outcome::Completed, Outcome::Failed, Outcome::TimedOut, Outcome::Shed];
        for (ticket, outcome) in tickets.iter().zip(ends) {
            recorder.finish(*ticket, 10, outcome);
        }
        recorder.close(20);
        recorder.finish(tickets[4], 21, Outcome::Completed);
        let counts = recorder.counts();
        assert_eq!((counts.offered, counts.started, counts.dropped), (6, 5, 1));
        assert_eq!((counts.completed, counts.settled(), counts.in_flight()), (1, 4, 1));
        assert_eq!(recorder.response().values().len(), 1);
    }

    #[test]
    fn in_a_closed_loop_response_is_service_and_there_is_no_lag() {
        let mut recorder = Recorder::new(LoopKind::Closed, Some(100), 0);
        for (start_ns, end_ns) in [(0, 100), (100, 201)] {
            let ticket = recorder.start(start_ns, start_ns);
            recorder.finish(ticket, end_ns, Outcome::Completed);
        }
        assert_eq!(recorder.response().values(), recorder.service().values());
        assert!(recorder.schedule_lag().is_none());
        assert_eq!(recorder.counts().in_time, 1);
    }

    #[test]
    fn merging_adds_counts_and_histograms_and_spans_both_windows() {
        let mut whole = open();
        let mut other = Recorder::new(LoopKind::Open, None, 5);
        let ticket = whole.start(0, 0);
        whole.finish(ticket, 50, Outcome::Completed);
        let ticket = other.start(6, 6);
        other.finish(ticket, 7, Outcome::Completed);
        whole.close(60);
        other.close(90);
        whole.merge(&other);
        assert_eq!(whole.counts().completed, 2);
        assert_eq!(whole.measured_ns(), 90);
        assert_eq!((whole.response().values().min(), whole.response().values().max()), (1, 50));
    }

    #[test]
    #[should_panic(expected = "ended that had not started")]
    fn a_request_cannot_end_twice() {
        let mut recorder = open();
        let ticket = recorder.start(0, 0);
        recorder.finish(ticket, 1, Outcome::Completed);
        recorder.finish(ticket, 2, Outcome::Completed);
    }
}
