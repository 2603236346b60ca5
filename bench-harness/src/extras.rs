//! The metrics that workloads add under names of their own, and what they mean. Those that several
//! subjects report are made here, so that the engine and the peers cannot name or compute them
//! differently.
//!
//! | `extra.` | workload | meaning |
//! |---|---|---|
//! | `runnable_to_running_{p50,p99,p999,max}_ns` | units | how long a runnable probe task waited to run |
//! | `host_stalls_left_out` | units | such waits in which the hypervisor had the CPU; not counted |
//! | `waits_capped` | all, ours | waits of shards that ended by their cap with work present |
//! | `core_percent` | units, idle | CPU time of the process, in percent of one core |
//! | `connection_resident_bytes` | echo, cacheproxy | resident memory that the server gained when all connections had been opened, greeted and left idle, for each of them; null below 100 |
//! | `system_calls_per_op` | echo, cacheproxy | system calls of the server for each request started, in a short stretch of its own behind the measured phase |
//! | `server_busy_percent` | echo, staged, cacheproxy | CPU time of the server's process, in percent of one core: several shards may pass 100, and one that spins is at 100 |
//! | `client_busy_percent` | echo, staged, cacheproxy | time in which the clients' shard ran tasks; close to 100 it is the clients that are measured: above 80 a repetition of staged is invalid |
//! | `offered_per_s` | staged | the rate of the schedule |
//! | `capacity_per_s` | staged, relative | 100 % of a relative rate: goodput of the last closed warm-up, on a server of its own that is the same but without conditioners and admission limits |
//! | `accepted` | staged | requests that ended otherwise than by a refusal |
//! | `accepted_{p50,p90,p99,p999}_ns` | staged | from the intended start of these to their end: what timed out, was given up or was lost counts at the time that this took |
//! | `late` | staged | requests that the service itself answered as too late (504) |
//! | `response_p90_ns` | staged | response time of what was answered with a page, 90th percentile |
//! | `rejected.<reason>` | staged | refusals by the reason that the service gave; a repetition lists those that it met, and in the summary counts as 0 where another one of its cell met more |
//! | `refusal_{p50,p99}_ns` | staged | from the intended start of a request to its refusal |
//! | `jain_index` | staged, closed | Jain's fairness index over the completions of each client: 1 when all are alike |
//! | `jain_index_response` | staged, closed | the same over the mean response time of each client; null when one got nothing |
//! | `class.<name>.{offered,dropped,completed,rejected,timed_out,failed,in_flight_at_end}` | staged | requests of one class; the first is the sum of the others |
//! | `class.<name>.degraded` | staged | those completed with a lesser page |
//! | `class.<name>.goodput_per_s` | staged | those completed within the phase's deadline |
//! | `class.<name>.response_{p50,p90,p99}_ns` | staged | response time of those completed |
//! | `step.<n>.settle_ms` | staged, steps | from the beginning of step n, counted from 0, until response times hold: a second begins in which no window of 250 ms has its 90th percentile (of what was accepted, as above) more than 25 % above the phase's `target_ms`, and from which to the end of the step at most 10 % of the windows do, no two in a row. A step that does not settle counts as its whole length. Null without a `target_ms` |
//! | `step.<n>.overshoot_percent` | staged, steps | by how much the worst window of the step lies above `target_ms` |
//! | `settle_ms`, `overshoot_percent` | staged | the worst of all steps but the first; under a relative rate, of its onset behind the warm-up, and its whole length is that of the phase |
//! | `memory_growth_percent` | staged | growth of the server's resident memory from 10 s after the beginning of the phase to the end of its window |
//! | `connections_opened` | staged | by the clients, in all phases of the cell together |
//! | `hit_percent` | cacheproxy | keys that gets found, of the keys that they asked; here and below of the measured phase and its drain |
//! | `keys_per_get` | cacheproxy | keys of a get, a get of one key and a multi-get alike |
//! | `value_bytes_per_get` | cacheproxy | bytes of the values that came for a get, all its keys together |
//! | `{sent,received}_bytes_per_op` | cacheproxy | bytes that the clients sent and received, for each request that they sent |
//! | `backend_cpu_ns_per_op` | cacheproxy with `backends` | CPU time of all memcacheds behind the server, for each request that a client started; that of the peer `memcached` itself, so that what a proxy saves a memcached can be read off beside it. All share the server's CPUs |
//! | `server_and_backend_cpu_ns_per_op` | cacheproxy with `backends` | the same together with the server's own (`cpu_ns_per_op`) |
//! | `backend_{gets,sets}_per_op` | cacheproxy with `backends` | keys that the memcacheds behind the server were asked for by gets, and values that they were told to store, for each request that a client started |

use std::collections::BTreeMap;

use crate::dump::{Better, ExtraMetric, Finite, Latency, Measured, Repetition, to_f64};
use crate::looks::sampled;
use crate::subject::ProbeLog;

/// Fewest connections whose memory can be told: what one holds is smaller than a page.
const CONNECTIONS_TOLD_MIN: u32 = 100;

/// Adds how long probe tasks stood runnable before they ran.
///
/// A probe wakes itself and yields in one step: it is then runnable, at the back of the ordinary
/// queue, and the time until its next poll is what any task would wait. Waits in which the
/// hypervisor had the CPU are left out and counted.
pub fn insert_runnable_to_running(extra: &mut BTreeMap<String, ExtraMetric>, probes: &ProbeLog) {
    let waits = probes.waits();
    let latency = Latency::from_histogram(waits.values(), waits.overflow_count());
    let mut insert = |quantile: &str, value: &Measured<u64>| {
        let value = match value {
            Measured::Value(ns) => Measured::number(to_f64(*ns)),
            Measured::Absent(reason) => Measured::absent(reason.clone()),
        };
        let metric = ExtraMetric { unit: "ns".to_owned(), better: Better::Lower, value };
        extra.insert(format!("runnable_to_running_{quantile}_ns"), metric);
    };
    insert("p50", &latency.p50_ns);
    insert("p99", &latency.p99_ns);
    insert("p999", &latency.p999_ns);
    insert("max", &latency.max_ns);
    let value = Measured::number(to_f64(probes.host_stalls()));
    let metric = ExtraMetric { unit: "samples".to_owned(), better: Better::None, value };
    extra.insert("host_stalls_left_out".to_owned(), metric);
}

/// Adds how many waits of shards ended by their cap with work present. On a quiet host there is none.
pub fn insert_waits_capped(extra: &mut BTreeMap<String, ExtraMetric>, waits: u64) {
    let value = Measured::number(to_f64(waits));
    let metric = ExtraMetric { unit: "waits".to_owned(), better: Better::None, value };
    extra.insert("waits_capped".to_owned(), metric);
}

/// Adds the share of one core that the process used, which says something only without requests.
pub fn insert_core_percent(
    extra: &mut BTreeMap<String, ExtraMetric>,
    cpu_ns: u64,
    measured_ns: u64,
) {
    let value: Measured<Finite> =
        Measured::ratio(to_f64(cpu_ns) * 100.0, to_f64(measured_ns), "the interval is empty");
    let metric = ExtraMetric { unit: "percent".to_owned(), better: Better::Lower, value };
    extra.insert("core_percent".to_owned(), metric);
}

/// Adds how busy one side of a connection was, `server` or `client`.
pub fn insert_busy_percent(
    extra: &mut BTreeMap<String, ExtraMetric>,
    side: &str,
    value: Measured<Finite>,
) {
    let metric = ExtraMetric { unit: "percent".to_owned(), better: Better::None, value };
    extra.insert(format!("{side}_busy_percent"), metric);
}

/// Adds the system calls of a request: a cost, and a metric of its own for tables and comparisons.
pub(crate) fn insert_system_calls(repetition: &mut Repetition, calls: &Result<f64, String>) {
    let (per_op, value) = match calls {
        Ok(calls) => (sampled(*calls), Measured::number(*calls)),
        Err(reason) => (Measured::absent(reason.clone()), Measured::absent(reason.clone())),
    };
    repetition.per_op.insert("system_calls", per_op);
    let metric = ExtraMetric { unit: "calls".to_owned(), better: Better::Lower, value };
    repetition.extra.insert("system_calls_per_op".to_owned(), metric);
}

/// Adds what one idle connection holds of the server's memory: `idle` resident bytes with all of
/// them open, `empty` before the first.
pub(crate) fn insert_connection_memory(
    extra: &mut BTreeMap<String, ExtraMetric>,
    n_connections: u32,
    empty: u64,
    idle: u64,
) {
    let value = if n_connections < CONNECTIONS_TOLD_MIN {
        let why = format!("fewer than {CONNECTIONS_TOLD_MIN} connections hold less than pages");
        Measured::absent(why)
    } else if let Some(held) = idle.checked_sub(empty) {
        Measured::number(to_f64(held) / f64::from(n_connections))
    } else {
        Measured::absent(format!(
            "the server held {idle} bytes with the connections and {empty} before"
        ))
    };
    let metric = ExtraMetric { unit: "bytes".to_owned(), better: Better::Lower, value };
    extra.insert("connection_resident_bytes".to_owned(), metric);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_probes_give_reasons_and_many_give_quantiles() {
        let mut probes = ProbeLog::new();
        for ns in 1..=1_000 {
            probes.note(ns);
        }
        let mut extra = BTreeMap::new();
        insert_runnable_to_running(&mut extra, &probes);
        assert_eq!(extra["runnable_to_running_p99_ns"].value.get(), Some(990.0));
        let reason = extra["runnable_to_running_p999_ns"].value.reason().unwrap();
        assert!(reason.contains("needs 10,000"), "{reason}");
    }

    #[test]
    fn a_busy_core_is_a_hundred_percent() {
        let mut extra = BTreeMap::new();
        insert_core_percent(&mut extra, 50, 5_000);
        assert_eq!(extra["core_percent"].value.get(), Some(1.0));
        insert_core_percent(&mut extra, 50, 0);
        assert!(extra["core_percent"].value.reason().is_some());
    }
}
