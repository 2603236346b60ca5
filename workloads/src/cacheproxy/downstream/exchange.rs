//! One batch on one connection: its replies, up to the last or to the moment when there is no more
//! hope of one.
//!
//! A server has `answer_ms` for the first outcome, and as long for each after the one before it: a
//! batch of large values takes as long as its server sends, and one that sends a byte now and then is
//! cut. How long it may take in all is its stage's to say (`run_max`).
//!
//! Nothing of a connection survives doubt. A reply that cannot be due, an end, a deadline, or an
//! exchange that is dropped half-way: each cuts the connection off, with whatever of the batch still
//! waits to be sent.

use std::mem::replace;

use forebay::Time;
use forebay::net::Connection;

use super::pool::Pool;
use crate::cacheproxy::operation::Outcome;
use crate::cacheproxy::wire::Replies;

/// Why the rest of a batch has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The connection has ended: the server has closed it, or has never had it.
    Lost,
    /// It was too slow.
    Late,
    /// What it said was no reply.
    Malformed,
}

/// Takes the replies to one batch.
#[derive(Debug)]
pub(super) struct Exchange<'pool> {
    pool: &'pool Pool,
    state: State,
    replies: Replies,
    /// For the next outcome.
    deadline: Time,
}

/// `Open → Done | Cut`
#[derive(Debug)]
enum State {
    Open(Connection),
    /// All has been told, and the connection is idle again.
    Done,
    Cut(Broken),
}

impl<'pool> Exchange<'pool> {
    pub(super) fn new(pool: &'pool Pool, connection: Connection, replies: Replies) -> Self {
        let state = State::Open(connection);
        let mut exchange = Self { pool, state, replies, deadline: Time::ZERO };
        exchange.await_next();
        exchange
    }

    fn await_next(&mut self) {
        if let State::Open(connection) = &self.state {
            self.deadline = forebay::now().after(self.pool.answer_within());
            connection.read_by(Some(self.deadline));
        }
    }

    /// The operations without an outcome: the last of the batch, since outcomes come in order.
    pub(super) fn n_due(&self) -> usize {
        self.replies.n_due()
    }

    /// Takes the next outcomes, as many as have come, with the indices of their operations; `None`
    /// after the last.
    ///
    /// # Errors
    ///
    /// [`Broken`]: nothing more will come. Those that have no outcome yet may have been done.
    pub(super) async fn told(&mut self) -> Result<Option<Vec<(usize, Outcome)>>, Broken> {
        let mut told = Vec::new();
        // Some outcomes need no bytes.
        self.decode(&[], &mut told);
        while told.is_empty() {
            if self.replies.is_done() {
                self.finish();
            }
            let connection = match &self.state {
                State::Open(connection) => connection,
                State::Done => return Ok(None),
                State::Cut(why) => return Err(*why),
            };
            match connection.read().await {
                Ok(Some(chunk)) => self.decode(&chunk, &mut told),
                Err(_error) if forebay::now() >= self.deadline => self.cut(Broken::Late),
                Ok(None) | Err(_) => self.cut(Broken::Lost),
            }
        }
        self.await_next();
        Ok(Some(told))
    }

    /// What came before a reply that cannot be due was in order, and is told.
    fn decode(&mut self, mut bytes: &[u8], told: &mut Vec<(usize, Outcome)>) {
        loop {
            match self.replies.decode(&mut bytes) {
                Ok(Some(outcome)) => told.push(outcome),
                Ok(None) if bytes.is_empty() => return,
                // One batch is under way at a time, so nobody has asked for what is left.
                Ok(None) | Err(_) => return self.cut(Broken::Malformed),
            }
        }
    }

    fn finish(&mut self) {
        if let State::Open(connection) = replace(&mut self.state, State::Done) {
            self.pool.give_back(connection);
        }
    }

    fn cut(&mut self, why: Broken) {
        if let State::Open(connection) = replace(&mut self.state, State::Cut(why)) {
            connection.abort();
            self.pool.failed();
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.cut(Broken::Late);
    }
}
