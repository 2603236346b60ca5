//! Who is at work on which key, and so which copies may be read, made or made right. Pure.
//!
//! Operations on one key are under way side by side: nobody is held back here, whether or not a tier
//! lets him wait. Each tier does what changes a key in the order in which it was asked, and nothing more
//! is relied on: reads may overtake changes and each other. What an operation may do when it is answered
//! depends on who came meanwhile, and that stands here.
//!
//! ```text
//!   write ─ begin_write ─▶ below ─ end_write ─┬─ others are below ────────────────────▶ told
//!                                             └─ the last ─ Change ─▶ above ─ end_change ─▶ told
//!   read  ─ begin_read ──▶ below ─ end_read ──┬─ a write has begun ───────────────────▶ told
//!                                             └─ none ───── Change ─▶ above ─ end_change ─▶ told
//! ```
//!
//! From its beginning a write makes its key doubted. The one with which the lower tier has answered all
//! makes the copy right: by what it has done itself, if it was alone or says all that the item is now,
//! else the copy is dropped. Should this fail, or its caller vanish, the doubt is left to whoever
//! works off [`Doubts`]. When there are too many of those, the upper tier is *passed by* until it has
//! been flushed, and no key need be remembered.

use forebay::Time;
use hashbrown::HashMap;

use super::copied::{Copied, leaves_nothing_old};
use super::doubts::{Cause, Doubts, GRACE, Proof, Ticket};
use super::work::{Above, Answered, Before, Change, ChangeCause, Read, Work, Write};
use crate::cacheproxy::operation::{Delete, Key, What};

/// Doubts that are worked off in one step: at a tenth of a millisecond each, a tenth of a second.
const REPAIRS_MAX: usize = 1_024;

/// What is under way on one shard.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// As many keys as calls are under way, at most, which the stage bounds.
    works: HashMap<Key, Work>,
    pub(super) doubts: Doubts,
    newest: Ticket,
    /// What was begun until then tells nothing of what the upper tier should have.
    spoiled: Ticket,
    /// Changes that have been asked for above, of all keys.
    n_above: usize,
    passing: Option<Passing>,
    #[cfg(test)]
    pub(super) planted: Planted,
}

/// Planted faults.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Planted {
    #[default]
    Nothing,
    /// Every write takes itself for the only one.
    Alone,
    /// A copy is made of what was read, whoever wrote meanwhile.
    OldCopies,
    /// Every copy is trusted.
    NoDoubts,
    /// The upper tier is asked again without having been flushed.
    NoFlush,
}

/// The upper tier is neither asked nor kept right.
#[derive(Debug, Clone, Copy)]
struct Passing {
    since: Ticket,
    /// When it was flushed for the first time.
    flushed_at: Option<Time>,
}

/// What is to be done so that doubts end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, now.
    Rest,
    /// The copies of these are to be dropped.
    Repair(Vec<Key>),
    /// All copies are to be dropped.
    Flush(Ticket),
}

impl Ledger {
    /// Whether the copy of a key must not be read.
    pub(super) fn is_doubted(&self, key: &Key) -> bool {
        #[cfg(test)]
        if self.planted == Planted::NoDoubts {
            return false;
        }
        self.passing.is_some()
            || self.doubts.contains(key)
            || self.works.get(key).is_some_and(Work::is_doubted)
    }

    /// Begins a write, which the lower tier has to be asked for at once.
    pub(super) fn begin_write(&mut self, key: &Key, now: Time) -> Write {
        let ticket = self.ticket();
        let is_doubted = self.doubts.contains(key);
        let work = self.work(key);
        let is_alone = work.n_below == 0 && work.n_above == 0 && work.changed.is_none();
        let before = if is_alone && !is_doubted { Before::Trusted } else { Before::Doubted };
        work.n_below += 1;
        work.newest_write = Some(ticket);
        #[cfg(test)]
        let before = if self.planted == Planted::Alone { Before::Trusted } else { before };
        Write { ticket, begun_at: now, before }
    }

    /// Ends a write below, of which `copied` says what it means for the copy. Gives the change that is
    /// to be asked for above, if it is this one's to do.
    pub(super) fn end_write(
        &mut self,
        key: &Key,
        write: Write,
        copied: Copied,
        answered: Answered,
    ) -> Option<Change> {
        if answered == Answered::No {
            self.note(key, Cause::Unanswered);
        }
        let copied = if write.ticket > self.spoiled { copied } else { copied.of_unknown() };
        let is_passing = self.passing.is_some();
        let work = self.work(key);
        work.end_below(write.ticket, &copied);
        let changed = work.changed.filter(|_| work.n_below == 0 && !is_passing);
        let Some(changed) = changed else {
            self.leave_if_quiet(key);
            return None;
        };
        let copied = match (copied, write.before) {
            // The copy is what the item was before this write, the only one that has changed it.
            (copied, Before::Trusted) if changed == write.ticket => copied,
            // Writes of a key are done below in their order, so this one has been done last.
            (copied, Before::Doubted) if changed == write.ticket => copied.of_doubted(),
            _ => Copied::Gone,
        };
        let what = copied.into_change().expect("it has changed the item");
        // Whichever write has changed it last, this is the one that was just answered.
        let asked_at = (answered == Answered::Yes).then_some(write.begun_at);
        Some(self.begin_change(key, what, ChangeCause::Write(changed), asked_at))
    }

    /// Begins a read of what has no copy, which the lower tier has to be asked for at once. `None` if
    /// none is to be made, or somebody makes it already.
    pub(super) fn begin_read(&mut self, key: &Key) -> Option<Read> {
        if self.is_doubted(key) || self.works.get(key).is_some_and(|work| work.is_read) {
            return None;
        }
        let ticket = self.ticket();
        self.work(key).is_read = true;
        Some(Read(ticket))
    }

    /// Ends a read below, of which `copied` says what its copy is to be.
    pub(super) fn end_read(
        &mut self,
        key: &Key,
        Read(begun): Read,
        copied: Copied,
    ) -> Option<Change> {
        let is_old = begun <= self.spoiled || self.work(key).newest_write > Some(begun);
        #[cfg(test)]
        let is_old = is_old && self.planted != Planted::OldCopies;
        match copied {
            // A read may share the answer to one that was asked before: it proves nothing.
            Copied::By(what) if !is_old => {
                Some(self.begin_change(key, what, ChangeCause::Read, None))
            }
            // What was not above, and would have to go, is not there.
            Copied::By(_) | Copied::Gone | Copied::Same => {
                self.give_up_read(key);
                None
            }
        }
    }

    /// Begins to drop the copy of a key, if it is still doubted and nobody is at work on it.
    pub(super) fn begin_repair(&mut self, key: &Key, now: Time) -> Option<Change> {
        let is_at_work = self.works.contains_key(key);
        let is_due = self.doubts.contains(key) && self.passing.is_none() && !is_at_work;
        let what = What::Delete(Delete::default());
        is_due.then(|| self.begin_change(key, what, ChangeCause::Doubt, Some(now)))
    }

    fn begin_change(
        &mut self,
        key: &Key,
        what: What,
        cause: ChangeCause,
        asked_at: Option<Time>,
    ) -> Change {
        self.n_above += 1;
        self.work(key).n_above += 1;
        Change { what, cause, begun: self.ticket(), asked_at }
    }

    /// Ends a change above.
    pub(super) fn end_change(&mut self, key: &Key, change: &Change, above: Above, now: Time) {
        self.n_above -= 1;
        let work = self.work(key);
        work.n_above -= 1;
        work.is_read &= change.cause != ChangeCause::Read;
        match above {
            Above::Right => {
                if work.changed.map(ChangeCause::Write) == Some(change.cause) {
                    work.changed = None;
                }
                if leaves_nothing_old(&change.what) {
                    let Change { begun, asked_at, .. } = *change;
                    self.doubts.proved(key, Proof { begun, asked_at, answered_at: now });
                }
            }
            // A copy is as old as it was. One that is dropped late is never missed.
            Above::Old => {}
            Above::Unanswered if matches!(change.what, What::Delete(_)) => {}
            Above::Unanswered => self.note(key, Cause::Unanswered),
        }
        self.leave_if_quiet(key);
    }

    /// The caller of a write has gone while it was below.
    pub(super) fn give_up_write(&mut self, key: &Key, write: Write) {
        self.note(key, Cause::Unanswered);
        self.work(key).end_below(write.ticket, &Copied::Gone);
        self.leave_if_quiet(key);
    }

    /// The caller of a read has gone while it was below.
    pub(super) fn give_up_read(&mut self, key: &Key) {
        self.work(key).is_read = false;
        self.leave_if_quiet(key);
    }

    /// From now on the upper tier is neither asked nor kept right, until it has been flushed. That ends
    /// what its copies are doubted for, but not what may be done late below and be copied after it.
    pub(super) fn pass_by(&mut self) {
        self.spoiled = self.ticket();
        self.doubts.forget_old();
        self.passing = Some(Passing { since: self.spoiled, flushed_at: None });
    }

    /// The next thing to be done so that doubts end.
    pub(super) fn next_step(&mut self, now: Time) -> Step {
        #[cfg(test)]
        if self.planted == Planted::NoFlush {
            self.passing = None;
        }
        let Some(Passing { flushed_at, .. }) = self.passing else {
            return match self.doubts.next(REPAIRS_MAX) {
                keys if keys.is_empty() => Step::Rest,
                keys => Step::Repair(keys),
            };
        };
        // What was asked for before must not come after.
        let is_due = self.n_above == 0 && flushed_at.is_none_or(|at| now >= at.after(GRACE));
        if is_due { Step::Flush(self.ticket()) } else { Step::Rest }
    }

    /// The upper tier has been flushed, as the step said that was begun then. What was not answered
    /// before may have been done since, so one flush is not enough.
    pub(super) fn flushed(&mut self, begun: Ticket, now: Time) {
        match &mut self.passing {
            Some(passing) if passing.since > begun => {}
            Some(Passing { flushed_at: flushed_at @ None, .. }) => *flushed_at = Some(now),
            Some(_) => self.passing = None,
            None => {}
        }
    }

    /// Keys on which somebody is at work.
    #[cfg(test)]
    pub(super) fn n_works(&self) -> usize {
        self.works.len()
    }

    fn ticket(&mut self) -> Ticket {
        self.newest = Ticket(self.newest.0 + 1);
        self.newest
    }

    fn work(&mut self, key: &Key) -> &mut Work {
        if !self.works.contains_key(key) {
            self.works.insert(key.clone(), Work::default());
        }
        self.works.get_mut(key).expect("it is there now")
    }

    fn note(&mut self, key: &Key, cause: Cause) {
        // All copies are to be flushed anyway; what is done later than that is not.
        if self.passing.is_some() && cause == Cause::Old {
            return;
        }
        let noted = self.ticket();
        if self.doubts.note(key, cause, noted).is_err() {
            // There is no room for them: what is done later than the flushes is not found out.
            self.doubts.clear();
            self.pass_by();
        }
    }

    /// Leaves a key on which nobody is at work.
    fn leave_if_quiet(&mut self, key: &Key) {
        let Some(work) = self.works.get(key).filter(|work| work.is_quiet()) else { return };
        let is_old = work.changed.is_some();
        self.works.remove(key);
        if is_old {
            self.note(key, Cause::Old);
        }
    }
}
