//! Bytes in whatever pieces they come, to commands.
//!
//! A command that is whole in what has arrived is read from there. Only what is not whole is carried:
//! the beginning of a line or of a binary head, or the part of a value that is there. So a connection
//! that waits for its next command holds nothing but the decoder itself.
//!
//! ```text
//!                    ┌───────────── command ◀──────────────┐
//!                    ▼                                     │
//!   first byte ─▶ Between ─ part of a head ─▶ Head ────────┤
//!                    │                          │          │
//!                    └───── head of a store ────┴▶ Value ──┤
//!                                                          │
//!                          Dropping ◀─ refused store ──────┤
//!                          Closed ◀─── last command ───────┘
//! ```

use memchr::memchr;

use super::command::Command;
use super::refusal::Refusal;
use super::store::{Decoded, Gathering, Progress, Store, take};
use super::{binary, text};

/// What a client may make us hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a value. A store of more is refused before its value is read.
    pub value_bytes_max: u32,
    /// Most bytes of a line of text with several keys; a command of such a line takes up to 24 times
    /// as many. Any other line has at most 2,048, as in memcached.
    pub line_bytes_max: u32,
}

impl Limits {
    /// memcached's own bound of an item, 1 MiB, of which the tier takes something for itself; and a
    /// thousand keys of full length.
    pub const DEFAULT: Self = Self { value_bytes_max: 1024 * 1024, line_bytes_max: 256 * 1024 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Reads the commands of one connection.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    protocol: Protocol,
    stage: Stage,
}

/// There is one for each of very many idle connections.
const DECODER_BYTES_MAX: usize = 64;
const _: () = assert!(size_of::<Decoder>() <= DECODER_BYTES_MAX);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// Nothing has arrived yet.
    Unknown,
    Text,
    Binary,
}

impl Protocol {
    const fn of(first_byte: u8) -> Self {
        if first_byte == binary::MAGIC { Self::Binary } else { Self::Text }
    }
}

#[derive(Debug)]
enum Stage {
    /// The next byte begins a command.
    Between,
    /// A line or a binary head has begun.
    Head(Vec<u8>),
    /// A store's head was read, its value was not.
    Value(Box<Gathering>),
    /// So many bytes are of no use.
    Dropping(u64),
    /// Nothing is read any more.
    Closed,
}

impl Decoder {
    /// A decoder for a new connection.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, protocol: Protocol::Unknown, stage: Stage::Between }
    }

    /// Takes one command from the front of the input and advances it. `None` if there is no whole
    /// one: then all of the input was taken, and more is needed.
    ///
    /// After a command that [closes](Command::closes) everything is taken and nothing comes of it.
    pub fn decode(&mut self, input: &mut &[u8]) -> Option<Command> {
        // Each round takes bytes, or ends this.
        while !input.is_empty() {
            let command = match &mut self.stage {
                Stage::Between | Stage::Head(_) => self.head(input),
                Stage::Value(gathering) => match gathering.take(input) {
                    Progress::Partial => None,
                    Progress::Whole => self.value(),
                },
                Stage::Dropping(n_bytes) => {
                    let n_max = usize::try_from(*n_bytes).unwrap_or(usize::MAX);
                    *n_bytes -= take(input, n_max).len() as u64;
                    if *n_bytes == 0 {
                        self.stage = Stage::Between;
                    }
                    None
                }
                Stage::Closed => {
                    *input = &[];
                    None
                }
            };
            if command.is_some() {
                return command;
            }
        }
        None
    }

    /// Whether the connection is between two commands: its client owes us nothing.
    #[must_use]
    pub const fn is_between(&self) -> bool {
        matches!(self.stage, Stage::Between)
    }

    /// Bytes of memory that it holds besides itself: none between two commands; twice what has
    /// arrived of a line or a value at most, and what a value's first part is given.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match &self.stage {
            Stage::Head(carried) => carried.capacity(),
            Stage::Value(gathering) => size_of::<Gathering>() + gathering.held_bytes(),
            Stage::Between | Stage::Dropping(_) | Stage::Closed => 0,
        }
    }

    /// Reads a head, and goes on with what it asks for.
    fn head(&mut self, input: &mut &[u8]) -> Option<Command> {
        if self.protocol == Protocol::Unknown {
            self.protocol = Protocol::of(*input.first()?);
        }
        let decoded = match self.protocol {
            Protocol::Binary => self.binary_head(input)?,
            Protocol::Text | Protocol::Unknown => self.line(input)?,
        };
        match decoded {
            Decoded::Whole { command, dropped_bytes } => {
                self.stage = match dropped_bytes {
                    _ if command.closes() => Stage::Closed,
                    0 => Stage::Between,
                    n_bytes => Stage::Dropping(n_bytes),
                };
                Some(command)
            }
            Decoded::Store(store) => self.store(store, input),
        }
    }

    /// Reads the value of a store if it is there, or begins to gather it.
    fn store(&mut self, store: Store, input: &mut &[u8]) -> Option<Command> {
        let rest_bytes = store.rest_bytes();
        if input.len() >= rest_bytes {
            self.stage = Stage::Between;
            return Some(store.with_rest(take(input, rest_bytes)));
        }
        let mut gathering = Box::new(Gathering::new(store));
        let progress = gathering.take(input);
        debug_assert_eq!(progress, Progress::Partial, "not all of it was there");
        self.stage = Stage::Value(gathering);
        None
    }

    /// The store whose value is complete.
    fn value(&mut self) -> Option<Command> {
        match std::mem::replace(&mut self.stage, Stage::Between) {
            Stage::Value(gathering) => Some(gathering.into_command()),
            _ => None,
        }
    }

    /// A line of text, if its end is there; what is there of it is carried otherwise.
    fn line(&mut self, input: &mut &[u8]) -> Option<Decoded> {
        let end = memchr(b'\n', input);
        let part = take(input, end.unwrap_or(input.len()));
        let mut carried = match std::mem::replace(&mut self.stage, Stage::Between) {
            Stage::Head(carried) => carried,
            _ => Vec::new(),
        };
        // Fast path: all of the line is here.
        let line = if carried.is_empty() && end.is_some() {
            part
        } else {
            carry(&mut carried, part, &self.limits);
            &carried
        };
        if text::is_too_long(line, &self.limits) {
            return Some(Decoded::refused(Refusal::LineTooLong, text::Answering::LOUD, 0));
        }
        if end.is_none() {
            self.stage = Stage::Head(carried);
            return None;
        }
        take(input, b"\n".len());
        Some(text::decode(line, &self.limits))
    }

    /// Header, extras and key of a binary command, if they are there; carried otherwise.
    fn binary_head(&mut self, input: &mut &[u8]) -> Option<Decoded> {
        let Stage::Head(carried) = &mut self.stage else {
            let n_bytes = binary::head_bytes(input);
            if input.len() < n_bytes {
                self.stage = Stage::Head(take(input, n_bytes).to_vec());
                return None;
            }
            return Some(binary::decode(take(input, n_bytes), &self.limits));
        };
        // The first round may complete the header, which tells how much more there is.
        loop {
            let missing = binary::head_bytes(carried) - carried.len();
            if missing == 0 {
                return Some(binary::decode(carried, &self.limits));
            }
            if input.is_empty() {
                return None;
            }
            carried.extend_from_slice(take(input, missing));
        }
    }
}

/// Appends a part of a line, but of a line that is too long no more than shows it. How long it may be
/// is known once the prefix is there.
fn carry(carried: &mut Vec<u8>, part: &[u8], limits: &Limits) {
    let (prefix, rest) = part.split_at(part.len().min(text::LINE_BYTES_MAX));
    carried.extend_from_slice(prefix);
    let n_max = (text::line_bytes_max(carried, limits) + 1).saturating_sub(carried.len());
    carried.extend_from_slice(&rest[..rest.len().min(n_max)]);
}
