//! Lines of text: `get`, `set` and the other classic commands.
//!
//! memcached splits a line at blanks only, looks at no more of it than its first NUL, and takes
//! `noreply` from the last word of those commands that know it, before it looks at anything else: an
//! error is then kept from the client too, except that of a wrong number of words.

mod encode;
mod words;

pub(super) use encode::{Answering, decimal, line, stat, version};
pub(super) use words::Words;

use bytes::Bytes;
use memchr::memchr;

use self::encode::Form;
use super::command::{Asked, Quiet, Stats, checked_key};
use super::decoder::Limits;
use super::meta;
use super::number;
use super::refusal::Refusal;
use super::store::{Decoded, Ending, Store, WhenTooLarge};
use crate::cacheproxy::operation::{
    Cas, Count, Delete, Direction, ExpTime, Get, KEY_BYTES_MAX, Key, Operation, Set, SetMode,
    Wanted, What,
};

/// Most bytes of a line that has no list of keys: where memcached gives up waiting for its end.
pub(super) const LINE_BYTES_MAX: usize = 2048;

/// Most blanks before a `get` that is longer: memcached's.
const BLANKS_MAX: usize = 100;

/// Longest value that memcached takes for a length at all: an `int`, less the end of line.
const LENGTH_MAX: i32 = i32::MAX - 2;

/// The last word of a command that wants no answer.
const NOREPLY: &[u8] = b"noreply";

/// Whether the line that begins so is longer than it may be, as far as it is there.
pub(super) fn is_too_long(line: &[u8], limits: &Limits) -> bool {
    line.len() > LINE_BYTES_MAX && line.len() > line_bytes_max(line, limits)
}

/// How long the line that begins so may be; known once [`LINE_BYTES_MAX`] bytes of it are there.
pub(super) fn line_bytes_max(line: &[u8], limits: &Limits) -> usize {
    if is_retrieval(line) {
        LINE_BYTES_MAX.max(limits.line_bytes_max as usize)
    } else {
        LINE_BYTES_MAX
    }
}

fn is_retrieval(line: &[u8]) -> bool {
    let n_blanks = line.iter().take(BLANKS_MAX + 1).take_while(|byte| **byte == b' ').count();
    let verb = &line[n_blanks..];
    n_blanks <= BLANKS_MAX
        && [&b"get "[..], b"gets ", b"gat ", b"gats "].iter().any(|word| verb.starts_with(word))
}

/// Reads a line, which has no end of line but may have a carriage return before it.
pub(super) fn decode(line: &[u8], limits: &Limits) -> Decoded {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = memchr(0, line).map_or(line, |end| &line[..end]);
    let (verb, rest) = words::first(line);
    match verb {
        b"get" | b"bget" => retrieve(rest, Form::Values, Get::PLAIN),
        b"gets" => retrieve(rest, Form::ValuesWithCas, Get::PLAIN),
        b"gat" => retrieve_and_touch(rest, Form::Values),
        b"gats" => retrieve_and_touch(rest, Form::ValuesWithCas),
        b"mn" => Decoded::whole(Asked::Noop, Answering::loud(Form::Noop)),
        [b'm', b'g' | b's' | b'd' | b'a' | b'e'] => meta::decode(verb[1], &Words::of(rest), limits),
        _ => {
            let words = Words::of(rest);
            let read = store_mode(verb)
                .map_or_else(|| command(verb, &words), |verb| store(verb, &words, limits));
            // Before a command has looked for `noreply`, nobody has declined anything.
            read.unwrap_or_else(|refused| {
                Decoded::refused(refused.reason, Answering::of(Form::Outcome, refused.quiet), 0)
            })
        }
    }
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

// --- Reads.

fn retrieve(keys: &[u8], form: Form, get: Get) -> Decoded {
    let mut words = words::each(keys);
    let Some(first) = words.next() else {
        return Decoded::refused(Refusal::Unknown, Answering::LOUD, 0);
    };
    if words.next().is_some() {
        return retrieve_many(keys, form, get);
    }
    if first.len() > KEY_BYTES_MAX {
        return Decoded::refused(Refusal::BadFormat, Answering::LOUD, 0);
    }
    let operation = Operation { key: checked_key(first), what: What::Get(get) };
    Decoded::whole(Asked::One(operation), Answering::loud(form))
}

/// Any number of keys, even none. They share one copy of the line.
fn retrieve_many(keys: &[u8], form: Form, get: Get) -> Decoded {
    let line = Bytes::copy_from_slice(keys);
    let keys: Option<Vec<Key>> =
        words::each(keys).map(|word| Key::new(line.slice(words::place_in(keys, word)))).collect();
    match keys {
        Some(keys) => Decoded::whole(Asked::Many(get, keys), Answering::loud(form)),
        None => Decoded::refused(Refusal::BadFormat, Answering::LOUD, 0),
    }
}

fn retrieve_and_touch(rest: &[u8], form: Form) -> Decoded {
    let (expires, keys) = words::first(rest);
    if expires.is_empty() {
        return Decoded::refused(Refusal::Unknown, Answering::LOUD, 0);
    }
    let Some(expires) = number::signed(expires) else {
        return Decoded::refused(Refusal::BadExpTime, Answering::LOUD, 0);
    };
    let get = Get { touch: Some(ExpTime(expires)), ..Get::PLAIN };
    match words::first(keys).0 {
        b"" => retrieve_many(keys, form, get),
        _ => retrieve(keys, form, get),
    }
}

// --- Stores.

/// A verb that stores: which mode, and whether it names a cas.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StoreVerb {
    Mode(SetMode),
    Cas,
}

const fn store_mode(verb: &[u8]) -> Option<StoreVerb> {
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
        StoreVerb::Cas => Some(cas(words.at(4)).ok_or_else(|| refused(Refusal::BadFormat))?),
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
pub(super) fn value_bytes(length: i32) -> Option<usize> {
    (length <= LENGTH_MAX).then(|| usize::try_from(length).ok())?
}

fn cas(word: &[u8]) -> Option<Cas> {
    number::unsigned_long(word)
}

// --- The rest.

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
    let count = Count { direction, delta, initial: None, if_cas: None, new_cas: None, touch: None };
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
