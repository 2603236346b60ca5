//! Drives a cell from the clients' shard, from the first key to the last reply, and looks at what stands
//! behind the server.

use std::rc::Rc;

use forebay::Handle;
use forebay_workloads::cacheproxy::load::{Load, Preload};

use super::client::{Client, Town};
use super::counts::Counts;
use super::preload;
use super::servers::{Backends, BackendsLook};
use crate::server::ServerProcess;
use crate::streams::{self, Order};
use crate::subject::CellError;

/// What a cell gave.
#[derive(Debug)]
pub(super) struct Driven {
    pub(super) streams: streams::Driven,
    /// Of the measured phase and its drain.
    pub(super) counts: Counts,
    /// What stands behind the server, if anything does, around that phase and its drain.
    pub(super) behind: Option<[BackendsLook; 2]>,
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
    let client = {
        let town = Rc::clone(&town);
        move |_| Client::new(&town)
    };
    // Before the measured phase, and behind it.
    let (mut counts, mut behind) = (Counts::default(), Vec::with_capacity(2));
    let look_aside = || {
        counts = town.counts.take();
        behind.extend(backends.look()?);
        Ok(())
    };
    let streams = streams::drive(order, client, &mut server, clients, look_aside).await?;
    let behind = behind.try_into().ok();
    Ok((Driven { streams, counts, behind }, server, backends))
}
