//! One back under check, and what a check does with it over and over.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::*;
use crate::limits::Limits;

/// A completion that has not come by then will not come.
pub(super) const PATIENCE_S: i64 = 10;

const REAP_MAX: usize = 64;

/// So often a back may say that something is there which then is not: an edge that nobody waits for.
const IN_VAIN_MAX: usize = 100;

/// A socket, and the key of its operations.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) key: u64,
    pub(super) socket: Socket,
}

/// One back and what it has said that nobody has asked for yet.
pub(super) struct Rig {
    pub(super) ring: Box<dyn Ring>,
    pub(super) back: SocketBack,
    pub(super) said: VecDeque<Completion>,
    n_opened: u64,
    dir: tempfile::TempDir,
}

/// Runs a check over each back, on this thread, which makes the ring and so must use it.
pub(super) fn on_both_backs(limits: &Limits, check: impl Fn(&mut Rig)) {
    for back in [SocketBack::Ring, SocketBack::Readiness] {
        if back == SocketBack::Ring
            && let Err(missing) = try_ring()
        {
            eprintln!("not on {back}, this kernel lacks {missing}");
            continue;
        }
        eprintln!("on {back}");
        let mut rig = Rig {
            ring: open(back, limits).unwrap(),
            back,
            said: VecDeque::new(),
            n_opened: 0,
            dir: tempfile::tempdir().unwrap(),
        };
        check(&mut rig);
        assert!(rig.said.is_empty(), "said as well: {:?}", rig.said);
    }
}

pub(super) fn usual() -> Limits {
    Limits::default()
}

/// Few small buffers, so that little data is many pieces.
pub(super) fn small(net_buffers: u16) -> Limits {
    Limits { net_buffers, net_buffer_bytes: 64, ..Limits::default() }
}

impl Rig {
    pub(super) fn know(&mut self, socket: Socket) -> Open {
        self.n_opened += 1;
        // As slots are: a generation above, a place below.
        Open { key: (self.n_opened << 32) | self.n_opened, socket }
    }

    pub(super) fn begin(&mut self, open: &Open, op: Op) {
        let kind = match op {
            Op::Accept => Kind::Accept,
            Op::Connect(_) => Kind::Connect,
            Op::Receive => Kind::Receive,
            Op::Send(_) => Kind::Send,
            Op::Cancel(_) => Kind::Cancel,
        };
        self.ring.push(Token::new(open.key, kind), &open.socket, op);
        assert!(self.ring.wants_enter(), "an operation is queued");
        self.ring.enter();
    }

    pub(super) fn reap(&mut self) -> usize {
        let mut reaped = Vec::new();
        self.ring.reap(REAP_MAX, &mut reaped);
        assert!(reaped.len() <= REAP_MAX);
        self.ring.recycle();
        if self.ring.wants_enter() {
            self.ring.enter();
        }
        let n_reaped = reaped.len();
        self.said.extend(reaped);
        n_reaped
    }

    /// Reaps until there is nothing.
    pub(super) fn reap_all(&mut self) {
        let mut n_in_vain = 0;
        while self.reap() > 0 || self.ring.arm() {
            n_in_vain += 1;
            assert!(n_in_vain < IN_VAIN_MAX, "there is always something");
        }
        self.ring.disarm();
    }

    /// Whether the signal comes within so many seconds.
    pub(super) fn is_signalled(&self, within_s: i64) -> bool {
        let signal = self.ring.signal().expect("a kernel back has a signal");
        let mut descriptors = [PollFd::new(&signal, PollFlags::IN)];
        let timeout = Timespec { tv_sec: within_s, tv_nsec: 0 };
        poll(&mut descriptors, Some(&timeout)).unwrap() > 0
    }

    /// The next completion of this operation; others wait.
    pub(super) fn next(&mut self, open: &Open, kind: Kind) -> Completion {
        let token = Token::new(open.key, kind);
        for _ in 0..IN_VAIN_MAX {
            if let Some(place) = self.said.iter().position(|said| said.token == token) {
                return self.said.remove(place).unwrap();
            }
            if self.reap() == 0 {
                let is_there = self.ring.arm();
                assert!(is_there || self.is_signalled(PATIENCE_S), "no completion of {kind:?}");
                self.ring.disarm();
            }
        }
        panic!("no completion of {kind:?}, though the back says that there is something");
    }

    pub(super) fn accepted(&mut self, listener: &Open) -> Open {
        let Completion { more, outcome: Outcome::Accepted(Ok(socket)), .. } =
            self.next(listener, Kind::Accept)
        else {
            panic!("no accept")
        };
        assert!(more, "an accept stays armed");
        self.know(socket)
    }

    pub(super) fn received(&mut self, open: &Open) -> (bool, io::Result<Chunk>) {
        match self.next(open, Kind::Receive) {
            Completion { more, outcome: Outcome::Received(result), .. } => (more, result),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn sent(&mut self, open: &Open) -> (Outgoing, io::Result<usize>) {
        match self.next(open, Kind::Send) {
            Completion { more: false, outcome: Outcome::Sent(bytes, result), .. } => {
                (bytes, result)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn connected(&mut self, open: &Open) -> io::Result<()> {
        match self.next(open, Kind::Connect) {
            Completion { more: false, outcome: Outcome::Connected(result), .. } => result,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn cancelled(&mut self, open: &Open) {
        let said = self.next(open, Kind::Cancel);
        assert!(matches!(said, Completion { more: false, outcome: Outcome::Cancelled, .. }));
    }

    /// Receives until all of `wanted` has come; takes up a receive that found no buffer.
    pub(super) fn expect(&mut self, open: &Open, wanted: &[u8]) {
        let mut bytes = Vec::new();
        let mut n_starved = 0;
        while bytes.len() < wanted.len() {
            assert!(n_starved <= wanted.len(), "no buffers, again and again");
            match self.received(open) {
                (more, Ok(chunk)) if !chunk.is_empty() => {
                    bytes.extend_from_slice(&chunk);
                    if !more {
                        self.begin(open, Op::Receive);
                    }
                }
                (false, Err(error)) if is_starved(&error) => {
                    n_starved += 1;
                    self.begin(open, Op::Receive);
                }
                other => panic!("{other:?} after {} bytes", bytes.len()),
            }
        }
        assert!(bytes == wanted, "other bytes than were sent");
    }

    /// Takes a receive back.
    pub(super) fn end_receive(&mut self, open: &Open) {
        self.begin(open, Op::Cancel(Kind::Receive));
        self.cancelled(open);
        let (more, result) = self.received(open);
        assert!(!more && is_cancelled(&result.unwrap_err()));
    }

    pub(super) fn listen(&mut self, address: Address) -> (Open, Address) {
        let socket = self.ring.listen(&ListenSpec { address, backlog: 16 }).unwrap();
        let listener = self.know(socket);
        let address = self.ring.name(&listener.socket, End::Here).unwrap();
        (listener, address)
    }

    pub(super) fn tcp(&mut self) -> (Open, SocketAddr) {
        match self.listen(Address::Tcp((Ipv4Addr::LOCALHOST, 0).into())) {
            (listener, Address::Tcp(address)) => (listener, address),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn unix_address(&self) -> Address {
        Address::Unix(self.dir.path().join("socket"))
    }

    /// A connection whose other end is the standard library's.
    pub(super) fn with_tcp_peer(&mut self) -> (Open, TcpStream) {
        let (listener, address) = self.tcp();
        self.begin(&listener, Op::Accept);
        let peer = TcpStream::connect(address).unwrap();
        let here = self.accepted(&listener);
        self.end_listener(listener);
        (here, peer)
    }

    /// The same without a network in between: what one end does has reached the other at once.
    pub(super) fn with_unix_peer(&mut self) -> (Open, UnixStream) {
        let (here, peer) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        (self.know(Socket::of(here.into())), peer)
    }

    pub(super) fn end_listener(&mut self, listener: Open) {
        self.begin(&listener, Op::Cancel(Kind::Accept));
        self.cancelled(&listener);
        let said = self.next(&listener, Kind::Accept);
        let Completion { more: false, outcome: Outcome::Accepted(Err(error)), .. } = said else {
            panic!("{said:?}")
        };
        assert!(is_cancelled(&error), "{error}");
        self.ring.close(listener.socket, How::Closed);
    }

    /// Nothing may come of these operations but what a check has asked for.
    pub(super) fn close(&mut self, open: Open) {
        self.ring.close(open.socket, How::Closed);
    }
}

pub(super) fn is_cancelled(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::CANCELED.raw_os_error())
}

pub(super) fn is_starved(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

/// No two neighbouring pieces look alike.
pub(super) fn pattern(n_bytes: usize) -> Vec<u8> {
    (0..251).cycle().take(n_bytes).collect()
}

/// Runs `body`, a closure written in the calling test itself, in a process that runs nothing else:
/// limits and open descriptors belong to a process.
pub(super) fn alone<F: FnOnce()>(body: F) {
    const IS_CHILD: &str = "FOREBAY_TEST_CHILD";
    if std::env::var_os(IS_CHILD).is_some() {
        return body();
    }
    // As in `forebay::runtime::ring::tests::opening::a_test::{{closure}}`.
    let closure = std::any::type_name::<F>();
    let test = closure.split_once("::").unwrap().1.strip_suffix("::{{closure}}").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(IS_CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{complained}");
}

pub(super) fn n_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
