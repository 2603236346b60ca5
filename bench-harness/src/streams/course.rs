//! The course of a cell, from the first connection to the last look, and what it gave.
//!
//! The same for every workload over such clients; what else one looks at goes into the same places,
//! so that it is of the same stretch as the rest.

use std::time::Duration;

use forebay::Handle;

use super::Dialogue;
use super::fleet::connect;
use super::phase::{Order, count_calls, run_phase};
use crate::dump::{Measured, Repetition};
use crate::extras;
use crate::load::PhaseTally;
use crate::looks::{self, Look, Subject};
use crate::server::{ServerProcess, Usage};
use crate::subject::{CellError, CellSpec};
use crate::troubles::Troubles;

/// Pause before memory is read: time for the server to put buffers back, and to see who has gone.
const SETTLE: Duration = Duration::from_millis(20);

/// What a cell gave.
#[derive(Debug)]
pub(crate) struct Driven {
    /// Before the first connection of those that stay.
    empty: Usage,
    /// With all connections open, each greeted once, and none in use.
    idle: Usage,
    /// Around the measured phase and its drain.
    pub(crate) before: Look,
    pub(crate) after: Look,
    tally: PhaseTally,
    /// System calls for each request, counted in a stretch of their own; else why not.
    calls_per_request: Result<f64, String>,
    /// What went wrong in any stretch, from the greetings to the last look.
    troubles: Troubles,
    n_connections: u32,
}

/// Drives a cell on the current shard. `look_aside` is called right before the server is looked at
/// ahead of the measured phase, and right after it is looked at behind.
pub(crate) async fn drive<D: Dialogue + 'static>(
    order: &Order,
    dialogue: impl Fn(u64) -> D + Clone + 'static,
    server: &mut ServerProcess,
    clients: &Handle,
    mut look_aside: impl FnMut() -> Result<(), CellError>,
) -> Result<Driven, CellError> {
    let n_connections =
        u32::try_from(order.connections.n_open).expect("the file's check bounds connections");
    forebay::sleep(SETTLE).await;
    let empty = server.usage()?;
    let fleet = connect(server.address(), n_connections as usize, dialogue).await?;
    forebay::sleep(SETTLE).await;
    let idle = server.usage()?;
    for warmup in &order.warmups {
        run_phase(order, warmup, &fleet).await?;
    }
    look_aside()?;
    let before = Look::before(server, clients).await?;
    let tally = run_phase(order, &order.phase, &fleet).await?;
    let after = Look::after(server, clients).await?;
    look_aside()?;
    let calls_per_request = count_calls(order, &fleet, server).await?;
    let troubles = fleet.close().await;
    Ok(Driven { empty, idle, before, after, tally, calls_per_request, troubles, n_connections })
}

impl Driven {
    /// The repetition of the cell. Its costs and its memory are the server's alone.
    pub(crate) fn repetition(&self, spec: &CellSpec, sockets: &str) -> Repetition {
        let n_connections = self.n_connections;
        let tally = &self.tally;
        let mut repetition = tally.recorder.repetition();
        let errors = tally.errors.iter().map(|(kind, n)| ((*kind).to_owned(), *n));
        repetition.errors_by_kind = errors.collect();
        let n_counted = tally.recorder.counts().mismatched;
        let troubles = self.troubles.reasons(n_connections.into(), n_counted);
        repetition.invalid_reasons.extend(troubles);
        repetition.sockets = Measured::Value(sockets.to_owned());
        let subject = spec.peer.map_or(Subject::Ours, |_| Subject::Peer);
        looks::insert(&mut repetition, subject, &self.before, &self.after);
        extras::insert_system_calls(&mut repetition, &self.calls_per_request);
        let (empty, idle) = (self.empty.resident_bytes, self.idle.resident_bytes);
        extras::insert_connection_memory(&mut repetition.extra, n_connections, empty, idle);
        repetition
    }
}
