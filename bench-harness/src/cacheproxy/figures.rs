//! Makes the repetition of what the clients have counted and the servers have used.
//!
//! What the names mean stands in [`crate::extras`].

use std::collections::BTreeMap;

use forebay_workloads::cacheproxy::Config;

use super::counts::Counts;
use super::drive::Driven;
use super::servers::BackendsLook;
use crate::dump::{Better, ExtraMetric, Finite, Measured, Repetition, to_f64};
use crate::subject::CellSpec;
use crate::workload_file::Peer;

/// Why there is nothing to tell of what stands behind a server, or of one request.
const NOTHING_BEHIND: &str = "nothing stands behind the server";
const DRIVEN_DIRECTLY: &str = "this memcached is asked by the clients themselves";
const NO_REQUEST: &str = "no request was started";

/// The repetition of a cell, with what this workload has beside.
pub(super) fn repetition(
    spec: &CellSpec,
    config: &Config,
    driven: &Driven,
    sockets: &str,
) -> Repetition {
    let mut repetition = driven.streams.repetition(spec, sockets);
    let mut extra = Extra(&mut repetition.extra);
    extra.traffic(&driven.counts);
    if config.backends > 0 {
        let cpu_ns = Costs::new(spec.peer, driven, repetition.ops.started);
        extra.behind(driven, &cpu_ns, repetition.ops.started);
    }
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
        let no_get = "nothing was read";
        let hits = each(to_f64(keys_found) * 100.0, keys_asked, no_get);
        self.put("hit_percent", "percent", Better::Higher, hits);
        let keys = each(to_f64(keys_asked), gets, no_get);
        self.put("keys_per_get", "keys", Better::None, keys);
        let value_bytes = each(bytes(counts.value_bytes), gets, no_get);
        self.put("value_bytes_per_get", "bytes", Better::None, value_bytes);
        let sent = each(bytes(counts.sent_bytes), requests, NO_REQUEST);
        self.put("sent_bytes_per_op", "bytes", Better::None, sent);
        let received = each(bytes(counts.received_bytes), requests, NO_REQUEST);
        self.put("received_bytes_per_op", "bytes", Better::None, received);
    }

    /// What it cost the memcacheds, and all servers together.
    fn behind(&mut self, driven: &Driven, cpu_ns: &Costs, n_started: u64) {
        self.put("backend_cpu_ns_per_op", "ns", Better::Lower, cpu_ns.backends.clone());
        self.put("server_and_backend_cpu_ns_per_op", "ns", Better::Lower, cpu_ns.in_all.clone());
        let each = |count: fn(&BackendsLook) -> u64| match &driven.behind {
            Some([before, after]) => {
                let n = count(after).saturating_sub(count(before));
                Measured::ratio(to_f64(n), to_f64(n_started), NO_REQUEST)
            }
            None => Measured::absent(DRIVEN_DIRECTLY),
        };
        self.put("backend_gets_per_op", "keys", Better::Lower, each(|look| look.gets));
        self.put("backend_sets_per_op", "keys", Better::None, each(|look| look.sets));
    }
}

/// CPU time of the servers for each request, in nanoseconds.
struct Costs {
    /// Of the memcacheds.
    backends: Measured<Finite>,
    /// Of them and of the server before them.
    in_all: Measured<Finite>,
}

impl Costs {
    /// A memcached that is driven directly costs what a backend does without anything before it.
    fn new(peer: Option<Peer>, driven: &Driven, n_started: u64) -> Self {
        let each = |cpu_ns: Result<u64, String>| match cpu_ns {
            Ok(cpu_ns) => Measured::ratio(to_f64(cpu_ns), to_f64(n_started), NO_REQUEST),
            Err(reason) => Measured::absent(reason),
        };
        let (before, after) = (&driven.streams.before, &driven.streams.after);
        let server = between(&before.usage.cpu_ns, &after.usage.cpu_ns);
        let behind =
            driven.behind.as_ref().map(|[before, after]| between(&before.cpu_ns, &after.cpu_ns));
        match behind {
            Some(behind) => {
                let in_all = server.and_then(|server| Ok(server + behind.clone()?));
                Self { backends: each(behind), in_all: each(in_all) }
            }
            None if peer == Some(Peer::Memcached) => {
                Self { backends: each(server.clone()), in_all: each(server) }
            }
            None => Self { backends: Measured::absent(NOTHING_BEHIND), in_all: each(server) },
        }
    }
}

/// How much a count has grown, else why that is not known.
fn between(before: &Result<u64, String>, after: &Result<u64, String>) -> Result<u64, String> {
    let gone = "a CPU time went back: a thread ended";
    after.clone()?.checked_sub(before.clone()?).ok_or_else(|| gone.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_goes_back_or_that_nobody_keeps_is_told_as_such() {
        let (two, five) = (Ok(2), Ok(5));
        let unknown = Err("no books".to_owned());
        assert_eq!(between(&two, &five), Ok(3));
        assert!(between(&five, &two).unwrap_err().contains("went back"));
        assert_eq!(between(&two, &unknown), unknown);
    }
}
