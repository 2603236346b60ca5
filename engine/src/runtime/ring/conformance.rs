//! Goal: both kernel backs do the same, as far as whoever uses sockets can see.
//! Method: one check for both, through `dyn Ring` alone, against real sockets: peers of the standard
//! library, or the ring's own other end. Waiting goes through `arm`, the signal and `disarm`, as a
//! shard's does, so every check is one of these too. What the kernel may answer differently (which
//! of two completions comes first) is not asked for.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::limits::Limits;

/// A completion that has not come by then will not come.
const PATIENCE_S: i64 = 10;

const REAP_MAX: usize = 64;

/// A socket, and the key of its operations.
#[derive(Debug)]
struct Open {
    key: u64,
    socket: Socket,
}

/// One back and what it has said that nobody has asked for yet.
struct Rig {
    ring: Box<dyn Ring>,
    said: VecDeque<Completion>,
    n_opened: u64,
    dir: tempfile::TempDir,
}

/// Runs a check over each back, on this thread, which makes the ring and so must use it.
fn on_both_backs(limits: &Limits, check: impl Fn(&mut Rig)) {
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
            said: VecDeque::new(),
            n_opened: 0,
            dir: tempfile::tempdir().unwrap(),
        };
        assert_eq!(rig.ring.back(), back);
        check(&mut rig);
        assert!(rig.said.is_empty(), "said as well: {:?}", rig.said);
    }
}

fn usual() -> Limits {
    Limits::default()
}

/// Few small buffers, so that little data is many pieces.
fn small(net_buffers: u16) -> Limits {
    Limits { net_buffers, net_buffer_bytes: 64, ..Limits::default() }
}

impl Rig {
    fn know(&mut self, socket: Socket) -> Open {
        self.n_opened += 1;
        // As slots are: a generation above, a place below.
        Open { key: (self.n_opened << 32) | self.n_opened, socket }
    }

    fn begin(&mut self, open: &Open, op: Op) {
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

    fn reap(&mut self) -> usize {
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
    fn reap_all(&mut self) {
        while self.reap() > 0 || self.ring.arm() {}
        self.ring.disarm();
    }

    /// Whether the signal comes within so many seconds.
    fn is_signalled(&self, within_s: i64) -> bool {
        let signal = self.ring.signal().expect("a kernel back has a signal");
        let mut descriptors = [PollFd::new(&signal, PollFlags::IN)];
        let timeout = Timespec { tv_sec: within_s, tv_nsec: 0 };
        poll(&mut descriptors, Some(&timeout)).unwrap() > 0
    }

    /// The next completion of this operation; others wait.
    fn next(&mut self, open: &Open, kind: Kind) -> Completion {
        let token = Token::new(open.key, kind);
        loop {
            if let Some(place) = self.said.iter().position(|said| said.token == token) {
                return self.said.remove(place).unwrap();
            }
            if self.reap() == 0 {
                let is_there = self.ring.arm();
                assert!(is_there || self.is_signalled(PATIENCE_S), "no completion of {kind:?}");
                self.ring.disarm();
            }
        }
    }

    fn accepted(&mut self, listener: &Open) -> Open {
        let Completion { more, outcome: Outcome::Accepted(Ok(socket)), .. } =
            self.next(listener, Kind::Accept)
        else {
            panic!("no accept")
        };
        assert!(more, "an accept stays armed");
        self.know(socket)
    }

    fn received(&mut self, open: &Open) -> (bool, io::Result<Chunk>) {
        match self.next(open, Kind::Receive) {
            Completion { more, outcome: Outcome::Received(result), .. } => (more, result),
            other => panic!("{other:?}"),
        }
    }

    fn sent(&mut self, open: &Open) -> (Outgoing, io::Result<usize>) {
        match self.next(open, Kind::Send) {
            Completion { more: false, outcome: Outcome::Sent(bytes, result), .. } => {
                (bytes, result)
            }
            other => panic!("{other:?}"),
        }
    }

    fn connected(&mut self, open: &Open) -> io::Result<()> {
        match self.next(open, Kind::Connect) {
            Completion { more: false, outcome: Outcome::Connected(result), .. } => result,
            other => panic!("{other:?}"),
        }
    }

    fn cancelled(&mut self, open: &Open) {
        let said = self.next(open, Kind::Cancel);
        assert!(matches!(said, Completion { more: false, outcome: Outcome::Cancelled, .. }));
    }

    /// Receives until all of `wanted` has come; takes up a receive that found no buffer.
    fn expect(&mut self, open: &Open, wanted: &[u8]) {
        let mut bytes = Vec::new();
        while bytes.len() < wanted.len() {
            match self.received(open) {
                (more, Ok(chunk)) if !chunk.is_empty() => {
                    bytes.extend_from_slice(&chunk);
                    if !more {
                        self.begin(open, Op::Receive);
                    }
                }
                (false, Err(error)) if is_starved(&error) => self.begin(open, Op::Receive),
                other => panic!("{other:?} after {} bytes", bytes.len()),
            }
        }
        assert!(bytes == wanted, "other bytes than were sent");
    }

    /// Takes a receive back.
    fn end_receive(&mut self, open: &Open) {
        self.begin(open, Op::Cancel(Kind::Receive));
        self.cancelled(open);
        let (more, result) = self.received(open);
        assert!(!more && is_cancelled(&result.unwrap_err()));
    }

    fn listen(&mut self, address: Address) -> (Open, Address) {
        let socket = self.ring.listen(&ListenSpec { address, backlog: 16 }).unwrap();
        let listener = self.know(socket);
        let address = self.ring.name(&listener.socket, End::Here).unwrap();
        (listener, address)
    }

    fn tcp(&mut self) -> (Open, SocketAddr) {
        match self.listen(Address::Tcp((Ipv4Addr::LOCALHOST, 0).into())) {
            (listener, Address::Tcp(address)) => (listener, address),
            other => panic!("{other:?}"),
        }
    }

    fn unix_address(&self) -> Address {
        Address::Unix(self.dir.path().join("socket"))
    }

    /// A connection whose other end is the standard library's.
    fn with_tcp_peer(&mut self) -> (Open, TcpStream) {
        let (listener, address) = self.tcp();
        self.begin(&listener, Op::Accept);
        let peer = TcpStream::connect(address).unwrap();
        let here = self.accepted(&listener);
        self.end_listener(listener);
        (here, peer)
    }

    /// The same without a network in between: what one end does has reached the other at once.
    fn with_unix_peer(&mut self) -> (Open, UnixStream) {
        let (here, peer) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        (self.know(Socket::of(here.into())), peer)
    }

    fn end_listener(&mut self, listener: Open) {
        self.begin(&listener, Op::Cancel(Kind::Accept));
        self.cancelled(&listener);
        let said = self.next(&listener, Kind::Accept);
        let Completion { more: false, outcome: Outcome::Accepted(Err(error)), .. } = said else {
            panic!("{said:?}")
        };
        assert!(is_cancelled(&error), "{error}");
        self.ring.close(listener.socket);
    }

    /// Nothing may come of these operations but what a check has asked for.
    fn close(&mut self, open: Open) {
        self.ring.close(open.socket);
    }
}

fn is_cancelled(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::CANCELED.raw_os_error())
}

fn is_starved(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

/// No two neighbouring pieces look alike.
fn pattern(n_bytes: usize) -> Vec<u8> {
    (0..n_bytes).map(|idx| (idx % 251) as u8).collect()
}

/// Re-runs the test of this name in a process that runs nothing else: limits and open descriptors
/// belong to a process.
fn alone(test: &str, body: impl FnOnce()) {
    const IS_CHILD: &str = "FOREBAY_TEST_CHILD";
    if std::env::var_os(IS_CHILD).is_some() {
        return body();
    }
    let module = module_path!().split_once("::").unwrap().1;
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&format!("{module}::{test}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(IS_CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{complained}");
}

fn n_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn bytes_go_both_ways_between_two_sockets_of_a_ring() {
    on_both_backs(&usual(), |rig| {
        for address in [Address::Tcp((Ipv4Addr::LOCALHOST, 0).into()), rig.unix_address()] {
            let (listener, address) = rig.listen(address);
            rig.begin(&listener, Op::Accept);
            let socket = rig.ring.open(&address, None).unwrap();
            let client = rig.know(socket);
            rig.begin(&client, Op::Connect(address.clone()));
            rig.connected(&client).unwrap();
            let server = rig.accepted(&listener);
            assert_eq!(rig.ring.name(&client.socket, End::There).unwrap(), address);
            for end in [&client, &server] {
                rig.begin(end, Op::Receive);
            }
            for round in 0..3 {
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let words = format!("round {round}");
                    rig.begin(from, Op::Send(words.clone().into()));
                    let (bytes, n_sent) = rig.sent(from);
                    assert_eq!((&*bytes, n_sent.unwrap()), (words.as_bytes(), words.len()));
                    rig.expect(to, words.as_bytes());
                }
            }
            rig.end_receive(&server);
            rig.end_receive(&client);
            rig.close(server);
            rig.close(client);
            rig.end_listener(listener);
        }
    });
}

#[test]
fn a_connect_says_why_it_fails() {
    on_both_backs(&usual(), |rig| {
        let (listener, nobody) = rig.tcp();
        rig.close(listener);
        let check = |rig: &mut Rig, to: Address, kind| {
            let socket = rig.ring.open(&to, None).unwrap();
            let client = rig.know(socket);
            rig.begin(&client, Op::Connect(to));
            assert_eq!(rig.connected(&client).unwrap_err().kind(), kind);
            rig.close(client);
        };
        check(rig, nobody.into(), ErrorKind::ConnectionRefused);
        check(rig, rig.unix_address(), ErrorKind::NotFound);
    });
}

#[test]
fn an_accept_takes_in_connections_until_it_is_taken_back() {
    on_both_backs(&usual(), |rig| {
        let (listener, address) = rig.tcp();
        rig.begin(&listener, Op::Accept);
        let mut peers: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        for peer in &mut peers {
            let here = rig.accepted(&listener);
            assert_eq!(
                rig.ring.name(&here.socket, End::There).unwrap(),
                peer.local_addr().unwrap().into(),
            );
            rig.close(here);
            assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "closed is closed");
        }
        rig.begin(&listener, Op::Cancel(Kind::Accept));
        rig.cancelled(&listener);
        let said = rig.next(&listener, Kind::Accept);
        assert!(!said.more && matches!(said.outcome, Outcome::Accepted(Err(_))), "{said:?}");

        let _late = TcpStream::connect(address).unwrap();
        rig.reap_all();
        assert!(rig.said.is_empty(), "accepted after the end: {:?}", rig.said);
        rig.begin(&listener, Op::Accept);
        let here = rig.accepted(&listener);
        rig.close(here);
        rig.end_listener(listener);
    });
}

#[test]
fn an_accept_ends_when_there_is_no_descriptor_left() {
    alone("an_accept_ends_when_there_is_no_descriptor_left", || {
        on_both_backs(&usual(), |rig| {
            let (listener, address) = rig.tcp();
            let _peer = TcpStream::connect(address).unwrap();
            let before = getrlimit(Resource::Nofile);
            // Numbers from 3 on are refused; those in use stay open.
            setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..before }).unwrap();
            for _ in 0..2 {
                rig.begin(&listener, Op::Accept);
                let said = rig.next(&listener, Kind::Accept);
                let Completion { more: false, outcome: Outcome::Accepted(Err(error)), .. } = said
                else {
                    panic!("{said:?}")
                };
                let none_left = rustix::io::Errno::MFILE.raw_os_error();
                assert_eq!(error.raw_os_error(), Some(none_left));
            }
            setrlimit(Resource::Nofile, before).unwrap();
            rig.begin(&listener, Op::Accept);
            let here = rig.accepted(&listener);
            rig.close(here);
            rig.end_listener(listener);
        });
    });
}

#[test]
fn more_arrives_than_all_buffers_hold() {
    on_both_backs(&small(4), |rig| {
        let (here, mut peer) = rig.with_unix_peer();
        let bytes = pattern(10_000);
        rig.begin(&here, Op::Receive);
        peer.write_all(&bytes).unwrap();
        rig.expect(&here, &bytes);
        // The piece that was lost sight of is the next to come.
        peer.write_all(b"and on").unwrap();
        rig.expect(&here, b"and on");
        rig.end_receive(&here);
        rig.close(here);
    });
}

#[test]
fn connections_without_a_buffer_end_with_that_and_go_on_when_taken_up_again() {
    on_both_backs(&small(2), |rig| {
        let mut connections: Vec<_> = (0..10).map(|_| rig.with_unix_peer()).collect();
        for (idx, (here, peer)) in connections.iter_mut().enumerate() {
            peer.write_all(&[idx as u8]).unwrap();
            rig.ring.push(Token::new(here.key, Kind::Receive), &here.socket, Op::Receive);
        }
        rig.ring.enter();
        let mut n_starved = 0;
        for (idx, (here, _)) in connections.iter().enumerate() {
            loop {
                match rig.received(here) {
                    (true, Ok(chunk)) => break assert_eq!(*chunk, [idx as u8]),
                    (false, Err(error)) if is_starved(&error) => {
                        n_starved += 1;
                        rig.begin(here, Op::Receive);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        match rig.ring.back() {
            SocketBack::Ring => assert!(n_starved > 0, "two buffers were enough for ten"),
            _ => assert_eq!(n_starved, 0, "buffers are taken when they are needed"),
        }
        for (here, _peer) in connections {
            rig.end_receive(&here);
            rig.close(here);
        }
    });
}

#[test]
fn a_socket_with_always_more_keeps_no_other_waiting() {
    const PIECES_MAX: usize = 200;
    on_both_backs(&small(256), |rig| {
        let (full, mut flood) = rig.with_unix_peer();
        let (quiet, mut peer) = rig.with_unix_peer();
        // Some thousand pieces.
        flood.write_all(&pattern(100_000)).unwrap();
        peer.write_all(b"!").unwrap();
        for end in [&full, &quiet] {
            rig.ring.push(Token::new(end.key, Kind::Receive), &end.socket, Op::Receive);
        }
        rig.ring.enter();
        let mut pieces = Vec::new();
        let is_quiet = |said: &Completion| said.token.key() == quiet.key;
        while !pieces.iter().any(is_quiet) {
            let before = pieces.len();
            rig.ring.reap(4, &mut pieces);
            assert!(pieces.len() <= before + 4, "{} reaped at once", pieces.len() - before);
            assert!(pieces.len() <= PIECES_MAX, "{} pieces of the other", pieces.len());
            rig.ring.recycle();
        }
        assert!(pieces.iter().all(|said| said.more), "{pieces:?}");
        for end in [&full, &quiet] {
            rig.begin(end, Op::Cancel(Kind::Receive));
            rig.cancelled(end);
            while rig.received(end).0 {}
        }
        rig.close(full);
        rig.close(quiet);
    });
}

#[test]
fn the_end_of_a_stream_is_an_empty_chunk_after_its_bytes() {
    on_both_backs(&usual(), |rig| {
        let (here, mut peer) = rig.with_tcp_peer();
        peer.write_all(b"last words").unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        rig.begin(&here, Op::Receive);
        rig.expect(&here, b"last words");
        let (more, result) = rig.received(&here);
        assert!(!more && result.unwrap().is_empty());
        // The other direction goes on.
        rig.begin(&here, Op::Send("and mine".into()));
        assert_eq!(rig.sent(&here).1.unwrap(), 8);
        rig.ring.shutdown(&here.socket, Side::Write).unwrap();
        let mut words = String::new();
        peer.read_to_string(&mut words).unwrap();
        assert_eq!(words, "and mine");
        rig.close(here);
    });
}

#[test]
fn a_reset_is_an_error_of_the_receive() {
    on_both_backs(&usual(), |rig| {
        let (here, peer) = rig.with_tcp_peer();
        rig.begin(&here, Op::Receive);
        rig.reap_all();
        sockopt::set_socket_linger(&peer, Some(std::time::Duration::ZERO)).unwrap();
        drop(peer);
        let (more, result) = rig.received(&here);
        assert!(!more);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
        rig.close(here);
    });
}

#[test]
fn ending_both_directions_ends_a_receive_without_bytes() {
    on_both_backs(&usual(), |rig| {
        let (tcp, _peer) = rig.with_tcp_peer();
        let (unix, _other) = rig.with_unix_peer();
        for here in [tcp, unix] {
            rig.begin(&here, Op::Receive);
            rig.reap_all();
            rig.ring.shutdown(&here.socket, Side::Both).unwrap();
            let (more, result) = rig.received(&here);
            assert!(!more && result.unwrap().is_empty());
            rig.close(here);
        }
    });
}

#[test]
fn a_receive_that_is_taken_back_loses_nothing() {
    on_both_backs(&usual(), |rig| {
        let (here, mut peer) = rig.with_unix_peer();
        rig.begin(&here, Op::Receive);
        peer.write_all(b"before").unwrap();
        rig.expect(&here, b"before");
        rig.end_receive(&here);
        peer.write_all(b"between").unwrap();
        rig.reap_all();
        assert!(rig.said.is_empty(), "received after the end: {:?}", rig.said);
        rig.begin(&here, Op::Receive);
        rig.expect(&here, b"between");
        rig.end_receive(&here);
        rig.close(here);
    });
}

#[test]
fn taking_back_what_is_not_under_way_completes_alone() {
    on_both_backs(&usual(), |rig| {
        let (here, _peer) = rig.with_unix_peer();
        for kind in [Kind::Accept, Kind::Connect, Kind::Receive, Kind::Send] {
            rig.begin(&here, Op::Cancel(kind));
            rig.cancelled(&here);
            rig.reap_all();
            assert!(rig.said.is_empty(), "{:?}", rig.said);
        }
        // Nor does it take back another operation of the socket.
        rig.begin(&here, Op::Receive);
        rig.begin(&here, Op::Cancel(Kind::Send));
        rig.cancelled(&here);
        rig.reap_all();
        assert!(rig.said.is_empty(), "{:?}", rig.said);
        rig.end_receive(&here);
        rig.close(here);
    });
}

#[test]
fn a_connect_that_hangs_can_be_taken_back() {
    on_both_backs(&usual(), |rig| {
        // Room for one that nobody accepts; the next one's greeting is dropped.
        let address = Address::Tcp((Ipv4Addr::LOCALHOST, 0).into());
        let socket = rig.ring.listen(&ListenSpec { address, backlog: 0 }).unwrap();
        let listener = rig.know(socket);
        let address = rig.ring.name(&listener.socket, End::Here).unwrap();
        let [first, second] = [(); 2].map(|()| {
            let socket = rig.ring.open(&address, None).unwrap();
            rig.know(socket)
        });
        rig.begin(&first, Op::Connect(address.clone()));
        rig.connected(&first).unwrap();
        rig.begin(&second, Op::Connect(address));
        rig.reap_all();
        assert!(rig.said.is_empty(), "{:?}", rig.said);
        rig.begin(&second, Op::Cancel(Kind::Connect));
        rig.cancelled(&second);
        assert!(is_cancelled(&rig.connected(&second).unwrap_err()));
        rig.close(second);
        rig.close(first);
        rig.close(listener);
    });
}

/// Bytes that both kernel buffers of a Unix pair together do not hold.
const LARGE: usize = 1 << 20;

#[test]
fn a_large_send_completes_when_a_slow_reader_has_let_all_of_it_leave() {
    on_both_backs(&usual(), |rig| {
        let (here, mut peer) = rig.with_unix_peer();
        sockopt::set_socket_send_buffer_size(here.socket.kernel(), 16 << 10).unwrap();
        let bytes = pattern(LARGE);
        rig.begin(&here, Op::Send(bytes.clone().into()));
        let mut read = Vec::new();
        let mut room = [0; 20_000];
        while read.len() < LARGE {
            rig.reap_all();
            let all_left = LARGE - read.len() < 64 << 10;
            assert!(all_left || rig.said.is_empty(), "came back after {} bytes", read.len());
            let n_read = peer.read(&mut room).unwrap();
            read.extend_from_slice(&room[..n_read]);
        }
        assert!(read == bytes, "other bytes than were sent");
        let (back, n_sent) = rig.sent(&here);
        assert_eq!(n_sent.unwrap(), LARGE);
        assert!(*back == *bytes, "other bytes came back");
        rig.close(here);
    });
}

#[test]
fn a_send_that_is_taken_back_tells_how_much_has_left() {
    on_both_backs(&usual(), |rig| {
        let (here, mut peer) = rig.with_unix_peer();
        rig.begin(&here, Op::Send(pattern(LARGE).into()));
        rig.reap_all();
        assert!(rig.said.is_empty(), "{:?}", rig.said);
        // None of the second one's bytes find room.
        rig.begin(&here, Op::Cancel(Kind::Send));
        rig.cancelled(&here);
        let (back, n_sent) = rig.sent(&here);
        let n_sent = n_sent.unwrap();
        assert!(n_sent > 0 && n_sent < LARGE && back.len() == LARGE, "{n_sent} sent");
        rig.begin(&here, Op::Send("no room".into()));
        rig.begin(&here, Op::Cancel(Kind::Send));
        rig.cancelled(&here);
        assert!(is_cancelled(&rig.sent(&here).1.unwrap_err()));
        rig.close(here);
        let mut read = Vec::new();
        peer.read_to_end(&mut read).unwrap();
        assert_eq!(read.len(), n_sent);
    });
}

#[test]
fn a_send_to_a_peer_that_is_gone_is_an_error_and_no_signal() {
    const SIGPIPE: i32 = 13;
    let signalled = Arc::new(AtomicBool::new(false));
    let handler = signal_hook::flag::register(SIGPIPE, Arc::clone(&signalled)).unwrap();
    on_both_backs(&usual(), |rig| {
        let (tcp, peer) = rig.with_tcp_peer();
        let (unix, other) = rig.with_unix_peer();
        drop((peer, other));
        for here in [tcp, unix] {
            let error = loop {
                rig.begin(&here, Op::Send("anybody?".into()));
                if let (bytes, Err(error)) = rig.sent(&here) {
                    assert_eq!(*bytes, *b"anybody?");
                    break error;
                }
            };
            let kinds = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(kinds.contains(&error.kind()), "{error}");
            // Once the reset has been told, it is a broken pipe.
            rig.begin(&here, Op::Send("nobody".into()));
            assert_eq!(rig.sent(&here).1.unwrap_err().kind(), ErrorKind::BrokenPipe);
            rig.close(here);
        }
        assert!(!signalled.load(Ordering::Relaxed), "SIGPIPE");
    });
    signal_hook::low_level::unregister(handler);
}

#[test]
fn arming_tells_what_came_before_it_and_the_signal_what_comes_after() {
    on_both_backs(&usual(), |rig| {
        let (here, mut peer) = rig.with_unix_peer();
        rig.begin(&here, Op::Receive);
        rig.reap_all();
        assert!(!rig.is_signalled(0), "nothing has happened");

        peer.write_all(b"before").unwrap();
        assert!(rig.ring.arm(), "what came before is there");
        rig.ring.disarm();
        rig.expect(&here, b"before");
        rig.reap_all();

        assert!(!rig.ring.arm(), "all has been reaped");
        assert!(!rig.is_signalled(0), "nothing has come since");
        peer.write_all(b"after").unwrap();
        assert!(rig.is_signalled(PATIENCE_S), "asleep for good");
        rig.ring.disarm();
        assert!(!rig.is_signalled(0), "awake and still signalled");
        assert!(rig.ring.arm(), "the signal was for something");
        rig.ring.disarm();
        rig.expect(&here, b"after");
        rig.end_receive(&here);
        rig.close(here);
    });
}

#[test]
fn a_socket_closes_in_order_and_leaves_no_descriptor() {
    alone("a_socket_closes_in_order_and_leaves_no_descriptor", || {
        let baseline = n_descriptors();
        on_both_backs(&usual(), |rig| {
            let before = n_descriptors();
            let (listener, address) = rig.tcp();
            rig.begin(&listener, Op::Accept);
            let mut peers: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
            let connections: Vec<_> = peers.iter().map(|_| rig.accepted(&listener)).collect();
            for here in &connections {
                rig.begin(here, Op::Receive);
            }
            rig.reap_all();
            for (here, peer) in connections.into_iter().zip(&mut peers) {
                rig.ring.shutdown(&here.socket, Side::Both).unwrap();
                assert!(rig.received(&here).1.unwrap().is_empty());
                rig.close(here);
                assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "closed is closed");
            }
            rig.end_listener(listener);
            assert!(TcpStream::connect(address).is_err(), "closed is closed");
            drop(peers);
            assert_eq!(n_descriptors(), before);
        });
        assert_eq!(n_descriptors(), baseline, "a ring has left some");
    });
}
