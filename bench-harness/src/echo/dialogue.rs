//! What one client of the echo says: messages or requests for pages, numbered from 0.
//!
//! Replies come in the order of their requests, so a dialogue is two numbers: the next request's and
//! the next reply's. Both go on from phase to phase.

use super::wire::{Front, Place, Wire};
use crate::load::Ended;
use crate::streams::Dialogue;

/// One client's side.
#[derive(Debug)]
pub(super) struct Echoes {
    wire: Wire,
    connection: u64,
    next_request: u64,
    next_reply: u64,
}

impl Echoes {
    pub(super) fn new(wire: Wire, connection: u64) -> Self {
        Self { wire, connection, next_request: 0, next_reply: 0 }
    }

    fn place(&self, number: u64) -> Place {
        Place { connection: self.connection, number }
    }
}

impl Dialogue for Echoes {
    fn put_request(&mut self, out: &mut Vec<u8>) {
        self.wire.put_request(self.place(self.next_request), out);
        self.next_request += 1;
    }

    fn take_reply(&mut self, received: &mut &[u8]) -> Result<Option<Ended>, String> {
        match self.wire.front(self.place(self.next_reply), received) {
            Front::Part => Ok(None),
            Front::Garbage(what) => Err(what),
            Front::Reply { .. } if self.next_reply == self.next_request => {
                Err("a reply to no request".to_owned())
            }
            Front::Reply { bytes, wrong } => {
                *received = &received[bytes..];
                self.next_reply += 1;
                Ok(Some(wrong.map_or(Ended::Right, Ended::Wrong)))
            }
        }
    }
}
