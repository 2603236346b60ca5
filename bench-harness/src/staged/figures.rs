//! Makes the repetition of what the clients have counted and the server has used.
//!
//! What the names mean stands in [`crate::extras`].

use std::collections::BTreeMap;

use forebay_workloads::staged::Config;

use super::book::{Book, ClassCounts, ClientCounts};
use super::drive::{Driven, Order};
use super::fairness::jain;
use super::settling::{Step, settling};
use crate::dump::{
    Better, ExtraMetric, Finite, Latency, LoopKind, Measured, REJECTED_PREFIX, Repetition, to_f64,
};
use crate::load::LatencyHistogram;
use crate::looks::{self, Subject};
use crate::subject::CellSpec;
use crate::workload_file::{Arrival, Phase};

/// How busy the clients' shard may be, in percent, before it is the clients that are measured.
///
/// What counts is the time in turns that had work; looking for some and the last write of a turn do
/// not, so a shard without any room left reads less than 100: in `results/echo` 84 with 1,000
/// connections and a server at 80 %, 98 with 10,000. A shard that keeps a whole server core busy with
/// requests of one connection each, and waits for it, reads 5 to 50 there, and 71 with 10,000
/// connections.
const CLIENT_BUSY_PERCENT_MAX: f64 = 80.0;

/// The repetition of a cell. Its costs and its memory are the server's alone.
pub(super) fn repetition(
    spec: &CellSpec,
    config: &Config,
    order: &Order,
    driven: Driven,
    sockets: &str,
) -> Repetition {
    let subject = spec.peer.map_or(Subject::Ours, |_| Subject::Peer);
    let mut repetition = counted(&driven);
    repetition.sockets = Measured::Value(sockets.to_owned());
    looks::insert(&mut repetition, subject, &driven.before, &driven.after);
    repetition.invalid_reasons.extend(without_room(&repetition.extra));
    let mut extra = Extra(&mut repetition.extra);
    let growth = driven.memory_growth_percent.clone();
    extra.put("memory_growth_percent", "percent", Better::Lower, growth);
    extra.number("connections_opened", "connections", Better::None, driven.farewell.n_opened);
    extra.offered(&driven, order.capacity_per_s, spec.phase.arrival.loop_kind());
    extra.refusals(&driven.book);
    extra.fairness(&driven.book, &spec.phase);
    for (class, counts) in config.classes.iter().zip(&driven.book.classes) {
        extra.class(&class.name, counts, &driven.book);
    }
    extra.steps(driven.book, &spec.phase);
    repetition
}

/// The counts that every workload has, and why they are of no use if they are not.
fn counted(driven: &Driven) -> Repetition {
    let tally = &driven.book.tally;
    let mut repetition = tally.recorder.repetition();
    let errors = tally.errors.iter().map(|(kind, n)| ((*kind).to_owned(), *n));
    repetition.errors_by_kind = errors.collect();
    let farewell = &driven.farewell;
    let n_counted = tally.recorder.counts().mismatched;
    let troubles = farewell.troubles.reasons(farewell.n_opened, n_counted);
    repetition.invalid_reasons.extend(troubles);
    repetition
}

/// Why the clients could not ask as they were to.
fn without_room(extra: &BTreeMap<String, ExtraMetric>) -> Option<String> {
    let busy_percent = extra.get("client_busy_percent")?.value.get()?;
    (busy_percent > CLIENT_BUSY_PERCENT_MAX).then(|| {
        format!(
            "overloaded generator: the clients' shard had work for {busy_percent:.0} % of the time, \
             more than {CLIENT_BUSY_PERCENT_MAX} %: it is the clients that were measured"
        )
    })
}

/// The metrics of this workload.
struct Extra<'a>(&'a mut BTreeMap<String, ExtraMetric>);

impl Extra<'_> {
    fn put(
        &mut self,
        name: impl Into<String>,
        unit: &str,
        better: Better,
        value: Measured<Finite>,
    ) {
        self.0.insert(name.into(), ExtraMetric { unit: unit.to_owned(), better, value });
    }

    fn number(&mut self, name: impl Into<String>, unit: &str, better: Better, value: u64) {
        self.put(name, unit, better, Measured::number(to_f64(value)));
    }

    fn nanos(&mut self, name: impl Into<String>, value: &Measured<u64>) {
        let value = match value {
            Measured::Value(ns) => Measured::number(to_f64(*ns)),
            Measured::Absent(reason) => Measured::absent(reason.clone()),
        };
        self.put(name, "ns", Better::Lower, value);
    }

    /// What was asked of the service, and what it can do.
    fn offered(&mut self, driven: &Driven, capacity_per_s: Option<f64>, kind: LoopKind) {
        let rate = driven.schedule.map(|arrival| to_f64(arrival.rate_per_s()));
        let rate = rate.and_then(Finite::new);
        let of_loop = match kind {
            LoopKind::Closed => "a closed loop offers what it is answered",
            LoopKind::Open => "the phase has no requests",
        };
        let rate = Measured::from_option(rate, of_loop);
        self.put("offered_per_s", "per_s", Better::None, rate);
        let capacity = capacity_per_s.and_then(Finite::new);
        let capacity = Measured::from_option(capacity, "only a relative rate asks for it");
        self.put("capacity_per_s", "per_s", Better::Higher, capacity);
    }

    /// Accepted and refused, the two kinds of answer.
    fn refusals(&mut self, book: &Book) {
        let counts = book.tally.recorder.counts();
        let accepted = counts.settled() - counts.shed;
        self.number("accepted", "requests", Better::None, accepted);
        self.number("late", "requests", Better::Lower, book.n_late);
        let completed = latency(book.tally.recorder.response());
        self.nanos("response_p90_ns", &completed.p90_ns);
        let accepted = latency(&book.accepted);
        self.nanos("accepted_p50_ns", &accepted.p50_ns);
        self.nanos("accepted_p90_ns", &accepted.p90_ns);
        self.nanos("accepted_p99_ns", &accepted.p99_ns);
        self.nanos("accepted_p999_ns", &accepted.p999_ns);
        let refused = latency(&book.refusals);
        self.nanos("refusal_p50_ns", &refused.p50_ns);
        self.nanos("refusal_p99_ns", &refused.p99_ns);
        for (reason, n) in &book.by_reason {
            self.number(format!("{REJECTED_PREFIX}{reason}"), "requests", Better::None, *n);
        }
    }

    fn fairness(&mut self, book: &Book, phase: &Phase) {
        let alike = match phase.arrival {
            Arrival::Closed { .. } => Ok(()),
            Arrival::Steps { .. } => Err("clients of steps do not ask alike"),
            _ => Err("only clients of a closed loop are told apart"),
        };
        let index = |index: Option<f64>, reason: &str| match alike {
            Ok(()) => Measured::from_option(index.and_then(Finite::new), reason),
            Err(reason) => Measured::absent(reason),
        };
        let completed = jain(book.clients.iter().map(|client| client.completed));
        let completed = index(completed, "no client got anything");
        self.put("jain_index", "ratio", Better::Higher, completed);
        let response = jain_of_means(&book.clients);
        let response = index(response, "a client that got nothing has no mean response time");
        self.put("jain_index_response", "ratio", Better::Higher, response);
    }

    fn class(&mut self, class: &str, counts: &ClassCounts, book: &Book) {
        let name = |what: &str| format!("class.{class}.{what}");
        self.number(name("offered"), "requests", Better::None, counts.offered);
        self.number(name("dropped"), "requests", Better::Lower, counts.dropped);
        self.number(name("completed"), "requests", Better::Higher, counts.completed);
        self.number(name("degraded"), "requests", Better::Lower, counts.degraded);
        self.number(name("rejected"), "requests", Better::Lower, counts.shed);
        self.number(name("timed_out"), "requests", Better::Lower, counts.timed_out);
        self.number(name("failed"), "requests", Better::Lower, counts.failed);
        self.number(name("in_flight_at_end"), "requests", Better::None, counts.in_flight());
        let goodput = if book.tally.recorder.has_deadline() {
            let seconds = to_f64(book.tally.recorder.measured_ns()) / 1e9;
            Measured::ratio(to_f64(counts.in_time), seconds, "the measured interval is empty")
        } else {
            Measured::absent("the phase has no deadline_ms")
        };
        self.put(name("goodput_per_s"), "per_s", Better::Higher, goodput);
        let response = latency(&counts.response);
        self.nanos(name("response_p50_ns"), &response.p50_ns);
        self.nanos(name("response_p90_ns"), &response.p90_ns);
        self.nanos(name("response_p99_ns"), &response.p99_ns);
    }

    /// How the response time followed each change of the load.
    fn steps(&mut self, book: Book, phase: &Phase) {
        let end_ns = book.tally.recorder.measured_ns();
        let steps = changes(&phase.arrival, end_ns);
        if steps.is_empty() {
            return;
        }
        let p90s_ns = book.windows.finish(end_ns);
        let level_ns = phase.target_ms.map(|ms| ms.saturating_mul(1_000_000));
        let went: Vec<_> = steps
            .into_iter()
            .map(|(number, step)| {
                let level_ns = level_ns.ok_or_else(|| "the phase has no target_ms".to_owned());
                let went = level_ns.and_then(|level_ns| settling(&p90s_ns, step, level_ns));
                let settle_ms = went.clone().map(|went| to_f64(went.settle_ms));
                let silent = || format!("nothing but refusals came in step {number}");
                (number, settle_ms, went.and_then(|went| went.overshoot_percent.ok_or_else(silent)))
            })
            .collect();
        if went.len() > 1 {
            for (number, settle_ms, overshoot) in &went {
                let name = |what: &str| format!("step.{number}.{what}");
                self.settled(name("settle_ms"), "ms", settle_ms.clone());
                self.settled(name("overshoot_percent"), "percent", overshoot.clone());
            }
        }
        let worst = |values: Vec<Result<f64, String>>| {
            let values = values.into_iter().collect::<Result<Vec<f64>, String>>();
            values.map(|values| values.into_iter().fold(0.0, f64::max))
        };
        let (settle_ms, overshoot) = went.into_iter().map(|(_, s, o)| (s, o)).unzip();
        self.settled("settle_ms".to_owned(), "ms", worst(settle_ms));
        self.settled("overshoot_percent".to_owned(), "percent", worst(overshoot));
    }

    fn settled(&mut self, name: String, unit: &str, value: Result<f64, String>) {
        let value = value.map_or_else(Measured::absent, Measured::number);
        self.put(name, unit, Better::Lower, value);
    }
}

/// When the load of a phase changes, by the number of the step: each step but the first, and the
/// onset of a share of capacity, behind the warm-up's load.
fn changes(arrival: &Arrival, end_ns: u64) -> Vec<(u64, Step)> {
    match arrival {
        Arrival::Steps { clients, step_ms, .. } => {
            let step_ns = step_ms.saturating_mul(1_000_000);
            let step = |(_, number): (&u64, u64)| {
                let from_ns = step_ns.saturating_mul(number);
                (number, Step { from_ns, to_ns: from_ns.saturating_add(step_ns) })
            };
            clients.iter().zip(0..).skip(1).map(step).collect()
        }
        Arrival::Relative { .. } => vec![(0, Step { from_ns: 0, to_ns: end_ns })],
        _ => Vec::new(),
    }
}

/// Jain's index over the mean response times; `None` where a client has none: leaving it out would
/// call a service fair that answers only some.
fn jain_of_means(clients: &[ClientCounts]) -> Option<f64> {
    let means: Option<Vec<u64>> = clients.iter().map(ClientCounts::mean_response_ns).collect();
    jain(means?.into_iter())
}

fn latency(histogram: &LatencyHistogram) -> Latency {
    Latency::from_histogram(histogram.values(), histogram.overflow_count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_no_change_and_a_share_of_capacity_is_one() {
        let steps = Arrival::Steps { clients: vec![3, 9, 3], step_ms: 2, think_time_ns: 0 };
        let step = |number, from_ns, to_ns| (number, Step { from_ns, to_ns });
        let expected = [step(1, 2_000_000, 4_000_000), step(2, 4_000_000, 6_000_000)];
        assert_eq!(changes(&steps, 6_000_000), expected);
        assert_eq!(changes(&Arrival::Relative { percent: 400 }, 7), [step(0, 0, 7)]);
        assert_eq!(changes(&Arrival::Poisson { rate_per_s: 1 }, 7), []);
    }

    #[test]
    fn a_client_that_got_nothing_leaves_no_index_of_response_times() {
        let got = ClientCounts { completed: 4, response_ns: 400 };
        assert_eq!(jain_of_means(&[got, got]), Some(1.0));
        assert_eq!(jain_of_means(&[got, ClientCounts::default()]), None);
    }

    #[test]
    fn clients_without_room_make_the_repetition_invalid_and_busy_ones_do_not() {
        let of = |busy_percent: Measured<Finite>| {
            let mut extra = BTreeMap::new();
            crate::extras::insert_busy_percent(&mut extra, "client", busy_percent);
            without_room(&extra)
        };
        assert_eq!(of(Measured::number(71.0)), None);
        assert_eq!(of(Measured::absent("the interval is empty")), None);
        let told = of(Measured::number(84.1)).unwrap();
        assert!(told.starts_with("overloaded generator: ") && told.contains("84 %"), "{told}");
    }
}
