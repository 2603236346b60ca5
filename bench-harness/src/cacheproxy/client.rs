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
use forebay_workloads::cacheproxy::wire::{Dialect, Malformed, Replies, encode};

use super::asks::{Ask, Asks};
use super::contents::{Contents, KeyIdx, Version};
use super::counts::Counts;
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
        Self { town: Rc::clone(town), in_flight: VecDeque::new() }
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
    fn put_request(&mut self, out: &mut Vec<u8>) {
        let ask = self.town.asks.borrow_mut().draw();
        let n_before = out.len();
        let (asked, replies) = self.ask(&ask, out);
        self.town.counts.borrow_mut().sent(&ask, out.len() - n_before);
        self.in_flight.push_back(InFlight { replies, asked, ended: Ended::Right });
    }

    fn take_reply(&mut self, received: &mut &[u8]) -> Result<Option<Ended>, String> {
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
        loop {
            match front.replies.decode(received) {
                Ok(Some((idx, outcome))) => front.settle(idx, outcome, &self.town),
                Ok(None) => break,
                // What stands there is for the next request.
                Err(Malformed::NotAsked) if front.replies.is_done() => break,
                Err(wrong) => {
                    return Err(format!("{wrong}, to {}", front.asked.in_words(&self.town)));
                }
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
