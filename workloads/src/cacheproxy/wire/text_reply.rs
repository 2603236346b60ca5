//! What a line of the classic text protocol says.
//!
//! An error line is taken for the outcome of one operation only where the server is known to have
//! read past what it was sent; where it may have taken a value for commands, the connection is given
//! up instead.

use bytes::Bytes;

use super::line::{number, words};
use super::replies::Step;
use super::{Asked, Malformed};
use crate::cacheproxy::operation::{Counted, Entry, Failure, Outcome, Win};

/// Whether a value was sent behind the command that a line answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Line,
    LineAndValue,
}

/// An item of which nothing has been told.
pub(super) const fn untold() -> Entry {
    Entry {
        value: Bytes::new(),
        value_bytes: 0,
        flags: 0,
        cas: 0,
        ttl_s: None,
        idle_s: 0,
        fetched: false,
        stale: false,
        win: Win::None,
    }
}

/// A line of the reply to a `get`, `gets` or `gat`, of which these keys are due.
pub(super) fn get(line: &[u8], due: &[Asked], start: usize) -> Result<Step, Malformed> {
    if line == b"END" {
        return Ok(Step::Rest(Outcome::Miss));
    }
    let Some(item) = line.strip_prefix(b"VALUE ") else {
        return refused_read(line).map(Step::Rest);
    };
    let mut words = words(item);
    let key = words.next().ok_or(Malformed::NotAReply)?;
    let at = due.iter().position(|asked| asked.key.as_bytes() == key);
    let idx = start + at.ok_or(Malformed::OtherKey)?;
    let flags = number(words.next())?;
    let value_bytes: u32 = number(words.next())?;
    let cas = words.next().map_or(Ok(0), |word| number(Some(word)))?;
    let entry = Entry { flags, value_bytes, cas, ..untold() };
    Ok(Step::Value { idx, entry, n_bytes: value_bytes as usize })
}

pub(super) fn touch(line: &[u8]) -> Result<Step, Malformed> {
    Ok(Step::Outcome(match line {
        b"TOUCHED" => Outcome::Hit(untold()),
        b"NOT_FOUND" => Outcome::Miss,
        _ => refused_read(line)?,
    }))
}

pub(super) fn store(line: &[u8]) -> Result<Step, Malformed> {
    Ok(Step::Outcome(match line {
        b"STORED" => Outcome::Stored(0),
        b"NOT_STORED" => Outcome::NotStored,
        b"EXISTS" => Outcome::Exists,
        b"NOT_FOUND" => Outcome::NotFound,
        _ => refusal(line, Sent::LineAndValue)?,
    }))
}

pub(super) fn delete(line: &[u8]) -> Result<Step, Malformed> {
    Ok(Step::Outcome(match line {
        b"DELETED" => Outcome::Deleted,
        b"NOT_FOUND" => Outcome::Miss,
        _ => refusal(line, Sent::Line)?,
    }))
}

pub(super) fn count(line: &[u8]) -> Result<Step, Malformed> {
    Ok(Step::Outcome(match line {
        b"NOT_FOUND" => Outcome::Miss,
        [b'0'..=b'9', ..] => {
            let number = number(Some(line))?;
            Outcome::Counted(Counted { number, cas: 0, ttl_s: None })
        }
        _ => refusal(line, Sent::Line)?,
    }))
}

/// What an error line comes to for reads, in both families of commands: whatever kept the server from
/// answering (no memory for its answer, say), it says nothing of the item.
pub(super) fn refused_read(line: &[u8]) -> Result<Outcome, Malformed> {
    refusal(line, Sent::Line).map(|_why| Outcome::Failed(Failure::Refused))
}

/// What an error line comes to, in both families of commands.
pub(super) fn refusal(line: &[u8], sent: Sent) -> Result<Outcome, Malformed> {
    let begins = |with: &str| line.starts_with(with.as_bytes());
    let refused = Outcome::Failed(Failure::Refused);
    if begins("SERVER_ERROR object too large") {
        return Ok(Outcome::TooLarge);
    }
    if begins("SERVER_ERROR out of memory") {
        return Ok(Outcome::NoMemory);
    }
    if begins("CLIENT_ERROR cannot increment or decrement non-numeric") {
        return Ok(Outcome::NotANumber);
    }
    // Told by an older server of a newer flag; it reads past the value then.
    let past_value = begins("SERVER_ERROR") || begins("CLIENT_ERROR invalid flag");
    let is_error = past_value || begins("CLIENT_ERROR") || line == b"ERROR";
    match sent {
        Sent::Line if is_error => Ok(refused),
        Sent::LineAndValue if past_value => Ok(refused),
        _ => Err(Malformed::NotAReply),
    }
}
