//! The shard on which the clients of a service run: an engine of its own, on a CPU of its own.
//!
//! Whoever is measured over sockets, ours or a peer, has the same clients: one shard of our own
//! engine, on the last CPU that the server does not have. On a host with no more CPUs than the
//! server's the clients share the last one, and what they measure is invalid.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use forebay::{Builder, Engine, Handle, IdlePolicy, RequestOptions, Snapshot};

use crate::cpus;
use crate::subject::CellError;

/// Descriptors of the clients beside those of their connections.
pub(crate) const DESCRIPTORS_ASIDE: u64 = 256;
/// How long the clients' shard looks again before it sleeps: longer than any round trip that is
/// measured one by one, so that waking the clients is no part of it.
const SPIN_US: u64 = 1_000;
/// How long the clients' engine may take to stop: nothing is live any more.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How often the clients' shard looks whether its own counters have been read.
const ASKING_PAUSE: Duration = Duration::from_millis(1);
/// Connections from one loopback address: it has 28,000 ports by default, and those of the
/// connections before may still be waiting out their minute.
const CONNECTIONS_PER_ADDRESS: usize = 4_000;

/// An engine of one shard for the clients.
#[derive(Debug)]
pub(crate) struct ClientShard {
    engine: Engine,
    cpu: usize,
    place: Place,
}

/// Whether the clients' CPU is theirs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Own,
    /// The server runs there, too.
    Shared,
}

impl ClientShard {
    /// Starts it beside a server that has these CPUs.
    pub(crate) fn start(server_cpus: &[usize], seed: u64) -> Result<Self, CellError> {
        let (cpu, place) = choose(&cpus::allowed()?, server_cpus)
            .ok_or_else(|| CellError::Setup("this process may use no CPU".to_owned()))?;
        // Where the server runs too, spinning would take its time.
        let idle = match place {
            Place::Own => IdlePolicy::SpinUs(SPIN_US),
            Place::Shared => IdlePolicy::Park,
        };
        let mut builder = Builder::new();
        builder.quiet().seed(seed).cpus(&[cpu]).idle(idle);
        Ok(Self { engine: builder.start()?, cpu, place })
    }

    /// The outside of its engine.
    pub(crate) fn handle(&self) -> &Handle {
        self.engine.handle()
    }

    /// Runs something on it, and waits for what that gives.
    pub(crate) fn run<C, F, R>(&self, code: C) -> Result<R, CellError>
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<R, CellError>> + 'static,
        R: Send + 'static,
    {
        let broken = |error: String| CellError::Failed(format!("the clients' shard: {error}"));
        let reply = self.handle().submit(0, RequestOptions::default(), code);
        let reply = reply.map_err(|error| broken(error.to_string()))?;
        reply.wait().map_err(|error| broken(error.to_string()))?
    }

    /// Stops it, and tells why what it has measured is invalid.
    pub(crate) fn stop(self) -> Vec<String> {
        let mut reasons = Vec::new();
        let stopped = self.engine.stop(STOP_MAX);
        if !stopped.drained || !stopped.stuck_shards.is_empty() {
            reasons.push(format!("the clients' engine did not stop cleanly: {stopped:?}"));
        }
        if self.place == Place::Shared {
            let cpu = self.cpu;
            reasons.push(format!("the clients share CPU {cpu} with the server: no other is left"));
        }
        reasons
    }
}

/// The last CPU that the server does not have; the last of all on a host that has no other.
fn choose(allowed: &[usize], server: &[usize]) -> Option<(usize, Place)> {
    if let Some(free) = allowed.iter().rev().find(|cpu| !server.contains(cpu)) {
        return Some((*free, Place::Own));
    }
    allowed.last().map(|cpu| (*cpu, Place::Shared))
}

/// What the clients' own shard has counted. It answers between two turns and asking waits for it,
/// so another thread asks: on this CPU, which it inherits, and not on the server's.
pub(crate) async fn snapshot(clients: &Handle) -> Result<Snapshot, CellError> {
    let clients = clients.clone();
    let asking = std::thread::Builder::new()
        .name("clients-snapshot".to_owned())
        .spawn(move || clients.snapshot(0))
        .map_err(|error| CellError::Failed(format!("a thread: {error}")))?;
    while !asking.is_finished() {
        forebay::sleep(ASKING_PAUSE).await;
    }
    let snapshot = asking.join().ok().flatten();
    snapshot.ok_or_else(|| CellError::Failed("the clients' shard does not answer".to_owned()))
}

/// The address that a client connects from. The whole of 127/8 is this host; the process takes
/// part in the choice, so that a repetition does not meet the ports of the one before it.
pub(crate) fn source(client_idx: usize) -> IpAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let block = u8::try_from(client_idx / CONNECTIONS_PER_ADDRESS).unwrap_or(u8::MAX);
    // Neither network nor broadcast address, whatever the process and the block.
    IpAddr::V4(Ipv4Addr::new(127, 1 + low % 250, high, 1 + block % 250))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_take_the_last_cpu_that_is_free_and_share_only_where_none_is() {
        assert_eq!(choose(&[0, 1, 2, 3], &[0]), Some((3, Place::Own)));
        assert_eq!(choose(&[0, 1, 2], &[2]), Some((1, Place::Own)));
        assert_eq!(choose(&[4, 5], &[4, 5]), Some((5, Place::Shared)));
        assert_eq!(choose(&[], &[]), None);
    }
}
