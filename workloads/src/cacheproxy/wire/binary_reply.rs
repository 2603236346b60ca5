//! What a frame of the binary protocol says.

use bytes::Bytes;

use super::Malformed;
use super::binary::{Condition, HEADER_BYTES, Verb};
use super::text_reply::untold;
use crate::cacheproxy::operation::{Cas, Counted, Entry, Failure, KEY_BYTES_MAX, Outcome, Wanted};

/// Bytes of a body that are no value: extras, and a key.
pub(super) const BESIDE_BYTES_MAX: usize = 20 + KEY_BYTES_MAX;
/// The first byte of what a server sends.
const REPLY_MAGIC: u8 = 0x81;

const OK: u16 = 0x0000;
const KEY_NOT_FOUND: u16 = 0x0001;
const KEY_EXISTS: u16 = 0x0002;
const VALUE_TOO_LARGE: u16 = 0x0003;
const NOT_STORED: u16 = 0x0005;
const NOT_A_NUMBER: u16 = 0x0006;
const OUT_OF_MEMORY: u16 = 0x0082;

/// What the 24 bytes before a body say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    n_key: u16,
    n_extras: u8,
    status: u16,
    n_body: u32,
    pub(super) opaque: u32,
    cas: Cas,
}

impl Header {
    /// # Errors
    ///
    /// Another magic byte, or a body that is shorter than its parts.
    pub(super) fn read(bytes: [u8; HEADER_BYTES]) -> Result<Self, Malformed> {
        let [
            magic,
            _opcode,
            k0,
            k1,
            n_extras,
            _type,
            s0,
            s1,
            b0,
            b1,
            b2,
            b3,
            o0,
            o1,
            o2,
            o3,
            cas @ ..,
        ] = bytes;
        let header = Self {
            n_key: u16::from_be_bytes([k0, k1]),
            n_extras,
            status: u16::from_be_bytes([s0, s1]),
            n_body: u32::from_be_bytes([b0, b1, b2, b3]),
            opaque: u32::from_be_bytes([o0, o1, o2, o3]),
            cas: Cas::from_be_bytes(cas),
        };
        let n_beside = u32::from(header.n_key) + u32::from(n_extras);
        let is_whole = magic == REPLY_MAGIC && n_beside <= header.n_body;
        if is_whole { Ok(header) } else { Err(Malformed::NotAReply) }
    }

    pub(super) const fn body_bytes(&self) -> usize {
        self.n_body as usize
    }
}

/// What has come of an operation.
pub(super) fn outcome(verb: Verb, header: &Header, body: Bytes) -> Result<Outcome, Malformed> {
    Ok(match (header.status, verb) {
        (OK, Verb::Get(value)) => Outcome::Hit(entry(header, body, value)?),
        (OK, Verb::Store(_)) => Outcome::Stored(header.cas),
        (OK, Verb::Delete) => Outcome::Deleted,
        (OK, Verb::Count) => {
            let digits = <[u8; 8]>::try_from(&*body).map_err(|_other| Malformed::NotAReply)?;
            let number = u64::from_be_bytes(digits);
            Outcome::Counted(Counted { number, cas: header.cas, ttl_s: None })
        }
        // Whatever keeps a server from answering a read says nothing of the item.
        (status, Verb::Get(_)) if status != KEY_NOT_FOUND => Outcome::Failed(Failure::Refused),
        (KEY_NOT_FOUND, Verb::Store(Condition::Cas)) => Outcome::NotFound,
        (KEY_NOT_FOUND | KEY_EXISTS, Verb::Store(Condition::Mode)) => Outcome::NotStored,
        (KEY_NOT_FOUND, _) => Outcome::Miss,
        (KEY_EXISTS, _) => Outcome::Exists,
        (VALUE_TOO_LARGE, _) => Outcome::TooLarge,
        (NOT_STORED, _) => Outcome::NotStored,
        (NOT_A_NUMBER, _) => Outcome::NotANumber,
        (OUT_OF_MEMORY, _) => Outcome::NoMemory,
        _ => Outcome::Failed(Failure::Refused),
    })
}

fn entry(header: &Header, mut body: Bytes, wanted: Wanted) -> Result<Entry, Malformed> {
    let extras = body.split_to(usize::from(header.n_extras));
    let _key = body.split_to(usize::from(header.n_key));
    let flags = match *extras {
        [f0, f1, f2, f3] => u32::from_be_bytes([f0, f1, f2, f3]),
        // A `touch` tells none.
        [] => 0,
        _ => return Err(Malformed::NotAReply),
    };
    let value_bytes = u32::try_from(body.len()).map_err(|_beyond| Malformed::NotAReply)?;
    let value = match wanted {
        Wanted::Yes => body,
        Wanted::No => Bytes::new(),
    };
    Ok(Entry { value, value_bytes, flags, cas: header.cas, ..untold() })
}
