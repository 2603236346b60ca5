//! The header of a binary command: what it is, how long its parts are, and whether that is right.

use crate::cacheproxy::operation::{Direction, KEY_BYTES_MAX, SetMode};
use crate::cacheproxy::protocol::command::Quiet;
use crate::cacheproxy::protocol::refusal::Refusal;

/// The first byte of every binary command; no line of text begins with it.
pub(crate) const MAGIC: u8 = 0x80;

/// Bytes of a header.
pub(super) const BYTES: usize = 24;

/// A header, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) opcode: u8,
    pub(super) key_bytes: u16,
    pub(super) extras_bytes: u8,
    /// Extras, key and value together.
    pub(super) body_bytes: u32,
    /// Whatever the client wants to see again; its bytes are nobody's number.
    pub(super) opaque: [u8; 4],
    pub(super) cas: u64,
}

/// What an opcode says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opcode {
    pub(super) kind: Kind,
    pub(super) quiet: Quiet,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    GetKey,
    Touch,
    GetAndTouch,
    GetKeyAndTouch,
    Set(SetMode),
    Delete,
    Count(Direction),
    Noop,
    Version,
    Quit,
    Flush,
    Stats,
}

impl Opcode {
    pub(super) const fn of(opcode: u8) -> Option<Self> {
        Some(match opcode {
            0x00 => Self::loud(Kind::Get),
            0x01 => Self::loud(Kind::Set(SetMode::Set)),
            0x02 => Self::loud(Kind::Set(SetMode::Add)),
            0x03 => Self::loud(Kind::Set(SetMode::Replace)),
            0x04 => Self::loud(Kind::Delete),
            0x05 => Self::loud(Kind::Count(Direction::Up)),
            0x06 => Self::loud(Kind::Count(Direction::Down)),
            0x07 => Self::loud(Kind::Quit),
            0x08 => Self::loud(Kind::Flush),
            0x09 => Self::quiet(Kind::Get),
            0x0a => Self::loud(Kind::Noop),
            0x0b => Self::loud(Kind::Version),
            0x0c => Self::loud(Kind::GetKey),
            0x0d => Self::quiet(Kind::GetKey),
            0x0e => Self::loud(Kind::Set(SetMode::Append)),
            0x0f => Self::loud(Kind::Set(SetMode::Prepend)),
            STAT => Self::loud(Kind::Stats),
            0x11 => Self::quiet(Kind::Set(SetMode::Set)),
            0x12 => Self::quiet(Kind::Set(SetMode::Add)),
            0x13 => Self::quiet(Kind::Set(SetMode::Replace)),
            0x14 => Self::quiet(Kind::Delete),
            0x15 => Self::quiet(Kind::Count(Direction::Up)),
            0x16 => Self::quiet(Kind::Count(Direction::Down)),
            0x17 => Self::quiet(Kind::Quit),
            0x18 => Self::quiet(Kind::Flush),
            0x19 => Self::quiet(Kind::Set(SetMode::Append)),
            0x1a => Self::quiet(Kind::Set(SetMode::Prepend)),
            0x1c => Self::loud(Kind::Touch),
            0x1d => Self::loud(Kind::GetAndTouch),
            0x1e => Self::quiet(Kind::GetAndTouch),
            0x23 => Self::loud(Kind::GetKeyAndTouch),
            0x24 => Self::quiet(Kind::GetKeyAndTouch),
            _ => return None,
        })
    }

    const fn loud(kind: Kind) -> Self {
        Self { kind, quiet: Quiet::No }
    }

    const fn quiet(kind: Kind) -> Self {
        Self { kind, quiet: Quiet::Yes }
    }
}

const STAT: u8 = 0x10;

impl Kind {
    /// Whether this kind has parts of these lengths.
    const fn has(self, header: &Header) -> bool {
        let (key, extras) = (header.key_bytes > 0, header.extras_bytes);
        let value = header.value_bytes() > 0;
        match self {
            Self::Get | Self::GetKey | Self::Delete => key && extras == 0 && !value,
            Self::Touch | Self::GetAndTouch | Self::GetKeyAndTouch => key && extras == 4 && !value,
            Self::Set(SetMode::Append | SetMode::Prepend) => key && extras == 0,
            Self::Set(_) => key && extras == 8,
            Self::Count(_) => key && extras == 20 && !value,
            Self::Noop | Self::Version | Self::Quit => !key && extras == 0 && !value,
            Self::Flush => !key && (extras == 0 || extras == 4) && !value,
            Self::Stats => extras == 0 && !value,
        }
    }
}

impl Header {
    /// The header that these bytes begin with; `None` if they do not begin like one, or are too few.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.first_chunk()?;
        let [MAGIC, opcode, k0, k1, extras_bytes, _datatype, _vbucket0, _vbucket1, rest @ ..] =
            bytes
        else {
            return None;
        };
        let [b0, b1, b2, b3, o0, o1, o2, o3, cas @ ..] = *rest;
        Some(Self {
            opcode: *opcode,
            key_bytes: u16::from_be_bytes([*k0, *k1]),
            extras_bytes: *extras_bytes,
            body_bytes: u32::from_be_bytes([b0, b1, b2, b3]),
            opaque: [o0, o1, o2, o3],
            cas: u64::from_be_bytes(cas),
        })
    }

    pub(super) const fn opcode(&self) -> Option<Opcode> {
        Opcode::of(self.opcode)
    }

    /// Whether the lengths are right, of themselves and for this opcode if it is one.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.head_body_bytes() > self.body_bytes as usize {
            return Err(Refusal::BadBody);
        }
        let is_right = usize::from(self.key_bytes) <= KEY_BYTES_MAX
            && self.opcode().is_none_or(|opcode| opcode.kind.has(self));
        if is_right { Ok(()) } else { Err(Refusal::BadLengths) }
    }

    /// Bytes of extras and key.
    const fn head_body_bytes(&self) -> usize {
        self.extras_bytes as usize + self.key_bytes as usize
    }

    /// Bytes of the value.
    pub(super) const fn value_bytes(&self) -> usize {
        (self.body_bytes as usize).saturating_sub(self.head_body_bytes())
    }
}

/// How many bytes a head has that begins so: a header, and the extras and key that it promises if it
/// is one that we read on from.
pub(crate) fn head_bytes(bytes: &[u8]) -> usize {
    match Header::read(bytes) {
        Some(header) if header.check().is_ok() && header.opcode().is_some() => {
            BYTES + header.head_body_bytes()
        }
        _ => BYTES,
    }
}

/// Bytes of the answer to a command, up to its extras.
pub(super) struct AnswerHeader {
    pub(super) opcode: u8,
    pub(super) status: u16,
    pub(super) key_bytes: u16,
    pub(super) extras_bytes: u8,
    pub(super) body_bytes: u32,
    pub(super) opaque: [u8; 4],
    pub(super) cas: u64,
}

/// The first byte of every binary answer.
const ANSWER_MAGIC: u8 = 0x81;

impl AnswerHeader {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; BYTES];
        bytes[0] = ANSWER_MAGIC;
        bytes[1] = self.opcode;
        bytes[2..4].copy_from_slice(&self.key_bytes.to_be_bytes());
        bytes[4] = self.extras_bytes;
        bytes[6..8].copy_from_slice(&self.status.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.body_bytes.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.opaque);
        bytes[16..24].copy_from_slice(&self.cas.to_be_bytes());
        out.extend_from_slice(&bytes);
    }
}
