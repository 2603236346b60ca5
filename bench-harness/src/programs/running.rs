//! A program that serves, from its start to its end.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::Program;
use crate::process::now_ns;
use crate::server::Usage;
use crate::subject::CellError;

/// How long a program may take until it accepts connections, or until it has ended.
const PATIENCE_NS: u64 = 10_000_000_000;
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// A program in a process of its own. Dropped, it is killed by its process id.
#[derive(Debug)]
pub(crate) struct Running {
    program: Program,
    child: Child,
    address: SocketAddr,
    /// Holds what it reads and writes.
    directory: TempDir,
}

/// How a program is started.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) program: Program,
    pub(super) cpus: &'a [usize],
    pub(super) args: Vec<OsString>,
    pub(super) environment: Vec<(&'static str, OsString)>,
    pub(super) directory: TempDir,
}

impl Start<'_> {
    /// Starts it, and returns when it accepts connections. `address` tells where that will be; `None`
    /// as long as it cannot be known.
    pub(super) fn run(
        self,
        address: impl Fn(&TempDir) -> Option<SocketAddr>,
    ) -> Result<Running, CellError> {
        let child = self.spawn()?;
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let Self { program, directory, .. } = self;
        let mut running = Running { program, child, address: unknown, directory };
        running.address = running.wait(address).map_err(|why| broken(program, &why))?;
        Ok(running)
    }

    fn spawn(&self) -> Result<Child, CellError> {
        let file = self.program.found()?;
        let failed = |error: std::io::Error| broken(self.program, &error.to_string());
        let cpus: Vec<String> = self.cpus.iter().map(ToString::to_string).collect();
        Command::new(std::env::current_exe().map_err(failed)?)
            .args(["held", "--parent", &std::process::id().to_string(), "--cpus", &cpus.join(",")])
            .arg(file)
            .arg("--")
            .args(&self.args)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)
    }
}

fn broken(program: Program, why: &str) -> CellError {
    CellError::Setup(format!("{}: {why}", program.name()))
}

impl Running {
    /// Waits until it accepts connections, and tells where.
    fn wait(
        &mut self,
        address: impl Fn(&TempDir) -> Option<SocketAddr>,
    ) -> Result<SocketAddr, String> {
        let deadline_ns = now_ns() + PATIENCE_NS;
        while now_ns() < deadline_ns {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended with {status} before it served"));
            }
            if let Some(address) = address(&self.directory)
                && TcpStream::connect(address).is_ok()
            {
                return Ok(address);
            }
            pause(LOOK);
        }
        Err("does not accept connections".to_owned())
    }

    /// Where it accepts.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the kernel has counted of it.
    pub(crate) fn usage(&self) -> Result<Usage, CellError> {
        Usage::of(self.child.id()).map_err(CellError::Failed)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it is called.
    pub(crate) const fn name(&self) -> &'static str {
        self.program.name()
    }

    /// Ends it and waits. It must have served until now.
    pub(crate) fn stop(mut self) -> Result<(), CellError> {
        let name = self.name();
        let gone = |why: String| CellError::Failed(format!("{name} {why}"));
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(gone(format!("ended with {status} while it was to serve")));
        }
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).map_err(|error| gone(error.to_string()))?;
        let deadline_ns = now_ns() + PATIENCE_NS;
        while matches!(self.child.try_wait(), Ok(None)) {
            if now_ns() > deadline_ns {
                return Err(gone("did not end when it was told to".to_owned()));
            }
            pause(LOOK);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `stop` it has ended and been waited for: both calls then do nothing.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "no shard waits here: nothing is driven yet or more")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
