//! Drives a cell from the clients' shard, from the first key to the last reply.

use std::rc::Rc;
use std::time::Duration;

use forebay::Handle;
use forebay_workloads::cacheproxy::load::{Load, Preload};

use super::client::{Client, Town};
use super::counts::Counts;
use super::preload;
use super::servers::{Backends, BackendsLook};
use crate::load::PhaseTally;
use crate::looks::Look;
use crate::server::{ServerProcess, Usage};
use crate::streams::{Order, connect, count_calls, run_phase};
use crate::subject::CellError;
use crate::troubles::Troubles;

/// Pause before memory is read: time for the server to put buffers back, and to see who has gone.
const SETTLE: Duration = Duration::from_millis(20);

/// What a cell gave.
#[derive(Debug)]
pub(super) struct Driven {
    /// With every key written, before the first connection of those that stay.
    pub(super) empty: Usage,
    /// With all connections open, each greeted once, and none in use.
    pub(super) idle: Usage,
    /// Around the measured phase and its drain.
    pub(super) before: Look,
    pub(super) after: Look,
    /// The same of what stands behind the server, if anything does.
    pub(super) behind: Option<[BackendsLook; 2]>,
    pub(super) tally: PhaseTally,
    /// Of the measured phase and its drain.
    pub(super) counts: Counts,
    /// System calls for each request, counted in a stretch of their own; else why not.
    pub(super) calls_per_request: Result<f64, String>,
    /// What went wrong in any stretch, from the greetings to the last look.
    pub(super) troubles: Troubles,
}

/// Runs a cell on the current shard, and gives the servers back.
pub(super) async fn run(
    order: &Order,
    load: &Load,
    seed: u64,
    (mut server, backends): (ServerProcess, Backends),
    clients: &Handle,
) -> Result<(Driven, ServerProcess, Backends), CellError> {
    let town = Rc::new(Town::new(load, seed));
    if load.preload == Preload::Every {
        preload::run(&town, server.address()).await?;
    }
    forebay::sleep(SETTLE).await;
    let empty = server.usage()?;
    let client = {
        let town = Rc::clone(&town);
        move |_| Client::new(&town)
    };
    let fleet = connect(server.address(), load.connections as usize, client).await?;
    forebay::sleep(SETTLE).await;
    let idle = server.usage()?;
    for warmup in &order.warmups {
        run_phase(order, warmup, &fleet).await?;
    }
    let behind = backends.look()?;
    town.counts.take();
    let before = Look::before(&mut server, clients).await?;
    let tally = run_phase(order, &order.phase, &fleet).await?;
    let after = Look::after(&mut server, clients).await?;
    let counts = town.counts.take();
    let behind = behind.zip(backends.look()?).map(|(before, after)| [before, after]);
    let calls_per_request = count_calls(order, &fleet, &server).await?;
    let troubles = fleet.close().await;
    let driven =
        Driven { empty, idle, before, after, behind, tally, counts, calls_per_request, troubles };
    Ok((driven, server, backends))
}
