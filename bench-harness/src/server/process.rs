//! The server from its client's side: a child process that is started, asked, and ended.
//!
//! Ours and the peers of this program are asked line by line. A program that is not ours serves its
//! clients and nobody else: what it has counted, only the kernel tells.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use forebay_workloads::planted::Planted;

use super::{ASK_COUNTS, CallCounter, Counts, ServerReply, ServerSpec, Usage, relayed};
use crate::programs::Running;
use crate::subject::CellError;

/// A server in a process of its own. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    body: Body,
    address: SocketAddr,
    sockets: String,
}

/// What serves.
#[derive(Debug)]
enum Body {
    /// This program.
    Own(Own),
    /// Another one.
    Program(Running),
}

/// This program as a server.
#[derive(Debug)]
struct Own {
    child: Child,
    /// `None` once it has been told to end.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl ServerProcess {
    /// Starts this very program as a server, and returns when it accepts connections.
    pub(crate) fn start(spec: &ServerSpec) -> Result<Self, CellError> {
        let mut child = spawn().map_err(|error| CellError::Setup(format!("server: {error}")))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut own = Own { child, stdin, stdout };
        let line = serde_json::to_string(spec).expect("a spec is plain JSON");
        match own.ask(&line)? {
            ServerReply::Ready { address, sockets, .. } => {
                let wrong = |_| CellError::Setup(format!("the server listens on {address}"));
                let address = address.parse().map_err(wrong)?;
                Ok(Self { body: Body::Own(own), address, sockets })
            }
            ServerReply::Error(error) => Err(error),
            other => Err(CellError::Setup(format!("the server said {other:?} instead of ready"))),
        }
    }

    /// A program that serves already, behind the planted fault if there is one.
    pub(crate) fn of_program(
        program: Running,
        planted: Option<Planted>,
    ) -> Result<Self, CellError> {
        let address = match planted {
            Some(planted) => relayed(program.address(), planted)?,
            None => program.address(),
        };
        let sockets = program.name().to_owned();
        Ok(Self { body: Body::Program(program), address, sockets })
    }

    /// Where it accepts.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it reaches its sockets.
    pub(crate) fn sockets(&self) -> &str {
        &self.sockets
    }

    /// What the kernel has counted of its process.
    pub(crate) fn usage(&self) -> Result<Usage, CellError> {
        Usage::of(self.id()).map_err(CellError::Failed)
    }

    /// Counts its system calls from now on; the reason where the kernel does not let us.
    pub(crate) fn count_calls(&self) -> Result<CallCounter, String> {
        CallCounter::start(self.id())
    }

    /// What its engine has counted: of its stages, since it was asked before.
    pub(crate) fn counts(&mut self) -> Result<Counts, CellError> {
        let Body::Own(own) = &mut self.body else { return Ok(Counts::default()) };
        match own.ask(ASK_COUNTS)? {
            ServerReply::Counts(counts) => Ok(counts),
            other => Err(CellError::Failed(format!("the server said {other:?} when asked"))),
        }
    }

    /// Ends it and waits. It must have served until now, and end well.
    pub(crate) fn stop(self) -> Result<(), CellError> {
        match self.body {
            Body::Own(own) => own.stop(),
            Body::Program(program) => program.stop(),
        }
    }

    fn id(&self) -> u32 {
        match &self.body {
            Body::Own(own) => own.child.id(),
            Body::Program(program) => program.id(),
        }
    }
}

impl Own {
    fn stop(mut self) -> Result<(), CellError> {
        drop(self.stdin.take());
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(CellError::Failed(format!("the server ended with {status}"))),
            Err(error) => Err(gone(&error)),
        }
    }

    fn ask(&mut self, line: &str) -> Result<ServerReply, CellError> {
        let stdin = self.stdin.as_mut().expect("asked only before it is told to end");
        writeln!(stdin, "{line}").map_err(|error| gone(&error))?;
        let mut reply = String::new();
        match self.stdout.read_line(&mut reply) {
            Ok(0) => Err(gone(&io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => serde_json::from_str(&reply)
                .map_err(|error| CellError::Failed(format!("the server's reply: {error}"))),
            Err(error) => Err(gone(&error)),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // After `stop` it has ended and been waited for: both calls then do nothing.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts the program in this process's own group, so that who ends the group ends both.
fn spawn() -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .arg("server")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
}

fn gone(error: &io::Error) -> CellError {
    CellError::Failed(format!("the server is gone: {error}"))
}
