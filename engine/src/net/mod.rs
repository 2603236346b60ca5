//! Sockets of a shard: listeners and connections, under any protocol crate.
//!
//! A connection gives the bytes as they came ([`Connection::read`]) and takes owned bytes
//! ([`Connection::write`]), which leave together at the end of the turn. Protocol crates use it
//! through the traits they know: `futures-io` directly, hyper's through `HyperIo` (feature `hyper`),
//! tokio's through `TokioIo` (feature `tokio`).
//!
//! ```text
//!   handle:  read, write, close ──▶ slot's state, listed
//!   turn:    reap ─▶ told, readers and writers woken ··· step the listed ─▶ push ─▶ enter
//! ```

mod options;
mod fault;
mod pieces;
mod receiving;
mod sending;
mod stream;
mod listening;
mod table;
mod connection;
mod listener;
mod copying;
mod futures_io;
#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(test)]
mod tests;

pub use connection::Connection;
#[cfg(feature = "hyper")]
pub use hyper::{HyperIo, HyperTimer};
pub use listener::Listener;
pub use options::{ConnectOptions, ConnectionOptions, ListenOptions};
#[cfg(feature = "tokio")]
pub use tokio::TokioIo;

pub use crate::runtime::ring::{
    Address, AddressError, Chunk, Outgoing, Passed, PassedError, SocketBack, Sockets,
};

use std::cell::RefCell;
use std::rc::Rc;

use table::{SlotKey, Table};

use crate::metrics::NetSnapshot;
use crate::runtime::core::Core;
use crate::runtime::ring::{Pool, Ring};

/// The sockets of one shard.
#[derive(Debug)]
pub(crate) struct Net {
    core: Rc<Core>,
    table: RefCell<Table>,
    /// For bytes that are copied to be sent.
    pool: Rc<Pool>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Net>>> = const { RefCell::new(None) };
}

impl Net {
    pub(crate) fn new(core: Rc<Core>, ring: Box<dyn Ring>) -> Rc<Self> {
        let limits = core.limits();
        let pool = Pool::new(limits.net_buffer_bytes, usize::from(limits.net_buffers));
        Rc::new(Self { table: RefCell::new(Table::new(Rc::clone(&core), ring)), pool, core })
    }

    /// Makes these the current shard's sockets and gives those that were before.
    pub(crate) fn swap_current(net: Option<Rc<Self>>) -> Option<Rc<Self>> {
        CURRENT.with(|current| std::mem::replace(&mut *current.borrow_mut(), net))
    }

    fn current() -> Rc<Self> {
        let current = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten();
        current.expect("sockets belong to a shard: open them inside a request or background work")
    }

    /// Works on the table, and then does what may be foreign code.
    fn with<R>(&self, work: impl FnOnce(&mut Table) -> R) -> R {
        let mut table = self.table.borrow_mut();
        let result = work(&mut table);
        let after = table.take_after();
        drop(table);
        if let Some(mut after) = after {
            after.run();
            self.table.borrow_mut().put_after(after);
        }
        result
    }

    /// Takes in what the ring has done; tells how many operations that concerned.
    pub(crate) fn reap(&self) -> usize {
        self.with(Table::reap)
    }

    /// Begins what has been asked for since.
    pub(crate) fn submit(&self) {
        self.with(Table::submit);
    }

    /// Whether something has been asked for that no `submit` has begun.
    pub(crate) fn has_listed(&self) -> bool {
        self.table.borrow().has_listed()
    }

    /// Whether the next turn has something to do here: operations to be begun, completions.
    pub(crate) fn is_ready(&self) -> bool {
        let mut table = self.table.borrow_mut();
        table.has_listed() || table.ring().wants_enter() || table.ring().is_ready()
    }

    /// The shard is about to sleep; tells whether something has come already.
    pub(crate) fn arm(&self) -> bool {
        let mut table = self.table.borrow_mut();
        table.ring().arm() || table.has_listed() || table.ring().wants_enter()
    }

    /// The shard is awake.
    pub(crate) fn disarm(&self) {
        self.table.borrow_mut().ring().disarm();
    }

    /// A timer of a socket has fired.
    pub(crate) fn on_time(&self, socket: u64) {
        self.with(|table| table.on_time(SlotKey::from_bits(socket)));
    }

    /// Timers that stand for bounds of sockets.
    pub(crate) fn timers(&self) -> usize {
        self.table.borrow().timers()
    }

    /// Nobody more can connect: who has is handed out, then the listeners close.
    pub(crate) fn drain_listeners(&self) {
        self.with(Table::drain_listeners);
    }

    /// Whether somebody has connected, or may have, whom a listener that drains has not handed out.
    pub(crate) fn has_unaccepted(&self) -> bool {
        self.table.borrow().has_unaccepted()
    }

    /// Everything closes when what was written has left, whoever holds it.
    pub(crate) fn release_all(&self) {
        self.with(Table::release_all);
    }

    /// Everything closes at once.
    pub(crate) fn close_all(&self) {
        self.with(Table::close_all);
    }

    /// Whether a connection that nobody holds has still something to send.
    pub(crate) fn has_unsent(&self) -> bool {
        self.table.borrow().has_unsent()
    }

    /// Sockets that have not closed.
    pub(crate) fn open(&self) -> usize {
        self.table.borrow().open()
    }

    /// Whether every socket has closed.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.borrow().is_empty()
    }

    pub(crate) fn snapshot(&self) -> NetSnapshot {
        self.table.borrow().snapshot()
    }
}
