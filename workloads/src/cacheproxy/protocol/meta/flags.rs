//! The flags of a meta command: what each letter says, whichever command it stands in.

use crate::cacheproxy::operation::{Cas, CountsAsUse, ExpTime, Key, Wanted};
use crate::cacheproxy::protocol::command::{Quiet, checked_key};
use crate::cacheproxy::protocol::number;
use crate::cacheproxy::protocol::refusal::Refusal;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

/// Base64 as memcached writes it: the common alphabet, padded. Bits beyond the last byte are not
/// looked at, as there.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// How a key stands in a command, and so in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyForm {
    Plain,
    Base64,
}

impl KeyForm {
    /// The key that this word stands for; the word is no longer than a key may be.
    pub(super) fn key(self, word: &[u8]) -> Option<Key> {
        match self {
            Self::Plain => Some(checked_key(word)),
            Self::Base64 => Key::new(&BASE64.decode(word).ok()?),
        }
    }
}

/// All that flags can say, but for what is to be returned.
#[derive(Debug)]
pub(super) struct Flags {
    pub(super) key: Key,
    pub(super) key_form: KeyForm,
    pub(super) quiet: Quiet,
    pub(super) value: Wanted,
    pub(super) counts_as_use: CountsAsUse,
    pub(super) touch: Option<ExpTime>,
    pub(super) vivify: Option<ExpTime>,
    pub(super) recache_below_s: Option<i32>,
    pub(super) client_flags: u32,
    pub(super) if_cas: Option<Cas>,
    pub(super) mode: Option<u8>,
    pub(super) initial: u64,
    pub(super) delta: u64,
    pub(super) invalidate: bool,
}

impl Flags {
    /// Reads a key and its flags.
    ///
    /// # Errors
    ///
    /// At once for a letter that is none or stands twice. Otherwise the last error that has a line
    /// of its own, as memcached tells it; client flags that are no number have none.
    pub(super) fn read(key: &[u8], words: &[&[u8]]) -> Result<Self, Refusal> {
        let mut read = Self::none(key);
        let mut seen = 0_u128;
        let mut error = None;
        for word in words {
            let (letter, token) = (word[0], &word[1..]);
            let bit = 1_u128.checked_shl(u32::from(letter)).unwrap_or_default();
            if letter >= MAX_LETTER || seen & bit != 0 {
                return Err(Refusal::DuplicateFlag);
            }
            seen |= bit;
            match read.flag(key, letter, token) {
                Err(Refusal::UnknownFlag) => return Err(Refusal::UnknownFlag),
                Err(Refusal::BadFormat) => error = error.or(Some(Refusal::BadFormat)),
                Err(refusal) => error = Some(refusal),
                Ok(()) => {}
            }
        }
        error.map_or(Ok(read), Err)
    }

    fn none(key: &[u8]) -> Self {
        Self {
            key: checked_key(key),
            key_form: KeyForm::Plain,
            quiet: Quiet::No,
            value: Wanted::No,
            counts_as_use: CountsAsUse::Yes,
            touch: None,
            vivify: None,
            recache_below_s: None,
            client_flags: 0,
            if_cas: None,
            mode: None,
            initial: 0,
            delta: 1,
            invalidate: false,
        }
    }

    fn flag(&mut self, key: &[u8], letter: u8, token: &[u8]) -> Result<(), Refusal> {
        match letter {
            b'b' => {
                self.key_form = KeyForm::Base64;
                self.key = KeyForm::Base64.key(key).ok_or(Refusal::BadKey)?;
            }
            b'q' => self.quiet = Quiet::Yes,
            b'v' => self.value = Wanted::Yes,
            b'u' => self.counts_as_use = CountsAsUse::No,
            b'I' => self.invalidate = true,
            b'T' => self.touch = Some(ExpTime(signed(token)?)),
            b'N' => self.vivify = Some(ExpTime(signed(token)?)),
            b'R' => self.recache_below_s = Some(signed(token)?),
            b'C' => self.if_cas = Some(unsigned(token)?),
            b'J' => self.initial = unsigned(token)?,
            b'D' => self.delta = unsigned(token)?,
            b'F' => self.client_flags = number::unsigned(token).ok_or(Refusal::BadFormat)?,
            b'M' => match token {
                [mode] => self.mode = Some(*mode),
                _ => return Err(Refusal::ModeLength),
            },
            // To be returned, or for others than us.
            b'k' | b'O' | b's' | b't' | b'c' | b'f' | b'l' | b'h' | b'P' | b'L' => {}
            _ => return Err(Refusal::UnknownFlag),
        }
        Ok(())
    }
}

/// Letters from here on are told to be duplicates, by memcached.
const MAX_LETTER: u8 = 127;

fn signed(token: &[u8]) -> Result<i32, Refusal> {
    number::signed(token).ok_or(Refusal::BadToken)
}

fn unsigned(token: &[u8]) -> Result<u64, Refusal> {
    number::unsigned_long(token).ok_or(Refusal::BadToken)
}
