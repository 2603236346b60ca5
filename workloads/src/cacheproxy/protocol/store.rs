//! A store whose value has not been read yet.
//!
//! Text, meta and binary differ in how they say what is stored, and in whether an end of line follows
//! the value; they are alike in that the value follows and may come in many parts. It grows as they
//! arrive: what a client only promises takes no memory.

use bytes::Bytes;

use super::command::{Answering, Asked, Command};
use super::decoder::Limits;
use super::refusal::Refusal;
use crate::cacheproxy::operation::{Delete, Key, Operation, Set, What};

/// Most bytes that are allocated for a value before any of it has arrived. Two pages of a first read:
/// a value of this size, in however many parts, is allocated once.
const PROMISED_BYTES_MAX: usize = 16 * 1024;

const END_OF_LINE: &[u8] = b"\r\n";

/// What a head gives: a command, or a store that waits for its value.
#[derive(Debug)]
pub(super) enum Decoded {
    /// All is known. So many bytes after it are dropped: the value of a store that is refused.
    Whole { command: Command, dropped_bytes: u64 },
    /// The value comes next.
    Store(Store),
}

impl Decoded {
    pub(super) fn whole(asked: Asked, answering: impl Into<Answering>) -> Self {
        let command = Command { asked, answering: answering.into() };
        Self::Whole { command, dropped_bytes: 0 }
    }

    /// Refused, and so many bytes after it dropped.
    pub(super) fn refused(
        refusal: Refusal,
        answering: impl Into<Answering>,
        dropped_bytes: u64,
    ) -> Self {
        let command = Command { asked: Asked::Refused(refusal), answering: answering.into() };
        Self::Whole { command, dropped_bytes }
    }
}

/// What follows a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Nothing,
    Line,
}

impl Ending {
    const fn n_bytes(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Line => END_OF_LINE.len(),
        }
    }
}

/// Whether a store that is too large removes what is there: what a client wanted to replace should
/// not stay as if it were current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenTooLarge {
    Keep,
    Remove,
}

/// A store without its value.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) key: Key,
    /// Its value is empty so far.
    pub(super) set: Set,
    pub(super) answering: Answering,
    pub(super) value_bytes: usize,
    pub(super) ending: Ending,
}

impl Store {
    /// The store, or what becomes of it if its value is larger than any may be.
    pub(super) fn within(self, limits: &Limits, when_too_large: WhenTooLarge) -> Decoded {
        if self.value_bytes <= limits.value_bytes_max as usize {
            return Decoded::Store(self);
        }
        let dropped_bytes = self.rest_bytes() as u64;
        match when_too_large {
            WhenTooLarge::Keep => {
                Decoded::refused(Refusal::TooLarge, self.answering, dropped_bytes)
            }
            WhenTooLarge::Remove => {
                let what = What::Delete(Delete::default());
                let asked = Asked::One(Operation { key: self.key, what });
                let answering = self.answering.instead(Refusal::TooLarge);
                Decoded::Whole { command: Command { asked, answering }, dropped_bytes }
            }
        }
    }

    /// How many bytes follow the head.
    pub(super) const fn rest_bytes(&self) -> usize {
        self.value_bytes.saturating_add(self.ending.n_bytes())
    }

    /// The command, once the value and what follows it are there.
    fn with(self, value: Bytes, ending: &[u8]) -> Command {
        debug_assert_eq!(value.len(), self.value_bytes);
        let asked = if self.ending == Ending::Line && ending != END_OF_LINE {
            Asked::Refused(Refusal::BadData)
        } else {
            let set = Set { value, ..self.set };
            Asked::One(Operation { key: self.key, what: What::Set(set) })
        };
        Command { asked, answering: self.answering }
    }

    /// The command, from a slice in which all of the rest stands.
    pub(super) fn with_rest(self, rest: &[u8]) -> Command {
        let (value, ending) = rest.split_at(self.value_bytes);
        self.with(Bytes::copy_from_slice(value), ending)
    }
}

/// A store of whose value a part has arrived.
#[derive(Debug)]
pub(super) struct Gathering {
    store: Store,
    value: Vec<u8>,
    /// What has arrived of the end of line.
    ending: [u8; END_OF_LINE.len()],
    ending_bytes: usize,
}

impl Gathering {
    pub(super) fn new(store: Store) -> Self {
        let value = Vec::with_capacity(store.value_bytes.min(PROMISED_BYTES_MAX));
        Self { store, value, ending: [0; END_OF_LINE.len()], ending_bytes: 0 }
    }

    /// Takes what belongs to this store from the front of the input; whether all of it is there.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Progress {
        let missing = self.store.value_bytes - self.value.len();
        let part = take(input, missing);
        self.grow(part.len());
        self.value.extend_from_slice(part);

        let missing = self.store.rest_bytes() - self.value.len() - self.ending_bytes;
        if self.value.len() == self.store.value_bytes {
            let part = take(input, missing);
            self.ending[self.ending_bytes..][..part.len()].copy_from_slice(part);
            self.ending_bytes += part.len();
        }
        if self.value.len() + self.ending_bytes == self.store.rest_bytes() {
            Progress::Whole
        } else {
            Progress::Partial
        }
    }

    /// Makes room by doubling what has arrived, but for no byte more than the value will have: a
    /// vector that is full turns into shared bytes without a copy.
    fn grow(&mut self, n_bytes: usize) {
        let len = self.value.len();
        if self.value.capacity() - len < n_bytes {
            let wanted = (2 * len).max(len + n_bytes).min(self.store.value_bytes);
            self.value.reserve_exact(wanted - len);
        }
    }

    /// Bytes that are allocated for the value.
    pub(super) const fn held_bytes(&self) -> usize {
        self.value.capacity()
    }

    pub(super) fn into_command(self) -> Command {
        let ending = &self.ending[..self.ending_bytes];
        self.store.with(Bytes::from(self.value), ending)
    }
}

/// Whether a store has all of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Partial,
    Whole,
}

/// Takes so many bytes from the front of the input, or all that there are.
pub(super) fn take<'a>(input: &mut &'a [u8], n_bytes: usize) -> &'a [u8] {
    let (part, rest) = input.split_at(n_bytes.min(input.len()));
    *input = rest;
    part
}
