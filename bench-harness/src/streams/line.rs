//! One client's connection, and the bytes on it that are no whole reply yet.
//!
//! A line that broke, or whose server sent what is no reply, stays over: whoever uses it again is
//! told so at once.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use forebay::net::Connection;
use futures_lite::future::{or, ready};

use super::Dialogue;
use crate::load::Ended;
use crate::troubles::Troubles;

/// A client's connection.
pub(super) struct Line<D> {
    connection: Connection,
    id: u64,
    dialogue: RefCell<D>,
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

impl<D: Dialogue> Line<D> {
    pub(super) fn new(
        connection: Connection,
        id: u64,
        dialogue: D,
        troubles: &Rc<RefCell<Troubles>>,
    ) -> Self {
        Self {
            connection,
            id,
            dialogue: RefCell::new(dialogue),
            rest: RefCell::default(),
            over: Cell::new(false),
            troubles: Rc::clone(troubles),
        }
    }

    /// Appends what is said first.
    pub(super) fn put_greeting(&self, out: &mut Vec<u8>) {
        self.dialogue.borrow_mut().put_greeting(out);
    }

    /// Appends the next request.
    pub(super) fn put_request(&self, out: &mut Vec<u8>) {
        self.dialogue.borrow_mut().put_request(out);
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

    /// Waits for bytes and gives every whole reply among them to `each`, as the end of its request.
    /// Dropped before it is ready, it has taken nothing.
    pub(super) async fn receive(&self, each: impl FnMut(Ended)) -> Result<(), Over> {
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
            self.refuse(format!("{n_left} bytes that nobody asked for"));
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
        let what = format!("connection {}: {what}", self.id);
        self.troubles.borrow_mut().note_wrong(&what);
        Over::Garbage(what)
    }

    fn take_replies(&self, chunk: &[u8], each: impl FnMut(Ended)) -> Result<(), String> {
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

    /// Takes whole replies off the front, and tells how many bytes were taken, or why what follows
    /// is none.
    fn take_whole(&self, received: &[u8], mut each: impl FnMut(Ended)) -> Result<usize, String> {
        let mut left = received;
        let mut dialogue = self.dialogue.borrow_mut();
        while !left.is_empty() {
            let Some(ended) = dialogue.take_reply(&mut left)? else { break };
            if let Ended::Wrong(what) = &ended {
                self.troubles.borrow_mut().note_wrong(what);
            }
            each(ended);
        }
        Ok(received.len() - left.len())
    }

    /// Closes without waiting for what is under way, by a reset: a connection that ended in order
    /// would keep its port for a minute. (The reset is `Connection::abort`'s, which sets the linger
    /// time to 0.)
    pub(super) fn abort(self) {
        self.connection.abort();
    }
}
