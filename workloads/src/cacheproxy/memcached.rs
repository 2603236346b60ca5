//! Real servers for tests, each on a loopback port of its own: memcached, the oracle of everything here.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to come up, or to be stopped.
const START_MAX: Duration = Duration::from_secs(10);

/// A process that serves on an address, until it is dropped.
#[derive(Debug)]
pub(crate) struct Memcached {
    process: Child,
    address: SocketAddr,
}

impl Memcached {
    /// Starts one; `None`, with the reason printed, where there is none on this machine.
    pub(crate) fn start() -> Option<Self> {
        Self::start_at(free_address())
    }

    /// Starts one on this address.
    pub(crate) fn start_at(address: SocketAddr) -> Option<Self> {
        let mut command = Command::new("memcached");
        command.args(["-u", "nobody", "-t", "2", "-l", "127.0.0.1", "-p"]);
        command.arg(address.port().to_string());
        let process = spawn(command)?;
        let server = Self { process, address };
        await_listening(address);
        Some(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
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

/// Starts a program, unless this machine has none of that name.
pub(crate) fn spawn(mut command: Command) -> Option<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        Ok(process) => Some(process),
        Err(error) => {
            eprintln!("skipped: {}: {error}", command.get_program().display());
            None
        }
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

/// Waits until this is so.
#[expect(clippy::disallowed_methods, reason = "a test waits for a process, off any shard")]
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < START_MAX, "not in {START_MAX:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
