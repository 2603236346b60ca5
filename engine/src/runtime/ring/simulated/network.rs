//! The network that all shards of a simulation share: its sockets, and what is due when.
//!
//! Nothing happens by itself. Bytes, ends and handshakes stand in the sockets with the time from
//! which on they are there; each operation under way stands in `due` with the time from which on
//! it has something to do, and does it when its shard reaps. So a shard that does not run takes
//! nothing in, as with deferred completions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::io::Errno;

use super::super::{Address, End, KINDS, Kind, ListenSpec, Side, Token};
use super::NetChance;
use super::endpoint::{Endpoint, Listener, Role};
use super::listeners::Listeners;
use crate::runtime::{ShardId, Time};

/// What the shards of one simulation connect to each other by.
#[derive(Debug)]
pub(crate) struct Network {
    pub(super) chance: NetChance,
    /// Its own, so that what it draws changes nothing in a run without sockets.
    pub(super) rng: fastrand::Rng,
    pub(super) now: Time,
    /// By their numbers, of which none comes twice.
    pub(super) sockets: BTreeMap<u32, Endpoint>,
    n_opened: u32,
    pub(super) listeners: Listeners,
    pub(super) shards: Vec<ShardSockets>,
    /// Operations that have something to do: shard, from when on, socket, kind.
    pub(super) due: BTreeSet<(usize, Time, u32, u8)>,
    pub(super) digest: u64,
}

/// What the network knows of one shard.
#[derive(Debug, Default)]
pub(super) struct ShardSockets {
    /// Open sockets, without those that wait for their accept.
    pub(super) n_open: usize,
    /// Pushed and not entered.
    pub(super) queued: Vec<(u32, Kind)>,
    /// Which socket the tokens of a slot mean.
    pub(super) slots: BTreeMap<usize, u32>,
    /// While it sleeps: how many operations were due when it asked to be signalled.
    armed: Option<usize>,
    /// Nothing is done for it any more.
    pub(super) ended: bool,
}

impl Network {
    pub(crate) fn new(seed: u64, n_shards: usize, chance: NetChance) -> Self {
        Self {
            chance,
            rng: fastrand::Rng::with_seed(seed.rotate_left(32)),
            now: Time::ZERO,
            sockets: BTreeMap::new(),
            n_opened: 0,
            listeners: Listeners::default(),
            shards: (0..n_shards).map(|_| ShardSockets::default()).collect(),
            due: BTreeSet::new(),
            digest: 0,
        }
    }

    /// When operations of a shard have something to do, the next one first.
    fn all_due(&self, shard: ShardId) -> impl Iterator<Item = Time> {
        let shard = shard.index();
        let all =
            self.due.range((shard, Time::ZERO, 0, 0)..=(shard, Time::NEVER, u32::MAX, u8::MAX));
        all.map(|(_, due, ..)| *due)
    }

    /// When the next operation of a shard has something to do.
    pub(crate) fn next_due(&self, shard: ShardId) -> Option<Time> {
        self.all_due(shard).next()
    }

    pub(crate) fn has_due(&self, shard: ShardId, now: Time) -> bool {
        self.next_due(shard).is_some_and(|due| due <= now)
    }

    /// A shard is about to sleep; tells whether something is due. That gives no signal any more:
    /// only what comes later does.
    pub(super) fn arm(&mut self, shard: ShardId) -> bool {
        let now = self.now;
        let n_due = self.all_due(shard).take_while(|due| *due <= now).count();
        self.shards[shard.index()].armed = Some(n_due);
        n_due > 0
    }

    pub(super) fn disarm(&mut self, shard: ShardId) {
        self.shards[shard.index()].armed = None;
    }

    /// When a shard is signalled next; never while it has not asked for it.
    pub(crate) fn signal_due(&self, shard: ShardId) -> Option<Time> {
        let n_before = self.shards[shard.index()].armed?;
        self.all_due(shard).nth(n_before)
    }

    /// Sockets that a shard has open.
    pub(crate) fn n_open(&self, shard: ShardId) -> usize {
        self.shards[shard.index()].n_open
    }

    /// A number that stands for every completion so far.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn listen(&mut self, shard: usize, spec: &ListenSpec) -> io::Result<u32> {
        spec.address.to_kernel()?;
        self.check_room(shard)?;
        let here = self.listeners.add(&spec.address, self.n_opened)?;
        self.shards[shard].n_open += 1;
        let backlog = spec.backlog as usize;
        let (queue, waiting) = (VecDeque::new(), VecDeque::new());
        Ok(self.insert(shard, Role::Listening(Listener { here, backlog, queue, waiting })))
    }

    pub(super) fn open(
        &mut self,
        shard: usize,
        to: &Address,
        from: Option<IpAddr>,
    ) -> io::Result<u32> {
        to.to_kernel()?;
        self.check_room(shard)?;
        self.shards[shard].n_open += 1;
        Ok(self.insert(shard, Role::Fresh { from }))
    }

    pub(super) fn check_room(&self, shard: usize) -> io::Result<()> {
        let side = &self.shards[shard];
        let is_full = side.n_open >= self.chance.sockets_max || side.ended;
        if is_full { Err(Errno::MFILE.into()) } else { Ok(()) }
    }

    /// The number that the next socket will have.
    pub(super) fn next_socket(&self) -> u32 {
        self.n_opened
    }

    pub(super) fn insert(&mut self, shard: usize, role: Role) -> u32 {
        let socket = self.n_opened;
        self.n_opened += 1;
        self.sockets.insert(socket, Endpoint::new(shard, role));
        socket
    }

    pub(super) fn socket(&mut self, socket: u32) -> &mut Endpoint {
        self.sockets.get_mut(&socket).unwrap_or_else(|| panic!("socket {socket} is not open"))
    }

    pub(super) fn shutdown(&mut self, socket: u32, side: Side) -> io::Result<()> {
        let now = self.now;
        let Some(endpoint) = self.sockets.get_mut(&socket) else {
            return Err(Errno::NOTCONN.into());
        };
        match &mut endpoint.role {
            Role::Fresh { .. } => Err(Errno::NOTCONN.into()),
            Role::Deaf { .. } => Ok(()),
            Role::Listening(_) => {
                self.stop_listening(socket);
                self.refresh(socket, Kind::Accept);
                Ok(())
            }
            Role::Connected(connected) if connected.is_broken(now) => Err(Errno::NOTCONN.into()),
            Role::Connected(connected) => {
                connected.wrote_end = true;
                connected.read_end |= side == Side::Both;
                let other = connected.other;
                let due = self.later();
                if let Some(other) = self.connected(other) {
                    other.incoming.end(due);
                }
                self.refresh(other, Kind::Receive);
                self.refresh(socket, Kind::Receive);
                self.refresh(socket, Kind::Send);
                Ok(())
            }
        }
    }

    pub(super) fn close(&mut self, socket: u32) {
        let endpoint = self.socket(socket);
        let n_under_way = endpoint.n_under_way();
        assert_eq!(n_under_way, 0, "closed with operations under way: {endpoint:?}");
        let shard = endpoint.shard;
        self.shards[shard].n_open -= 1;
        self.remove(socket);
    }

    /// Takes a socket out of the network; the other side learns of it in time.
    pub(super) fn remove(&mut self, socket: u32) {
        if self.socket(socket).listener_mut().is_some() {
            self.stop_listening(socket);
        }
        for kind in KINDS {
            self.schedule(socket, kind, None);
        }
        let endpoint = self.sockets.remove(&socket).expect("it was there just now");
        if let Some(key) = endpoint.key {
            self.shards[endpoint.shard].slots.remove(&slot_of(key));
        }
        let Role::Connected(connected) = endpoint.role else { return };
        let due = self.later();
        let now = self.now;
        let Some(other) = self.connected(connected.other) else { return };
        if connected.incoming.held_bytes() > 0 {
            other.incoming.reset(now, due);
        } else if !other.is_reset() {
            other.incoming.end(due);
        }
        if !other.incoming.is_silent() {
            other.broken_due = other.broken_due.min(due);
        }
        self.refresh(connected.other, Kind::Receive);
        self.refresh(connected.other, Kind::Send);
    }

    /// Nobody is accepted any more: those in the queue are broken off, those before it refused.
    fn stop_listening(&mut self, socket: u32) {
        let endpoint = self.socket(socket);
        let role = std::mem::replace(&mut endpoint.role, Role::Fresh { from: None });
        let Role::Listening(Listener { here, queue, waiting, .. }) = role else {
            unreachable!("asked by the caller")
        };
        endpoint.role = Role::Deaf { here: here.clone() };
        self.listeners.remove(&here, socket);
        for (_, queued) in queue {
            self.reset(queued);
            self.remove(queued);
        }
        self.refuse(waiting);
    }

    /// Nobody more finds it; those whose connect found the line full are refused.
    pub(super) fn turn_away(&mut self, socket: u32) {
        let Some(Listener { here, waiting, .. }) = self.socket(socket).listener_mut() else {
            return;
        };
        let (here, waiting) = (here.clone(), std::mem::take(waiting));
        self.listeners.remove(&here, socket);
        self.refuse(waiting);
    }

    fn refuse(&mut self, connecting: impl IntoIterator<Item = u32>) {
        for socket in connecting {
            let due = self.later();
            self.schedule(socket, Kind::Connect, Some(due));
        }
    }

    /// Takes the next one out of the line, also one that is only on its way to the end of its
    /// handshake: nobody is in the line of a kernel before it has ended.
    pub(super) fn take_waiting(&mut self, socket: u32) -> io::Result<Option<u32>> {
        let endpoint = self.socket(socket);
        let shard = endpoint.shard;
        let Some(listener) = endpoint.listener_mut() else { return Ok(None) };
        if listener.queue.is_empty() {
            return Ok(None);
        }
        self.check_room(shard)?;
        let taken = self.socket(socket).listener_mut().and_then(|l| l.queue.pop_front());
        self.shards[shard].n_open += 1;
        Ok(taken.map(|(_, connection)| connection))
    }

    pub(super) fn name(&self, socket: u32, end: End) -> io::Result<Address> {
        let endpoint = self.sockets.get(&socket).ok_or(Errno::BADF)?;
        match (&endpoint.role, end) {
            (Role::Connected(connected), End::Here) => Ok(connected.here.clone()),
            (Role::Connected(connected), End::There) => Ok(connected.there.clone()),
            (_, End::There) => Err(Errno::NOTCONN.into()),
            (Role::Listening(Listener { here, .. }) | Role::Deaf { here }, End::Here) => {
                Ok(here.clone())
            }
            (Role::Fresh { from }, End::Here) => {
                let ip = from.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
                Ok(Address::Tcp(SocketAddr::new(ip, 0)))
            }
        }
    }
}

/// The slot in a token's key.
fn slot_of(key: u64) -> usize {
    Token::new(key, Kind::Accept).slot()
}
