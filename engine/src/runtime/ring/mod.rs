//! The net ring of a shard: sockets as operations that complete.
//!
//! What uses sockets pushes operations, the turn enters once, and what the kernel has done comes
//! back as completions. Everything an operation touches while it is under way (bytes to send,
//! buffers to receive into, addresses) belongs to the ring from `push` to its last completion, so
//! that no future that is dropped can free what the kernel still uses.
//!
//! ```text
//!   turn:   reap ─▶ intake, pass, seal, send ─▶ recycle ─▶ enter
//!   sleep:  arm ─▶ (signal) ─▶ disarm
//! ```
//!
//! Four backs: io_uring; readiness, for kernels that have io_uring but lack what the first needs;
//! the simulation's network in memory; and a script, for tests of what is built on top. This
//! folder is the only one that may hold `unsafe`.

mod address;
mod passed;
mod chunk;
mod back;
mod socket;
mod line;
mod buffers;
mod uring;
mod readiness;
mod simulated;
#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

pub use address::{Address, AddressError};
pub use back::{SocketBack, Sockets};
pub(crate) use back::{open, try_ring};
pub(crate) use chunk::Pool;
pub use chunk::{Chunk, Outgoing};
pub use passed::{Passed, PassedError};
pub(crate) use simulated::{NetChance, Network, SimulatedRing};
pub(crate) use socket::{ListenSpec, Side, adopt_as};

/// Which kind of operation; a socket has at most one of each kind under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Accept,
    Connect,
    Receive,
    Send,
    /// The taking back of another operation.
    Cancel,
}

const KINDS: [Kind; 5] = [Kind::Accept, Kind::Connect, Kind::Receive, Kind::Send, Kind::Cancel];

/// Names one operation of one socket; each of its completions carries it.
///
/// ```text
///   63          32 31   24 23        0
///   | generation  | kind  |   slot   |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u64);

const SLOT_BITS: u32 = 24;

impl Token {
    /// Sockets one ring can tell apart.
    pub(crate) const SLOTS: usize = 1 << SLOT_BITS;

    /// The operation `kind` of the socket that `key` names: generation above, slot below.
    pub(crate) fn new(key: u64, kind: Kind) -> Self {
        let slot = key & u64::from(u32::MAX);
        debug_assert!(slot < Self::SLOTS as u64, "slot {slot} is out of reach");
        Self(key | (u64::from(kind as u8) << SLOT_BITS))
    }

    fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    fn bits(self) -> u64 {
        self.0
    }

    /// The socket.
    pub(crate) fn key(self) -> u64 {
        self.0 & !(0xff << SLOT_BITS)
    }

    pub(crate) fn kind(self) -> Kind {
        KINDS[(self.0 >> SLOT_BITS & 0xff) as usize]
    }

    /// Where things of this socket stand in a table: unique among those that are open.
    fn slot(self) -> usize {
        usize::try_from(self.0 & (Self::SLOTS as u64 - 1)).expect("24 bits")
    }
}

/// An open socket of a ring. It must stay open until its operations have completed.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Shared with a back that makes calls on it later, while something is under way.
    Kernel(Rc<OwnedFd>),
    /// One that listens, and that others take connections from as well.
    Shared(Rc<OwnedFd>),
    /// By its number in the simulation or the script.
    Simulated(u32),
}

/// What may be asked of a socket.
#[derive(Debug)]
pub(crate) enum Op {
    /// Takes in connections, one completion for each, until it ends.
    Accept,
    Connect(Address),
    /// Receives into the ring's own buffers, one completion for each, until it ends.
    Receive,
    /// Sends as many of the bytes as there is room for, once there is any.
    Send(Outgoing),
    /// Takes back the operation of this kind; both complete.
    Cancel(Kind),
}

impl Op {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Accept => Kind::Accept,
            Self::Connect(_) => Kind::Connect,
            Self::Receive => Kind::Receive,
            Self::Send(_) => Kind::Send,
            Self::Cancel(_) => Kind::Cancel,
        }
    }
}

/// What came of an operation.
#[derive(Debug)]
pub(crate) enum Outcome {
    Accepted(io::Result<Socket>),
    Connected(io::Result<()>),
    /// No bytes: the other side has ended.
    Received(io::Result<Chunk>),
    /// The bytes come back with how many of them were sent.
    Sent(Outgoing, io::Result<usize>),
    Cancelled,
}

/// One completion.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    /// More will follow of the same operation.
    pub(crate) more: bool,
    pub(crate) outcome: Outcome,
}

/// What a shard's sockets stand on. All of it belongs to the shard's own thread.
///
/// Opening a socket, asking and telling it something are plain calls of the system for both kernel
/// backs: what the methods do that have a body here.
pub(crate) trait Ring: fmt::Debug {
    /// Opens a socket that listens.
    fn listen(&mut self, spec: &ListenSpec) -> io::Result<Socket> {
        socket::listening(spec)
    }

    /// Takes a socket that listens already, from whoever opened it.
    fn adopt(&mut self, descriptor: OwnedFd) -> io::Result<Socket> {
        socket::adopted(descriptor)
    }

    /// Opens a socket to connect to `to`, from the address `from` where one is given.
    fn open(&mut self, to: &Address, from: Option<IpAddr>) -> io::Result<Socket> {
        socket::connecting(to, from)
    }

    /// Queues an operation; it begins with the next `enter`. All operations of a socket carry the
    /// same key, and no other socket of this ring ever does.
    fn push(&mut self, token: Token, socket: &Socket, op: Op);

    /// Whether operations wait for an `enter` to begin them.
    fn wants_enter(&mut self) -> bool;

    /// Begins what was queued and lets the kernel deliver what is done.
    fn enter(&mut self);

    /// Moves at most `max` completions into `into`: those that one delivery of the kernel's has
    /// brought. None, if there are none.
    fn reap(&mut self, max: usize, into: &mut Vec<Completion>);

    /// Puts buffers in the place of those that were handed out; tells how many stand ready.
    fn recycle(&mut self) -> usize;

    /// Ends one or both directions of a socket now.
    fn shutdown(&mut self, socket: &Socket, side: Side) -> io::Result<()> {
        socket::end(socket, side)
    }

    /// Closes a socket that has no operation under way.
    fn close(&mut self, socket: Socket, how: How);

    /// Lets nobody more into the line of a socket that listens; who stands there may still be taken.
    fn turn_away(&mut self, listener: &Socket) {
        line::turn_away(listener);
    }

    /// Takes the next connection out of the line of a socket that has no accept under way; `None`
    /// when nobody stands there, and always for a line that others take from as well.
    fn take_waiting(&mut self, listener: &Socket) -> io::Result<Option<Socket>> {
        line::take_waiting(listener)
    }

    /// The address of one end of a socket.
    fn name(&self, socket: &Socket, end: End) -> io::Result<Address> {
        socket::name(socket, end)
    }

    /// Whether `reap` would find something.
    fn is_ready(&mut self) -> bool;

    /// The shard is about to sleep: from here on a completion signals [`Ring::signal`]. Tells
    /// whether something is there already.
    fn arm(&mut self) -> bool;

    /// The shard is awake: no signals.
    fn disarm(&mut self);

    /// What becomes readable when a completion comes while armed. It is quiet once disarmed; what
    /// it says until the next `arm` means nothing (readiness goes on signalling). It may also become
    /// readable for nothing, as when bytes come in that nobody receives.
    fn signal(&self) -> Option<BorrowedFd<'_>>;
}

/// How a socket closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// What was sent still arrives, then the end.
    Closed,
    /// What has not arrived is lost, and the other side is told so.
    Reset,
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Here,
    There,
}
