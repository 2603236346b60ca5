//! One client: its connection, and where in its row of requests and replies it is.
//!
//! Replies come in the order of their requests, so a line is two numbers: the next request's and
//! the next reply's. Both go on from phase to phase.

use std::cell::{Cell, RefCell};
use std::io;

use forebay::net::Connection;

use super::wire::{Front, Place, Wire};

/// A client's connection.
pub(super) struct Line {
    connection: Connection,
    wire: Wire,
    id: u64,
    next_request: Cell<u64>,
    next_reply: Cell<u64>,
    /// The beginning of a reply whose rest has not come.
    rest: RefCell<Vec<u8>>,
}

impl Line {
    pub(super) fn new(connection: Connection, wire: Wire, id: u64) -> Self {
        Self {
            connection,
            wire,
            id,
            next_request: Cell::new(0),
            next_reply: Cell::new(0),
            rest: RefCell::default(),
        }
    }

    /// Appends the next request.
    pub(super) fn put_request(&self, out: &mut Vec<u8>) {
        let number = self.next_request.get();
        self.next_request.set(number + 1);
        self.wire.put_request(Place { connection: self.id, number }, out);
    }

    /// Sends what was put.
    pub(super) async fn send(&self, out: &mut Vec<u8>) -> io::Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        self.connection.write(std::mem::take(out)).await
    }

    /// Waits for bytes and gives every whole reply among them to `each`, as what is wrong with it.
    /// Dropped before it is ready, it has taken nothing.
    pub(super) async fn receive(&self, each: impl FnMut(Option<String>)) -> io::Result<()> {
        match self.connection.read().await? {
            Some(chunk) => self.take_replies(&chunk, each),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn take_replies(&self, chunk: &[u8], each: impl FnMut(Option<String>)) -> io::Result<()> {
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

    /// Takes whole replies off the front, and tells how many bytes they are.
    fn take_whole(
        &self,
        received: &[u8],
        mut each: impl FnMut(Option<String>),
    ) -> io::Result<usize> {
        let mut taken = 0;
        while taken < received.len() {
            let number = self.next_reply.get();
            let unasked = || io::Error::other("a reply to no request");
            let place = Place { connection: self.id, number };
            match self.wire.front(place, &received[taken..]) {
                Front::Part => break,
                Front::Garbage(what) => return Err(io::Error::other(what)),
                Front::Reply { .. } if number == self.next_request.get() => return Err(unasked()),
                Front::Reply { bytes, wrong } => {
                    taken += bytes;
                    self.next_reply.set(number + 1);
                    each(wrong);
                }
            }
        }
        Ok(taken)
    }

    /// Closes without waiting: no port stays behind for a minute.
    pub(super) fn abort(self) {
        self.connection.abort();
    }
}
