//! `memcached` on a loopback port, and what it has counted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tempfile::TempDir;

use super::Program;
use super::running::{Running, Start};
use crate::subject::CellError;

/// Connections beside those that it is started for: questions for its counts, probes.
const CONNECTIONS_ASIDE: u64 = 64;
/// Memory for items, in MiB: more than any load of a file writes that expects no misses (a million
/// keys with values of a kilobyte). It takes only what it needs.
const MEMORY_MIB: u32 = 2_048;
/// Connections that wait to be accepted, as many as our listener lets wait.
const BACKLOG: u32 = 4_096;
/// Where it writes the port that it has chosen: the variable's and the file's name.
const PORT_VARIABLE: &str = "MEMCACHED_PORT_FILENAME";
const PORT_FILE: &str = "port";
/// What stands there before the port.
const PORT_LABEL: &str = "TCP INET: ";
/// How long it may take to tell its counts.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Starts one with as many threads as CPUs, for this many connections.
pub(crate) fn start(cpus: &[usize], n_connections: u64) -> Result<Running, CellError> {
    let directory = tempfile::tempdir()
        .map_err(|error| CellError::Setup(format!("a directory for memcached: {error}")))?;
    let told = format!(
        "-l 127.0.0.1 -p -1 -U 0 -t {} -c {} -m {MEMORY_MIB} -b {BACKLOG}",
        cpus.len(),
        n_connections + CONNECTIONS_ASIDE
    );
    let mut args: Vec<OsString> = told.split(' ').map(OsString::from).collect();
    // Root must say who it wants to be. Any other user than itself would take back, with its
    // rights, that it ends with its parent.
    if rustix::process::geteuid().is_root() {
        args.extend(["-u", "root"].map(OsString::from));
    }
    let environment = vec![(PORT_VARIABLE, directory.path().join(PORT_FILE).into())];
    let start = Start { program: Program::Memcached, cpus, args, environment, directory };
    start.run(chosen_port)
}

/// Where it listens, once it has said so.
fn chosen_port(directory: &TempDir) -> Option<SocketAddr> {
    let said = fs::read_to_string(directory.path().join(PORT_FILE)).ok()?;
    let port = said.lines().find_map(|line| line.strip_prefix(PORT_LABEL))?;
    Some(SocketAddr::from(([127, 0, 0, 1], port.trim().parse().ok()?)))
}

/// What a memcached has counted since its start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stats(BTreeMap<String, u64>);

impl Stats {
    /// Asks the one at this address.
    pub(crate) fn of(address: SocketAddr) -> Result<Self, CellError> {
        let broken = |error| CellError::Failed(format!("the counts of {address}: {error}"));
        let mut stream = TcpStream::connect(address).map_err(broken)?;
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(broken)?;
        stream.write_all(b"stats\r\n").map_err(broken)?;
        let mut counts = BTreeMap::new();
        for line in BufReader::new(stream).lines() {
            let line = line.map_err(broken)?;
            if line == "END" {
                break;
            }
            let mut words = line.split(' ').skip(1);
            if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
                counts.insert(name.to_owned(), value);
            }
        }
        Ok(Self(counts))
    }

    /// One of its counts; 0 where it has none of this name.
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}
