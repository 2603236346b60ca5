//! A call's part in what is under way on a key: told to the ledger when it ends, and when its caller
//! vanishes half-way.

use std::cell::RefCell;

use forebay::now;

use super::copied::Copied;
use super::ledger::Ledger;
use super::work::{Above, Answered, Change, Read, Write};
use crate::cacheproxy::operation::{Failure, Key, What};

/// What a call does with a key until this is dropped.
#[derive(Debug)]
pub(super) struct Part<'a> {
    ledger: &'a RefCell<Ledger>,
    key: &'a Key,
    phase: Phase,
}

/// How far it is. `Written ─▶ Above ─▶ Over`, `Read ─▶ Above ─▶ Over`
#[derive(Debug)]
pub(super) enum Phase {
    /// It changes the item below.
    Written(Write),
    /// It reads the item below, to make a copy.
    Read(Read),
    /// It changes the copy above.
    Above(Change),
    Over,
}

impl<'a> Part<'a> {
    pub(super) const fn new(ledger: &'a RefCell<Ledger>, key: &'a Key, phase: Phase) -> Self {
        Self { ledger, key, phase }
    }

    /// The lower tier has answered, or failed to; `copied` says what that means for the copy. Gives
    /// what is to be asked of the upper tier at once, if anything.
    pub(super) fn below(&mut self, copied: Copied, answered: Answered) -> Option<What> {
        let mut ledger = self.ledger.borrow_mut();
        let change = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Written(write) => ledger.end_write(self.key, write, copied, answered),
            Phase::Read(read) => ledger.end_read(self.key, read, copied),
            Phase::Above(_) | Phase::Over => {
                unreachable!("the lower tier is asked once, and first")
            }
        }?;
        let what = change.what.clone();
        self.phase = Phase::Above(change);
        Some(what)
    }

    /// The upper tier has answered, or failed to.
    pub(super) fn above(mut self, changed: Result<(), Failure>) {
        let above = match changed {
            Ok(()) => Above::Right,
            Err(Failure::Unanswered) => Above::Unanswered,
            Err(_) => Above::Old,
        };
        self.end_above(above);
    }

    fn end_above(&mut self, above: Above) {
        if let Phase::Above(change) = std::mem::replace(&mut self.phase, Phase::Over) {
            self.ledger.borrow_mut().end_change(self.key, &change, above, now());
        }
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        match &self.phase {
            Phase::Written(write) => self.ledger.borrow_mut().give_up_write(self.key, *write),
            Phase::Read(_) => self.ledger.borrow_mut().give_up_read(self.key),
            Phase::Above(_) => self.end_above(Above::Unanswered),
            Phase::Over => {}
        }
    }
}
