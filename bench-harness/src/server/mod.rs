//! A service in a process of its own, so that what it uses can be told from what its clients use.
//!
//! The process that drives the load starts this program once more as `server`, hands a
//! [`ServerSpec`] over and then asks line by line; the server ends when it is asked no more.
//!
//! ```text
//! client                        server
//!   ServerSpec ──── stdin ────► service on an engine, or a peer
//!              ◄─── stdout ──── Ready
//!   "counts"   ──── stdin ────► what the engine has counted
//!              ◄─── stdout ──── Counts
//!   end of stdin ─────────────► drains, exits
//! ```

mod declared;
mod ours;
mod process;
mod relay;
mod usage;
mod calls;

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;

use forebay_workloads::planted::Planted;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::dump::StageStats;
use crate::subject::CellError;
use crate::workload_file::{Engine, Peer, Stage};
use crate::{cpus, process as own};

pub(crate) use calls::CallCounter;
pub use declared::Service;
pub(crate) use ours::TOKEN_VARIABLE;
pub use ours::{Places, Serving, serve};
pub(crate) use process::ServerProcess;
pub(crate) use usage::Usage;

/// Descriptors of a server beside those of its connections: rings, files, listeners.
pub(crate) const DESCRIPTORS_ASIDE: u64 = 256;
/// The line that asks for [`ServerReply::Counts`].
const ASK_COUNTS: &str = "counts";

/// Everything a server depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSpec {
    /// The other implementation to run; `None` runs ours.
    pub peer: Option<Peer>,
    /// The engine under the service.
    pub engine: Engine,
    /// The service.
    pub service: Service,
    /// Settings of its stages.
    #[serde(default)]
    pub stages: BTreeMap<String, Stage>,
    /// Seeds the engine's hash.
    pub seed: u64,
    /// The CPUs that the whole process may use.
    pub cpus: Vec<usize>,
}

/// What a server writes on stdout, one line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerReply {
    /// It accepts connections.
    Ready {
        /// Where.
        address: String,
        /// How it reaches its sockets: `ring`, `readiness`, or what a peer uses.
        sockets: String,
        /// Where its admin pages are, if it has some.
        admin: Option<String>,
    },
    /// What its engine has counted.
    Counts(Counts),
    /// Why it does not serve.
    Error(CellError),
}

/// What the engine of a server has counted; nothing of a peer's.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Of each shard, since its start.
    pub shards: Vec<ShardCounts>,
    /// Of each stage, all shards together, since it was asked before; empty the first time.
    pub stages: BTreeMap<String, StageStats>,
}

/// What one shard of a server has counted since its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShardCounts {
    /// The CPU it is pinned to.
    pub cpu: Option<u32>,
    /// When, on the engine's clock.
    pub at_ns: u64,
    /// Time in which it ran tasks.
    pub busy_ns: u64,
    /// Waits that ended by their cap although work was present.
    pub waits_capped: u64,
    /// The longest poll of a task.
    pub longest_poll_ns: u64,
}

/// The server's side: reads a spec from `input`, serves, and answers until `input` ends.
///
/// # Errors
/// When the spec cannot be read or a reply cannot be written.
pub fn serve_client(mut input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    // A client that is killed outright must not leave its server behind.
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).ok();
    let mut line = String::new();
    input.read_line(&mut line)?;
    let spec: ServerSpec = serde_json::from_str(&line)?;
    let (ready, mut ours) = match start(&spec).and_then(|started| spoil(&spec, started)) {
        Ok(started) => started,
        Err(error) => return say(&mut output, &ServerReply::Error(error)),
    };
    say(&mut output, &ready)?;
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            break;
        }
        let asked = ours.as_mut().filter(|_| line.trim() == ASK_COUNTS);
        let counts = asked.map_or_else(Counts::default, Serving::counts);
        say(&mut output, &ServerReply::Counts(counts))?;
    }
    if let Some(serving) = ours {
        serving.stop().map_err(io::Error::other)?;
    }
    Ok(())
}

/// Tells whether the system calls of a server could be counted here, by those of this process.
///
/// # Errors
/// The reason, in words.
pub fn can_count_calls() -> Result<(), String> {
    CallCounter::start(std::process::id()).map(drop)
}

fn say(output: &mut impl Write, reply: &ServerReply) -> io::Result<()> {
    serde_json::to_writer(&mut *output, reply)?;
    output.write_all(b"\n")?;
    output.flush()
}

/// Starts the service; a peer runs on a thread that ends with the process.
fn start(spec: &ServerSpec) -> Result<(ServerReply, Option<Serving>), CellError> {
    own::allow_open_files(spec.service.connections() + DESCRIPTORS_ASIDE)
        .map_err(CellError::Setup)?;
    if let Some(peer) = spec.peer {
        cpus::pin(&spec.cpus).map_err(CellError::Setup)?;
        let (address, sockets) = start_peer(peer, spec)?;
        return Ok((ServerReply::Ready { address, sockets, admin: None }, None));
    }
    let serving = serve(spec, &Places::any_port())?;
    let (address, sockets) = (serving.address().to_string(), serving.sockets());
    let admin = serving.admin().map(|address| address.to_string());
    Ok((ServerReply::Ready { address, sockets, admin }, Some(serving)))
}

/// Puts the planted fault, if there is one, between a service and its clients.
fn spoil(
    spec: &ServerSpec,
    (mut ready, ours): (ServerReply, Option<Serving>),
) -> Result<(ServerReply, Option<Serving>), CellError> {
    if let (Some(planted), ServerReply::Ready { address, .. }) =
        (spec.service.planted(), &mut ready)
    {
        let no_port = |_| CellError::Setup(format!("no fault can be planted at {address}"));
        *address = relayed(address.parse().map_err(no_port)?, planted)?.to_string();
    }
    Ok((ready, ours))
}

/// Puts the planted fault before what serves at an address, and tells where clients are to come.
fn relayed(service: SocketAddr, planted: Planted) -> Result<SocketAddr, CellError> {
    let broken = |error| CellError::Setup(format!("the planted fault: {error}"));
    relay::start(service, planted).map_err(broken)
}

#[cfg(feature = "peers")]
fn start_peer(peer: Peer, spec: &ServerSpec) -> Result<(String, String), CellError> {
    match &spec.service {
        Service::Echo(config) => crate::peers::serve_echo(peer, config, &spec.cpus),
        Service::Staged(config) => crate::peers::serve_staged(peer, config, spec.seed, &spec.cpus),
        Service::Cacheproxy { .. } => {
            Err(CellError::NotBuilt(format!("{} inside of this program", peer.name())))
        }
    }
}

#[cfg(not(feature = "peers"))]
fn start_peer(peer: Peer, _: &ServerSpec) -> Result<(String, String), CellError> {
    Err(CellError::peer_left_out(peer))
}
