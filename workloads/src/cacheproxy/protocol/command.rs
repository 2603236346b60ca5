//! One command of a client: what it asks, and how the answer is put into bytes.
//!
//! The two are apart because they part: what is asked goes to a tier, perhaps on another shard, while
//! how it is answered stays with the connection, which puts them together again when the outcomes are
//! there. Nothing of the command's bytes is needed any more then, except the keys.

use super::out::Out;
use super::refusal::Refusal;
use super::{binary, meta, text};
use crate::cacheproxy::operation::{ExpTime, Get, Key, Operation, Outcome};

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What is asked.
    pub asked: Asked,
    /// How the answer is put into bytes.
    pub answering: Answering,
}

impl Command {
    /// Whether the connection is closed once this is answered.
    #[must_use]
    pub const fn closes(&self) -> bool {
        match &self.asked {
            Asked::Quit => true,
            Asked::Refused(refusal) => refusal.closes(),
            _ => false,
        }
    }
}

/// What a command asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// One operation on one key.
    One(Operation),
    /// The same read of several keys, or of none: a text get. Answered in this order, a key that
    /// stands twice twice.
    Many(Get, Vec<Key>),
    /// Everything there expires: at once, or when this time comes; never is at once, as is negative.
    FlushAll(ExpTime),
    /// What the server counts.
    Stats(Stats),
    /// Which version the server has.
    Version,
    /// How much the server logs; answered, and nothing else.
    Verbosity,
    /// Nothing, but an answer: all that was asked before has one then.
    Noop,
    /// The end of the connection.
    Quit,
    /// Nothing that can be done.
    Refused(Refusal),
}

/// Which counts are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stats {
    /// Those of the server.
    General,
    /// Those of the items, by class.
    Items,
    /// Those of the memory, by class.
    Slabs,
    /// How many items there are of which size.
    Sizes,
    /// What is configured.
    Settings,
    /// The connections.
    Conns,
    /// None: they begin again from 0.
    Reset,
}

impl Stats {
    /// Those of this name, as it follows `stats`.
    pub(super) const fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"" => Self::General,
            b"items" => Self::Items,
            b"slabs" => Self::Slabs,
            b"sizes" => Self::Sizes,
            b"settings" => Self::Settings,
            b"conns" => Self::Conns,
            b"reset" => Self::Reset,
            _ => return None,
        })
    }
}

/// How the answer to a command is put into bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answering {
    form: Form,
    /// What the client is told whatever comes of it: a set that was too large removes what is there.
    instead: Option<Refusal>,
}

/// Which of memcached's protocols a command is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The lines of old.
    Text,
    /// Meta commands, which stand among those.
    Meta,
    /// Packets.
    Binary,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Text(text::Answering),
    Meta(meta::Answering),
    Binary(binary::Answering),
}

impl Answering {
    /// With these words whatever comes of it.
    pub(super) fn instead(self, refusal: Refusal) -> Self {
        Self { instead: Some(refusal), ..self }
    }

    /// In which protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match &self.form {
            Form::Text(_) => Protocol::Text,
            Form::Meta(_) => Protocol::Meta,
            Form::Binary(_) => Protocol::Binary,
        }
    }

    /// What the client is told whatever comes of it, if that is settled.
    #[must_use]
    pub const fn told_instead(&self) -> Option<Refusal> {
        self.instead
    }

    /// Puts the outcomes of what was asked into bytes, in the order of the keys.
    ///
    /// If one of several has failed, the answer is that failure alone: text cannot tell which of the
    /// keys it was.
    pub fn outcomes<'a>(
        &self,
        answered: impl IntoIterator<Item = (&'a Key, &'a Outcome), IntoIter: Clone>,
        out: &mut impl Out,
    ) {
        if let Some(refusal) = self.instead {
            return self.refused(refusal, out.bytes());
        }
        match &self.form {
            Form::Text(text) => text.outcomes(answered, out),
            Form::Meta(meta) => {
                answered.into_iter().for_each(|(key, outcome)| meta.outcome(key, outcome, out));
            }
            Form::Binary(binary) => {
                answered.into_iter().for_each(|(key, outcome)| binary.outcome(key, outcome, out));
            }
        }
    }

    /// Puts one outcome of a get of several keys into bytes; after the last come the outcomes of no
    /// key. It may not be a failure, which is the end of the answer ([`Self::refused`]).
    pub fn one_of_many(&self, key: &Key, outcome: &Outcome, out: &mut impl Out) {
        match &self.form {
            Form::Text(text) => text.value(key, outcome, out),
            Form::Meta(_) | Form::Binary(_) => {
                debug_assert!(false, "only text asks for several keys");
            }
        }
    }

    /// Answers what has no outcome, once it is done: flush, verbosity, noop, quit, reset of the
    /// statistics.
    pub fn done(&self, out: &mut Vec<u8>) {
        match &self.form {
            Form::Text(text) => text.done(out),
            Form::Meta(_) => debug_assert!(false, "every meta command has an outcome"),
            Form::Binary(binary) => binary.done(out),
        }
    }

    /// Answers with a reason why not. Any command may be answered so.
    pub fn refused(&self, refusal: Refusal, out: &mut Vec<u8>) {
        match &self.form {
            Form::Text(text) => text.refused(refusal, out),
            Form::Meta(_) => text::line(refusal.line(), out),
            Form::Binary(binary) => binary.refused(refusal, out),
        }
    }

    /// Answers `version`.
    pub fn version(&self, version: &str, out: &mut Vec<u8>) {
        match &self.form {
            Form::Text(_) | Form::Meta(_) => text::version(version, out),
            Form::Binary(binary) => binary.version(version, out),
        }
    }

    /// Puts one count of the statistics into bytes. After the last comes [`Answering::stats_end`].
    pub fn stat(&self, name: &str, value: &str, out: &mut Vec<u8>) {
        match &self.form {
            Form::Text(_) | Form::Meta(_) => text::stat(name, value, out),
            Form::Binary(binary) => binary.stat(name, value, out),
        }
    }

    /// Ends the statistics.
    pub fn stats_end(&self, out: &mut Vec<u8>) {
        match &self.form {
            Form::Text(_) | Form::Meta(_) => text::line("END", out),
            Form::Binary(binary) => binary.done(out),
        }
    }
}

impl From<text::Answering> for Answering {
    fn from(text: text::Answering) -> Self {
        Self { form: Form::Text(text), instead: None }
    }
}

impl From<meta::Answering> for Answering {
    fn from(meta: meta::Answering) -> Self {
        Self { form: Form::Meta(meta), instead: None }
    }
}

impl From<binary::Answering> for Answering {
    fn from(binary: binary::Answering) -> Self {
        Self { form: Form::Binary(binary), instead: None }
    }
}

/// Whether a client declines the answers that it expects anyway: `noreply`, `q`, a quiet opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Quiet {
    #[default]
    No,
    Yes,
}

/// A copy of a key that is known to be of a length that a key may have.
pub(super) fn checked_key(bytes: &[u8]) -> Key {
    Key::new(bytes).expect("its length was checked")
}
