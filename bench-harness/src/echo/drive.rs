//! Drives a cell from the clients' shard, from the first connection to the last reply.

use std::time::Duration;

use forebay::Handle;

use super::dialogue::Echoes;
use super::wire::Wire;
use crate::load::PhaseTally;
use crate::looks::Look;
use crate::server::{ServerProcess, Usage};
use crate::streams::{Order, connect, count_calls, run_phase};
use crate::subject::CellError;
use crate::troubles::Troubles;

/// Pause before the memory of idle connections is read: time for the server to put buffers back.
const SETTLE: Duration = Duration::from_millis(20);

/// What a cell gave.
#[derive(Debug)]
pub(super) struct Driven {
    /// Before the first connection.
    pub(super) empty: Usage,
    /// With all connections open, each greeted once, and none in use.
    pub(super) idle: Usage,
    /// Around the measured phase and its drain.
    pub(super) before: Look,
    pub(super) after: Look,
    pub(super) tally: PhaseTally,
    /// System calls for each request, counted in a stretch of their own; else why not.
    pub(super) calls_per_request: Result<f64, String>,
    /// What went wrong in any stretch, from the greetings to the last look.
    pub(super) troubles: Troubles,
}

/// Runs a cell on the current shard, and gives the server back.
pub(super) async fn run(
    order: &Order,
    n_connections: u32,
    wire: Wire,
    mut server: ServerProcess,
    clients: &Handle,
) -> Result<(Driven, ServerProcess), CellError> {
    let empty = server.usage()?;
    let echoes = move |connection| Echoes::new(wire, connection);
    let fleet = connect(server.address(), n_connections as usize, echoes).await?;
    forebay::sleep(SETTLE).await;
    let idle = server.usage()?;
    for warmup in &order.warmups {
        run_phase(order, warmup, &fleet).await?;
    }
    let before = Look::before(&mut server, clients).await?;
    let tally = run_phase(order, &order.phase, &fleet).await?;
    let after = Look::after(&mut server, clients).await?;
    let calls_per_request = count_calls(order, &fleet, &server).await?;
    let troubles = fleet.close().await;
    Ok((Driven { empty, idle, before, after, tally, calls_per_request, troubles }, server))
}
