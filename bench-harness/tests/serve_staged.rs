//! Goal: `serve` with the staged workload says where its pages and its admin pages are, serves both,
//! ends well when it is told to, and leaves nothing behind.
//! Method: the program itself, and plain sockets.

#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

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
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(temporary: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("serve").arg(workload("staged.json")).args(more);
        let mut child = command.env("TMPDIR", temporary).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// The next line, which begins with this word.
    fn said(&mut self, word: &str) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let rest = line.strip_prefix(word).and_then(|rest| rest.strip_prefix(' '));
        rest.unwrap_or_else(|| panic!("said {line:?}")).trim_end().to_owned()
    }

    fn end(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The status line of a page, asked on a connection of its own.
fn status(address: &str, target: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    let head = format!("GET {target} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    let mut reply = Vec::new();
    socket.read_to_end(&mut reply).unwrap();
    String::from_utf8_lossy(&reply).lines().next().unwrap().to_owned()
}

#[test]
fn the_staged_server_says_where_it_is_and_leaves_nothing_behind() {
    for (signal, more) in [(Signal::TERM, &[][..]), (Signal::INT, &["--admin", "localhost:0"])] {
        let temporary = tempfile::tempdir().unwrap();
        let mut server = Server::start(temporary.path(), more);
        let (admin, pages) = (server.said("admin"), server.said("ready"));
        assert_eq!(status(&pages, "/front"), "HTTP/1.1 200 OK");
        assert_eq!(status(&pages, "/file/dir00003/class3_9"), "HTTP/1.1 200 OK");
        assert_eq!(status(&admin, "/ready"), "HTTP/1.1 200 OK");
        let files = || std::fs::read_dir(temporary.path()).unwrap().count();
        assert_eq!(files(), 1, "the file set");
        // A client that stays connected does not keep it from ending.
        let _idle = TcpStream::connect(&pages).unwrap();
        assert_eq!(server.end(signal), Some(0));
        assert_eq!(files(), 0);
    }
}
