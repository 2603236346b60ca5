//! One socket of the readiness back: what is under way on it, and what is known of its readiness.
//!
//! Each direction has at most one operation under way, and one bit that remembers its last edge:
//!
//! ```text
//!   reading: Accept | Receive  ──▶ end, error, cancel      readable, writable:
//!   writing: Connect | Send    ──▶ done, error, cancel       event ─▶ true, call would block ─▶ false
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::event::epoll::EventFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, sockopt};
use rustix::net::{accept_with, connect, getpeername, recv, send};

use super::super::{Address, Chunk, Completion, Kind, Op, Outcome, Outgoing, Pool, Socket, Token};

#[derive(Debug)]
pub(super) struct Slot {
    key: u64,
    /// Held while something is under way, so that the socket cannot be closed meanwhile.
    descriptor: Option<Rc<OwnedFd>>,
    reading: Option<Reading>,
    writing: Option<Writing>,
    readable: bool,
    writable: bool,
    /// An end, an error or urgent data: a receive that gave less than it could may leave more.
    is_ending: bool,
    /// Stands in the line of sockets that may go on.
    in_line: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Accept,
    Receive,
}

#[derive(Debug)]
enum Writing {
    Connect,
    Send(Outgoing),
}

impl Slot {
    pub(super) fn new(key: u64) -> Self {
        Self {
            key,
            descriptor: None,
            reading: None,
            writing: None,
            // Watching begins with an event if there is something to read.
            readable: false,
            // A send is tried before anything is known.
            writable: true,
            is_ending: false,
            in_line: false,
        }
    }

    pub(super) fn key(&self) -> u64 {
        self.key
    }

    pub(super) fn is_idle(&self) -> bool {
        self.reading.is_none() && self.writing.is_none()
    }

    /// Takes in an event.
    pub(super) fn learn(&mut self, event: EventFlags) {
        let ends = EventFlags::HUP | EventFlags::ERR;
        self.readable |= event.intersects(ends | EventFlags::IN | EventFlags::RDHUP);
        self.writable |= event.intersects(ends | EventFlags::OUT);
        self.is_ending |= event.intersects(ends | EventFlags::RDHUP | EventFlags::PRI);
    }

    /// Whether the socket may go on and does not stand in the line yet, in which it then does.
    pub(super) fn joins_line(&mut self) -> bool {
        let may_read = self.readable && self.reading.is_some();
        let may_write = self.writable && self.writing.is_some();
        let joins = (may_read || may_write) && !self.in_line;
        self.in_line |= joins;
        joins
    }

    /// Begins an operation: a connect and a send are tried at once.
    pub(super) fn begin(
        &mut self,
        descriptor: Rc<OwnedFd>,
        op: Op,
        done: &mut VecDeque<Completion>,
    ) {
        self.descriptor = Some(descriptor);
        match op {
            Op::Accept => self.begin_reading(Reading::Accept),
            Op::Receive => self.begin_reading(Reading::Receive),
            Op::Connect(address) => {
                self.begin_writing(Writing::Connect);
                done.extend(self.connect(&address));
            }
            Op::Send(bytes) => {
                self.begin_writing(Writing::Send(bytes));
                if self.writable {
                    done.extend(self.write());
                }
            }
            Op::Cancel(_) => unreachable!("a cancel is no operation of a slot"),
        }
    }

    fn begin_reading(&mut self, reading: Reading) {
        let before = self.reading.replace(reading);
        assert!(before.is_none(), "{before:?} is under way");
    }

    fn begin_writing(&mut self, writing: Writing) {
        let before = self.writing.replace(writing);
        assert!(before.is_none(), "{before:?} is under way");
    }

    /// Goes on with what may: one call in each direction.
    pub(super) fn step(&mut self, pool: &Rc<Pool>, done: &mut VecDeque<Completion>) {
        debug_assert!(self.in_line, "a step out of turn");
        self.in_line = false;
        if self.readable {
            done.extend(self.read(pool));
        }
        if self.writable {
            done.extend(self.write());
        }
    }

    fn read(&mut self, pool: &Rc<Pool>) -> Option<Completion> {
        match self.reading? {
            Reading::Accept => self.accept(),
            Reading::Receive => self.receive(pool),
        }
    }

    fn accept(&mut self) -> Option<Completion> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match retry_on_intr(|| accept_with(self.descriptor(), flags)) {
            Ok(accepted) => {
                Some(self.more(Kind::Accept, Outcome::Accepted(Ok(Socket::of(accepted)))))
            }
            Err(Errno::AGAIN) => self.is_drained(),
            // Any other error ends it, as it does the kernel's multishot accept.
            Err(error) => Some(self.read_out(Kind::Accept, Outcome::Accepted(Err(error.into())))),
        }
    }

    fn receive(&mut self, pool: &Rc<Pool>) -> Option<Completion> {
        let mut buffer = pool.take();
        let n_room = buffer.len();
        match retry_on_intr(|| recv(self.descriptor(), &mut *buffer, RecvFlags::DONTWAIT)) {
            Ok((0, _)) => {
                pool.put(buffer);
                Some(self.read_out(Kind::Receive, Outcome::Received(Ok(Chunk::empty()))))
            }
            Ok((n_bytes, _)) => {
                // Less than there was room for was all: what comes later is another edge. Not so
                // at an end, whose edge may have come with that of the bytes.
                self.readable = n_bytes == n_room || self.is_ending;
                let chunk = Chunk::new(buffer, n_bytes, pool);
                Some(self.more(Kind::Receive, Outcome::Received(Ok(chunk))))
            }
            Err(error) => {
                pool.put(buffer);
                if error == Errno::AGAIN {
                    return self.is_drained();
                }
                Some(self.read_out(Kind::Receive, Outcome::Received(Err(error.into()))))
            }
        }
    }

    fn is_drained(&mut self) -> Option<Completion> {
        self.readable = false;
        None
    }

    fn write(&mut self) -> Option<Completion> {
        match self.writing.take()? {
            Writing::Connect => self.connected(),
            Writing::Send(bytes) => self.send(bytes),
        }
    }

    fn connect(&mut self, address: &Address) -> Option<Completion> {
        // An address that does not fit is refused when its socket is opened.
        let address = address.to_kernel().expect("checked when it was opened");
        match connect(self.descriptor(), &address) {
            Err(Errno::INPROGRESS) => {
                self.writable = false;
                None
            }
            result => Some(self.written(Outcome::Connected(result.map_err(io::Error::from)))),
        }
    }

    /// Asks what has become of a connect.
    fn connected(&mut self) -> Option<Completion> {
        let result = match sockopt::socket_error(self.descriptor()) {
            Ok(Ok(())) if getpeername(self.descriptor()).is_err() => {
                // The event was an older one.
                self.writing = Some(Writing::Connect);
                self.writable = false;
                return None;
            }
            Ok(result) => result,
            Err(error) => Err(error),
        };
        Some(self.written(Outcome::Connected(result.map_err(io::Error::from))))
    }

    fn send(&mut self, bytes: Outgoing) -> Option<Completion> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match retry_on_intr(|| send(self.descriptor(), &bytes, flags)) {
            Err(Errno::AGAIN) => {
                self.writing = Some(Writing::Send(bytes));
                self.writable = false;
                None
            }
            sent => Some(self.written(Outcome::Sent(bytes, sent.map_err(io::Error::from)))),
        }
    }

    /// Takes back the operation of this kind, if it is under way.
    pub(super) fn cancel(&mut self, kind: Kind) -> Option<Completion> {
        let error = || io::Error::from(Errno::CANCELED);
        match (kind, self.reading) {
            (Kind::Accept, Some(Reading::Accept)) => {
                return Some(self.read_out(kind, Outcome::Accepted(Err(error()))));
            }
            (Kind::Receive, Some(Reading::Receive)) => {
                return Some(self.read_out(kind, Outcome::Received(Err(error()))));
            }
            _ => {}
        }
        match (kind, self.writing.take()) {
            (Kind::Connect, Some(Writing::Connect)) => {
                Some(self.written(Outcome::Connected(Err(error()))))
            }
            (Kind::Send, Some(Writing::Send(bytes))) => {
                Some(self.written(Outcome::Sent(bytes, Err(error()))))
            }
            (_, other) => {
                self.writing = other;
                None
            }
        }
    }

    fn more(&self, kind: Kind, outcome: Outcome) -> Completion {
        Completion { token: Token::new(self.key, kind), more: true, outcome }
    }

    /// The last of what was being read.
    fn read_out(&mut self, kind: Kind, outcome: Outcome) -> Completion {
        self.reading = None;
        self.last(kind, outcome)
    }

    /// The last of what was being written, which has been taken out already or is a connect.
    fn written(&mut self, outcome: Outcome) -> Completion {
        self.writing = None;
        let kind = match outcome {
            Outcome::Connected(_) => Kind::Connect,
            _ => Kind::Send,
        };
        self.last(kind, outcome)
    }

    fn last(&mut self, kind: Kind, outcome: Outcome) -> Completion {
        if self.is_idle() {
            self.descriptor = None;
        }
        Completion { token: Token::new(self.key, kind), more: false, outcome }
    }

    fn descriptor(&self) -> &OwnedFd {
        self.descriptor.as_deref().expect("held while something is under way")
    }
}

/// The completion of an operation that could not begin.
pub(super) fn failed(token: Token, op: Op, error: io::Error) -> Completion {
    let outcome = match op {
        Op::Accept => Outcome::Accepted(Err(error)),
        Op::Connect(_) => Outcome::Connected(Err(error)),
        Op::Receive => Outcome::Received(Err(error)),
        Op::Send(bytes) => Outcome::Sent(bytes, Err(error)),
        Op::Cancel(_) => Outcome::Cancelled,
    };
    Completion { token, more: false, outcome }
}
