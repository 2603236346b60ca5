//! A real memcached for tests, of the version that ours follows: the oracle of every answer, and the
//! server that the proxy stands before.
//!
//! One file for the unit tests and for those in `tests/cacheproxy/`, so that there is one way to start,
//! stop and end a process. Each server has a port of its own and ends with the test that started it.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The version whose answers ours are.
pub(crate) const VERSION: &str = "1.6.18";
/// Long enough for any machine: only a test that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program.
    ///
    /// Returns `None`, with the reason printed, unless this machine has one of that name.
    pub(crate) fn start(mut command: Command) -> Option<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(process) => Some(Self(process)),
            Err(error) => skip(&format!("{}: {error}", command.get_program().display())),
        }
    }

    /// Starts a memcached that listens as these arguments say; `None` as for any program, and where
    /// there is another version.
    pub(crate) fn memcached(listen: &[&OsStr]) -> Option<Self> {
        let told = Command::new("memcached").arg("-V").output();
        let told = told.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        if !told.as_ref().is_ok_and(|told| told.contains(VERSION)) {
            return skip(&format!("memcached {VERSION} is not on PATH, but {told:?}"));
        }
        let mut command = Command::new("memcached");
        // With its modern lists a thread in the background may hold an item for a moment, and a
        // number that is held does not keep its room.
        command.args(["-u", "root", "-t", "1", "-o", "no_modern"]).args(listen);
        Self::start(command)
    }

    /// Kills it, at once.
    fn kill(&mut self) {
        self.0.kill().expect("it is ours to end");
        self.0.wait().expect("it has ended");
    }

    /// Sends it a signal, as `kill` names it.
    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "no signal {signal} to {pid}");
    }

    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap();
            // `<id> (<name>) <state> ...`
            stat.rsplit_once(") ").is_some_and(|(_, told)| told.starts_with('T'))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed already, which is what some tests are about.
        let _ended = self.0.kill();
        let _waited = self.0.wait();
    }
}

/// A memcached on a loopback port of its own, until it is dropped.
#[derive(Debug)]
pub(crate) struct Memcached {
    process: Process,
    address: SocketAddr,
}

impl Memcached {
    /// Starts one; `None` where [`Process::memcached`] gives none.
    pub(crate) fn start() -> Option<Self> {
        Self::start_at(free_address())
    }

    /// Starts one on this address.
    pub(crate) fn start_at(address: SocketAddr) -> Option<Self> {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let process = Process::memcached(&["-l", &host, "-p", &port].map(OsStr::new))?;
        await_listening(address);
        Some(Self { process, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it, at once.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was, empty.
    pub(crate) fn restart(&mut self) {
        self.kill();
        *self = Self::start_at(self.address).expect("it has been started before");
    }

    /// Stops it, as a debugger does, and returns when no thread of it runs any more: the signal is
    /// sent before it is heard.
    pub(crate) fn stop(&self) {
        self.process.signal("-STOP");
        eventually("it is stopped", || self.process.is_stopped());
    }

    /// Lets it run again.
    pub(crate) fn go_on(&self) {
        self.process.signal("-CONT");
    }
}

/// An address that nobody listened on a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    listener.local_addr().expect("it is bound")
}

/// Waits until somebody listens.
pub(crate) fn await_listening(address: SocketAddr) {
    eventually("somebody listens", || TcpStream::connect(address).is_ok());
}

/// Waits until something is so.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a test waits for a process, off any shard")]
pub(crate) fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Says why a test does nothing, and fails it where its servers must be there.
fn skip<T>(why: &str) -> Option<T> {
    let required = std::env::var("FOREBAY_REQUIRE_SERVERS").is_ok_and(|set| set == "1");
    assert!(!required, "FOREBAY_REQUIRE_SERVERS=1, and {why}");
    eprintln!("skipped: {why}");
    None
}
