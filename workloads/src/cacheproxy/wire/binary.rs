//! Operations as frames of the binary protocol.
//!
//! The quiet forms are not used: each operation is answered by one frame, so that a connection that
//! has lost its step is noticed at the next reply, whose `opaque` must be the operation's index.
//!
//! ```text
//!   magic opcode key(2) | extras type status(2) | body(4) | opaque(4) | cas(8) | extras key value
//! ```

use super::Form;
use crate::cacheproxy::operation::{
    Beside, Cas, Count, CountsAsUse, Delete, Direction, Get, Key, Operation, Set, SetMode, Wanted,
    What,
};

/// Bytes of a frame before its extras.
pub(super) const HEADER_BYTES: usize = 24;
/// The first byte of what a client sends.
const REQUEST_MAGIC: u8 = 0x80;
/// The expiry that says: make no item on a miss.
const NO_INITIAL: u32 = u32::MAX;

const GET: u8 = 0x00;
const SET: u8 = 0x01;
const ADD: u8 = 0x02;
const REPLACE: u8 = 0x03;
const DELETE: u8 = 0x04;
const INCREMENT: u8 = 0x05;
const DECREMENT: u8 = 0x06;
const APPEND: u8 = 0x0e;
const PREPEND: u8 = 0x0f;
const TOUCH: u8 = 0x1c;
const GET_AND_TOUCH: u8 = 0x1d;

/// What was asked, as far as the meaning of a reply's status depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get(Wanted),
    Store(Condition),
    Delete,
    Count,
}

/// On what a store depended: the statuses for a cas and for an item that is there are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Mode,
    Cas,
}

/// One frame to be sent.
struct Frame<'a> {
    opcode: u8,
    cas: Cas,
    extras: &'a [u8],
    key: &'a Key,
    value: &'a [u8],
}

impl Frame<'_> {
    fn put(&self, opaque: u32, out: &mut Vec<u8>) {
        let key = self.key.as_bytes();
        let n_key = u16::try_from(key.len()).expect("a key has at most 250 bytes");
        let n_extras = u8::try_from(self.extras.len()).expect("extras have at most 20 bytes");
        let n_body = self.extras.len() + key.len() + self.value.len();
        // A value of 4 GiB stands in no memory that a batch is made from.
        let n_body = u32::try_from(n_body).expect("a value has less than 4 GiB");
        out.extend_from_slice(&[REQUEST_MAGIC, self.opcode]);
        out.extend_from_slice(&n_key.to_be_bytes());
        // The data type and the two bytes of the virtual bucket are 0.
        out.extend_from_slice(&[n_extras, 0, 0, 0]);
        out.extend_from_slice(&n_body.to_be_bytes());
        out.extend_from_slice(&opaque.to_be_bytes());
        out.extend_from_slice(&self.cas.to_be_bytes());
        out.extend_from_slice(self.extras);
        out.extend_from_slice(key);
        out.extend_from_slice(self.value);
    }
}

/// Appends an operation, unless the binary protocol has no words for it.
pub(super) fn say(operation: &Operation, opaque: u32, out: &mut Vec<u8>) -> Form {
    let key = &operation.key;
    let verb = match &operation.what {
        What::Get(get) => say_get(key, get, opaque, out),
        What::Set(set) => say_set(key, set, opaque, out),
        What::Delete(delete) => say_delete(key, delete, opaque, out),
        What::Count(count) => say_count(key, count, opaque, out),
        What::Describe => None,
    };
    verb.map_or(Form::Unsayable, Form::Binary)
}

fn say_get(key: &Key, get: &Get, opaque: u32, out: &mut Vec<u8>) -> Option<Verb> {
    let is_sayable = get.vivify.is_none()
        && get.recache_below_s.is_none()
        && get.counts_as_use == CountsAsUse::Yes
        && get.beside <= Beside::Cas;
    if !is_sayable {
        return None;
    }
    let seconds = get.touch.map(|expires| expires.0.to_be_bytes());
    let opcode = match (&seconds, get.value) {
        (None, _) => GET,
        (Some(_), Wanted::Yes) => GET_AND_TOUCH,
        (Some(_), Wanted::No) => TOUCH,
    };
    let extras = seconds.as_ref().map_or(&[][..], |seconds| seconds);
    Frame { opcode, cas: 0, extras, key, value: &[] }.put(opaque, out);
    Some(Verb::Get(get.value))
}

fn say_set(key: &Key, set: &Set, opaque: u32, out: &mut Vec<u8>) -> Option<Verb> {
    let is_sayable = !set.invalidate
        && set.vivify.is_none()
        && set.beside <= Beside::Cas
        // A cas of 0 says here that there is none.
        && set.if_cas != Some(0);
    if !is_sayable {
        return None;
    }
    let mut extras = [0; 8];
    extras[..4].copy_from_slice(&set.flags.to_be_bytes());
    extras[4..].copy_from_slice(&set.expires.0.to_be_bytes());
    let (opcode, extras): (u8, &[u8]) = match set.mode {
        SetMode::Set => (SET, &extras),
        SetMode::Add => (ADD, &extras),
        SetMode::Replace => (REPLACE, &extras),
        SetMode::Append => (APPEND, &[]),
        SetMode::Prepend => (PREPEND, &[]),
    };
    let cas = set.if_cas.unwrap_or(0);
    Frame { opcode, cas, extras, key, value: &set.value }.put(opaque, out);
    Some(Verb::Store(if set.if_cas.is_some() { Condition::Cas } else { Condition::Mode }))
}

fn say_delete(key: &Key, delete: &Delete, opaque: u32, out: &mut Vec<u8>) -> Option<Verb> {
    let plain = Delete { if_cas: delete.if_cas, ..Delete::default() };
    if *delete != plain || delete.if_cas == Some(0) {
        return None;
    }
    let cas = delete.if_cas.unwrap_or(0);
    Frame { opcode: DELETE, cas, extras: &[], key, value: &[] }.put(opaque, out);
    Some(Verb::Delete)
}

fn say_count(key: &Key, count: &Count, opaque: u32, out: &mut Vec<u8>) -> Option<Verb> {
    let (initial, expires) = match count.initial {
        None => (0, NO_INITIAL),
        Some((initial, expires)) => (initial, expires.0.cast_unsigned()),
    };
    let is_sayable = count.touch.is_none()
        && count.beside <= Beside::Cas
        && count.if_cas != Some(0)
        && (count.initial.is_none() || expires != NO_INITIAL);
    if !is_sayable {
        return None;
    }
    let opcode = match count.direction {
        Direction::Up => INCREMENT,
        Direction::Down => DECREMENT,
    };
    let mut extras = [0; 20];
    extras[..8].copy_from_slice(&count.delta.to_be_bytes());
    extras[8..16].copy_from_slice(&initial.to_be_bytes());
    extras[16..].copy_from_slice(&expires.to_be_bytes());
    let cas = count.if_cas.unwrap_or(0);
    Frame { opcode, cas, extras: &extras, key, value: &[] }.put(opaque, out);
    Some(Verb::Count)
}
