//! Clients that keep one connection each throughout, never pause, and may pipeline on it.
//!
//! What they say differs from workload to workload and is a [`Dialogue`]; how they are connected,
//! driven in closed loops or by a schedule, looked at once more and closed is the same for all.
//!
//! ```text
//! course: fleet: connect all, greet ─► phase: a talk on each line, loops or a schedule ─► fleet: last look
//!                                        talk ─► line ─► dialogue: put_request, take_reply
//! ```

mod line;
mod fleet;
mod due;
mod talk;
mod phase;
mod course;

use crate::load::Ended;

pub(crate) use course::{Driven, drive};
pub(crate) use phase::Order;

/// What is said on one connection. Replies come in the order of their requests.
pub(crate) trait Dialogue {
    /// Appends what is said first, alone, before anything is measured. A request like any other,
    /// unless that would leave something behind.
    fn put_greeting(&mut self, out: &mut Vec<u8>) {
        self.put_request(out);
    }

    /// Appends the next request.
    fn put_request(&mut self, out: &mut Vec<u8>);

    /// Takes the next whole reply off the front of what was received, and tells how its request has
    /// ended; `None` if its rest has not come yet. May leave part of a reply where it is: it comes
    /// again, with what follows.
    ///
    /// # Errors
    /// In words, when what stands there is no reply: then what follows cannot be read either.
    fn take_reply(&mut self, received: &mut &[u8]) -> Result<Option<Ended>, String>;
}
