//! Turns a recorder into its part of a dump's repetition, and says when the figures may not be used.
//!
//! A run that failed must not look like a result: validity is judged here, beside the counts, and
//! travels with the repetition.

use std::collections::BTreeMap;

use super::histogram::LatencyHistogram;
use super::recorder::{Overload, Recorder};
use crate::dump::{
    Canary, Latency, LatencySet, LoopKind, Measured, MeasuredMap, Memory, Ops, Repetition,
};
use crate::process;

/// Below this share of settled among offered requests an open loop was overloaded.
pub const ACHIEVED_PERCENT_MIN: f64 = 99.0;
/// Requests that may always be in flight at the end without counting as overload: in a short run
/// one request alone is more than a percent.
const IN_FLIGHT_SLACK: u64 = 10;
/// A pause of the host this long at the end of a phase is no overload either. In a phase of two
/// seconds and more it is within the percent anyway.
const PAUSE_SLACK_NS: u64 = 20_000_000;
/// Largest difference between the mean gap of starts and the scheduled one.
const GAP_ERROR_PERCENT_MAX: f64 = 1.0;

impl Recorder {
    /// Returns the repetition that this recorder saw, with the memory of the calling process.
    ///
    /// Stages, shards, costs and extras are left empty for the subject to fill in; index, start
    /// and canary belong to the parent.
    #[must_use]
    pub fn repetition(&self) -> Repetition {
        let counts = self.counts();
        Repetition {
            index: 0,
            started_offset_ns: 0,
            measured_ns: self.measured_ns(),
            ops: self.ops(),
            errors_by_kind: BTreeMap::new(),
            canary: Canary::absent("the parent did not time one"),
            latency: self.latency(),
            stages: BTreeMap::new(),
            per_op: MeasuredMap::default(),
            shards: Vec::new(),
            memory: memory(),
            generator_in_subject: true,
            extra: BTreeMap::new(),
            invalid_reasons: self.invalid_reasons(),
            throughput_per_s: self.per_second(counts.completed),
            goodput_per_s: if self.has_deadline() {
                self.per_second(counts.in_time)
            } else {
                Measured::absent("the phase has no deadline_ms")
            },
            sockets: Measured::absent("the service has no sockets"),
        }
    }

    /// Returns the counts as a dump has them.
    #[must_use]
    pub fn ops(&self) -> Ops {
        let counts = self.counts();
        Ops {
            offered: counts.offered,
            started: counts.started,
            completed: counts.completed,
            failed: counts.failed,
            timed_out: counts.timed_out,
            shed: counts.shed,
            degraded: counts.degraded,
            dropped: counts.dropped,
            in_flight_at_end: counts.in_flight(),
            verified: counts.verified,
        }
    }

    /// Returns the three latencies as a dump has them.
    #[must_use]
    pub fn latency(&self) -> LatencySet {
        LatencySet {
            response: quantiles(self.response()),
            service: quantiles(self.service()),
            schedule_lag: self.schedule_lag().map_or_else(
                || Latency::absent("a closed loop has no schedule to lag behind"),
                quantiles,
            ),
        }
    }

    fn per_second(&self, count: u64) -> Measured<crate::dump::Finite> {
        let seconds = crate::dump::to_f64(self.measured_ns()) / 1e9;
        Measured::ratio(crate::dump::to_f64(count), seconds, "the measured interval is empty")
    }

    fn invalid_reasons(&self) -> Vec<String> {
        let counts = self.counts();
        let mut reasons = Vec::new();
        if counts.mismatched > 0 {
            reasons.push(format!("verification failed: {} wrong replies", counts.mismatched));
        }
        if counts.offered > 0 && counts.completed == 0 {
            reasons.push(format!(
                "no operation completed: {} offered, {} failed, {} timed out, {} shed",
                counts.offered, counts.failed, counts.timed_out, counts.shed
            ));
        }
        if self.kind() == LoopKind::Open {
            reasons.extend(self.open_fault());
        }
        reasons
    }

    /// Why an open loop did not do what it was to do.
    fn open_fault(&self) -> Option<String> {
        let behind = match self.overload() {
            Overload::Unwanted => self.piled_up(),
            Overload::Wanted => self.dropped(),
        };
        behind.or_else(|| self.off_schedule())
    }

    /// Why requests did not get through, if they did not.
    fn piled_up(&self) -> Option<String> {
        let counts = self.counts();
        let unsettled = counts.offered - counts.settled();
        let in_pause =
            counts.offered.saturating_mul(PAUSE_SLACK_NS) / self.measured_ns().max(PAUSE_SLACK_NS);
        let slack = IN_FLIGHT_SLACK.max(in_pause);
        let achieved = crate::dump::to_f64(counts.settled()) * 100.0
            / crate::dump::to_f64(counts.offered.max(1));
        (unsettled > slack && achieved < ACHIEVED_PERCENT_MIN).then(|| {
            format!(
                "overloaded: {achieved:.1} % of {} offered requests were answered within the \
                 phase, less than {ACHIEVED_PERCENT_MIN} %",
                counts.offered
            )
        })
    }

    /// A subject that is overloaded on purpose was not offered all of it.
    fn dropped(&self) -> Option<String> {
        let counts = self.counts();
        (counts.dropped > 0).then(|| {
            let (dropped, offered) = (counts.dropped, counts.offered);
            format!(
                "overloaded generator: {dropped} of {offered} due requests were never made, as many \
                 as it may have in flight already were"
            )
        })
    }

    /// Why starts did not follow the schedule, if they did not.
    fn off_schedule(&self) -> Option<String> {
        let error = self.gap_error()?;
        (error.percent > GAP_ERROR_PERCENT_MAX && error.off_ns > PAUSE_SLACK_NS).then(|| {
            format!(
                "overloaded generator: the mean gap between starts is {:.1} % off the schedule, \
                 more than {GAP_ERROR_PERCENT_MAX} %",
                error.percent
            )
        })
    }
}

fn quantiles(histogram: &LatencyHistogram) -> Latency {
    Latency::from_histogram(histogram.values(), histogram.overflow_count())
}

fn memory() -> Memory {
    let max_rss_bytes = match process::max_rss_bytes() {
        Ok(bytes) => Measured::Value(bytes),
        Err(reason) => Measured::absent(reason),
    };
    Memory { max_rss_bytes }
}

#[cfg(test)]
mod tests {
    use super::super::recorder::Outcome;
    use super::*;

    /// An open loop of one request a millisecond for a second.
    fn record(outcome: impl Fn(u64) -> Option<Outcome>) -> Repetition {
        let mut recorder = Recorder::new(LoopKind::Open, Some(500), 0);
        for i in 0..1_000 {
            let ticket = recorder.start(i * 1_000_000, i * 1_000_000);
            if let Some(outcome) = outcome(i) {
                recorder.finish(ticket, i * 1_000_000 + i, outcome);
            }
        }
        recorder.close(1_000_000_000);
        recorder.repetition()
    }

    #[test]
    fn a_healthy_open_loop_is_valid_and_its_rates_are_per_second() {
        let repetition = record(|_| Some(Outcome::Completed));
        assert_eq!(repetition.invalid_reasons, Vec::<String>::new());
        assert_eq!(repetition.throughput_per_s.get(), Some(1_000.0));
        assert_eq!(repetition.goodput_per_s.get(), Some(501.0));
        assert_eq!(repetition.latency.response.p50_ns, Measured::Value(499));
        assert_eq!(repetition.latency.schedule_lag.count, 1_000);
    }

    #[test]
    fn a_run_in_which_all_failed_is_invalid() {
        let repetition = record(|_| Some(Outcome::Failed));
        assert!(repetition.invalid_reasons[0].contains("no operation completed: 1000 offered"));
        assert_eq!(repetition.throughput_per_s.get(), Some(0.0));
    }

    #[test]
    fn shedding_is_an_answer_and_does_not_make_a_run_invalid() {
        let repetition =
            record(|i| Some([Outcome::Shed, Outcome::Completed][usize::from(i > 500)]));
        assert_eq!(repetition.invalid_reasons, Vec::<String>::new());
    }

    #[test]
    fn requests_that_pile_up_make_an_open_loop_overloaded() {
        let late = |n: u64| record(move |i| (i >= n).then_some(Outcome::Completed));
        // 20 ms of a second are 20 requests of 1,000.
        assert_eq!(late(20).invalid_reasons, Vec::<String>::new());
        assert!(late(21).invalid_reasons[0].starts_with("overloaded: 97.9 % of 1000"));
    }

    #[test]
    fn an_overload_that_is_wanted_is_valid_as_long_as_all_of_it_is_offered() {
        let mut recorder = Recorder::new(LoopKind::Open, None, 0).overloading();
        for i in 0..1_000 {
            let ticket = recorder.start(i * 1_000_000, i * 1_000_000);
            if i < 100 {
                recorder.finish(ticket, i * 1_000_000 + 1, Outcome::Completed);
            }
        }
        let mut dropping = recorder.clone();
        recorder.close(1_000_000_000);
        assert_eq!(recorder.repetition().invalid_reasons, Vec::<String>::new());
        dropping.drop_due();
        dropping.close(1_000_000_000);
        let reasons = dropping.repetition().invalid_reasons;
        assert!(reasons[0].starts_with("overloaded generator: 1 of 1001 due"), "{reasons:?}");
    }

    #[test]
    fn a_generator_that_cannot_keep_its_schedule_makes_the_run_invalid() {
        let record = |requests: u64, gap_ns: u64| {
            let mut recorder = Recorder::new(LoopKind::Open, None, 0);
            for i in 0..requests {
                let ticket = recorder.start(i * 1_000_000, i * gap_ns);
                recorder.finish(ticket, i * gap_ns + 1, Outcome::Completed);
            }
            recorder.close(requests * gap_ns);
            recorder
        };
        let slow = record(2_000, 1_020_000);
        assert!(slow.repetition().invalid_reasons[0].starts_with("overloaded generator"));
        let mut whole = Recorder::new(LoopKind::Open, None, 0);
        whole.merge(&slow);
        assert_eq!(whole.repetition().invalid_reasons, slow.repetition().invalid_reasons);
        // 0.5 % off, and 2 % off in a phase so short that 4 ms make it: neither is overload.
        for fine in [record(2_000, 1_005_000), record(200, 1_020_000)] {
            assert_eq!(fine.repetition().invalid_reasons, Vec::<String>::new());
        }
    }

    #[test]
    fn one_wrong_reply_makes_the_run_invalid() {
        let mut recorder = Recorder::new(LoopKind::Closed, None, 0);
        for right in [true, false] {
            let ticket = recorder.start(0, 0);
            recorder.note_checked(right);
            let outcome = if right { Outcome::Completed } else { Outcome::Failed };
            recorder.finish(ticket, 1, outcome);
        }
        recorder.close(10);
        assert_eq!(recorder.repetition().invalid_reasons, ["verification failed: 1 wrong replies"]);
    }

    #[test]
    fn a_phase_without_requests_is_valid_and_has_no_latency() {
        let mut recorder = Recorder::new(LoopKind::Open, None, 0);
        recorder.close(5_000_000_000);
        let repetition = recorder.repetition();
        assert_eq!(repetition.invalid_reasons, Vec::<String>::new());
        assert_eq!(repetition.throughput_per_s.get(), Some(0.0));
        assert!(repetition.latency.response.p50_ns.reason().is_some());
    }
}
