//! The sockets of one shard: a slot for each, from its opening to the last completion.
//!
//! Whatever happens to a socket changes its slot's state and puts it on the list of those to be
//! stepped; the turn steps them once, after everything else, and enters the ring. A slot outlives
//! its handle until nothing of it is under way, so a completion always finds whom it is for.

mod after;
mod complete;
mod step;
mod drain;
mod end;
mod time;

use after::After;

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use slotmap::{Key, KeyData, SlotMap, new_key_type};

use super::fault::Fault;
use super::listening::Listening;
use super::options::{ConnectionOptions, ListenOptions};
use super::stream::Stream;
use crate::metrics::{NetMetrics, NetSnapshot};
use crate::runtime::Time;
use crate::runtime::core::Core;
use crate::runtime::ring::{Address, Completion, Outgoing, Pool, Ring, Socket, Token};
use crate::runtime::wheel::TimerId;

new_key_type! {
    /// Names a socket of one shard; never that of another that came later.
    pub(crate) struct SlotKey;
}

impl SlotKey {
    pub(in crate::net) fn bits(self) -> u64 {
        self.data().as_ffi()
    }

    pub(in crate::net) fn from_bits(bits: u64) -> Self {
        KeyData::from_ffi(bits).into()
    }
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are streams: a box would only cost")]
enum State {
    Stream(Stream),
    Listening(Box<Listening>),
}

#[derive(Debug)]
struct Slot {
    /// Gone once it has closed; the slot stays as long as somebody holds the connection.
    socket: Option<Socket>,
    state: State,
    /// On the list of those to be stepped.
    listed: bool,
    /// In the line of those that wait for a buffer.
    starved: bool,
    timer: Option<(TimerId, Time)>,
}

/// The table, behind the one borrow of [`Net`](super::Net).
#[derive(Debug)]
pub(in crate::net) struct Table {
    core: Rc<Core>,
    ring: Box<dyn Ring>,
    slots: SlotMap<SlotKey, Slot>,
    /// To be stepped at the end of the turn.
    listed: Vec<SlotKey>,
    /// Connections that found no buffer to receive into, each once.
    starved: VecDeque<SlotKey>,
    after: After,
    /// There were buffers for some of the starved, and the next turn may have more.
    feeds: bool,
    /// Reused from turn to turn.
    completions: Vec<Completion>,
    timers: usize,
    /// Sockets that have not closed.
    open: usize,
    metrics: NetMetrics,
}

impl Table {
    pub(in crate::net) fn new(core: Rc<Core>, ring: Box<dyn Ring>) -> Self {
        Self {
            core,
            ring,
            slots: SlotMap::with_key(),
            listed: Vec::new(),
            starved: VecDeque::new(),
            feeds: false,
            after: After::default(),
            completions: Vec::new(),
            timers: 0,
            open: 0,
            metrics: NetMetrics::default(),
        }
    }

    pub(in crate::net) fn ring(&mut self) -> &mut dyn Ring {
        &mut *self.ring
    }

    /// Takes what is to be done when the borrow has ended, if there is any.
    pub(in crate::net) fn take_after(&mut self) -> Option<After> {
        (!self.after.is_empty()).then(|| std::mem::take(&mut self.after))
    }

    /// Gives the emptied lists back, for the next turn.
    pub(in crate::net) fn put_after(&mut self, after: After) {
        debug_assert!(after.is_empty(), "all of it was done");
        if self.after.is_empty() {
            self.after = after;
        }
    }

    pub(in crate::net) fn open(&self) -> usize {
        self.open
    }

    pub(in crate::net) fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Whether a connection that nobody holds has still something to send.
    pub(in crate::net) fn has_unsent(&self) -> bool {
        let is_unsent = |slot: &Slot| match &slot.state {
            State::Stream(stream) => !stream.is_held() && stream.flushed() == Ok(false),
            State::Listening(_) => false,
        };
        self.slots.values().any(is_unsent)
    }

    /// Timers that stand for bounds of sockets.
    pub(in crate::net) fn timers(&self) -> usize {
        self.timers
    }

    /// Whether something is to be stepped, or fed.
    pub(in crate::net) fn has_listed(&self) -> bool {
        !self.listed.is_empty() || self.feeds
    }

    pub(in crate::net) fn snapshot(&self) -> NetSnapshot {
        self.metrics.snapshot(self.open)
    }

    fn insert(&mut self, socket: Socket, state: State) -> SlotKey {
        assert!(self.slots.len() < Token::SLOTS - 1, "a shard holds fewer than 2^24 sockets");
        let slot = Slot { socket: Some(socket), state, listed: false, starved: false, timer: None };
        let key = self.slots.insert(slot);
        self.open += 1;
        self.list(key);
        key
    }

    pub(in crate::net) fn add_listener(
        &mut self,
        socket: Socket,
        options: ListenOptions,
    ) -> SlotKey {
        self.insert(socket, State::Listening(Box::new(Listening::new(options))))
    }

    pub(in crate::net) fn add_connecting(
        &mut self,
        socket: Socket,
        to: Address,
        options: ConnectionOptions,
    ) -> SlotKey {
        self.metrics.connected.add(1);
        self.insert(socket, State::Stream(Stream::connecting(to, options, self.core.now())))
    }

    pub(in crate::net) fn stream(&mut self, key: SlotKey) -> Result<&mut Stream, Fault> {
        match self.slots.get_mut(key).map(|slot| &mut slot.state) {
            Some(State::Stream(stream)) => Ok(stream),
            _ => Err(Fault::Closed),
        }
    }

    pub(in crate::net) fn listener(&mut self, key: SlotKey) -> Result<&mut Listening, Fault> {
        match self.slots.get_mut(key).map(|slot| &mut slot.state) {
            Some(State::Listening(listening)) => Ok(listening),
            _ => Err(Fault::Closed),
        }
    }

    pub(in crate::net) fn socket(&mut self, key: SlotKey) -> io::Result<(&Socket, &dyn Ring)> {
        let socket = self.slots.get(key).and_then(|slot| slot.socket.as_ref());
        Ok((socket.ok_or_else(|| Fault::Closed.error())?, &*self.ring))
    }

    /// Sees to it that the socket is stepped at the end of the turn.
    pub(in crate::net) fn list(&mut self, key: SlotKey) {
        if let Some(slot) = self.slots.get_mut(key)
            && !std::mem::replace(&mut slot.listed, true)
        {
            self.listed.push(key);
        }
    }

    /// Queues bytes to be sent by a connection.
    pub(in crate::net) fn queue(&mut self, key: SlotKey, bytes: Outgoing) {
        match self.slots.get_mut(key).map(|slot| &mut slot.state) {
            Some(State::Stream(stream)) => stream.sending().queue(bytes, &mut self.after.spent),
            _ => return self.after.spent.push(bytes),
        }
        self.list(key);
    }

    pub(in crate::net) fn queue_copy(&mut self, key: SlotKey, bytes: &[u8], pool: &Rc<Pool>) {
        if let Some(State::Stream(stream)) = self.slots.get_mut(key).map(|slot| &mut slot.state) {
            stream.sending().queue_copy(bytes, pool, &mut self.after.spent);
            self.list(key);
        }
    }
}
