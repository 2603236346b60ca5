//! Outcomes to the two letters of a meta answer, and what was asked to be returned beside them.

use base64::Engine as _;

use super::flags::{BASE64, Flags, KeyForm};
use crate::cacheproxy::operation::{
    Beside, Cas, Counted, Description, Entry, KEY_BYTES_MAX, Key, Outcome, Wanted, Win,
};
use crate::cacheproxy::protocol::command::Quiet;
use crate::cacheproxy::protocol::out::Out;
use crate::cacheproxy::protocol::refusal::Refusal;
use crate::cacheproxy::protocol::text::{decimal, line};

/// Most bytes of an opaque, its letter not counted: memcached's 32 count it.
const OPAQUE_BYTES_MAX: usize = 31;

/// Most flags that return something: there are 8 letters, and none may stand twice.
const RETURNS_MAX: usize = 8;

/// Most bytes of a key in base64.
const BASE64_BYTES_MAX: usize = KEY_BYTES_MAX.div_ceil(3) * 4;

/// How a meta command is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answering {
    verb: MetaVerb,
    quiet: Quiet,
    value: Wanted,
    key_form: KeyForm,
    returns: Returns,
}

/// Which command it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetaVerb {
    Get,
    Set,
    Delete,
    Count,
    Describe,
}

/// The letters that return something, in their order, and the opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Returns {
    letters: [u8; RETURNS_MAX],
    n_letters: u8,
    opaque_bytes: u8,
    opaque: [u8; OPAQUE_BYTES_MAX],
}

impl Returns {
    /// Those among the flags that this command returns.
    pub(super) fn of(flags: &[&[u8]], known: &[u8]) -> Result<Self, Refusal> {
        let mut returns = Self::default();
        for flag in flags.iter().filter(|flag| known.contains(&flag[0])) {
            if flag[0] == b'O' {
                returns.take_opaque(&flag[1..])?;
            }
            returns.letters[usize::from(returns.n_letters)] = flag[0];
            returns.n_letters += 1;
        }
        Ok(returns)
    }

    /// What they need to be told of beside a value.
    pub(super) fn beside(&self) -> Beside {
        if self.letters().contains(&b't') {
            Beside::Ttl
        } else if self.letters().contains(&b'c') {
            Beside::Cas
        } else {
            Beside::Flags
        }
    }

    fn take_opaque(&mut self, opaque: &[u8]) -> Result<(), Refusal> {
        let place = self.opaque.get_mut(..opaque.len()).ok_or(Refusal::OpaqueTooLong)?;
        place.copy_from_slice(opaque);
        self.opaque_bytes = u8::try_from(opaque.len()).map_err(|_| Refusal::OpaqueTooLong)?;
        Ok(())
    }

    fn letters(&self) -> &[u8] {
        &self.letters[..usize::from(self.n_letters)]
    }

    fn opaque(&self) -> &[u8] {
        &self.opaque[..usize::from(self.opaque_bytes)]
    }
}

/// What an outcome knows of its item.
#[derive(Clone, Copy)]
enum Known<'a> {
    Nothing,
    Cas(Cas),
    Entry(&'a Entry),
    Counted(&'a Counted),
}

impl Answering {
    pub(super) const fn new(verb: MetaVerb, flags: &Flags, returns: Returns) -> Self {
        Self { verb, quiet: flags.quiet, value: flags.value, key_form: flags.key_form, returns }
    }

    pub(super) fn describing(key_form: KeyForm) -> Self {
        let returns = Returns::default();
        Self { verb: MetaVerb::Describe, quiet: Quiet::No, value: Wanted::No, key_form, returns }
    }

    pub(crate) fn outcome(&self, key: &Key, outcome: &Outcome, out: &mut impl Out) {
        match outcome {
            // Never kept back.
            Outcome::Hit(entry) => self.hit(key, entry, out),
            _ if self.quiet == Quiet::Yes && self.is_expected(outcome) => {}
            _ => self.other(key, outcome, out.bytes()),
        }
    }

    fn other(&self, key: &Key, outcome: &Outcome, out: &mut Vec<u8>) {
        // A store that did not succeed has no cas, and memcached says 0.
        let no_cas = if self.verb == MetaVerb::Set { Known::Cas(0) } else { Known::Nothing };
        match outcome {
            Outcome::Hit(_) => debug_assert!(false, "a hit is answered elsewhere"),
            Outcome::Counted(counted) => self.counted(key, counted, out),
            Outcome::Stored(cas) => self.plain("HD", key, Known::Cas(*cas), out),
            Outcome::Deleted => self.plain("HD", key, Known::Nothing, out),
            Outcome::Miss if self.verb == MetaVerb::Get => self.plain("EN", key, no_cas, out),
            Outcome::Miss | Outcome::NotFound => self.plain("NF", key, no_cas, out),
            Outcome::NotStored => self.plain("NS", key, no_cas, out),
            Outcome::Exists => self.plain("EX", key, no_cas, out),
            Outcome::Described(Some(description)) => self.described(key, description, out),
            Outcome::Described(None) => line("EN", out),
            Outcome::NotANumber => line(Refusal::NotANumber.line(), out),
            Outcome::TooLarge => line(Refusal::TooLarge.line(), out),
            Outcome::NoMemory => line(Refusal::NoMemory.line(), out),
            Outcome::Failed(failure) => line(Refusal::Failed(*failure).line(), out),
        }
    }

    /// What `q` keeps back: that a get has missed, and that anything else has worked.
    fn is_expected(&self, outcome: &Outcome) -> bool {
        match self.verb {
            MetaVerb::Get => matches!(outcome, Outcome::Miss),
            _ => matches!(outcome, Outcome::Stored(_) | Outcome::Deleted | Outcome::Counted(_)),
        }
    }

    fn hit(&self, key: &Key, entry: &Entry, out: &mut impl Out) {
        let head = out.bytes();
        self.status(entry.value.len(), head);
        self.returned(key, Known::Entry(entry), head);
        if entry.win == Win::Sent {
            head.extend_from_slice(b" Z");
        }
        if entry.stale {
            head.extend_from_slice(b" X");
        }
        if entry.win == Win::Won {
            head.extend_from_slice(b" W");
        }
        head.extend_from_slice(b"\r\n");
        if self.value == Wanted::Yes {
            out.value(&entry.value);
            out.bytes().extend_from_slice(b"\r\n");
        }
    }

    fn counted(&self, key: &Key, counted: &Counted, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(counted.number);
        self.status(digits.len(), out);
        self.returned(key, Known::Counted(counted), out);
        out.extend_from_slice(b"\r\n");
        if self.value == Wanted::Yes {
            line(digits, out);
        }
    }

    /// `VA` with the length of the value that follows, or `HD` if none is wanted.
    fn status(&self, value_bytes: usize, out: &mut Vec<u8>) {
        if self.value == Wanted::Yes {
            out.extend_from_slice(b"VA ");
            decimal(value_bytes, out);
        } else {
            out.extend_from_slice(b"HD");
        }
    }

    fn plain(&self, status: &str, key: &Key, known: Known<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(status.as_bytes());
        self.returned(key, known, out);
        out.extend_from_slice(b"\r\n");
    }

    /// What was asked to be returned, as far as it is known.
    fn returned(&self, key: &Key, known: Known<'_>, out: &mut Vec<u8>) {
        for letter in self.returns.letters() {
            match (letter, known) {
                (b'O', _) => flag(b'O', |out| out.extend_from_slice(self.returns.opaque()), out),
                (b'k', _) => flag(b'k', |out| self.key(key, out), out),
                (b'c', Known::Cas(cas)) => flag(b'c', |out| decimal(cas, out), out),
                (b'c', Known::Counted(counted)) => flag(b'c', |out| decimal(counted.cas, out), out),
                (b't', Known::Counted(counted)) => flag(b't', |out| ttl(counted.ttl_s, out), out),
                (letter, Known::Entry(entry)) => returned_of(*letter, entry, out),
                _ => {}
            }
        }
    }

    /// A key in the form in which it came, which a client of base64 is reminded of.
    fn key(&self, key: &Key, out: &mut Vec<u8>) {
        key_in(self.key_form, key, out);
        if self.key_form == KeyForm::Base64 {
            out.extend_from_slice(b" b");
        }
    }

    /// `ME <key> <name>=<value>*`. Seconds that are left are told as if they were past: memcached's.
    fn described(&self, key: &Key, description: &Description, out: &mut Vec<u8>) {
        out.extend_from_slice(b"ME ");
        key_in(self.key_form, key, out);
        out.extend_from_slice(b" exp=");
        decimal(description.ttl_s.map_or(-1, |ttl_s| -i64::from(ttl_s)), out);
        out.extend_from_slice(b" la=");
        decimal(description.idle_s, out);
        out.extend_from_slice(b" cas=");
        decimal(description.cas, out);
        out.extend_from_slice(if description.fetched {
            b" fetch=yes cls="
        } else {
            b" fetch=no cls="
        });
        decimal(description.class, out);
        out.extend_from_slice(b" size=");
        decimal(description.n_bytes, out);
        out.extend_from_slice(b"\r\n");
    }
}

fn returned_of(letter: u8, entry: &Entry, out: &mut Vec<u8>) {
    match letter {
        b'c' => flag(letter, |out| decimal(entry.cas, out), out),
        b'f' => flag(letter, |out| decimal(entry.flags, out), out),
        b'h' => flag(letter, |out| out.push(if entry.fetched { b'1' } else { b'0' }), out),
        b'l' => flag(letter, |out| decimal(entry.idle_s, out), out),
        b's' => flag(letter, |out| decimal(entry.value_bytes, out), out),
        b't' => flag(letter, |out| ttl(entry.ttl_s, out), out),
        _ => {}
    }
}

/// A blank, a letter, and what it tells.
fn flag(letter: u8, write: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.extend_from_slice(&[b' ', letter]);
    write(out);
}

fn ttl(ttl_s: Option<u32>, out: &mut Vec<u8>) {
    match ttl_s {
        Some(ttl_s) => decimal(ttl_s, out),
        None => out.extend_from_slice(b"-1"),
    }
}

fn key_in(form: KeyForm, key: &Key, out: &mut Vec<u8>) {
    match form {
        KeyForm::Plain => out.extend_from_slice(key.as_bytes()),
        KeyForm::Base64 => {
            let mut encoded = [0; BASE64_BYTES_MAX];
            let n_bytes = BASE64
                .encode_slice(key.as_bytes(), &mut encoded)
                .expect("there is room for the longest key");
            out.extend_from_slice(&encoded[..n_bytes]);
        }
    }
}
