//! Who comes in without the controllers being asked, and how many are in.
//!
//! Nearly every call finds the controllers at ease, and nearly every reply teaches them nothing. So
//! what they last said stands here as three terms that a call or a reply is compared with, beside the
//! counts of who is in; all of it fits two cache lines. Only where the terms do not hold is anybody
//! asked, and whoever has been asked or told says its terms anew.
//!
//! ```text
//!   call  ─▶ within the terms? ─ yes ─▶ counted, in
//!              └ no ─▶ the controllers: let in, degraded or refused ─▶ new terms
//!   reply ─▶ counted out ─▶ could it teach? ─ yes ─▶ the controllers ─▶ new terms
//! ```

use std::cell::Cell;

use crate::runtime::Time;
use crate::runtime::priority::Priority;

/// Calls that were let in and have not ended, and when one more need not be asked about.
#[derive(Debug)]
pub(crate) struct Door {
    in_flight: Cell<u32>,
    of_priority: [Cell<u32>; Priority::COUNT],
    terms: Cell<Terms>,
    passes: Cell<Passes>,
}

/// How many are let in unasked where a rate is bounded: those whose tokens have been taken already,
/// as long as the time is the same. So nearly all calls of a turn cost no look at the rate, and what
/// is let in is what the rate alone would let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passes {
    /// Nothing bounds a rate.
    Unlimited,
    /// So many are left of those that were handed out then.
    Left(u32, Time),
}

/// Within which a call is let in unasked, and a reply is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// With so many in flight a call is asked about; 0 for every call.
    pub(crate) asked_from: u32,
    /// A bit for each priority that is asked about in any case.
    pub(crate) asked_priorities: u16,
    /// A reply to a call that was let in later teaches nothing.
    pub(crate) taught_until: Taught,
}

/// Which replies teach the controllers something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taught {
    /// None.
    Never,
    /// Those to calls that were let in until then.
    Until(Time),
    /// All.
    Always,
}

const _: () = assert!(Priority::COUNT <= u16::BITS as usize, "a bit for each priority");

impl Terms {
    /// Nobody is asked about, nothing is learnt.
    pub(crate) const OPEN: Self =
        Self { asked_from: u32::MAX, asked_priorities: 0, taught_until: Taught::Never };

    /// The terms on which every call is asked about.
    pub(crate) fn asking_each(self) -> Self {
        Self { asked_from: 0, ..self }
    }
}

/// Whether the controllers are to be told of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    No,
    Yes,
}

impl Door {
    pub(crate) fn new(terms: Terms, passes: Passes) -> Self {
        let passes = Cell::new(passes);
        let of_priority = [const { Cell::new(0) }; Priority::COUNT];
        Self { in_flight: Cell::new(0), of_priority, terms: Cell::new(terms), passes }
    }

    /// Lets a call in if it is within the terms; otherwise the controllers are to be asked.
    pub(crate) fn passes(&self, now: Time, priority: Priority) -> bool {
        let passes = self.is_within(priority) && self.has_pass(now);
        if passes {
            self.let_in(priority);
        }
        passes
    }

    /// Takes a call in that has been let in elsewhere, so that it needs no pass, if it is within the
    /// terms; otherwise the controllers are to be asked.
    pub(crate) fn takes_in(&self, priority: Priority) -> bool {
        let is_within = self.is_within(priority);
        if is_within {
            self.let_in(priority);
        }
        is_within
    }

    fn is_within(&self, priority: Priority) -> bool {
        let terms = self.terms.get();
        self.in_flight.get() < terms.asked_from && terms.asked_priorities & bit(priority) == 0
    }

    fn has_pass(&self, now: Time) -> bool {
        match self.passes.get() {
            Passes::Unlimited => true,
            Passes::Left(n_left, at) if n_left > 0 && at == now => {
                self.passes.set(Passes::Left(n_left - 1, at));
                true
            }
            Passes::Left(..) => false,
        }
    }

    /// Takes back the passes that were not used.
    pub(crate) fn take_passes(&self) -> u32 {
        match self.passes.get() {
            Passes::Unlimited => 0,
            Passes::Left(n_left, at) => {
                self.passes.set(Passes::Left(0, at));
                n_left
            }
        }
    }

    /// Hands passes out.
    pub(crate) fn hand_out(&self, n_passes: u32, now: Time) {
        self.passes.set(Passes::Left(n_passes, now));
    }

    /// Counts one in.
    pub(crate) fn let_in(&self, priority: Priority) {
        let of_priority = &self.of_priority[priority.idx()];
        of_priority.set(of_priority.get() + 1);
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// Counts one out, however it ended; tells whether it was the last of its priority.
    fn let_out(&self, priority: Priority) -> bool {
        let of_priority = &self.of_priority[priority.idx()];
        debug_assert!(of_priority.get() > 0, "what was let in ends once");
        let left = of_priority.get().saturating_sub(1);
        of_priority.set(left);
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        left == 0
    }

    /// One that was let in at `admitted` has its reply, or has expired.
    pub(crate) fn ended(&self, priority: Priority, admitted: Time) -> Told {
        let is_last = self.let_out(priority);
        let teaches = match self.terms.get().taught_until {
            Taught::Never => return Told::No,
            Taught::Until(until) => admitted <= until,
            Taught::Always => true,
        };
        if is_last || teaches { Told::Yes } else { Told::No }
    }

    /// One that was let in has left without either.
    pub(crate) fn withdrawn(&self, priority: Priority) -> Told {
        let is_last = self.let_out(priority);
        let is_told = is_last && self.terms.get().taught_until != Taught::Never;
        if is_told { Told::Yes } else { Told::No }
    }

    /// The controllers have been asked or told, and these are their terms now.
    pub(crate) fn agree(&self, terms: Terms) {
        self.terms.set(terms);
    }

    /// Calls that were let in and have not ended.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.get() as usize
    }

    /// Those of them with this priority.
    pub(crate) fn of(&self, priority: Priority) -> usize {
        self.of_priority[priority.idx()].get() as usize
    }
}

/// The bit of a priority.
pub(crate) const fn bit(priority: Priority) -> u16 {
    1 << priority.idx()
}
