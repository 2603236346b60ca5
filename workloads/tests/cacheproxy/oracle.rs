//! A real memcached on a loopback port of its own: what every answer is held against, and the server
//! that the proxy stands before.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use forebay::net::Address;

use crate::rig::{Client, connect, eventually};

/// The version whose answers ours are.
const VERSION: &str = "1.6.18";

/// A process that serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Memcached {
    process: Child,
    address: SocketAddr,
}

impl Memcached {
    /// Starts one; `None`, with the reason printed, where there is none of the version that we follow.
    pub(crate) fn start() -> Option<Self> {
        let version = Command::new("memcached").arg("-V").output();
        let version = version.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        if !version.as_ref().is_ok_and(|version| version.contains(VERSION)) {
            eprintln!("skipped: memcached {VERSION} is not on PATH, but {version:?}");
            return None;
        }
        Some(Self::start_at(free_address()))
    }

    fn start_at(address: SocketAddr) -> Self {
        let mut command = Command::new("memcached");
        // With its modern lists a thread in the background may hold an item for a moment, and a
        // number that is held does not keep its room.
        command.args(["-u", "nobody", "-t", "1", "-o", "no_modern", "-l", "127.0.0.1", "-p"]);
        command.arg(address.port().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        eventually("it listens", || std::net::TcpStream::connect(address).is_ok());
        Self { process, address }
    }

    pub(crate) fn address(&self) -> Address {
        Address::Tcp(self.address)
    }

    pub(crate) fn connect(&self) -> Client<std::net::TcpStream> {
        connect(self.address)
    }

    /// Kills it, at once.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again where it was, empty.
    pub(crate) fn restart(&mut self) {
        self.kill();
        *self = Self::start_at(self.address);
    }

    /// Stops it, as a debugger does, and returns when no thread of it runs any more: the signal is
    /// sent before it is heard.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
        eventually("it is stopped", || self.is_stopped());
    }

    /// Lets it run again.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Sends it a signal, as `kill` names it.
    fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "no signal {signal} to {pid}");
    }

    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap();
            // `<id> (<name>) <state> ...`
            stat.rsplit_once(") ").is_some_and(|(_, told)| told.starts_with('T'))
        })
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        // It may have been killed already, which is what some tests are about.
        let _ended = self.process.kill();
        let _waited = self.process.wait();
    }
}

/// An address that nobody listened on a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
