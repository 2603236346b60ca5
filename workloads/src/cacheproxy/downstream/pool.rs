//! The connections of one shard to one server: made when needed, kept, given up when in doubt.
//!
//! ```text
//!   a batch ──▶ one that is idle ───────────▶ Exchange ──▶ answered whole: idle again
//!       └─ none ─▶ pause over? connect ──▶       └─ broken, late, dropped: cut off
//!                    │ fails ─▶ pause
//! ```
//!
//! A batch has a connection for itself, so there are never more than batches in flight, and a reply
//! can only belong to what this batch has asked. While a pause lasts, batches fail at once: a server
//! that is gone costs its callers an answer and not their time. Only what was tried counts for the
//! breaker of the stage, which opens when a server fails again and again.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use forebay::net::{Address, ConnectOptions, Connection, ConnectionOptions};
use forebay::{Batch, ShardId, Stage};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

use super::backoff::Backoff;
use super::config::ServerLimits;
use super::exchange::Exchange;
use crate::cacheproxy::operation::{Failure, Operation};
use crate::cacheproxy::wire::{Dialect, bytes_about, encode};

/// Which connection a batch takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// One that is idle, or a new one.
    Any,
    /// A new one, at once: that of this batch has just ended, and the other idle ones are not believed
    /// either.
    New,
}

/// Why nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotSent {
    /// A pause lasts, so nothing was tried.
    Pausing,
    /// No connection could be made, or one broke at once.
    Unreachable,
}

impl NotSent {
    /// What the operations of the batch come to. What fails in a pause says nothing new of the server:
    /// if it counted, one connection that is lost would open the breaker.
    pub(super) fn fail<S: Stage>(self, batch: &Batch<S>) -> Failure {
        if self == Self::Pausing {
            batch.not_sent();
        }
        Failure::Unavailable
    }
}

/// How servers are spoken to.
pub(super) const DIALECT: Dialect = Dialect::Text;

/// The connections of one shard to one server, for reads or for writes.
#[derive(Debug)]
pub(super) struct Pool {
    address: Address,
    limits: ServerLimits,
    /// At most as many as batches in flight: another is made only when none is idle.
    idle: RefCell<Vec<Connection>>,
    backoff: RefCell<Backoff>,
    random: RefCell<Xoshiro256PlusPlus>,
}

impl Pool {
    /// `seed` sets the pauses; each shard draws its own.
    pub(super) fn new(address: Address, limits: ServerLimits, seed: u64, shard: ShardId) -> Self {
        let ms = |ms: u32| Duration::from_millis(ms.into());
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        for _before in 0..shard.index() {
            // Sequences of this length never meet.
            random.jump();
        }
        Self {
            address,
            limits,
            idle: RefCell::default(),
            backoff: RefCell::new(Backoff::new(ms(limits.pause_ms), ms(limits.pause_max_ms))),
            random: RefCell::new(random),
        }
    }

    /// Sends a batch, and gives what takes its replies.
    ///
    /// # Errors
    ///
    /// There is no connection, and none could be made or was to be tried.
    pub(super) async fn send(
        &self,
        operations: &[&Operation],
        take: Take,
    ) -> Result<Exchange<'_>, NotSent> {
        let connection = match self.take_idle(take).await {
            Some(connection) => connection,
            None => self.connect(take).await?,
        };
        let n_bytes = operations.iter().map(|operation| bytes_about(operation)).sum();
        let mut bytes = Vec::with_capacity(n_bytes);
        let replies = encode(DIALECT, operations.iter().copied(), &mut bytes)
            .bounded(self.limits.value_bytes_max);
        // It never waits: all that the connection had to send before has been answered.
        if !bytes.is_empty() && connection.write(bytes).await.is_err() {
            connection.abort();
            return Err(NotSent::Unreachable);
        }
        Ok(Exchange::new(self, connection, replies))
    }

    async fn take_idle(&self, take: Take) -> Option<Connection> {
        if take == Take::New {
            self.idle.borrow_mut().clear();
        }
        loop {
            let connection = self.idle.borrow_mut().pop()?;
            if is_idle(&connection).await {
                return Some(connection);
            }
        }
    }

    /// A connection that nobody has used. It is in no pool until it is given back.
    ///
    /// # Errors
    ///
    /// None could be made, or was to be tried.
    pub(super) async fn connect(&self, take: Take) -> Result<Connection, NotSent> {
        // The second half of a try is not held back by the end of its first half.
        if take == Take::Any && !self.backoff.borrow().may_try(forebay::now()) {
            return Err(NotSent::Pausing);
        }
        let options = ConnectOptions {
            within: self.limits.connect_within(),
            connection: ConnectionOptions {
                write_within: self.limits.answer_within(),
                ..ConnectionOptions::default()
            },
            ..ConnectOptions::default()
        };
        let connected = Connection::connect(&self.address, options).await;
        connected.map_err(|_error| {
            self.failed();
            NotSent::Unreachable
        })
    }

    pub(super) fn answer_within(&self) -> Duration {
        self.limits.answer_within()
    }

    /// A connection was of no use.
    pub(super) fn failed(&self) {
        let random = self.random.borrow_mut().next_u64();
        self.backoff.borrow_mut().failed(forebay::now(), random);
    }

    /// All that was asked on the connection has been answered.
    pub(super) fn give_back(&self, connection: Connection) {
        connection.read_by(None);
        self.backoff.borrow_mut().answered();
        self.idle.borrow_mut().push(connection);
    }
}

/// Whether nothing has come on a connection on which nothing was asked: no bytes, no end.
async fn is_idle(connection: &Connection) -> bool {
    let mut read = pin!(connection.read());
    poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx).is_pending())).await
}
