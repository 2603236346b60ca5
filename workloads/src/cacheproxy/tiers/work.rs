//! What is under way on one key, and what its operations carry with them. Pure.
//!
//! A key has such a record while somebody is at work on it. What it tells decides who changes the copy
//! and how, which the ledger of all keys does.

use forebay::Time;

use super::copied::Copied;
use super::doubts::Ticket;
use crate::cacheproxy::operation::What;

/// What is under way on one key.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Writes that the lower tier has not answered.
    pub(super) n_below: usize,
    /// Changes that the upper tier has not answered.
    pub(super) n_above: usize,
    pub(super) newest_write: Option<Ticket>,
    /// The newest write that has changed the item, or may have, if the copy has not been made right since.
    pub(super) changed: Option<Ticket>,
    /// Somebody reads below to make a copy.
    pub(super) is_read: bool,
}

/// A write that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    pub(super) ticket: Ticket,
    pub(super) begun_at: Time,
    pub(super) before: Before,
}

/// A read that is to make a copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read(pub(super) Ticket);

/// What the copy of a key was when a write began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Trusted,
    Doubted,
}

/// Whether a write was answered below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// It may be done yet.
    No,
    /// It was not asked.
    NotSent,
    Yes,
}

/// A change of a copy, to be asked for at once.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) what: What,
    pub(super) cause: ChangeCause,
    pub(super) begun: Ticket,
    /// When the lower tier was asked for what it answered before this; `None` where it has not answered.
    pub(super) asked_at: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeCause {
    Read,
    /// The newest write that this takes care of.
    Write(Ticket),
    Doubt,
}

/// What has become of a copy that was to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Above {
    /// It is as it should be, or there is none.
    Right,
    /// It was not changed.
    Old,
    /// It may have been changed, or may be yet.
    Unanswered,
}

impl Work {
    pub(super) fn is_doubted(&self) -> bool {
        let is_changing = self.newest_write.is_some() && self.n_above > 0;
        self.n_below > 0 || self.changed.is_some() || is_changing
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.n_below == 0 && self.n_above == 0 && !self.is_read
    }

    pub(super) fn end_below(&mut self, write: Ticket, copied: &Copied) {
        self.n_below -= 1;
        if *copied != Copied::Same {
            self.changed = self.changed.max(Some(write));
        }
    }
}
