//! Makes the repetition of what the clients have counted and the servers have used.
//!
//! What the names mean stands in [`crate::extras`].

use std::collections::BTreeMap;

use forebay_workloads::cacheproxy::Config;

use super::counts::Counts;
use super::drive::Driven;
use super::servers::BackendsLook;
use crate::dump::{Better, ExtraMetric, Finite, Measured, Repetition, to_f64};
use crate::extras;
use crate::looks::{self, Subject};
use crate::subject::CellSpec;

/// Why there is nothing to tell of what stands behind a server.
const NOTHING_BEHIND: &str = "nothing stands behind the server";

/// The repetition of a cell. Its costs and its memory are the server's alone.
pub(super) fn repetition(
    spec: &CellSpec,
    config: &Config,
    driven: &Driven,
    sockets: &str,
) -> Repetition {
    let tally = &driven.tally;
    let mut repetition = tally.recorder.repetition();
    let errors = tally.errors.iter().map(|(kind, n)| ((*kind).to_owned(), *n));
    repetition.errors_by_kind = errors.collect();
    let n_connections = config.load.connections;
    let n_counted = tally.recorder.counts().mismatched;
    let troubles = driven.troubles.reasons(n_connections.into(), n_counted);
    repetition.invalid_reasons.extend(troubles);
    repetition.sockets = Measured::Value(sockets.to_owned());
    let subject = spec.peer.map_or(Subject::Ours, |_| Subject::Peer);
    looks::insert(&mut repetition, subject, &driven.before, &driven.after);
    extras::insert_system_calls(&mut repetition, &driven.calls_per_request);
    let server_cpu_ns =
        repetition.per_op.get("cpu_ns").and_then(|cpu| cpu.value()).map(|cpu| cpu.value.get());
    let (empty, idle) = (driven.empty.resident_bytes, driven.idle.resident_bytes);
    extras::insert_connection_memory(&mut repetition.extra, n_connections, empty, idle);
    let mut extra = Extra(&mut repetition.extra);
    extra.traffic(&driven.counts);
    extra.behind(driven.behind.as_ref(), server_cpu_ns, repetition.ops.started);
    repetition
}

/// The metrics of this workload.
struct Extra<'a>(&'a mut BTreeMap<String, ExtraMetric>);

impl Extra<'_> {
    fn put(&mut self, name: &str, unit: &str, better: Better, value: Measured<Finite>) {
        self.0.insert(name.to_owned(), ExtraMetric { unit: unit.to_owned(), better, value });
    }

    /// What went to and fro.
    fn traffic(&mut self, counts: &Counts) {
        let each = |part: f64, of: u64, none: &str| Measured::ratio(part, to_f64(of), none);
        let bytes = |n_bytes: usize| to_f64(u64::try_from(n_bytes).unwrap_or(u64::MAX));
        let Counts { requests, gets, keys_asked, keys_found, .. } = *counts;
        let (no_get, no_request) = ("nothing was read", "nothing was asked");
        let hits = each(to_f64(keys_found) * 100.0, keys_asked, no_get);
        self.put("hit_percent", "percent", Better::Higher, hits);
        let keys = each(to_f64(keys_asked), gets, no_get);
        self.put("keys_per_get", "keys", Better::None, keys);
        let value_bytes = each(bytes(counts.value_bytes), gets, no_get);
        self.put("value_bytes_per_get", "bytes", Better::None, value_bytes);
        let sent = each(bytes(counts.sent_bytes), requests, no_request);
        self.put("sent_bytes_per_op", "bytes", Better::None, sent);
        let received = each(bytes(counts.received_bytes), requests, no_request);
        self.put("received_bytes_per_op", "bytes", Better::None, received);
    }

    /// What it cost those that stand behind the server, and all of them together.
    fn behind(
        &mut self,
        behind: Option<&[BackendsLook; 2]>,
        server_cpu_ns: Option<f64>,
        n_started: u64,
    ) {
        let each = |total: Result<u64, String>| match total {
            Ok(total) => {
                Measured::ratio(to_f64(total), to_f64(n_started), "no request was started")
            }
            Err(reason) => Measured::absent(reason),
        };
        let between = |count: fn(&BackendsLook) -> Result<u64, String>| {
            let [before, after] = behind.ok_or(NOTHING_BEHIND)?;
            let gone = "a count of what stands behind the server went back";
            count(after)?.checked_sub(count(before)?).ok_or_else(|| gone.to_owned())
        };
        let cpu_ns = each(between(|look| look.cpu_ns.clone()));
        let in_all = match (cpu_ns.get(), server_cpu_ns) {
            (Some(behind), Some(server)) => Measured::number(behind + server),
            (None, _) => cpu_ns.clone(),
            (_, None) => Measured::absent("the server's CPU time is not known"),
        };
        self.put("backend_cpu_ns_per_op", "ns", Better::Lower, cpu_ns);
        self.put("server_and_backend_cpu_ns_per_op", "ns", Better::Lower, in_all);
        let gets = each(between(|look| Ok(look.gets)));
        self.put("backend_gets_per_op", "keys", Better::Lower, gets);
        let sets = each(between(|look| Ok(look.sets)));
        self.put("backend_sets_per_op", "keys", Better::None, sets);
    }
}
