//! Operations as meta commands: the form that has words for everything.
//!
//! A read asks for its key to be told with the item, so that a connection out of step is noticed. A
//! key that cannot stand on a line goes in base64, and is not to be told: once `ma` has made its item
//! anew, memcached 1.6.18 has forgotten that the key is binary and puts it on the line as it is, with
//! whatever line ends are in it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Form, put_number};
use crate::cacheproxy::operation::{
    Beside, Count, CountsAsUse, Delete, Direction, ExpTime, Get, KEY_BYTES_MAX, Key, Operation,
    Set, SetMode, Wanted, What,
};

/// Appends an operation, unless its key is too long for a line, or would be told with the reply.
pub(super) fn say(operation: &Operation, out: &mut Vec<u8>) -> Form {
    let key = &operation.key;
    if !fits(key) || (operation.what == What::Describe && !key.is_clean()) {
        return Form::Unsayable;
    }
    match &operation.what {
        What::Get(get) => say_get(key, get, out),
        What::Set(set) => say_set(key, set, out),
        What::Delete(delete) => say_delete(key, delete, out),
        What::Count(count) => say_count(key, count, out),
        What::Describe => {
            put_command(b"me ", key, out);
            end_line(key, out);
            Form::MetaDescribe
        }
    }
}

/// Whether the key, as it would stand on the line, is no longer than a line's key may be.
pub(super) fn fits(key: &Key) -> bool {
    let n_bytes = key.as_bytes().len();
    key.is_clean() || base64::encoded_len(n_bytes, true).is_some_and(|len| len <= KEY_BYTES_MAX)
}

fn put_command(command: &[u8], key: &Key, out: &mut Vec<u8>) {
    out.extend_from_slice(command);
    if key.is_clean() {
        out.extend_from_slice(key.as_bytes());
        return;
    }
    let start = out.len();
    // As long as a key can be in base64, at most; what is not written is cut off again.
    out.resize(start + KEY_BYTES_MAX, 0);
    let written = STANDARD.encode_slice(key.as_bytes(), &mut out[start..]);
    out.truncate(start + written.expect("a key that fits is asked for"));
}

fn end_line(key: &Key, out: &mut Vec<u8>) {
    if !key.is_clean() {
        out.extend_from_slice(b" b");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a flag with a number, where there is one.
fn put_flag<N: itoa::Integer>(flag: u8, number: Option<N>, out: &mut Vec<u8>) {
    if let Some(number) = number {
        out.extend_from_slice(&[b' ', flag]);
        put_number(number, out);
    }
}

fn seconds(expires: Option<ExpTime>) -> Option<i32> {
    expires.map(|expires| expires.0)
}

fn say_get(key: &Key, get: &Get, out: &mut Vec<u8>) -> Form {
    put_command(b"mg ", key, out);
    // memcached does and tells flag by flag: what is told is to be what has become of the item.
    put_flag(b'T', seconds(get.touch), out);
    put_flag(b'N', seconds(get.vivify), out);
    put_flag(b'R', get.recache_below_s, out);
    out.extend_from_slice(match get.value {
        Wanted::Yes => b" v",
        Wanted::No => b" s",
    });
    if key.is_clean() {
        out.extend_from_slice(b" k");
    }
    out.extend_from_slice(match get.beside {
        Beside::Flags => b" f",
        Beside::Cas => b" f c",
        Beside::Ttl => b" f c t",
        Beside::All => b" f c t h l",
    });
    if get.counts_as_use == CountsAsUse::No {
        out.extend_from_slice(b" u");
    }
    end_line(key, out);
    Form::MetaGet(get.value)
}

fn say_set(key: &Key, set: &Set, out: &mut Vec<u8>) -> Form {
    put_command(b"ms ", key, out);
    out.push(b' ');
    put_number(set.value.len(), out);
    put_flag(b'F', Some(set.flags).filter(|flags| *flags != 0), out);
    put_flag(b'T', Some(set.expires.0).filter(|seconds| *seconds != 0), out);
    out.extend_from_slice(match set.mode {
        SetMode::Set => b"",
        SetMode::Add => b" ME",
        SetMode::Replace => b" MR",
        SetMode::Append => b" MA",
        SetMode::Prepend => b" MP",
    });
    put_flag(b'C', set.if_cas, out);
    put_flag(b'N', seconds(set.vivify), out);
    if set.invalidate {
        out.extend_from_slice(b" I");
    }
    if set.beside >= Beside::Cas {
        out.extend_from_slice(b" c");
    }
    end_line(key, out);
    out.extend_from_slice(&set.value);
    out.extend_from_slice(b"\r\n");
    Form::MetaStore
}

fn say_delete(key: &Key, delete: &Delete, out: &mut Vec<u8>) -> Form {
    put_command(b"md ", key, out);
    put_flag(b'C', delete.if_cas, out);
    put_flag(b'T', seconds(delete.touch), out);
    if delete.invalidate {
        out.extend_from_slice(b" I");
    }
    end_line(key, out);
    Form::MetaDelete
}

fn say_count(key: &Key, count: &Count, out: &mut Vec<u8>) -> Form {
    put_command(b"ma ", key, out);
    out.extend_from_slice(b" v");
    if count.direction == Direction::Down {
        out.extend_from_slice(b" MD");
    }
    put_flag(b'D', Some(count.delta), out);
    put_flag(b'N', count.initial.map(|(_number, expires)| expires.0), out);
    put_flag(b'J', count.initial.map(|(number, _expires)| number), out);
    put_flag(b'C', count.if_cas, out);
    put_flag(b'T', seconds(count.touch), out);
    out.extend_from_slice(match count.beside {
        Beside::Flags => b"",
        Beside::Cas => b" c",
        Beside::Ttl | Beside::All => b" c t",
    });
    end_line(key, out);
    Form::MetaCount
}
