//! One client: its connection, and where in its row of requests and replies it is.
//!
//! Replies come in the order of their requests, so a line is two numbers: the next request's and
//! the next reply's. Both go on from phase to phase. A line that broke, or whose server sent what is
//! no reply, stays over: whoever uses it again is told so at once.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use forebay::net::Connection;
use futures_lite::future::{or, ready};

use super::wire::{Front, Place, Wire};
use crate::troubles::Troubles;

/// A client's connection.
pub(super) struct Line {
    connection: Connection,
    wire: Wire,
    id: u64,
    next_request: Cell<u64>,
    next_reply: Cell<u64>,
    /// The beginning of a reply whose rest has not come.
    rest: RefCell<Vec<u8>>,
    over: Cell<bool>,
    troubles: Rc<RefCell<Troubles>>,
}

/// Why a line is over; it has been noted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The connection is lost.
    Lost,
    /// What came is no reply, or one that nobody asked for, in words.
    Garbage(String),
}

impl Line {
    pub(super) fn new(
        connection: Connection,
        wire: Wire,
        id: u64,
        troubles: &Rc<RefCell<Troubles>>,
    ) -> Self {
        Self {
            connection,
            wire,
            id,
            next_request: Cell::new(0),
            next_reply: Cell::new(0),
            rest: RefCell::default(),
            over: Cell::new(false),
            troubles: Rc::clone(troubles),
        }
    }

    /// Appends the next request.
    pub(super) fn put_request(&self, out: &mut Vec<u8>) {
        let number = self.next_request.get();
        self.next_request.set(number + 1);
        self.wire.put_request(Place { connection: self.id, number }, out);
    }

    /// Sends what was put.
    pub(super) async fn send(&self, out: &mut Vec<u8>) -> Result<(), Over> {
        if self.over.get() {
            return Err(Over::Lost);
        }
        if out.is_empty() {
            return Ok(());
        }
        self.connection.write(std::mem::take(out)).await.map_err(|error| self.lose(&error))
    }

    /// Waits for bytes and gives every whole reply among them to `each`, as what is wrong with it.
    /// Dropped before it is ready, it has taken nothing.
    pub(super) async fn receive(&self, each: impl FnMut(Option<String>)) -> Result<(), Over> {
        if self.over.get() {
            return Err(Over::Lost);
        }
        match self.connection.read().await {
            Ok(Some(chunk)) => self.take_replies(&chunk, each).map_err(|what| self.refuse(what)),
            Ok(None) => Err(self.lose(&io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(self.lose(&error)),
        }
    }

    /// Looks whether anything has come that was not waited for, or the connection is gone.
    pub(super) async fn look(&self) {
        // The line has noted what is wrong, whatever it is.
        let _over = or(self.receive(|_| ()), ready(Ok(()))).await;
        let n_left = self.rest.borrow().len();
        if n_left > 0 && !self.over.get() {
            self.refuse(format!("connection {}: {n_left} bytes that nobody asked for", self.id));
        }
    }

    #[cold]
    fn lose(&self, error: &io::Error) -> Over {
        if !self.over.replace(true) {
            self.troubles.borrow_mut().note_break(self.id, error);
        }
        Over::Lost
    }

    #[cold]
    fn refuse(&self, what: String) -> Over {
        self.over.set(true);
        self.troubles.borrow_mut().note_wrong(&what);
        Over::Garbage(what)
    }

    fn take_replies(&self, chunk: &[u8], each: impl FnMut(Option<String>)) -> Result<(), String> {
        let mut rest = self.rest.borrow_mut();
        if rest.is_empty() {
            // As good as always: a chunk is whole replies, and is not copied.
            let taken = self.take_whole(chunk, each)?;
            rest.extend_from_slice(&chunk[taken..]);
        } else {
            rest.extend_from_slice(chunk);
            let taken = self.take_whole(&rest, each)?;
            rest.drain(..taken);
        }
        Ok(())
    }

    /// Takes whole replies off the front, and tells how many bytes they are, or why what follows
    /// is none.
    fn take_whole(
        &self,
        received: &[u8],
        mut each: impl FnMut(Option<String>),
    ) -> Result<usize, String> {
        let mut taken = 0;
        while taken < received.len() {
            let number = self.next_reply.get();
            let place = Place { connection: self.id, number };
            match self.wire.front(place, &received[taken..]) {
                Front::Part => break,
                Front::Garbage(what) => return Err(format!("connection {}: {what}", self.id)),
                Front::Reply { .. } if number == self.next_request.get() => {
                    return Err(format!("connection {}: a reply to no request", self.id));
                }
                Front::Reply { bytes, wrong } => {
                    taken += bytes;
                    self.next_reply.set(number + 1);
                    if let Some(what) = &wrong {
                        self.troubles.borrow_mut().note_wrong(what);
                    }
                    each(wrong);
                }
            }
        }
        Ok(taken)
    }

    /// Closes without waiting for what is under way, by a reset: a connection that ended in order
    /// would keep its port for a minute. (The reset is `Connection::abort`'s, which sets the linger
    /// time to 0.)
    pub(super) fn abort(self) {
        self.connection.abort();
    }
}
