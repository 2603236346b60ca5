//! Outcomes to lines of text.

use crate::cacheproxy::operation::{Entry, Failure, Key, Outcome};
use crate::cacheproxy::protocol::command::Quiet;
use crate::cacheproxy::protocol::refusal::Refusal;

/// How a text command is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answering {
    form: Form,
    quiet: Quiet,
}

/// What a command answers with when nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The values of its hits, and an end.
    Values,
    /// The same, each with its cas.
    ValuesWithCas,
    /// The word for its outcome, or a number.
    Outcome,
    /// `TOUCHED` for a hit.
    Touched,
    /// `OK`.
    Ok,
    /// `RESET`.
    Reset,
    /// `MN`.
    Noop,
    /// Nothing at all.
    Nothing,
}

impl Answering {
    /// For what is refused, or has an answer of its own.
    pub(crate) const LOUD: Self = Self::loud(Form::Outcome);

    pub(super) const fn loud(form: Form) -> Self {
        Self { form, quiet: Quiet::No }
    }

    pub(super) const fn of(form: Form, quiet: Quiet) -> Self {
        Self { form, quiet }
    }

    pub(crate) fn outcomes<'a>(
        &self,
        answered: impl IntoIterator<Item = (&'a Key, &'a Outcome)>,
        out: &mut Vec<u8>,
    ) {
        if self.quiet == Quiet::Yes {
            return;
        }
        match self.form {
            Form::Values | Form::ValuesWithCas => {
                let start = out.len();
                if let Some(failure) = self.hits(answered, out) {
                    out.truncate(start);
                    return line(Refusal::Failed(failure).line(), out);
                }
                out.extend_from_slice(b"END\r\n");
            }
            _ => answered.into_iter().for_each(|(_key, outcome)| self.outcome(outcome, out)),
        }
    }

    /// The hits of a get, up to the first key whose read has failed.
    pub(crate) fn hits<'a>(
        &self,
        answered: impl IntoIterator<Item = (&'a Key, &'a Outcome)>,
        out: &mut Vec<u8>,
    ) -> Option<Failure> {
        for (key, outcome) in answered {
            match outcome {
                Outcome::Hit(entry) if self.form == Form::ValuesWithCas => {
                    value(key, entry, cas, out);
                }
                Outcome::Hit(entry) => value(key, entry, |_cas, _out| {}, out),
                Outcome::Miss => {}
                Outcome::Failed(failure) => return Some(*failure),
                other => {
                    debug_assert!(false, "no outcome of a read: {other:?}");
                    return Some(Failure::Refused);
                }
            }
        }
        None
    }

    fn outcome(&self, outcome: &Outcome, out: &mut Vec<u8>) {
        let word = match outcome {
            Outcome::Counted(counted) => return number_line(counted.number, out),
            Outcome::Stored(_) => "STORED",
            Outcome::NotStored => "NOT_STORED",
            Outcome::Exists => "EXISTS",
            Outcome::Miss | Outcome::NotFound => "NOT_FOUND",
            Outcome::Deleted => "DELETED",
            Outcome::Hit(_) if self.form == Form::Touched => "TOUCHED",
            Outcome::NotANumber => Refusal::NotANumber.line(),
            Outcome::TooLarge => Refusal::TooLarge.line(),
            Outcome::NoMemory => Refusal::NoMemory.line(),
            Outcome::Failed(failure) => Refusal::Failed(*failure).line(),
            Outcome::Hit(_) | Outcome::Described(_) => {
                debug_assert!(false, "no outcome of this command: {outcome:?}");
                "SERVER_ERROR unexpected outcome"
            }
        };
        line(word, out);
    }

    pub(crate) fn done(&self, out: &mut Vec<u8>) {
        match (self.quiet, self.form) {
            (Quiet::Yes, _) | (_, Form::Nothing) => {}
            (_, Form::Reset) => line("RESET", out),
            (_, Form::Noop) => line("MN", out),
            _ => line("OK", out),
        }
    }

    pub(crate) fn refused(&self, refusal: Refusal, out: &mut Vec<u8>) {
        if self.quiet == Quiet::No {
            line(refusal.line(), out);
        }
    }
}

/// `VALUE <key> <flags> <bytes> [<cas>]`, and the value.
fn value(key: &Key, entry: &Entry, cas: impl Fn(u64, &mut Vec<u8>), out: &mut Vec<u8>) {
    /// The words, blanks and ends of line, and three numbers at their longest.
    const AROUND_BYTES_MAX: usize = 64;
    out.reserve(AROUND_BYTES_MAX + key.as_bytes().len() + entry.value.len());
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(key.as_bytes());
    out.push(b' ');
    decimal(entry.flags, out);
    out.push(b' ');
    decimal(entry.value.len(), out);
    cas(entry.cas, out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&entry.value);
    out.extend_from_slice(b"\r\n");
}

fn cas(cas: u64, out: &mut Vec<u8>) {
    out.push(b' ');
    decimal(cas, out);
}

/// Appends a line.
pub(crate) fn line(words: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(words.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a line with a version.
pub(crate) fn version(version: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"VERSION ");
    line(version, out);
}

/// Appends a line with one count.
pub(crate) fn stat(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"STAT ");
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
    line(value, out);
}

fn number_line(value: u64, out: &mut Vec<u8>) {
    decimal(value, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal.
pub(crate) fn decimal(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
