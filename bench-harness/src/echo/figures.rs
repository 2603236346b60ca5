//! Makes the repetition of what the clients have counted and the server has used.

use forebay_workloads::echo::Config;

use super::drive::Driven;
use crate::dump::{Measured, Repetition};
use crate::extras;
use crate::looks::{self, Subject};
use crate::subject::CellSpec;

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
    extras::insert_system_calls(&mut repetition, &driven.calls_per_request);
    let (empty, idle) = (driven.empty.resident_bytes, driven.idle.resident_bytes);
    extras::insert_connection_memory(&mut repetition.extra, config.connections, empty, idle);
    repetition
}
