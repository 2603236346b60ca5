//! Goal: whatever servers do, every operation has exactly one outcome in bounded time, nobody reads
//! what is older than what was written before, and a hot key asks its server once at a time.
//!
//! Method: `simulated` runs shards, network and a slow server in virtual time, from seeds, with
//! planted faults that some seed must find; `flushes` has many clients flush one of them; `real` runs memcached processes that are killed, stopped
//! and started again, and scripted servers that do what a memcached would not.

mod simulated;
mod flushes;
mod real;

use bytes::Bytes;

use super::*;
use crate::cacheproxy::operation::{ExpTime, Get, Key, Set, SetMode};

fn key(text: &str) -> Key {
    Key::new(text.as_bytes()).unwrap()
}

fn get(text: &str) -> Operation {
    Operation { key: key(text), what: What::Get(Get::PLAIN) }
}

fn set(text: &str, value: impl Into<Bytes>) -> Operation {
    let set = Set::new(SetMode::Set, 0, ExpTime(0), value.into());
    Operation { key: key(text), what: What::Set(set) }
}

fn value(outcome: &Outcome) -> Option<&[u8]> {
    match outcome {
        Outcome::Hit(entry) => Some(&entry.value),
        _ => None,
    }
}
