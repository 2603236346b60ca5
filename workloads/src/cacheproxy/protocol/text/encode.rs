//! Outcomes to lines of text.

use crate::cacheproxy::operation::{Entry, Key, Outcome};
use crate::cacheproxy::protocol::command::Quiet;
use crate::cacheproxy::protocol::out::Out;
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
        answered: impl IntoIterator<Item = (&'a Key, &'a Outcome), IntoIter: Clone>,
        out: &mut impl Out,
    ) {
        if self.quiet == Quiet::Yes {
            return;
        }
        let answered = answered.into_iter();
        match self.form {
            Form::Values | Form::ValuesWithCas => {
                let failed = |(_key, outcome): (_, &Outcome)| outcome.read_failure();
                if let Some(failure) = answered.clone().find_map(failed) {
                    return line(Refusal::Failed(failure).line(), out.bytes());
                }
                answered.for_each(|(key, outcome)| self.value(key, outcome, out));
                line("END", out.bytes());
            }
            _ => answered.for_each(|(_key, outcome)| self.outcome(outcome, out.bytes())),
        }
    }

    /// The value of a get, if there is one; it has not failed.
    pub(crate) fn value(&self, key: &Key, outcome: &Outcome, out: &mut impl Out) {
        match outcome {
            Outcome::Hit(entry) if self.form == Form::ValuesWithCas => value(key, entry, cas, out),
            Outcome::Hit(entry) => value(key, entry, |_cas, _out| {}, out),
            Outcome::Miss => {}
            other => debug_assert!(false, "no value and no miss: {other:?}"),
        }
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
fn value(key: &Key, entry: &Entry, cas: impl Fn(u64, &mut Vec<u8>), out: &mut impl Out) {
    /// The words, blanks and ends of line, and three numbers at their longest.
    const AROUND_BYTES_MAX: usize = 64;
    out.reserve(AROUND_BYTES_MAX + key.as_bytes().len(), &entry.value);
    let head = out.bytes();
    head.extend_from_slice(b"VALUE ");
    head.extend_from_slice(key.as_bytes());
    head.push(b' ');
    decimal(entry.flags, head);
    head.push(b' ');
    decimal(entry.value.len(), head);
    cas(entry.cas, head);
    head.extend_from_slice(b"\r\n");
    out.value(&entry.value);
    out.bytes().extend_from_slice(b"\r\n");
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
