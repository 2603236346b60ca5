//! The service on an engine of this process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use forebay::net::Address;
use forebay::{Builder, Engine, ShardSnapshot, StopReport};

use super::declared::{AdminPages, Declared};
use super::{Counts, ServerSpec, ShardCounts};
use crate::cpus;
use crate::subject::{CellError, apply, configure, stage_stats_between};

/// The environment's variable with the token that changes by admin pages need: arguments are seen by
/// every process of the host.
pub(crate) const TOKEN_VARIABLE: &str = "FOREBAY_ADMIN_TOKEN";

/// Where a service listens.
#[derive(Debug, Clone)]
pub struct Places {
    /// For its clients.
    pub service: Address,
    /// For its admin pages, if it has some.
    pub admin: SocketAddr,
    /// What whoever changes something by the admin pages must know. Without it they change nothing
    /// unless they are on loopback.
    pub admin_token: Option<String>,
}

impl Places {
    /// Free ports of this host's own address.
    #[must_use]
    pub fn any_port() -> Self {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { service: admin.into(), admin, admin_token: None }
    }
}

/// A service that accepts connections.
#[derive(Debug)]
pub struct Serving {
    engine: Engine,
    address: Address,
    service: Declared,
    admin: AdminPages,
    drain_within: Duration,
    /// The shards as they were when their counts were asked last.
    asked: Vec<ShardSnapshot>,
}

/// Starts the service of `spec` on an engine of its own. Given CPUs, the whole process keeps to them.
///
/// # Errors
/// When the host, the engine or an address refuses.
pub fn serve(spec: &ServerSpec, places: &Places) -> Result<Serving, CellError> {
    let mut builder = Builder::new();
    builder.quiet().seed(spec.seed);
    configure(&mut builder, &spec.engine)?;
    if !spec.cpus.is_empty() {
        // What the engine starts beside its shards inherits them.
        cpus::pin(&spec.cpus).map_err(CellError::Setup)?;
        builder.cpus(&spec.cpus);
    }
    let service = Declared::new(&spec.service, spec.seed, &mut builder)?;
    apply(&mut builder, &spec.stages)?;
    let engine = builder.start()?;
    let address = service.serve(&engine, &places.service)?;
    let admin = service.serve_admin(&engine, places)?;
    let drain_within = spec.service.drain_within();
    Ok(Serving { engine, address, service, admin, drain_within, asked: Vec::new() })
}

impl Serving {
    /// Where it accepts, with the port that the system chose.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Where its admin pages are, if it has some.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.address()
    }

    /// How its shards reach their sockets.
    #[must_use]
    pub fn sockets(&self) -> String {
        self.engine.sockets().to_string()
    }

    /// What its engine has counted: of its stages, since the last time that this was asked.
    #[must_use]
    pub fn counts(&mut self) -> Counts {
        let snapshots = self.engine.handle().snapshots().into_iter().flatten();
        let now: Vec<ShardSnapshot> = snapshots.map(|snapshot| (*snapshot.shard).clone()).collect();
        let shards = now.iter().map(shard_counts).collect();
        let stages = stage_stats_between(&self.asked, &now);
        self.asked = now;
        Counts { shards, stages }
    }

    /// Serves until SIGINT or SIGTERM, then drains and stops. Calls `heard` when both signals are
    /// handled: who is told then may send one.
    ///
    /// # Errors
    /// When the signals cannot be had, `heard` fails, a shard does not stop, or somebody was cut off
    /// because the service's own limits did not end what was under way.
    pub fn until_signal(self, heard: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let Self { engine, service, admin, drain_within, .. } = self;
        let (_, stopped) = engine.run_until_signal_then(drain_within, heard)?;
        // Served and kept until here: who asks during the stop is told that it goes on.
        drop((admin, service));
        check_clean(&stopped, drain_within).map_err(io::Error::other)
    }

    /// Drains and stops.
    ///
    /// # Errors
    /// In words, when something was cut off or a shard does not stop: what was measured may not be
    /// what it seems.
    pub fn stop(self) -> Result<(), String> {
        let Self { engine, service, admin, drain_within, .. } = self;
        let stopped = engine.stop(drain_within);
        drop((admin, service));
        check_clean(&stopped, drain_within)
    }
}

fn shard_counts(shard: &ShardSnapshot) -> ShardCounts {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    ShardCounts {
        cpu: shard.cpu.and_then(|cpu| u32::try_from(cpu).ok()),
        at_ns: shard.at.as_nanos(),
        busy_ns: nanos(shard.busy),
        waits_capped: shard.waits_capped,
        longest_poll_ns: shard.longest_poll.as_ref().map_or(0, |poll| nanos(poll.took)),
    }
}

/// What was cut off, in words, if anything was.
fn check_clean(stopped: &StopReport, drain_within: Duration) -> Result<(), String> {
    let StopReport { drained, requests_cut, batches_abandoned, stuck_shards, .. } = stopped;
    if *drained && stuck_shards.is_empty() {
        return Ok(());
    }
    let mut words = format!(
        "the stop cut off what had not ended within {drain_within:?}: {requests_cut} requests, \
         connections among them; {batches_abandoned} batches were dropped since the start"
    );
    for (shard, phase) in stuck_shards {
        words += &format!("; shard {} is stuck, {phase:?}", shard.index());
    }
    Err(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stop_has_cut_off_is_said() {
        let mut stopped = StopReport::default();
        stopped.drained = true;
        assert_eq!(check_clean(&stopped, Duration::from_secs(3)), Ok(()));
        stopped.drained = false;
        stopped.requests_cut = 7;
        let said = check_clean(&stopped, Duration::from_secs(3)).unwrap_err();
        assert!(said.contains("within 3s: 7 requests"), "{said}");
    }
}
