//! One socket of the simulated network: what it is, and its operations under way.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;

use super::super::{Address, Kind, Op, Token};
use super::stream::{Ending, Stream};
use crate::runtime::Time;

#[derive(Debug)]
pub(super) struct Endpoint {
    /// The shard that owns it.
    pub(super) shard: usize,
    pub(super) role: Role,
    /// The key of its tokens, once it has had one.
    pub(super) key: Option<u64>,
    /// By their kinds.
    under_way: [Option<Operation>; 5],
}

/// ```text
///   Fresh ─▶ Connected ◀─ (waits at a listener for its accept)
///   Listening ─▶ Deaf
/// ```
#[derive(Debug)]
pub(super) enum Role {
    /// Opened to connect.
    Fresh {
        from: Option<IpAddr>,
    },
    Listening(Listener),
    /// It has listened, until it was shut down.
    Deaf {
        here: Address,
    },
    Connected(Connected),
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) here: Address,
    pub(super) backlog: usize,
    /// Connections to accept, from when on they can be.
    pub(super) queue: VecDeque<(Time, u32)>,
    /// Sockets whose connect found the queue full.
    pub(super) waiting: VecDeque<u32>,
}

#[derive(Debug)]
pub(super) struct Connected {
    pub(super) here: Address,
    pub(super) there: Address,
    pub(super) other: u32,
    pub(super) incoming: Stream,
    /// No more is sent from here.
    pub(super) wrote_end: bool,
    /// No more is received here.
    pub(super) read_end: bool,
    /// From here on a send finds out that the other side has closed.
    pub(super) broken_due: Time,
}

impl Connected {
    pub(super) fn new(here: Address, there: Address, other: u32, window_bytes: usize) -> Self {
        let incoming = Stream::new(window_bytes);
        Self {
            here,
            there,
            other,
            incoming,
            wrote_end: false,
            read_end: false,
            broken_due: Time::NEVER,
        }
    }

    /// Why nothing can be sent.
    pub(super) fn send_error(&self, now: Time) -> Option<io::Error> {
        let errno = match () {
            () if self.is_broken(now) => Errno::CONNRESET,
            () if self.wrote_end || self.broken_due <= now => Errno::PIPE,
            () => return None,
        };
        Some(errno.into())
    }

    /// When a send that makes no progress will be told why.
    pub(super) fn send_error_due(&self) -> Time {
        self.incoming.reset_due().unwrap_or(Time::NEVER).min(self.broken_due)
    }

    /// Whether it is broken off, heard of here or not.
    pub(super) fn is_reset(&self) -> bool {
        self.incoming.reset_due().is_some()
    }

    /// Whether it is broken off, as this side knows.
    pub(super) fn is_broken(&self, now: Time) -> bool {
        self.incoming.reset_due().is_some_and(|due| due <= now)
    }

    /// When a receive has something to say.
    pub(super) fn receive_due(&self) -> Option<Time> {
        if self.read_end { Some(Time::ZERO) } else { self.incoming.next_due() }
    }

    /// What a receive says when there are no bytes.
    pub(super) fn received_end(&self, now: Time) -> Option<io::Result<()>> {
        match self.incoming.ended(now) {
            _ if self.read_end => Some(Ok(())),
            Some(Ending::End) => Some(Ok(())),
            Some(Ending::Reset) => Some(Err(Errno::CONNRESET.into())),
            None => None,
        }
    }
}

/// From its push to its last completion.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) token: Token,
    pub(super) op: Op,
    /// Since an enter.
    pub(super) begun: bool,
    /// Taken back: it ends then at the latest.
    pub(super) cancelled: Option<Time>,
    /// When it is looked at next, as it stands in the table of what is due.
    pub(super) due: Option<Time>,
    /// Of a send: bytes that have left.
    pub(super) done_bytes: usize,
}

impl Endpoint {
    pub(super) fn new(shard: usize, role: Role) -> Self {
        Self { shard, role, key: None, under_way: [const { None }; 5] }
    }

    pub(super) fn operation(&self, kind: Kind) -> Option<&Operation> {
        self.under_way[kind as usize].as_ref()
    }

    pub(super) fn operation_mut(&mut self, kind: Kind) -> Option<&mut Operation> {
        self.under_way[kind as usize].as_mut()
    }

    pub(super) fn start(&mut self, token: Token, op: Op) {
        let place = &mut self.under_way[token.kind() as usize];
        assert!(place.is_none(), "two of {:?} under way: {token:?}", token.kind());
        let (begun, cancelled, due, done_bytes) = (false, None, None, 0);
        *place = Some(Operation { token, op, begun, cancelled, due, done_bytes });
    }

    pub(super) fn end(&mut self, kind: Kind) -> Operation {
        self.under_way[kind as usize].take().expect("only what is under way ends")
    }

    pub(super) fn n_under_way(&self) -> usize {
        self.under_way.iter().flatten().count()
    }

    pub(super) fn connected(&self) -> Option<&Connected> {
        match &self.role {
            Role::Connected(connected) => Some(connected),
            _ => None,
        }
    }

    pub(super) fn connected_mut(&mut self) -> Option<&mut Connected> {
        match &mut self.role {
            Role::Connected(connected) => Some(connected),
            _ => None,
        }
    }

    pub(super) fn listener_mut(&mut self) -> Option<&mut Listener> {
        match &mut self.role {
            Role::Listening(listener) => Some(listener),
            _ => None,
        }
    }

    /// Whether the operation makes sense on such a socket.
    pub(super) fn allows(&self, kind: Kind) -> bool {
        match (kind, &self.role) {
            (Kind::Accept, role) => matches!(role, Role::Listening(_) | Role::Deaf { .. }),
            (Kind::Connect, role) => matches!(role, Role::Fresh { .. }),
            // Between the handshake and its completion the caller knows of no connection.
            (Kind::Receive | Kind::Send, Role::Connected(_)) => {
                self.operation(Kind::Connect).is_none()
            }
            (Kind::Receive | Kind::Send, _) => false,
            (Kind::Cancel, _) => true,
        }
    }
}

/// The name of the socket that connects to `to`; Unix sockets that connect have none.
pub(super) fn name_of_client(to: &Address, from: Option<IpAddr>, port: u16) -> Address {
    match to {
        // A wildcard stands for this host.
        Address::Tcp(to) => {
            let loopback: IpAddr = match to {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            let same = Some(to.ip()).filter(|ip| !ip.is_unspecified());
            Address::Tcp(SocketAddr::new(from.or(same).unwrap_or(loopback), port))
        }
        Address::Unix(_) | Address::Passed(_) => Address::Unix("".into()),
    }
}
