//! Goal: the store answers as memcached does, keeps its bound, returns memory, and keeps what will be
//! asked for again.
//! Method: tables of operations with their outcomes; random operations held against a naive model
//! and against the real server; every step under the bound; traces against segmented LRU.

pub(in crate::cacheproxy) mod drafts;
mod operations;
mod model;
mod server;
mod memcached;
mod bound;
mod hit_ratio;

use bytes::Bytes;

use super::super::operation::{ExpTime, Get, Key, Operation, Outcome, Set, SetMode, What};
use super::{Now, Options, Store};

/// When the tests begin.
const NOW: Now = Now(1_700_000_000);
const SEED: u64 = 0x5EED;

fn later(seconds: u32) -> Now {
    Now(NOW.0 + seconds)
}

fn store_of(bytes_max: usize) -> Store {
    Store::new(Options::new(bytes_max, SEED))
}

fn key(name: &str) -> Key {
    Key::new(name.as_bytes()).expect("a key")
}

fn on(name: &str, what: What) -> Operation {
    Operation { key: key(name), what }
}

fn get(name: &str) -> Operation {
    on(name, What::Get(Get::PLAIN))
}

fn set_of(mode: SetMode, value: &str) -> Set {
    Set::new(mode, 0, ExpTime(0), Bytes::copy_from_slice(value.as_bytes()))
}

fn set(name: &str, value: &str) -> Operation {
    on(name, What::Set(set_of(SetMode::Set, value)))
}

fn set_until(name: &str, value: &str, expires: i32) -> Operation {
    let set = Set { expires: ExpTime(expires), ..set_of(SetMode::Set, value) };
    on(name, What::Set(set))
}

/// The value that a plain get finds.
fn value_of(store: &mut Store, now: Now, name: &str) -> Option<String> {
    match store.apply(now, &get(name)) {
        Outcome::Hit(entry) => Some(String::from_utf8(entry.value.to_vec()).expect("a text")),
        Outcome::Miss => None,
        other => panic!("a get came to {other:?}"),
    }
}
