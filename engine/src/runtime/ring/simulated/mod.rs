//! The simulated back: one shard's ring over a network in memory.
//!
//! All shards of a simulation share one [`Network`], which is driven by the world's clock and the
//! seed alone. It does what a kernel may do and mostly does not: bytes come in pieces cut at any
//! place, sends end short, accepts and receives end in the middle, buffers run out, windows fill,
//! connections break off or fall silent.
//!
//! ```text
//!   push ─▶ queued ─ enter ─▶ under way ─ its time comes ─▶ due ─ reap ─▶ completion
//! ```
//!
//! What the trait's caller must keep to is asserted: one operation of each kind per socket, tokens
//! that name the socket they come with, no close before the last completion.

mod completions;
mod endpoint;
mod listeners;
mod network;
mod operations;
mod stream;
mod trouble;
#[cfg(test)]
mod tests;

use std::cell::RefMut;
use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

pub(crate) use self::network::Network;
use super::{Address, Completion, End, How, ListenSpec, Op, Pool, Ring, Side, Socket, Token};
use crate::limits::Limits;
use crate::runtime::ShardId;
use crate::runtime::simulated::World;

/// What the seed leaves to chance in the network, and how far it may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NetChance {
    /// Longest time that anything is on its way.
    pub(crate) delay_ns: u64,
    /// Bytes one direction of a connection takes before its reader has read.
    pub(crate) window_bytes: usize,
    /// Of a thousand pieces sent, so many break their connection off.
    pub(crate) reset_per_mille: u32,
    /// Of a thousand pieces sent and of a thousand connects, so many are the last that is heard.
    pub(crate) silence_per_mille: u32,
    /// Sockets that a shard may have open.
    pub(crate) sockets_max: usize,
}

#[cfg(test)]
impl NetChance {
    /// For a world whose network is not used.
    pub(crate) const NONE: Self = Self {
        delay_ns: 0,
        window_bytes: 0,
        reset_per_mille: 0,
        silence_per_mille: 0,
        sockets_max: 0,
    };
}

/// The ring of a simulated shard.
#[derive(Debug)]
pub(crate) struct SimulatedRing {
    world: Rc<World>,
    shard: ShardId,
    buffers: Buffers,
}

/// Buffers for received bytes.
#[derive(Debug)]
struct Buffers {
    pool: Rc<Pool>,
    /// Those that stand ready; the others were handed out.
    n_ready: usize,
    n_max: usize,
}

impl Buffers {
    fn take(&mut self) -> Box<[u8]> {
        self.n_ready -= 1;
        self.pool.take()
    }
}

impl SimulatedRing {
    pub(crate) fn new(world: &Rc<World>, shard: ShardId, limits: &Limits) -> Self {
        let n_max = usize::from(limits.net_buffers);
        let pool = Pool::new(limits.net_buffer_bytes, n_max);
        Self { world: Rc::clone(world), shard, buffers: Buffers { pool, n_ready: n_max, n_max } }
    }

    /// The network, at the world's time.
    fn network(&self) -> RefMut<'_, Network> {
        let mut network = self.world.network.borrow_mut();
        network.now = self.world.clock.get();
        network
    }
}

impl Ring for SimulatedRing {
    fn listen(&mut self, spec: &ListenSpec) -> io::Result<Socket> {
        self.network().listen(self.shard.index(), spec).map(Socket::Simulated)
    }

    /// Nobody else could have opened one.
    fn adopt(&mut self, _descriptor: OwnedFd) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open(&mut self, to: &Address, from: Option<IpAddr>) -> io::Result<Socket> {
        self.network().open(self.shard.index(), to, from).map(Socket::Simulated)
    }

    fn push(&mut self, token: Token, socket: &Socket, op: Op) {
        self.network().push(self.shard.index(), token, socket.simulated(), op);
    }

    fn wants_enter(&mut self) -> bool {
        !self.network().shards[self.shard.index()].queued.is_empty()
    }

    fn enter(&mut self) {
        self.network().enter(self.shard.index());
    }

    fn reap(&mut self, max: usize, into: &mut Vec<Completion>) {
        let mut network = self.world.network.borrow_mut();
        network.now = self.world.clock.get();
        network.reap(self.shard.index(), max, &mut self.buffers, into);
    }

    fn recycle(&mut self) -> usize {
        self.buffers.n_ready = self.buffers.n_max;
        self.buffers.n_ready
    }

    fn shutdown(&mut self, socket: &Socket, side: Side) -> io::Result<()> {
        self.network().shutdown(socket.simulated(), side)
    }

    fn close(&mut self, socket: Socket, how: How) {
        let mut network = self.network();
        // A shard that was killed has nothing left to close.
        if !network.shards[self.shard.index()].ended {
            if how == How::Reset {
                network.reset(socket.simulated());
            }
            network.close(socket.simulated());
        }
    }

    fn turn_away(&mut self, listener: &Socket) {
        self.network().turn_away(listener.simulated());
    }

    fn take_waiting(&mut self, listener: &Socket) -> io::Result<Option<Socket>> {
        let taken = self.network().take_waiting(listener.simulated())?;
        Ok(taken.map(Socket::Simulated))
    }

    fn name(&self, socket: &Socket, end: End) -> io::Result<Address> {
        self.network().name(socket.simulated(), end)
    }

    fn is_ready(&mut self) -> bool {
        self.network().has_due(self.shard, self.world.clock.get())
    }

    fn arm(&mut self) -> bool {
        self.network().arm(self.shard)
    }

    fn disarm(&mut self) {
        self.network().disarm(self.shard);
    }

    /// The simulation asks [`Network::signal_due`].
    fn signal(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Drop for SimulatedRing {
    fn drop(&mut self) {
        let now = self.world.clock.get();
        self.world.network.borrow_mut().end_shard(self.shard, now);
    }
}
