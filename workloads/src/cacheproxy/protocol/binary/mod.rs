//! The binary protocol: a header of 24 bytes, extras, a key, a value.
//!
//! Header, extras and key are read together, as they are at most 294 bytes; the value of a store
//! follows. Lengths that an opcode does not have cost the connection, as in memcached: nothing tells
//! where the next command begins if they cannot be trusted.

mod header;
mod encode;

pub(super) use encode::Answering;
pub(super) use header::{MAGIC, head_bytes};

use bytes::Bytes;

use self::header::{Header, Kind, Opcode};
use super::command::{Asked, Stats, checked_key};
use super::decoder::Limits;
use super::refusal::Refusal;
use super::store::{Decoded, Ending, Store, WhenTooLarge};
use crate::cacheproxy::operation::{
    Beside, Cas, Count, Delete, ExpTime, Get, Key, Operation, Set, SetMode, Wanted, What,
};

/// An expiry that tells arithmetic not to make an item.
const NO_INITIAL: u32 = u32::MAX;

/// Reads a command whose header, extras and key are all there: as many bytes as [`head_bytes`] says.
pub(super) fn decode(head: &[u8], limits: &Limits) -> Decoded {
    let Some(header) = Header::read(head) else {
        return Decoded::refused(Refusal::BadMagic, Answering::silent(), 0);
    };
    if let Err(refusal) = header.check() {
        return Decoded::refused(refusal, Answering::to(&header), 0);
    }
    let Some(opcode) = header.opcode() else {
        // Its body cannot be known, but its length is.
        let n_bytes = u64::from(header.body_bytes);
        return Decoded::refused(Refusal::Unknown, Answering::to(&header), n_bytes);
    };
    let (extras, key) = head[header::BYTES..].split_at(usize::from(header.extras_bytes));
    let body = Body { header: &header, extras, key };
    body.decode(opcode, limits)
}

/// What stands in a command whose lengths are right.
struct Body<'a> {
    header: &'a Header,
    extras: &'a [u8],
    key: &'a [u8],
}

impl Body<'_> {
    fn decode(&self, opcode: Opcode, limits: &Limits) -> Decoded {
        match opcode.kind {
            Kind::Get | Kind::GetKey => {
                self.one(What::Get(Get { beside: Beside::Cas, ..Get::PLAIN }))
            }
            Kind::Touch => self.one(What::Get(Get { value: Wanted::No, ..self.touching() })),
            Kind::GetAndTouch | Kind::GetKeyAndTouch => self.one(What::Get(self.touching())),
            Kind::Delete => {
                self.one(What::Delete(Delete { if_cas: self.if_cas(), ..Delete::default() }))
            }
            Kind::Count(direction) => self.one(What::Count(Count {
                direction,
                delta: self.long(0),
                initial: self.initial(),
                if_cas: self.if_cas(),
                touch: None,
                beside: Beside::Cas,
            })),
            Kind::Set(mode) => self.store(mode, limits),
            Kind::Noop => self.whole(Asked::Noop),
            Kind::Version => self.whole(Asked::Version),
            Kind::Quit => self.whole(Asked::Quit),
            Kind::Flush => {
                let delay = if self.extras.is_empty() { 0 } else { self.word(0) };
                self.whole(Asked::FlushAll(expires(delay)))
            }
            Kind::Stats => match Stats::named(self.key) {
                Some(stats) => self.whole(Asked::Stats(stats)),
                None => self.whole(Asked::Refused(Refusal::NoSuchStats)),
            },
        }
    }

    fn store(&self, mode: SetMode, limits: &Limits) -> Decoded {
        let is_plain = matches!(mode, SetMode::Append | SetMode::Prepend);
        let (flags, expires) =
            if is_plain { (0, ExpTime::default()) } else { (self.word(0), expires(self.word(4))) };
        let set = Set { beside: Beside::Cas, ..Set::new(mode, flags, expires, Bytes::new()) };
        let set = match self.if_cas() {
            None => set,
            // With a cas, set, add and replace are the same to memcached.
            Some(_) if !is_plain => Set { mode: SetMode::Set, if_cas: self.if_cas(), ..set },
            Some(_) => Set { if_cas: self.if_cas(), ..set },
        };
        let when_too_large = match mode {
            SetMode::Set => WhenTooLarge::Remove,
            _ => WhenTooLarge::Keep,
        };
        let store = Store {
            key: self.key(),
            set,
            answering: Answering::to(self.header).into(),
            value_bytes: self.header.value_bytes(),
            ending: Ending::Nothing,
        };
        store.within(limits, when_too_large)
    }

    fn one(&self, what: What) -> Decoded {
        self.whole(Asked::One(Operation { key: self.key(), what }))
    }

    fn whole(&self, asked: Asked) -> Decoded {
        Decoded::whole(asked, Answering::to(self.header))
    }

    fn key(&self) -> Key {
        checked_key(self.key)
    }

    fn touching(&self) -> Get {
        Get { touch: Some(expires(self.word(0))), beside: Beside::Cas, ..Get::PLAIN }
    }

    fn initial(&self) -> Option<(u64, ExpTime)> {
        let expiry = self.word(16);
        (expiry != NO_INITIAL).then(|| (self.long(8), expires(expiry)))
    }

    fn if_cas(&self) -> Option<Cas> {
        (self.header.cas != 0).then_some(self.header.cas)
    }

    /// Four bytes of the extras; 0 where they end.
    fn word(&self, start: usize) -> u32 {
        let bytes = self.extras.get(start..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// Eight bytes of the extras; 0 where they end.
    fn long(&self, start: usize) -> u64 {
        let bytes = self.extras.get(start..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

/// Binary clients send no negative expiry: what would be one is a time after 2038, and as late as we
/// can tell.
fn expires(expiry: u32) -> ExpTime {
    ExpTime(i32::try_from(expiry).unwrap_or(i32::MAX))
}
