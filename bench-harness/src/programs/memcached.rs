//! `memcached` on a loopback port, and what it has counted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
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
/// How long it may be silent while it tells its counts.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Bytes of what it tells: some twenty times those of 1.6.18.
const TOLD_BYTES_MAX: u64 = 64 << 10;

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
        stream.set_read_timeout(Some(SILENCE_MAX)).map_err(broken)?;
        stream.write_all(b"stats\r\n").map_err(broken)?;
        Self::read(stream).map_err(broken)
    }

    /// Reads what it tells, to its end: of counts that were cut off, the rest would look like 0.
    fn read(told: impl Read) -> io::Result<Self> {
        let mut counts = BTreeMap::new();
        for line in BufReader::new(told.take(TOLD_BYTES_MAX)).lines() {
            let line = line?;
            if line == "END" {
                return Ok(Self(counts));
            }
            let mut words = line.split(' ').skip(1);
            if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
                counts.insert(name.to_owned(), value);
            }
        }
        let n_counts = counts.len();
        Err(io::Error::other(format!("no END after {n_counts} counts")))
    }

    /// One of its counts.
    ///
    /// # Errors
    /// When it has told none of this name.
    pub(crate) fn get(&self, name: &str) -> Result<u64, CellError> {
        let count = self.0.get(name).copied();
        count.ok_or_else(|| CellError::Failed(format!("this memcached does not count `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_by_name_and_what_is_no_number_is_none() {
        let stats = Stats::read(&b"STAT cmd_get 7\r\nSTAT version 1.6\r\nEND\r\n"[..]).unwrap();
        assert_eq!(stats.get("cmd_get").unwrap(), 7);
        for name in ["version", "cmd_set"] {
            let why = stats.get(name).unwrap_err().to_string();
            assert!(why.contains(&format!("`{name}`")), "{why}");
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_is_an_error() {
        for told in [&b""[..], b"STAT cmd_get 7\r\n", b"STAT cmd_get 7\r\nSTAT cmd_set 1"] {
            let why = Stats::read(told).unwrap_err().to_string();
            assert!(why.contains("no END"), "{why}");
        }
        let endless = io::repeat(b'\n');
        assert!(Stats::read(endless).is_err());
    }
}
