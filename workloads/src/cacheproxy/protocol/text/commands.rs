//! The commands of text that know how many words they have.
//!
//! All but the reads. Those that know `noreply` look for it first, so what is wrong with the rest of
//! the line is kept from a client that declined its answer; only a wrong number of words is not.

use bytes::Bytes;

use super::encode::{Answering, Form};
use super::words::Words;
use crate::cacheproxy::operation::{
    Beside, Count, Delete, Direction, ExpTime, Get, KEY_BYTES_MAX, Key, Operation, Set, SetMode,
    Wanted, What,
};
use crate::cacheproxy::protocol::command::{Asked, Quiet, Stats, checked_key};
use crate::cacheproxy::protocol::decoder::Limits;
use crate::cacheproxy::protocol::number;
use crate::cacheproxy::protocol::refusal::Refusal;
use crate::cacheproxy::protocol::store::{Decoded, Ending, Store, WhenTooLarge};

/// Longest value that memcached takes for a length at all: an `int`, less the end of line.
const LENGTH_MAX: i32 = i32::MAX - 2;

/// The last word of a command that wants no answer.
const NOREPLY: &[u8] = b"noreply";

/// Reads the words after this verb.
pub(super) fn decode(verb: &[u8], words: &Words<'_>, limits: &Limits) -> Decoded {
    let read = match store_verb(verb) {
        Some(verb) => store(verb, words, limits),
        None => command(verb, words),
    };
    read.unwrap_or_else(|refused| {
        Decoded::refused(refused.reason, Answering::of(Form::Outcome, refused.quiet), 0)
    })
}

/// A refusal, and whether its client wants to know.
struct Refused {
    reason: Refusal,
    quiet: Quiet,
}

type Read<T> = Result<T, Refused>;

impl Refused {
    const fn loud(reason: Refusal) -> Self {
        Self { reason, quiet: Quiet::No }
    }
}

fn command(verb: &[u8], words: &Words<'_>) -> Read<Decoded> {
    match verb {
        b"delete" => delete(words),
        b"incr" => count(words, Direction::Up),
        b"decr" => count(words, Direction::Down),
        b"touch" => touch(words),
        b"flush_all" => flush(words),
        b"verbosity" => verbosity(words),
        b"version" => Ok(Decoded::whole(Asked::Version, Answering::LOUD)),
        b"quit" => Ok(Decoded::whole(Asked::Quit, Answering::loud(Form::Nothing))),
        b"stats" => stats(words),
        _ => Err(Refused::loud(Refusal::Unknown)),
    }
}

/// A verb that stores: which mode, and whether it names a cas.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StoreVerb {
    Mode(SetMode),
    Cas,
}

const fn store_verb(verb: &[u8]) -> Option<StoreVerb> {
    Some(match verb {
        b"set" => StoreVerb::Mode(SetMode::Set),
        b"add" => StoreVerb::Mode(SetMode::Add),
        b"replace" => StoreVerb::Mode(SetMode::Replace),
        b"append" => StoreVerb::Mode(SetMode::Append),
        b"prepend" => StoreVerb::Mode(SetMode::Prepend),
        b"cas" => StoreVerb::Cas,
        _ => return None,
    })
}

/// `<key> <flags> <exptime> <bytes> [<cas>] [noreply]`
fn store(verb: StoreVerb, words: &Words<'_>, limits: &Limits) -> Read<Decoded> {
    let n_words = if verb == StoreVerb::Cas { 5 } else { 4 };
    let quiet = options(words, n_words, n_words + 1)?;
    let refused = |reason| Refused { reason, quiet };
    let key = key(words, quiet)?;
    let format = |number: Option<i32>| number.ok_or_else(|| refused(Refusal::BadFormat));

    let flags = number::unsigned(words.at(1)).ok_or_else(|| refused(Refusal::BadFormat))?;
    let expires = ExpTime(format(number::signed(words.at(2)))?);
    let length = format(number::signed(words.at(3)))?;
    let if_cas = match verb {
        StoreVerb::Mode(_) => None,
        StoreVerb::Cas => {
            Some(number::unsigned_long(words.at(4)).ok_or_else(|| refused(Refusal::BadFormat))?)
        }
    };
    let value_bytes = value_bytes(length).ok_or_else(|| refused(Refusal::BadFormat))?;

    let (mode, when_too_large) = match verb {
        StoreVerb::Mode(SetMode::Set) => (SetMode::Set, WhenTooLarge::Remove),
        StoreVerb::Mode(mode) => (mode, WhenTooLarge::Keep),
        StoreVerb::Cas => (SetMode::Set, WhenTooLarge::Keep),
    };
    let set = Set { if_cas, ..Set::new(mode, flags, expires, Bytes::new()) };
    let answering = Answering::of(Form::Outcome, quiet).into();
    let store = Store { key, set, answering, value_bytes, ending: Ending::Line };
    Ok(store.within(limits, when_too_large))
}

/// A length, if memcached takes it for one.
pub(crate) fn value_bytes(length: i32) -> Option<usize> {
    (length <= LENGTH_MAX).then(|| usize::try_from(length).ok())?
}

/// `<key> [0] [noreply]`; the 0 was a time once.
fn delete(words: &Words<'_>) -> Read<Decoded> {
    let quiet = options(words, 1, 3)?;
    let is_known = match words.len() {
        1 => true,
        2 => words.at(1) == b"0" || quiet == Quiet::Yes,
        _ => words.at(1) == b"0" && quiet == Quiet::Yes,
    };
    // Alone, `noreply` is a key.
    let quiet = if words.len() == 1 { Quiet::No } else { quiet };
    if !is_known {
        return Err(Refused { reason: Refusal::BadDelete, quiet });
    }
    let what = What::Delete(Delete::default());
    Ok(one(key(words, quiet)?, what, Form::Outcome, quiet))
}

/// `<key> <delta> [noreply]`
fn count(words: &Words<'_>, direction: Direction) -> Read<Decoded> {
    let quiet = options(words, 2, 3)?;
    let key = key(words, quiet)?;
    let delta =
        number::unsigned_long(words.at(1)).ok_or(Refused { reason: Refusal::BadDelta, quiet })?;
    let count =
        Count { direction, delta, initial: None, if_cas: None, touch: None, beside: Beside::Flags };
    Ok(one(key, What::Count(count), Form::Outcome, quiet))
}

/// `<key> <exptime> [noreply]`
fn touch(words: &Words<'_>) -> Read<Decoded> {
    let quiet = options(words, 2, 3)?;
    let key = key(words, quiet)?;
    let expires =
        number::signed(words.at(1)).ok_or(Refused { reason: Refusal::BadExpTime, quiet })?;
    let get = Get { value: Wanted::No, touch: Some(ExpTime(expires)), ..Get::PLAIN };
    Ok(one(key, What::Get(get), Form::Touched, quiet))
}

/// `[<delay>] [noreply]`
fn flush(words: &Words<'_>) -> Read<Decoded> {
    let quiet = options(words, 0, 2)?;
    let n_options = usize::from(quiet == Quiet::Yes);
    let delay = if words.len() == n_options {
        0
    } else {
        number::signed(words.at(0)).ok_or(Refused { reason: Refusal::BadExpTime, quiet })?
    };
    Ok(Decoded::whole(Asked::FlushAll(ExpTime(delay)), Answering::of(Form::Ok, quiet)))
}

/// `<level> [noreply]`
fn verbosity(words: &Words<'_>) -> Read<Decoded> {
    let quiet = options(words, 1, 2)?;
    number::unsigned(words.at(0)).ok_or(Refused { reason: Refusal::BadFormat, quiet })?;
    Ok(Decoded::whole(Asked::Verbosity, Answering::of(Form::Ok, quiet)))
}

/// `[<name>]`, and whatever follows it.
fn stats(words: &Words<'_>) -> Read<Decoded> {
    let stats = Stats::named(words.at(0)).ok_or(Refused::loud(Refusal::Unknown))?;
    Ok(Decoded::whole(Asked::Stats(stats), Answering::loud(Form::Reset)))
}

fn one(key: Key, what: What, form: Form, quiet: Quiet) -> Decoded {
    Decoded::whole(Asked::One(Operation { key, what }), Answering::of(form, quiet))
}

/// Whether an answer is wanted, of a command with so many words after its verb.
fn options(words: &Words<'_>, n_min: usize, n_max: usize) -> Read<Quiet> {
    if !(n_min..=n_max).contains(&words.len()) {
        return Err(Refused::loud(Refusal::Unknown));
    }
    Ok(if words.last() == NOREPLY { Quiet::Yes } else { Quiet::No })
}

fn key(words: &Words<'_>, quiet: Quiet) -> Read<Key> {
    let word = words.at(0);
    if word.len() > KEY_BYTES_MAX {
        return Err(Refused { reason: Refusal::BadFormat, quiet });
    }
    Ok(checked_key(word))
}
