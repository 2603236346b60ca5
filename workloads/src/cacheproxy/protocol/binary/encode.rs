//! Outcomes to binary answers.

use bytes::Bytes;

use super::header::{AnswerHeader, Header, Kind, Opcode};
use crate::cacheproxy::operation::{Cas, Entry, Key, Outcome, SetMode};
use crate::cacheproxy::protocol::command::Quiet;
use crate::cacheproxy::protocol::out::Out;
use crate::cacheproxy::protocol::refusal::{Refusal, Status};

/// How a binary command is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answering {
    /// As it came: an answer repeats it.
    opcode: u8,
    opaque: [u8; 4],
    /// `None` for what was no command at all, which is not answered.
    known: Known,
}

/// What is known of the opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// There is none.
    Nothing,
    /// It is none of ours.
    Unknown,
    Opcode(Opcode),
}

/// What stands in an answer besides opcode and opaque.
#[derive(Default)]
struct Answer<'a> {
    status: u16,
    cas: Cas,
    extras: &'a [u8],
    key: &'a [u8],
    value: &'a [u8],
}

impl Answer<'_> {
    /// Bytes before its value.
    fn head_bytes(&self) -> usize {
        super::header::BYTES + self.extras.len() + self.key.len()
    }
}

impl Answering {
    /// For what does not even begin like a command.
    pub(super) const fn silent() -> Self {
        Self { opcode: 0, opaque: [0; 4], known: Known::Nothing }
    }

    pub(super) fn to(header: &Header) -> Self {
        let known = header.opcode().map_or(Known::Unknown, Known::Opcode);
        Self { opcode: header.opcode, opaque: header.opaque, known }
    }

    pub(crate) fn outcome(&self, key: &Key, outcome: &Outcome, out: &mut impl Out) {
        match outcome {
            Outcome::Hit(entry) => self.hit(key, entry, out),
            _ => self.other(key, outcome, out.bytes()),
        }
    }

    fn other(&self, key: &Key, outcome: &Outcome, out: &mut Vec<u8>) {
        match outcome {
            Outcome::Hit(_) => debug_assert!(false, "a hit is answered elsewhere"),
            Outcome::Miss => self.miss(key, out),
            Outcome::Stored(cas) => self.success(&Answer { cas: *cas, ..Answer::default() }, out),
            Outcome::Deleted => self.success(&Answer::default(), out),
            Outcome::Counted(counted) => {
                let value = &counted.number.to_be_bytes();
                self.success(&Answer { cas: counted.cas, value, ..Answer::default() }, out);
            }
            Outcome::Exists => self.failure(Status::EXISTS, "Data exists for key.", out),
            Outcome::NotFound => self.failure(Status::NOT_FOUND, "Not found", out),
            Outcome::NotStored => self.not_stored(out),
            Outcome::NotANumber => self.refused(Refusal::NotANumber, out),
            Outcome::TooLarge => self.refused(Refusal::TooLarge, out),
            Outcome::NoMemory => self.refused(Refusal::NoMemory, out),
            Outcome::Failed(failure) => self.refused(Refusal::Failed(*failure), out),
            Outcome::Described(_) => debug_assert!(false, "no binary command describes"),
        }
    }

    /// A hit is answered to quiet commands too.
    fn hit(&self, key: &Key, entry: &Entry, out: &mut impl Out) {
        let kind = self.kind();
        let key = if has_key(kind) { key.as_bytes() } else { &[] };
        let none = Bytes::new();
        let value = if kind == Some(Kind::Touch) { &none } else { &entry.value };
        let extras = &entry.flags.to_be_bytes();
        let answer = Answer { status: Status::OK.0, cas: entry.cas, extras, key, value };
        out.reserve(answer.head_bytes(), value);
        self.head(&answer, out.bytes());
        out.value(value);
    }

    /// A quiet get that misses is not answered; one that tells keys tells that of a miss too.
    fn miss(&self, key: &Key, out: &mut Vec<u8>) {
        let kind = self.kind();
        let is_get = matches!(
            kind,
            Some(Kind::Get | Kind::GetKey | Kind::GetAndTouch | Kind::GetKeyAndTouch)
        );
        if is_get && self.is_quiet() {
            return;
        }
        if has_key(kind) {
            let (status, key) = (Status::NOT_FOUND.0, key.as_bytes());
            self.write(&Answer { status, key, ..Answer::default() }, out);
        } else {
            self.failure(Status::NOT_FOUND, "Not found", out);
        }
    }

    fn not_stored(&self, out: &mut Vec<u8>) {
        match self.kind() {
            Some(Kind::Set(SetMode::Add)) => {
                self.failure(Status::EXISTS, "Data exists for key.", out);
            }
            Some(Kind::Set(SetMode::Replace)) => {
                self.failure(Status::NOT_FOUND, "Not found", out);
            }
            _ => self.failure(Status::NOT_STORED, "Not stored.", out),
        }
    }

    pub(crate) fn done(&self, out: &mut Vec<u8>) {
        self.success(&Answer::default(), out);
    }

    pub(crate) fn version(&self, version: &str, out: &mut Vec<u8>) {
        self.success(&Answer { value: version.as_bytes(), ..Answer::default() }, out);
    }

    pub(crate) fn stat(&self, name: &str, value: &str, out: &mut Vec<u8>) {
        let (key, value) = (name.as_bytes(), value.as_bytes());
        self.success(&Answer { key, value, ..Answer::default() }, out);
    }

    /// Refusals are answered to quiet commands too.
    pub(crate) fn refused(&self, refusal: Refusal, out: &mut Vec<u8>) {
        if self.known != Known::Nothing {
            let (status, reason) = refusal.status();
            self.failure(status, reason, out);
        }
    }

    fn success(&self, answer: &Answer<'_>, out: &mut Vec<u8>) {
        if !self.is_quiet() {
            self.write(answer, out);
        }
    }

    fn failure(&self, status: Status, reason: &str, out: &mut Vec<u8>) {
        let value = reason.as_bytes();
        self.write(&Answer { status: status.0, value, ..Answer::default() }, out);
    }

    fn write(&self, answer: &Answer<'_>, out: &mut Vec<u8>) {
        out.reserve(answer.head_bytes() + answer.value.len());
        self.head(answer, out);
        out.extend_from_slice(answer.value);
    }

    /// All of an answer that stands before its value.
    fn head(&self, answer: &Answer<'_>, out: &mut Vec<u8>) {
        let n_bytes = answer.extras.len() + answer.key.len() + answer.value.len();
        let header = AnswerHeader {
            opcode: self.opcode,
            status: answer.status,
            key_bytes: u16::try_from(answer.key.len()).expect("a key is short"),
            extras_bytes: u8::try_from(answer.extras.len()).expect("extras are flags"),
            body_bytes: u32::try_from(n_bytes).expect("a value's length has 32 bits"),
            opaque: self.opaque,
            cas: answer.cas,
        };
        header.write(out);
        out.extend_from_slice(answer.extras);
        out.extend_from_slice(answer.key);
    }

    const fn kind(&self) -> Option<Kind> {
        match self.known {
            Known::Opcode(opcode) => Some(opcode.kind),
            Known::Nothing | Known::Unknown => None,
        }
    }

    fn is_quiet(&self) -> bool {
        matches!(self.known, Known::Opcode(Opcode { quiet: Quiet::Yes, .. }))
    }
}

const fn has_key(kind: Option<Kind>) -> bool {
    matches!(kind, Some(Kind::GetKey | Kind::GetKeyAndTouch))
}
