//! Lines of text: `get`, `set` and the other classic commands.
//!
//! memcached splits a line at blanks only and looks at no more of it than stands before its first NUL,
//! and so does this. How long a line may be depends on how it begins.

mod words;
mod retrieve;
mod commands;
mod encode;

pub(super) use commands::value_bytes;
pub(super) use encode::{Answering, decimal, line, stat, version};
pub(super) use words::Words;

use memchr::memchr;

use self::encode::Form;
use self::retrieve::{retrieve, retrieve_and_touch};
use super::command::Asked;
use super::decoder::Limits;
use super::meta;
use super::store::Decoded;
use crate::cacheproxy::operation::{Beside, Get};

/// Most bytes of a line that has no list of keys: where memcached gives up waiting for its end.
pub(super) const LINE_BYTES_MAX: usize = 2048;

/// Most blanks before a `get` that is longer: memcached's.
const BLANKS_MAX: usize = 100;

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
        b"gets" => retrieve(rest, Form::ValuesWithCas, Get { beside: Beside::Cas, ..Get::PLAIN }),
        b"gat" => retrieve_and_touch(rest, Form::Values),
        b"gats" => retrieve_and_touch(rest, Form::ValuesWithCas),
        b"mn" => Decoded::whole(Asked::Noop, Answering::loud(Form::Noop)),
        [b'm', b'g' | b's' | b'd' | b'a' | b'e'] => meta::decode(verb[1], &Words::of(rest), limits),
        _ => commands::decode(verb, &Words::of(rest), limits),
    }
}
