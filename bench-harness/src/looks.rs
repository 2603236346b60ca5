//! A server and its clients' shard at two moments, and what one request cost the server in between.
//!
//! The same for every workload over sockets. The order of a look keeps what looking costs out of
//! what is measured: before a phase the usage is read last, after it first.

use std::time::Duration;

use forebay::{Handle, Snapshot};

use crate::client_shard::snapshot;
use crate::dump::{Finite, Measured, MetricKind, PerOp, Repetition, ShardStats, to_f64};
use crate::extras;
use crate::process::now_ns;
use crate::server::{Counts, ServerProcess, Usage};
use crate::subject::CellError;

/// The server and the clients' shard at one moment.
#[derive(Debug)]
pub(crate) struct Look {
    /// When the usage was read.
    pub(crate) at_ns: u64,
    pub(crate) usage: Usage,
    counts: Counts,
    clients: Snapshot,
}

impl Look {
    /// The last thing before a phase.
    pub(crate) async fn before(
        server: &mut ServerProcess,
        clients: &Handle,
    ) -> Result<Self, CellError> {
        let clients = snapshot(clients).await?;
        let counts = server.counts()?;
        Ok(Self { usage: server.usage()?, at_ns: now_ns(), counts, clients })
    }

    /// The first thing after a phase: what answering and asking cost stays outside of the usage.
    pub(crate) async fn after(
        server: &mut ServerProcess,
        clients: &Handle,
    ) -> Result<Self, CellError> {
        let (at_ns, usage) = (now_ns(), server.usage()?);
        let counts = server.counts()?;
        Ok(Self { at_ns, usage, counts, clients: snapshot(clients).await? })
    }
}

/// Whose engine is under the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Ours,
    Peer,
}

/// Puts in what the server has used between two looks: its costs and its memory alone. The interval
/// ends with the last reply, not with the window: all that was started cost the server time in it.
pub(crate) fn insert(repetition: &mut Repetition, subject: Subject, before: &Look, after: &Look) {
    repetition.generator_in_subject = false;
    repetition.memory.max_rss_bytes = Measured::Value(after.usage.max_resident_bytes);
    let cpu_ns = cpu_ns(before, after);
    repetition.per_op.insert("cpu_ns", each(&cpu_ns, repetition.ops.started));
    repetition.per_op.insert("allocs", Measured::absent("a server's allocations are not counted"));
    if subject == Subject::Ours {
        repetition.shards = shards(before, after, repetition);
        // Since it was asked before, which was for `before`.
        repetition.stages.clone_from(&after.counts.stages);
        extras::insert_waits_capped(&mut repetition.extra, waits_capped(before, after));
    }
    let server = percent(cpu_ns, after.at_ns.saturating_sub(before.at_ns));
    extras::insert_busy_percent(&mut repetition.extra, "server", server);
    extras::insert_busy_percent(&mut repetition.extra, "client", client_busy(before, after));
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

/// A cost that was measured and not counted exactly.
pub(crate) fn sampled(value: f64) -> Measured<PerOp> {
    let value = Finite::new(value);
    let per_op = value.map(|value| PerOp { value, kind: MetricKind::Sampled });
    Measured::from_option(per_op, "the quotient is not finite")
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

/// The server's shards. Which shard answered a request only one shard alone can say, so several
/// are left out.
fn shards(before: &Look, after: &Look, repetition: &Repetition) -> Vec<ShardStats> {
    let ([before], [after]) = (&before.counts.shards[..], &after.counts.shards[..]) else {
        return Vec::new();
    };
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
    let capped =
        |look: &Look| look.counts.shards.iter().map(|shard| shard.waits_capped).sum::<u64>();
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
