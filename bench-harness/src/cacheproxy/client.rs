//! One client's side of the cache: requests into bytes, replies into how each request has ended.
//!
//! Every value is held against its key and against what all clients together have written: a get
//! that shows less than what was acknowledged before it was sent has been answered wrong.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use forebay_workloads::cacheproxy::load::{Load, Misses};
use forebay_workloads::cacheproxy::operation::{
    Delete, ExpTime, Failure, Get, Operation, Outcome, Set, SetMode, What,
};
use forebay_workloads::cacheproxy::wire::{Dialect, Replies, encode};

use super::asks::{Ask, Asks};
use super::contents::{Contents, KeyIdx, Version};
use super::counts::Counts;
use super::greeting;
use super::ledger::Ledger;
use crate::load::Ended;
use crate::streams::Dialogue;

/// What all clients of a cell share.
#[derive(Debug)]
pub(super) struct Town {
    pub(super) dialect: Dialect,
    pub(super) contents: Contents,
    misses: Misses,
    asks: RefCell<Asks>,
    pub(super) ledger: RefCell<Ledger>,
    pub(super) counts: RefCell<Counts>,
}

impl Town {
    pub(super) fn new(load: &Load, seed: u64) -> Self {
        Self {
            dialect: load.protocol,
            contents: Contents::new(load, seed),
            misses: load.misses,
            asks: RefCell::new(Asks::new(load, seed)),
            ledger: RefCell::new(Ledger::new(load.keys)),
            counts: RefCell::default(),
        }
    }

    /// The next write of a key.
    pub(super) fn set(&self, key: KeyIdx) -> (Version, Operation) {
        let version = self.ledger.borrow_mut().begin(key);
        let value = self.contents.value(key, version);
        let set = Set::new(SetMode::Set, Contents::flags(key), ExpTime(0), value);
        (version, self.operation(key, What::Set(set)))
    }

    fn operation(&self, key: KeyIdx, what: What) -> Operation {
        Operation { key: self.contents.key(key).clone(), what }
    }
}

/// One client.
pub(super) struct Client {
    town: Rc<Town>,
    /// Whether it waits for the answer to its greeting; nothing else is in flight then.
    is_greeting: bool,
    in_flight: VecDeque<InFlight>,
}

/// A request that waits for its reply.
struct InFlight {
    replies: Replies,
    asked: Asked,
    /// The worst that has come of its keys so far.
    ended: Ended,
}

/// What was asked.
enum Asked {
    Read(Read),
    Reads(Vec<Read>),
    Write(KeyIdx, Version),
}

/// A key that is read, and the first write of it that may be shown.
#[derive(Clone, Copy)]
struct Read {
    key: KeyIdx,
    floor: Version,
}

impl Client {
    pub(super) fn new(town: &Rc<Town>) -> Self {
        Self { town: Rc::clone(town), is_greeting: false, in_flight: VecDeque::new() }
    }

    fn read(&self, key: KeyIdx) -> (Read, Operation) {
        let floor = self.town.ledger.borrow().floor(key);
        (Read { key, floor }, self.town.operation(key, What::Get(Get::PLAIN)))
    }

    fn ask(&self, ask: &Ask, out: &mut Vec<u8>) -> (Asked, Replies) {
        let dialect = self.town.dialect;
        let (asked, operation) = match ask {
            Ask::Get(key) => {
                let (read, operation) = self.read(*key);
                (Asked::Read(read), operation)
            }
            Ask::MultiGet(keys) => {
                let (reads, operations): (Vec<Read>, Vec<Operation>) =
                    keys.iter().map(|key| self.read(*key)).unzip();
                return (Asked::Reads(reads), encode(dialect, &operations, out));
            }
            Ask::Set(key) => {
                let (version, operation) = self.town.set(*key);
                (Asked::Write(*key, version), operation)
            }
            Ask::Delete(key) => {
                let version = self.town.ledger.borrow_mut().begin(*key);
                let what = What::Delete(Delete::default());
                (Asked::Write(*key, version), self.town.operation(*key, what))
            }
        };
        (asked, encode(dialect, [&operation], out))
    }
}

impl Dialogue for Client {
    fn put_greeting(&mut self, out: &mut Vec<u8>) {
        greeting::put(self.town.dialect, out);
        self.is_greeting = true;
    }

    fn put_request(&mut self, out: &mut Vec<u8>) {
        let ask = self.town.asks.borrow_mut().draw();
        let n_before = out.len();
        let (asked, replies) = self.ask(&ask, out);
        self.town.counts.borrow_mut().sent(&ask, out.len() - n_before);
        self.in_flight.push_back(InFlight { replies, asked, ended: Ended::Right });
    }

    fn take_reply(&mut self, received: &mut &[u8]) -> Result<Option<Ended>, String> {
        if self.is_greeting {
            let answer = greeting::take_answer(self.town.dialect, received)?;
            self.is_greeting = answer.is_none();
            return Ok(answer.map(|()| Ended::Right));
        }
        let n_before = received.len();
        let ended = self.take(received);
        self.town.counts.borrow_mut().received_bytes += n_before - received.len();
        ended
    }
}

impl Client {
    fn take(&mut self, received: &mut &[u8]) -> Result<Option<Ended>, String> {
        let Some(front) = self.in_flight.front_mut() else {
            return Err("a reply to no request".to_owned());
        };
        let town = &*self.town;
        loop {
            match front.replies.decode(received) {
                Ok(Some((idx, outcome))) => front.settle(idx, outcome, town),
                Ok(None) => break,
                Err(wrong) => return Err(format!("{wrong}, to {}", front.asked.in_words(town))),
            }
        }
        if !front.replies.is_done() {
            return Ok(None);
        }
        Ok(self.in_flight.pop_front().map(|front| front.ended))
    }
}

impl InFlight {
    /// Takes in what has come of one of its keys.
    fn settle(&mut self, idx: usize, outcome: Outcome, town: &Town) {
        let ended = match &self.asked {
            Asked::Read(read) => read.ended(outcome, town),
            Asked::Reads(reads) => reads[idx].ended(outcome, town),
            Asked::Write(key, version) => written(*key, *version, &outcome, town),
        };
        if self.ended == Ended::Right || matches!(ended, Ended::Wrong(_)) {
            self.ended = ended;
        }
    }
}

impl Read {
    fn ended(self, outcome: Outcome, town: &Town) -> Ended {
        let Self { key, floor } = self;
        match outcome {
            Outcome::Hit(entry) => {
                town.counts.borrow_mut().found(entry.value.len());
                if entry.flags != Contents::flags(key) {
                    return wrong(key, town, &format!("flags {}", entry.flags));
                }
                let shown = town.contents.version(key, &entry.value);
                let checked = shown.and_then(|shown| town.ledger.borrow().check(key, floor, shown));
                checked.map_or_else(|what| wrong(key, town, &what), |()| Ended::Right)
            }
            Outcome::Miss => match town.misses {
                Misses::Expected => Ended::Right,
                Misses::Wrong => wrong(key, town, "nothing, and it was written"),
            },
            Outcome::Failed(why) => Ended::Failed(failed(why)),
            other => wrong(key, town, &format!("{other:?} to a get")),
        }
    }
}

/// How a write has ended.
fn written(key: KeyIdx, version: Version, outcome: &Outcome, town: &Town) -> Ended {
    let mut ledger = town.ledger.borrow_mut();
    match outcome {
        // A delete that finds nothing leaves nothing, as one that does.
        Outcome::Stored(_) | Outcome::Deleted | Outcome::Miss => {
            ledger.acknowledge(key, version);
            Ended::Right
        }
        refused => {
            ledger.fail(key, version);
            match refused {
                Outcome::Failed(why) => Ended::Failed(failed(*why)),
                Outcome::NoMemory => Ended::Failed("no_memory"),
                Outcome::TooLarge => Ended::Failed("too_large"),
                other => wrong(key, town, &format!("{other:?} to a write")),
            }
        }
    }
}

const fn failed(why: Failure) -> &'static str {
    match why {
        Failure::Refused => "server_error",
        _ => "unanswered",
    }
}

#[cold]
fn wrong(key: KeyIdx, town: &Town, what: &str) -> Ended {
    Ended::Wrong(format!("key {} ({:?}): {what}", key.0, town.contents.key(key)))
}

impl Asked {
    fn in_words(&self, town: &Town) -> String {
        let named = |key: KeyIdx| format!("{:?}", town.contents.key(key));
        match self {
            Self::Read(read) => format!("a get of {}", named(read.key)),
            Self::Reads(reads) => format!("a get of {} keys", reads.len()),
            Self::Write(key, version) => format!("write {} of {}", version.0, named(*key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client of one key of one digit whose value of 8 bytes is only a head, and its town.
    fn client(more: &str) -> (Rc<Town>, Client) {
        let text = format!(
            r#"{{"connections": 1, "keys": 1, "key_bytes": {{"fixed": 1}},
                "value_bytes": {{"fixed": 8}}, {more}}}"#
        );
        let town = Rc::new(Town::new(&serde_json::from_str(&text).unwrap(), 7));
        (Rc::clone(&town), Client::new(&town))
    }

    const GETS: &str = r#""mix": {"get_percent": 100}"#;
    const SETS: &str = r#""mix": {"set_percent": 100}"#;

    fn shown(version: u8) -> Vec<u8> {
        [&b"VALUE 0 0 8\r\n\0\0\0\0"[..], &[version, 0, 0, 0], b"\r\nEND\r\n"].concat()
    }

    /// Asks, and tells how it ended.
    fn asked(client: &mut Client, reply: &[u8]) -> Result<Option<Ended>, String> {
        client.put_request(&mut Vec::new());
        client.take_reply(&mut &*reply)
    }

    fn written(town: &Town, n_writes: u32) {
        for _ in 0..n_writes {
            let (version, _) = town.set(KeyIdx(0));
            town.ledger.borrow_mut().acknowledge(KeyIdx(0), version);
        }
    }

    #[test]
    fn only_a_value_that_may_still_be_seen_is_right() {
        let (town, mut client) = client(GETS);
        written(&town, 2);
        assert_eq!(asked(&mut client, &shown(2)), Ok(Some(Ended::Right)));
        for (version, expected) in [(1, "had been replaced"), (3, "only 2 have begun")] {
            match asked(&mut client, &shown(version)) {
                Ok(Some(Ended::Wrong(what))) => assert!(what.contains(expected), "{what}"),
                other => panic!("{other:?}"),
            }
        }
        let counts = town.counts.take();
        assert_eq!((counts.requests, counts.keys_found, counts.value_bytes), (3, 3, 24));
    }

    #[test]
    fn the_floor_of_a_get_is_that_of_the_moment_at_which_it_was_sent() {
        let (town, mut client) = client(GETS);
        written(&town, 1);
        client.put_request(&mut Vec::new());
        written(&town, 1);
        assert_eq!(client.take_reply(&mut &shown(1)[..]), Ok(Some(Ended::Right)));
        assert!(matches!(asked(&mut client, &shown(1)), Ok(Some(Ended::Wrong(_)))));
    }

    #[test]
    fn a_miss_is_wrong_unless_it_is_expected() {
        let (_, mut strict) = client(GETS);
        assert!(matches!(asked(&mut strict, b"END\r\n"), Ok(Some(Ended::Wrong(_)))));
        let (town, mut lenient) = client(&format!(r#"{GETS}, "misses": "expected""#));
        assert_eq!(asked(&mut lenient, b"END\r\n"), Ok(Some(Ended::Right)));
        assert_eq!(town.counts.borrow().keys_found, 0);
    }

    #[test]
    fn an_error_of_the_server_fails_the_request_and_its_write_may_still_be_seen() {
        let (town, mut client) = client(SETS);
        let error = asked(&mut client, b"SERVER_ERROR busy\r\n");
        assert_eq!(error, Ok(Some(Ended::Failed("server_error"))));
        assert_eq!(asked(&mut client, b"STORED\r\n"), Ok(Some(Ended::Right)));
        assert_eq!(town.ledger.borrow().floor(KeyIdx(0)), Version(1));
    }

    #[test]
    fn replies_that_come_together_or_in_pieces_go_to_their_requests() {
        let (_, mut client) = client(SETS);
        (0..2).for_each(|_| client.put_request(&mut Vec::new()));
        let mut received = &b"STORED\r\nSTO"[..];
        assert_eq!(client.take_reply(&mut received), Ok(Some(Ended::Right)));
        assert_eq!(client.take_reply(&mut received), Ok(None));
        let rest = [received, b"RED\r\nSTORED\r\n"].concat();
        let mut received = &rest[..];
        assert_eq!(client.take_reply(&mut received), Ok(Some(Ended::Right)));
        assert!(client.take_reply(&mut received).unwrap_err().contains("no request"));
    }

    #[test]
    fn a_greeting_asks_for_no_key_and_counts_as_nothing() {
        let (town, mut client) = client(SETS);
        let mut greeting = Vec::new();
        client.put_greeting(&mut greeting);
        assert_eq!(greeting, b"version\r\n");
        let reply = client.take_reply(&mut &b"VERSION 1.6.18\r\n"[..]);
        assert_eq!(reply, Ok(Some(Ended::Right)));
        let counts = town.counts.take();
        assert_eq!((counts.requests, counts.received_bytes), (0, 0));
        assert_eq!(asked(&mut client, b"STORED\r\n"), Ok(Some(Ended::Right)));
        // Its first write: the greeting has begun none.
        assert_eq!(town.ledger.borrow().floor(KeyIdx(0)), Version(1));
    }

    #[test]
    fn the_reply_to_something_else_is_none() {
        let (_, mut client) = client(GETS);
        let told = asked(&mut client, b"STORED\r\n").unwrap_err();
        assert!(told.contains("to a get of Key(0)"), "{told}");
    }
}
