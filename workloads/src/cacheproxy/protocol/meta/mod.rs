//! Meta commands: `mg`, `ms`, `md`, `ma`, `me`; a key and flags of one letter each.
//!
//! They can say all that the other protocols can. Each command reads the flags that mean something to
//! it and lets the others be, as memcached does; which error is told when there are several is
//! memcached's choice too. `mn`, which has neither key nor flags, is a plain line of text.

mod flags;
mod encode;

pub(super) use encode::Answering;

use bytes::Bytes;

use self::encode::{MetaVerb, Returns};
use self::flags::{Flags, KeyForm};
use super::command::Asked;
use super::decoder::Limits;
use super::number;
use super::refusal::Refusal;
use super::store::{Decoded, Ending, Store, WhenTooLarge};
use super::text::{self, Words};
use crate::cacheproxy::operation::{
    Beside, Count, Delete, Direction, Get, KEY_BYTES_MAX, Operation, Set, SetMode, What,
};

/// Most words after the verb, key included: memcached's.
const WORDS_MAX: usize = 18;

/// Reads the meta command of this letter.
pub(super) fn decode(letter: u8, words: &Words<'_>, limits: &Limits) -> Decoded {
    let read = match letter {
        b'g' => get(words),
        b's' => return set(words, limits),
        b'd' => delete(words),
        b'a' => count(words),
        _ => describe(words),
    };
    read.unwrap_or_else(|refusal| Decoded::refused(refusal, text::Answering::LOUD, 0))
}

/// `mg <key> <flags>*`
fn get(words: &Words<'_>) -> Result<Decoded, Refusal> {
    check_words(words, Refusal::TooManyFlags)?;
    let flags = Flags::read(words.at(0), words.from(1))?;
    let returns = Returns::of(words.from(1), b"kOstcflh")?;
    let get = Get {
        value: flags.value,
        // Who is to fill an item again is told whether it was asked for or not.
        beside: Beside::All,
        touch: flags.touch,
        vivify: flags.vivify,
        recache_below_s: flags.recache_below_s,
        counts_as_use: flags.counts_as_use,
    };
    Ok(one(MetaVerb::Get, flags, returns, What::Get(get)))
}

/// `md <key> <flags>*`
fn delete(words: &Words<'_>) -> Result<Decoded, Refusal> {
    check_words(words, Refusal::FlagsTooLong)?;
    let flags = Flags::read(words.at(0), words.from(1)).map_err(|_| Refusal::BadFlags)?;
    let returns = Returns::of(words.from(1), b"kO")?;
    let delete = Delete {
        if_cas: flags.if_cas,
        invalidate: flags.invalidate,
        touch: flags.touch.filter(|_| flags.invalidate),
    };
    Ok(one(MetaVerb::Delete, flags, returns, What::Delete(delete)))
}

/// `ma <key> <flags>*`
fn count(words: &Words<'_>) -> Result<Decoded, Refusal> {
    check_words(words, Refusal::FlagsTooLong)?;
    let flags = Flags::read(words.at(0), words.from(1)).map_err(|_| Refusal::BadFlags)?;
    let direction = match flags.mode {
        None | Some(b'I' | b'+') => Direction::Up,
        Some(b'D' | b'-') => Direction::Down,
        Some(_) => return Err(Refusal::UnknownCountMode),
    };
    let returns = Returns::of(words.from(1), b"kOtc")?;
    let count = Count {
        direction,
        delta: flags.delta,
        initial: flags.vivify.map(|expires| (flags.initial, expires)),
        // To arithmetic, a cas of 0 is none.
        if_cas: flags.if_cas.filter(|cas| *cas != 0),
        touch: flags.touch,
        beside: returns.beside(),
    };
    Ok(one(MetaVerb::Count, flags, returns, What::Count(count)))
}

/// `me <key> [b]`; whatever else follows is not looked at.
fn describe(words: &Words<'_>) -> Result<Decoded, Refusal> {
    let form = if words.at(1) == b"b" { KeyForm::Base64 } else { KeyForm::Plain };
    let is_short = words.len() > 0 && words.at(0).len() <= KEY_BYTES_MAX;
    let key = is_short.then(|| form.key(words.at(0))).flatten().ok_or(Refusal::BadFormat)?;
    let answering = Answering::describing(form);
    Ok(Decoded::whole(Asked::One(Operation { key, what: What::Describe }), answering))
}

/// `ms <key> <bytes> <flags>*`. Once its length is known, so is what follows the line: the value of
/// a command that is refused is dropped.
fn set(words: &Words<'_>, limits: &Limits) -> Decoded {
    let refused = |refusal, n_bytes| Decoded::refused(refusal, text::Answering::LOUD, n_bytes);
    let value_bytes = match length(words) {
        Ok(value_bytes) => value_bytes,
        Err(refusal) => return refused(refusal, 0),
    };
    match store(words, value_bytes) {
        Ok(store) => store.within(limits, WhenTooLarge::Remove),
        Err(refusal) => refused(refusal, (value_bytes + b"\r\n".len()) as u64),
    }
}

/// How long the value is, of an `ms` that is well formed up to there.
fn length(words: &Words<'_>) -> Result<usize, Refusal> {
    check_words(words, Refusal::FlagsTooLong)?;
    if words.len() < 2 {
        return Err(Refusal::BadFormat);
    }
    number::signed(words.at(1)).and_then(text::value_bytes).ok_or(Refusal::BadFormat)
}

fn store(words: &Words<'_>, value_bytes: usize) -> Result<Store, Refusal> {
    let flags = Flags::read(words.at(0), words.from(2))?;
    let mode = set_mode(flags.mode)?;
    let returns = Returns::of(words.from(2), b"kOc")?;
    let expires = flags.touch.unwrap_or_default();
    let set = Set::new(mode, flags.client_flags, expires, Bytes::new());
    let set = with_cas(&flags, Set { beside: returns.beside(), ..set });
    let answering = Answering::new(MetaVerb::Set, &flags, returns).into();
    Ok(Store { key: flags.key, set, answering, value_bytes, ending: Ending::Line })
}

const fn set_mode(mode: Option<u8>) -> Result<SetMode, Refusal> {
    Ok(match mode {
        None | Some(b'S') => SetMode::Set,
        Some(b'E') => SetMode::Add,
        Some(b'A') => SetMode::Append,
        Some(b'P') => SetMode::Prepend,
        Some(b'R') => SetMode::Replace,
        Some(_) => return Err(Refusal::UnknownSetMode),
    })
}

/// What a cas means depends on the mode: set and replace become the same, add does not look at it,
/// and to append and prepend 0 is none.
fn with_cas(flags: &Flags, set: Set) -> Set {
    match (set.mode, flags.if_cas) {
        (_, None) | (SetMode::Add, _) => set,
        (SetMode::Set | SetMode::Replace, Some(_)) => {
            let invalidate = flags.invalidate;
            Set { mode: SetMode::Set, if_cas: flags.if_cas, invalidate, ..set }
        }
        (SetMode::Append | SetMode::Prepend, Some(cas)) => {
            Set { if_cas: (cas != 0).then_some(cas), ..set }
        }
    }
}

fn check_words(words: &Words<'_>, too_many: Refusal) -> Result<(), Refusal> {
    match words.len() {
        0 => Err(Refusal::Unknown),
        _ if words.at(0).len() > KEY_BYTES_MAX => Err(Refusal::BadFormat),
        n_words if n_words > WORDS_MAX => Err(too_many),
        _ => Ok(()),
    }
}

fn one(verb: MetaVerb, flags: Flags, returns: Returns, what: What) -> Decoded {
    let answering = Answering::new(verb, &flags, returns);
    Decoded::whole(Asked::One(Operation { key: flags.key, what }), answering)
}
