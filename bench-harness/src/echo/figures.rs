//! Makes the repetition of what the clients have counted and the server has used.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_workloads::echo::Config;

use super::drive::{Driven, Look};
use crate::dump::{
    Better, ExtraMetric, Finite, Measured, MetricKind, PerOp, Repetition, ShardStats, to_f64,
};
use crate::extras;
use crate::subject::CellSpec;

/// Fewest connections whose memory can be told: what one holds is smaller than a page.
const CONNECTIONS_MIN: u32 = 100;

/// The repetition of a cell. Its costs and its memory are the server's alone.
pub(super) fn repetition(
    spec: &CellSpec,
    config: &Config,
    driven: &Driven,
    sockets: &str,
) -> Repetition {
    let tally = &driven.tally;
    let (before, after) = (&driven.before, &driven.after);
    let mut repetition = tally.recorder.repetition();
    let errors = tally.errors.iter().map(|(kind, n)| ((*kind).to_owned(), *n));
    repetition.errors_by_kind = errors.collect();
    let n_counted = tally.recorder.counts().mismatched;
    let troubles = driven.troubles.reasons(config.connections.into(), n_counted);
    repetition.invalid_reasons.extend(troubles);
    repetition.generator_in_subject = false;
    repetition.sockets = Measured::Value(sockets.to_owned());
    repetition.memory.max_rss_bytes = Measured::Value(after.usage.max_resident_bytes);
    let cpu_ns = cpu_ns(before, after);
    // The interval ends with the last reply, not with the window: all that was started cost the
    // server time in it.
    repetition.per_op.insert("cpu_ns", each(&cpu_ns, repetition.ops.started));
    repetition.per_op.insert("allocs", Measured::absent("a server's allocations are not counted"));
    insert_calls(&mut repetition, &driven.calls_per_request);
    if spec.peer.is_none() {
        repetition.shards = shards(before, after, &repetition);
        extras::insert_waits_capped(&mut repetition.extra, waits_capped(before, after));
    }
    insert_memory(&mut repetition.extra, config, driven);
    let server = percent(cpu_ns, after.at_ns.saturating_sub(before.at_ns));
    extras::insert_busy_percent(&mut repetition.extra, "server", server);
    extras::insert_busy_percent(&mut repetition.extra, "client", client_busy(before, after));
    repetition
}

/// CPU time of the server between two looks, else why it is not known.
fn cpu_ns(before: &Look, after: &Look) -> Result<u64, String> {
    let (before, after) = (before.usage.cpu_ns.clone()?, after.usage.cpu_ns.clone()?);
    let gone = "the server's CPU time went back: one of its threads ended";
    after.checked_sub(before).ok_or_else(|| gone.to_owned())
}

fn each(total: &Result<u64, String>, started: u64) -> Measured<PerOp> {
    match total {
        Err(reason) => Measured::absent(reason.clone()),
        Ok(_) if started == 0 => Measured::absent("no request was started"),
        Ok(total) => sampled(to_f64(*total) / to_f64(started)),
    }
}

fn percent(part_ns: Result<u64, String>, elapsed_ns: u64) -> Measured<Finite> {
    match part_ns {
        Ok(part) => {
            Measured::ratio(to_f64(part) * 100.0, to_f64(elapsed_ns), "the interval is empty")
        }
        Err(reason) => Measured::absent(reason),
    }
}

/// Share of time in which the clients' shard ran tasks; looking and spinning are not counted.
fn client_busy(before: &Look, after: &Look) -> Measured<Finite> {
    let (before, after) = (&before.clients.shard, &after.clients.shard);
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let busy_ns = nanos(after.busy.saturating_sub(before.busy));
    percent(Ok(busy_ns), nanos(after.at.since(before.at)))
}

fn sampled(value: f64) -> Measured<PerOp> {
    let value = Finite::new(value);
    let per_op = value.map(|value| PerOp { value, kind: MetricKind::Sampled });
    Measured::from_option(per_op, "the quotient is not finite")
}

/// Adds the system calls of a request: a cost, and a metric of its own for tables and comparisons.
fn insert_calls(repetition: &mut Repetition, calls: &Result<f64, String>) {
    let (per_op, value) = match calls {
        Ok(calls) => (sampled(*calls), Measured::number(*calls)),
        Err(reason) => (Measured::absent(reason.clone()), Measured::absent(reason.clone())),
    };
    repetition.per_op.insert("system_calls", per_op);
    let metric = ExtraMetric { unit: "calls".to_owned(), better: Better::Lower, value };
    repetition.extra.insert("system_calls_per_op".to_owned(), metric);
}

/// Adds what one idle connection holds of the server's memory.
fn insert_memory(extra: &mut BTreeMap<String, ExtraMetric>, config: &Config, driven: &Driven) {
    let n_connections = config.connections;
    let (idle, empty) = (driven.idle.resident_bytes, driven.empty.resident_bytes);
    let value = if n_connections < CONNECTIONS_MIN {
        Measured::absent(format!("fewer than {CONNECTIONS_MIN} connections hold less than pages"))
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

/// The server's shards. Which shard answered a request only one shard alone can say, so several
/// are left out.
fn shards(before: &Look, after: &Look, repetition: &Repetition) -> Vec<ShardStats> {
    let ([before], [after]) = (&before.counts[..], &after.counts[..]) else { return Vec::new() };
    let busy_ns = after.busy_ns.saturating_sub(before.busy_ns);
    let elapsed_ns = after.at_ns.saturating_sub(before.at_ns);
    let longest = after.longest_poll_ns;
    vec![ShardStats {
        shard: 0,
        ops: repetition.ops.completed,
        cpu: Measured::from_option(after.cpu, "the shard is not pinned"),
        busy_percent: Measured::ratio(
            to_f64(busy_ns) * 100.0,
            to_f64(elapsed_ns),
            "no time passed",
        ),
        p99_ns: repetition.latency.response.p99_ns.clone(),
        longest_stall_ns: if longest > before.longest_poll_ns {
            Measured::Value(longest)
        } else {
            Measured::absent(format!("none exceeded the longest of the warm-up, {longest} ns"))
        },
    }]
}

fn waits_capped(before: &Look, after: &Look) -> u64 {
    let capped = |look: &Look| look.counts.iter().map(|shard| shard.waits_capped).sum::<u64>();
    capped(after).saturating_sub(capped(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_of_each_request_that_was_started() {
        let value = |per_op: Measured<PerOp>| per_op.value().map(|per_op| per_op.value.get());
        assert_eq!(value(each(&Ok(100), 4)), Some(25.0));
        assert_eq!(each(&Ok(100), 0).reason(), Some("no request was started"));
        assert_eq!(each(&Err("no books".to_owned()), 4).reason(), Some("no books"));
    }

    #[test]
    fn a_whole_core_is_a_hundred_percent_and_an_empty_interval_has_none() {
        assert_eq!(percent(Ok(50), 50).get(), Some(100.0));
        assert!(percent(Ok(50), 0).reason().is_some());
        assert_eq!(percent(Err("no books".to_owned()), 50).reason(), Some("no books"));
    }
}
