//! Makes the repetition of what the clients have counted and the server has used.

use std::collections::BTreeMap;

use forebay_workloads::echo::Config;

use super::drive::Driven;
use crate::dump::{Better, ExtraMetric, Measured, Repetition, to_f64};
use crate::looks::{self, Subject, sampled};
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
    let mut repetition = tally.recorder.repetition();
    let errors = tally.errors.iter().map(|(kind, n)| ((*kind).to_owned(), *n));
    repetition.errors_by_kind = errors.collect();
    let n_counted = tally.recorder.counts().mismatched;
    let troubles = driven.troubles.reasons(config.connections.into(), n_counted);
    repetition.invalid_reasons.extend(troubles);
    repetition.sockets = Measured::Value(sockets.to_owned());
    let subject = spec.peer.map_or(Subject::Ours, |_| Subject::Peer);
    looks::insert(&mut repetition, subject, &driven.before, &driven.after);
    insert_calls(&mut repetition, &driven.calls_per_request);
    insert_memory(&mut repetition.extra, config, driven);
    repetition
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
