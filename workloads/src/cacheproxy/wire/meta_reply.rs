//! What a line of the meta commands says.

use super::Malformed;
use super::line::{number, words};
use super::replies::Step;
use super::text_reply::{Sent, refusal, refused_read, untold};
use crate::cacheproxy::operation::{Counted, Description, Entry, Key, Outcome, Wanted, Win};

/// The code of a line and what stands behind it.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    line.split_at(line.len().min(2))
}

pub(super) fn get(line: &[u8], value: Wanted, key: &Key, start: usize) -> Result<Step, Malformed> {
    let (code, flags) = split(line);
    let mut words = words(flags);
    match (code, value) {
        (b"EN", _) => {
            read_item(words, key)?;
            Ok(Step::Outcome(Outcome::Miss))
        }
        (b"VA", Wanted::Yes) => {
            let value_bytes: u32 = number(words.next())?;
            let entry = Entry { value_bytes, ..read_item(words, key)? };
            Ok(Step::Value { idx: start, entry, n_bytes: value_bytes as usize })
        }
        (b"HD", Wanted::No) => Ok(Step::Outcome(Outcome::Hit(read_item(words, key)?))),
        _ => refused_read(line).map(Step::Outcome),
    }
}

/// What the flags tell of an item; flags that were not asked for are passed over.
fn read_item<'a>(words: impl Iterator<Item = &'a [u8]>, key: &Key) -> Result<Entry, Malformed> {
    let mut entry = untold();
    for word in words {
        let (flag, token) = word.split_first().ok_or(Malformed::NotAReply)?;
        match flag {
            b's' => entry.value_bytes = number(Some(token))?,
            b'f' => entry.flags = number(Some(token))?,
            b'c' => entry.cas = number(Some(token))?,
            b't' => entry.ttl_s = ttl(token)?,
            b'h' => entry.fetched = token == b"1",
            b'l' => entry.idle_s = number(Some(token))?,
            b'k' if token != key.as_bytes() => return Err(Malformed::OtherKey),
            b'X' => entry.stale = true,
            b'W' => entry.win = Win::Won,
            b'Z' => entry.win = Win::Sent,
            _ => {}
        }
    }
    Ok(entry)
}

/// The seconds that are left; -1 says that there is no end.
fn ttl(token: &[u8]) -> Result<Option<u32>, Malformed> {
    if token == b"-1" { Ok(None) } else { number(Some(token)).map(Some) }
}

/// As `me` tells it: some versions count down below 0.
fn described_ttl(token: &[u8]) -> Result<Option<u32>, Malformed> {
    match token.strip_prefix(b"-") {
        Some(left) if left != b"1" => ttl(left),
        _ => ttl(token),
    }
}

pub(super) fn store(line: &[u8]) -> Result<Step, Malformed> {
    let (code, flags) = split(line);
    Ok(Step::Outcome(match code {
        b"HD" => Outcome::Stored(cas_among(flags)?),
        b"NS" => Outcome::NotStored,
        b"EX" => Outcome::Exists,
        b"NF" => Outcome::NotFound,
        _ => refusal(line, Sent::LineAndValue)?,
    }))
}

fn cas_among(flags: &[u8]) -> Result<u64, Malformed> {
    let cas = words(flags).find_map(|word| word.strip_prefix(b"c"));
    cas.map_or(Ok(0), |token| number(Some(token)))
}

pub(super) fn delete(line: &[u8]) -> Result<Step, Malformed> {
    Ok(Step::Outcome(match split(line).0 {
        b"HD" => Outcome::Deleted,
        b"NF" => Outcome::Miss,
        b"EX" => Outcome::Exists,
        _ => refusal(line, Sent::Line)?,
    }))
}

pub(super) fn count(line: &[u8]) -> Result<Step, Malformed> {
    let (code, flags) = split(line);
    if code == b"VA" {
        let mut words = words(flags);
        let n_bytes = number(words.next())?;
        let mut counted = Counted { number: 0, cas: cas_among(flags)?, ttl_s: None };
        if let Some(token) = words.find_map(|word| word.strip_prefix(b"t")) {
            counted.ttl_s = ttl(token)?;
        }
        return Ok(Step::Number { counted, n_bytes });
    }
    Ok(Step::Outcome(match code {
        b"NF" => Outcome::Miss,
        b"NS" => Outcome::NotStored,
        b"EX" => Outcome::Exists,
        _ => refusal(line, Sent::Line)?,
    }))
}

pub(super) fn describe(line: &[u8], key: &Key) -> Result<Step, Malformed> {
    let (code, told) = split(line);
    let mut words = words(told);
    match code {
        b"EN" => return Ok(Step::Outcome(Outcome::Described(None))),
        b"ME" => {}
        _ => return refused_read(line).map(Step::Outcome),
    }
    if words.next() != Some(key.as_bytes()) {
        return Err(Malformed::OtherKey);
    }
    let mut told =
        Description { ttl_s: None, idle_s: 0, cas: 0, fetched: false, class: 0, n_bytes: 0 };
    for word in words {
        let mut parts = word.splitn(2, |byte| *byte == b'=');
        match (parts.next(), parts.next()) {
            (Some(b"exp"), Some(token)) => told.ttl_s = described_ttl(token)?,
            (Some(b"la"), token) => told.idle_s = number(token)?,
            (Some(b"cas"), token) => told.cas = number(token)?,
            (Some(b"fetch"), token) => told.fetched = token == Some(b"yes"),
            (Some(b"cls"), token) => told.class = number(token)?,
            (Some(b"size"), token) => told.n_bytes = number(token)?,
            _ => {}
        }
    }
    Ok(Step::Outcome(Outcome::Described(Some(Box::new(told)))))
}
