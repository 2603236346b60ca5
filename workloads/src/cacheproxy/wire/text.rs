//! Operations as lines of text.
//!
//! Neighbouring plain reads share one `get` line: a server reads it once and answers in one go, which
//! is where a batch saves most. What text has no words for goes as a meta command between the others,
//! which a server answers in its turn.

use super::{Asked, Form, Place, meta, put_number, word};
use crate::cacheproxy::operation::{
    Beside, Count, CountsAsUse, Delete, Direction, Get, Operation, Set, SetMode, Wanted, What,
};

/// Bytes of a `get` line beyond which a new one begins: a memcached that finds no line's end in its
/// first 2,048 bytes goes a slower way, or gives the connection up.
const GET_LINE_BYTES_MAX: usize = 2_000;

/// The `get` line that stands open at the end of the bytes.
struct GetLine {
    verb: &'static [u8],
    /// Where it begins.
    start: usize,
}

/// Appends operations and what is asked by them.
pub(super) fn encode<'a>(
    operations: impl Iterator<Item = &'a Operation>,
    out: &mut Vec<u8>,
    asked: &mut Vec<Asked>,
) {
    let mut open: Option<GetLine> = None;
    for operation in operations {
        let verb = get_verb(operation);
        let key = operation.key.clone();
        let fits = |line: &GetLine| {
            let n_bytes = out.len() - line.start + key.as_bytes().len();
            Some(line.verb) == verb && n_bytes < GET_LINE_BYTES_MAX
        };
        if open.as_ref().is_some_and(|line| !fits(line)) {
            open = None;
            end_line(out, asked);
        }
        let Some(verb) = verb else {
            let form = say(operation, out).unwrap_or_else(|| meta::say(operation, out));
            asked.push(Asked { key, form });
            continue;
        };
        open.get_or_insert_with(|| {
            let start = out.len();
            out.extend_from_slice(verb);
            GetLine { verb, start }
        });
        out.push(b' ');
        out.extend_from_slice(key.as_bytes());
        asked.push(Asked { key, form: Form::Get(Place::Inside) });
    }
    if open.is_some() {
        end_line(out, asked);
    }
}

fn end_line(out: &mut Vec<u8>, asked: &mut [Asked]) {
    out.extend_from_slice(b"\r\n");
    let last = asked.last_mut().expect("an open line holds at least one key");
    last.form = Form::Get(Place::Last);
}

/// The word of the line that this read may share with others, if it may.
fn get_verb(operation: &Operation) -> Option<&'static [u8]> {
    let What::Get(get) = &operation.what else { return None };
    if get.touch.is_some() || !is_sayable(get) || !operation.key.is_clean() {
        return None;
    }
    match (get.value, get.beside) {
        (Wanted::Yes, Beside::Flags) => Some(b"get"),
        (Wanted::Yes, Beside::Cas) => Some(b"gets"),
        _ => None,
    }
}

/// Whether the classic commands know all of this read but its touch.
fn is_sayable(get: &Get) -> bool {
    get.vivify.is_none()
        && get.recache_below_s.is_none()
        && get.counts_as_use == CountsAsUse::Yes
        && get.beside <= Beside::Cas
}

/// Appends an operation on a line of its own; `None`, and nothing appended, if text has no words
/// for it.
fn say(operation: &Operation, out: &mut Vec<u8>) -> Option<Form> {
    let key = operation.key.is_clean().then(|| operation.key.as_bytes())?;
    match &operation.what {
        What::Get(get) => say_touch(key, get, out),
        What::Set(set) => say_set(key, set, out),
        What::Delete(delete) if *delete == Delete::default() => {
            out.extend_from_slice(b"delete ");
            out.extend_from_slice(key);
            out.extend_from_slice(b"\r\n");
            Some(Form::Delete)
        }
        What::Count(count) => say_count(key, count, out),
        What::Delete(_) | What::Describe => None,
    }
}

fn say_touch(key: &[u8], get: &Get, out: &mut Vec<u8>) -> Option<Form> {
    let expires = get.touch.filter(|_expires| is_sayable(get))?;
    let word: &[u8] = match (get.value, get.beside) {
        (Wanted::Yes, Beside::Flags) => b"gat ",
        (Wanted::Yes, _) => b"gats ",
        (Wanted::No, Beside::Flags) => {
            out.extend_from_slice(b"touch ");
            out.extend_from_slice(key);
            out.push(b' ');
            put_number(expires.0, out);
            out.extend_from_slice(b"\r\n");
            return Some(Form::Touch);
        }
        (Wanted::No, _) => return None,
    };
    out.extend_from_slice(word);
    put_number(expires.0, out);
    out.push(b' ');
    out.extend_from_slice(key);
    out.extend_from_slice(b"\r\n");
    Some(Form::Get(Place::Last))
}

fn say_set(key: &[u8], set: &Set, out: &mut Vec<u8>) -> Option<Form> {
    let is_sayable = !set.invalidate && set.vivify.is_none() && set.beside == Beside::Flags;
    let word = match (set.if_cas, set.mode) {
        (None, mode) => word(mode),
        (Some(_cas), SetMode::Set) => b"cas ",
        (Some(_cas), _) => return None,
    };
    if !is_sayable {
        return None;
    }
    out.extend_from_slice(word);
    out.extend_from_slice(key);
    out.push(b' ');
    put_number(set.flags, out);
    out.push(b' ');
    put_number(set.expires.0, out);
    out.push(b' ');
    put_number(set.value.len(), out);
    if let Some(cas) = set.if_cas {
        out.push(b' ');
        put_number(cas, out);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&set.value);
    out.extend_from_slice(b"\r\n");
    Some(Form::Store)
}

fn say_count(key: &[u8], count: &Count, out: &mut Vec<u8>) -> Option<Form> {
    let is_sayable = count.initial.is_none()
        && count.if_cas.is_none()
        && count.touch.is_none()
        && count.beside == Beside::Flags;
    if !is_sayable {
        return None;
    }
    out.extend_from_slice(match count.direction {
        Direction::Up => b"incr ",
        Direction::Down => b"decr ",
    });
    out.extend_from_slice(key);
    out.push(b' ');
    put_number(count.delta, out);
    out.extend_from_slice(b"\r\n");
    Some(Form::Count)
}
