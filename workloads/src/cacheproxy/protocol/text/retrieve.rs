//! Reads of text: `get`, `gets`, `gat`, `gats`, of one key or of many.
//!
//! The most frequent commands by far, so they are read from the line as it is, word by word.

use super::encode::{Answering, Form};
use super::words;
use crate::cacheproxy::operation::{Beside, ExpTime, Get, KEY_BYTES_MAX, Key, Operation, What};
use crate::cacheproxy::protocol::command::{Asked, checked_key};
use crate::cacheproxy::protocol::number;
use crate::cacheproxy::protocol::refusal::Refusal;
use crate::cacheproxy::protocol::store::Decoded;

/// `<key>+`
pub(super) fn retrieve(keys: &[u8], form: Form, get: Get) -> Decoded {
    let mut words = words::each(keys);
    let Some(first) = words.next() else {
        return refused(Refusal::Unknown);
    };
    if words.next().is_some() {
        return retrieve_many(keys, form, get);
    }
    if first.len() > KEY_BYTES_MAX {
        return refused(Refusal::BadFormat);
    }
    let operation = Operation { key: checked_key(first), what: What::Get(get) };
    Decoded::whole(Asked::One(operation), Answering::loud(form))
}

/// Any number of keys, even none.
fn retrieve_many(keys: &[u8], form: Form, get: Get) -> Decoded {
    let keys: Option<Vec<Key>> = words::each(keys).map(Key::new).collect();
    match keys {
        Some(keys) => Decoded::whole(Asked::Many(get, keys), Answering::loud(form)),
        None => refused(Refusal::BadFormat),
    }
}

/// `<exptime> <key>*`
pub(super) fn retrieve_and_touch(rest: &[u8], form: Form) -> Decoded {
    let (expires, keys) = words::first(rest);
    if expires.is_empty() {
        return refused(Refusal::Unknown);
    }
    let Some(expires) = number::signed(expires) else {
        return refused(Refusal::BadExpTime);
    };
    let beside = if form == Form::ValuesWithCas { Beside::Cas } else { Beside::Flags };
    let get = Get { touch: Some(ExpTime(expires)), beside, ..Get::PLAIN };
    match words::first(keys).0 {
        b"" => retrieve_many(keys, form, get),
        _ => retrieve(keys, form, get),
    }
}

/// No read can decline its answer.
fn refused(refusal: Refusal) -> Decoded {
    Decoded::refused(refusal, Answering::LOUD, 0)
}
