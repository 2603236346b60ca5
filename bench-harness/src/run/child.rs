//! One repetition in a fresh process: the spec goes in on stdin, the repetition comes out on stdout.
//!
//! Each repetition gets its own process, because resident memory is a high-water mark and executors
//! leak a little. The child stands in a process group of its own, so that Ctrl-C reaches the parent
//! alone and the parent decides; it is stopped by its own id. It may never hang the run: its time
//! is bounded by what its phases ask for.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use super::Stop;
use crate::dump::Repetition;
use crate::process::now_ns;
use crate::subject::{self, CellError, CellSpec};
use crate::workload_file::{Phase, Until};

/// Time for setting up and taking down: the embedded database is built on first use.
const SETUP_MS: u64 = 120_000;
/// A phase may take this often its own length (a drain, a busy host) before it counts as hung.
const PHASE_FACTOR: u64 = 3;
/// Bound for a phase that ends by a number of requests.
const REQUESTS_PHASE_MS: u64 = 600_000;
/// How often the parent looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// How long a child may take to end after SIGTERM.
const GRACE_NS: u64 = 2_000_000_000;
/// Longest reply that is read; a repetition with many shards and stages is some kilobytes.
const REPLY_BYTES_MAX: u64 = 16 << 20;

/// How a child is started.
#[derive(Debug, Clone)]
pub struct ChildCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Bound on a repetition in place of the one that follows from its phases.
    pub limit: Option<Duration>,
}

/// What a child writes on stdout, as one line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildReply {
    /// What it measured.
    Repetition(Box<Repetition>),
    /// Why it could not.
    Error(CellError),
}

/// Why there is no repetition.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChildError {
    /// The child said so.
    Cell(CellError),
    /// The child could not be started.
    Start(std::io::Error),
    /// The child ended without a reply.
    Died(ExitStatus),
    /// The child did not end in time and was killed.
    Hung(Duration),
    /// The child ended well and its reply cannot be read.
    Garbled(String),
    /// The run is to stop; the child was stopped.
    Stopped,
}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cell(error) => error.fmt(f),
            Self::Start(error) => write!(f, "the child could not be started: {error}"),
            Self::Died(status) => write!(f, "the child died without a reply: {status}"),
            Self::Hung(limit) => write!(f, "the child did not end within {limit:?} and was killed"),
            Self::Garbled(why) => write!(f, "the child's reply cannot be read: {why}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for ChildError {}

impl ChildCommand {
    /// Starts this very program as `cell`.
    ///
    /// # Errors
    /// When the system does not tell where the program is.
    pub fn this_program() -> std::io::Result<Self> {
        let program = std::env::current_exe()?;
        Ok(Self { program, args: vec!["cell".to_owned()], limit: None })
    }

    /// Runs one repetition and waits for it, for its bound, or for the stop.
    ///
    /// # Errors
    /// Whatever kept the child from giving a repetition.
    pub fn run(&self, spec: &CellSpec, stop: &Stop) -> Result<Repetition, ChildError> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(ChildError::Start)?;
        let limit = self.limit.unwrap_or_else(|| limit(spec));
        let talked = talk(&mut child, spec, limit, stop);
        let status = child.wait().map_err(ChildError::Start)?;
        read_reply(&talked?, status)
    }
}

/// Bound on a repetition.
fn limit(spec: &CellSpec) -> Duration {
    let phases = spec.warmups.iter().chain(std::iter::once(&spec.phase));
    let phase_ms = |phase: &Phase| match phase.until {
        Until::DurationMs(duration_ms) => duration_ms.saturating_mul(PHASE_FACTOR),
        Until::Requests(_) => REQUESTS_PHASE_MS,
    };
    Duration::from_millis(phases.map(phase_ms).fold(SETUP_MS, u64::saturating_add))
}

/// Hands the spec over and reads until the child closes its stdout, or ends the child.
fn talk(
    child: &mut Child,
    spec: &CellSpec,
    limit: Duration,
    stop: &Stop,
) -> Result<Vec<u8>, ChildError> {
    let spec = serde_json::to_vec(spec).map_err(|error| ChildError::Garbled(error.to_string()))?;
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A child that ends early breaks the pipe; its status says why.
            if let Some(mut stdin) = stdin {
                stdin.write_all(&spec).ok();
            }
            let mut reply = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(REPLY_BYTES_MAX).read_to_end(&mut reply).ok();
            }
            sender.send(reply).ok();
        });
        let deadline_ns =
            now_ns().saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(reply) => return Ok(reply),
                Err(RecvTimeoutError::Disconnected) => return Ok(Vec::new()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if stop.signal().is_some() {
                end(child);
                return Err(ChildError::Stopped);
            }
            if now_ns() > deadline_ns {
                end(child);
                return Err(ChildError::Hung(limit));
            }
        }
    })
}

/// Ends the child and what it has started, first by asking.
fn end(child: &mut Child) {
    let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    // Errors here mean that it has gone already.
    kill_process_group(group, Signal::TERM).ok();
    let deadline_ns = now_ns() + GRACE_NS;
    while matches!(child.try_wait(), Ok(None)) && now_ns() < deadline_ns {
        pause(LOOK);
    }
    kill_process_group(group, Signal::KILL).ok();
}

#[expect(clippy::disallowed_methods, reason = "the parent is no shard; it waits for its child")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn read_reply(reply: &[u8], status: ExitStatus) -> Result<Repetition, ChildError> {
    match serde_json::from_slice(reply) {
        Ok(ChildReply::Repetition(repetition)) => Ok(*repetition),
        Ok(ChildReply::Error(error)) => Err(ChildError::Cell(error)),
        Err(_) if !status.success() => Err(ChildError::Died(status)),
        Err(error) => Err(ChildError::Garbled(error.to_string())),
    }
}

/// The child's side: reads a spec from `input`, runs it, writes the reply to `output`.
///
/// # Errors
/// When the spec cannot be read or the reply cannot be written.
pub fn serve_cell(input: impl Read, mut output: impl Write) -> std::io::Result<()> {
    // A parent that is killed outright must not leave its child measuring on.
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).ok();
    let spec: CellSpec = serde_json::from_reader(input)?;
    let reply = match subject::run(&spec) {
        Ok(repetition) => ChildReply::Repetition(Box::new(repetition)),
        Err(error) => ChildReply::Error(error),
    };
    serde_json::to_writer(&mut output, &reply)?;
    output.write_all(b"\n")?;
    output.flush()
}
