//! A server of a test: the program itself, and what it says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const BINARY: &str = env!("CARGO_BIN_EXE_bench-harness");

fn workload(name: &str) -> PathBuf {
    let workloads = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("workloads");
    workloads.join(name)
}

/// A server that is killed if the test fails.
pub(super) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts one with a shipped workload file and these further arguments; what it writes goes to
    /// `temporary`.
    pub(super) fn start(file: &str, temporary: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("serve").arg(workload(file)).args(more);
        command.env("TMPDIR", temporary).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// The next line, which begins with this word.
    pub(super) fn said(&mut self, word: &str) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let rest = line.strip_prefix(word).and_then(|rest| rest.strip_prefix(' '));
        rest.unwrap_or_else(|| panic!("said {line:?}")).trim_end().to_owned()
    }

    pub(super) fn tell(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// How it ends, and what it complains of.
    pub(super) fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        let mut complaint = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        (code, complaint)
    }

    pub(super) fn end(self, signal: Signal) -> Option<i32> {
        self.tell(signal);
        self.ended().0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A whole reply over HTTP, asked on a connection of its own.
pub(super) fn get(address: &str, target: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    let head = format!("GET {target} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    let mut reply = Vec::new();
    socket.read_to_end(&mut reply).unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}
