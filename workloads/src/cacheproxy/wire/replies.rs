//! The replies that are due on a connection, and the outcomes they come to.
//!
//! A small machine that can stop at any byte. What it waits for next is one of three: the rest of a
//! line or header (`partial`), the rest of a value (`body`), or nothing but to be asked again, where
//! one line has settled many operations (`END` settles every key that was not found).
//!
//! ```text
//!            ┌──────────── END, error ──▶ rest ─┐ one at a time
//!   line ────┼──────────── STORED, HD, … ───────┼──▶ (index, outcome)
//!            └─ VALUE, VA ─▶ body ──────────────┘
//! ```
//!
//! A value that is larger than any that is taken is read over, and is that operation's refusal alone:
//! all the others of its batch still have their replies.

use bytes::Bytes;

use super::binary::HEADER_BYTES;
use super::binary_reply::{self, BESIDE_BYTES_MAX, Header};
use super::line::{Partial, number};
use super::{Asked, Form, Malformed, Place, meta_reply, text_reply};
use crate::cacheproxy::operation::{Counted, Entry, Failure, Outcome};

/// Bytes of a value at most, unless [`Replies::bounded`] says otherwise: memcached's own limit for an
/// item, which holds a value and its header.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// What is taken of memory for a value before its bytes have come: a server that announces much and
/// sends little holds no more than this.
const AHEAD_BYTES_MAX: usize = 64 << 10;
/// Digits of a number at most.
const NUMBER_BYTES_MAX: usize = 20;

/// What one line says.
#[derive(Debug)]
pub(super) enum Step {
    /// This has come of the operation that is due.
    Outcome(Outcome),
    /// This has come of all keys of the line that were not told of: `END`, or an error instead of it.
    Rest(Outcome),
    /// The value of the operation with this index follows; those before it missed.
    Value { idx: usize, entry: Entry, n_bytes: usize },
    /// The digits of a number follow.
    Number { counted: Counted, n_bytes: usize },
}

/// Bytes that follow a line or header.
#[derive(Debug)]
struct Body {
    of: BodyOf,
    bytes: Vec<u8>,
    n_left: usize,
    /// What must come behind them.
    end: &'static [u8],
}

#[derive(Debug)]
enum BodyOf {
    Value(Entry),
    Number(Counted),
    Frame(Header),
    /// A value of more bytes than are taken: none is kept.
    TooLong,
}

impl Body {
    fn new(of: BodyOf, n_bytes: usize, end: &'static [u8]) -> Self {
        let n_ahead = match of {
            BodyOf::TooLong => 0,
            _ => n_bytes.min(AHEAD_BYTES_MAX),
        };
        Self { of, bytes: Vec::with_capacity(n_ahead), n_left: n_bytes, end }
    }

    /// Takes its bytes out of `input`; tells whether it is whole.
    fn fill(&mut self, input: &mut &[u8]) -> Result<bool, Malformed> {
        let (head, rest) = input.split_at(self.n_left.min(input.len()));
        if !matches!(self.of, BodyOf::TooLong) {
            self.bytes.extend_from_slice(head);
        }
        self.n_left -= head.len();
        *input = rest;
        if self.n_left > 0 {
            return Ok(false);
        }
        let n_end = self.end.len().min(input.len());
        let (end, rest) = input.split_at(n_end);
        self.end = self.end.strip_prefix(end).ok_or(Malformed::NotAReply)?;
        *input = rest;
        Ok(self.end.is_empty())
    }
}

/// The replies that are due for one batch of operations, see [`encode`](super::encode).
///
/// Memory: the batch's keys, one line of at most 1 KiB, one value of at most `value_bytes_max`.
#[derive(Debug)]
pub struct Replies {
    asked: Vec<Asked>,
    /// The first operation without an outcome.
    next: usize,
    /// The first operation beyond the `get` line whose `END` is due.
    line_end: Option<usize>,
    /// All operations before this one have this outcome.
    rest: Option<(usize, Outcome)>,
    body: Option<Body>,
    partial: Partial,
    value_bytes_max: usize,
}

impl Replies {
    pub(super) fn new(asked: Vec<Asked>) -> Self {
        Self {
            asked,
            next: 0,
            line_end: None,
            rest: None,
            body: None,
            partial: Partial::default(),
            value_bytes_max: VALUE_BYTES_MAX,
        }
    }

    /// Takes values of at most so many bytes, for a server that has another limit than the usual one.
    #[must_use]
    pub fn bounded(mut self, value_bytes_max: u32) -> Self {
        self.value_bytes_max = usize::try_from(value_bytes_max).unwrap_or(usize::MAX);
        self
    }

    /// The operations without an outcome.
    #[must_use]
    pub fn n_due(&self) -> usize {
        self.asked.len() - self.next
    }

    /// Whether nothing more is due: neither an outcome nor the end of a line.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.next == self.asked.len() && self.line_end.is_none()
    }

    /// Takes bytes off `input` up to the next outcome, and gives it with the index of its operation.
    ///
    /// `None` when it needs more bytes, and then `input` is empty; and once it [is done](Self::is_done),
    /// and then what is left of `input` is the reply to what was asked next, or to nothing. Call it
    /// until then, also with no bytes: some outcomes need none. Outcomes come in the order of the
    /// operations.
    ///
    /// # Errors
    ///
    /// [`Malformed`], after which nothing more can be made of the connection. The operations without
    /// an outcome may or may not have been done.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<(usize, Outcome)>, Malformed> {
        loop {
            if let Some(outcome) = self.rest_outcome() {
                return Ok(Some(self.settle(outcome)));
            }
            if self.body.is_some() {
                let Some(outcome) = self.take_body(input)? else { return Ok(None) };
                return Ok(Some(self.settle(outcome)));
            }
            let Some(form) = self.due() else { return Ok(None) };
            let outcome = match form {
                Form::Unsayable => Some(Outcome::Failed(Failure::Refused)),
                Form::Binary(_verb) => {
                    let header = self.partial.exactly::<HEADER_BYTES>(input);
                    let Some(header) = header else { return Ok(None) };
                    self.begin_frame(header)?;
                    None
                }
                _ => {
                    let Some(step) = self.take_line(form, input)? else { return Ok(None) };
                    self.take_step(step)?
                }
            };
            if let Some(outcome) = outcome {
                return Ok(Some(self.settle(outcome)));
            }
        }
    }

    /// The form of the reply that is due; `None` when none is.
    fn due(&self) -> Option<Form> {
        match self.line_end {
            Some(_end) => Some(Form::Get(Place::Inside)),
            None => Some(self.asked.get(self.next)?.form),
        }
    }

    fn settle(&mut self, outcome: Outcome) -> (usize, Outcome) {
        let idx = self.next;
        self.next += 1;
        (idx, outcome)
    }

    /// The outcome of the next operation, if that is known already.
    fn rest_outcome(&mut self) -> Option<Outcome> {
        let (end, outcome) = self.rest.as_ref()?;
        if self.next < *end {
            return Some(outcome.clone());
        }
        self.rest = None;
        None
    }

    fn take_line(&mut self, form: Form, input: &mut &[u8]) -> Result<Option<Step>, Malformed> {
        let Some(line) = self.partial.line(input)? else { return Ok(None) };
        if matches!(form, Form::Get(_)) && self.line_end.is_none() {
            self.line_end = Some(end_of_line(&self.asked, self.next));
        }
        let due = self.next..self.line_end.unwrap_or(self.next + 1);
        read_line(line, form, &self.asked[due.clone()], due.start).map(Some)
    }

    /// What a line has said; gives an outcome if it was one.
    fn take_step(&mut self, step: Step) -> Result<Option<Outcome>, Malformed> {
        match step {
            Step::Outcome(outcome) => return Ok(Some(outcome)),
            Step::Rest(outcome) => {
                self.rest = self.line_end.take().map(|end| (end, outcome));
            }
            Step::Value { idx, entry, n_bytes } => {
                self.rest = Some((idx, Outcome::Miss));
                let is_taken = n_bytes <= self.value_bytes_max;
                let of = if is_taken { BodyOf::Value(entry) } else { BodyOf::TooLong };
                self.body = Some(Body::new(of, n_bytes, b"\r\n"));
            }
            Step::Number { counted, n_bytes } => {
                if n_bytes > NUMBER_BYTES_MAX {
                    return Err(Malformed::NotAReply);
                }
                self.body = Some(Body::new(BodyOf::Number(counted), n_bytes, b"\r\n"));
            }
        }
        Ok(None)
    }

    fn begin_frame(&mut self, header: [u8; HEADER_BYTES]) -> Result<(), Malformed> {
        let header = Header::read(header)?;
        if usize::try_from(header.opaque) != Ok(self.next) {
            return Err(Malformed::OtherKey);
        }
        let n_bytes = header.body_bytes();
        let is_taken = n_bytes <= self.value_bytes_max.saturating_add(BESIDE_BYTES_MAX);
        let of = if is_taken { BodyOf::Frame(header) } else { BodyOf::TooLong };
        self.body = Some(Body::new(of, n_bytes, b""));
        Ok(())
    }

    /// Fills the body that has begun; gives its outcome once it is whole.
    fn take_body(&mut self, input: &mut &[u8]) -> Result<Option<Outcome>, Malformed> {
        let Some(mut body) = self.body.take() else { return Ok(None) };
        if !body.fill(input)? {
            self.body = Some(body);
            return Ok(None);
        }
        match body.of {
            BodyOf::Value(mut entry) => {
                entry.value = Bytes::from(body.bytes);
                Ok(Some(Outcome::Hit(entry)))
            }
            BodyOf::Number(counted) => {
                let number = number(Some(&body.bytes))?;
                Ok(Some(Outcome::Counted(Counted { number, ..counted })))
            }
            BodyOf::Frame(header) => {
                let Form::Binary(verb) = self.asked[self.next].form else {
                    unreachable!("only a frame that is due is begun")
                };
                binary_reply::outcome(verb, &header, Bytes::from(body.bytes)).map(Some)
            }
            BodyOf::TooLong => Ok(Some(Outcome::Failed(Failure::Refused))),
        }
    }
}

/// The first operation beyond the `get` line that begins at `start`.
fn end_of_line(asked: &[Asked], start: usize) -> usize {
    let is_last = |asked: &Asked| asked.form == Form::Get(Place::Last);
    let n_before = asked[start..].iter().position(is_last);
    start + n_before.expect("every get line has a last key") + 1
}

/// What a line says about these operations, of which the first has the index `start`.
fn read_line(line: &[u8], form: Form, due: &[Asked], start: usize) -> Result<Step, Malformed> {
    match form {
        Form::Get(_) => text_reply::get(line, due, start),
        Form::Touch => text_reply::touch(line),
        Form::Store => text_reply::store(line),
        Form::Delete => text_reply::delete(line),
        Form::Count => text_reply::count(line),
        Form::MetaGet(value) => meta_reply::get(line, value, &due[0].key, start),
        Form::MetaStore => meta_reply::store(line),
        Form::MetaDelete => meta_reply::delete(line),
        Form::MetaCount => meta_reply::count(line),
        Form::MetaDescribe => meta_reply::describe(line, &due[0].key),
        Form::Binary(_) | Form::Unsayable => unreachable!("neither is answered by a line"),
    }
}
