//! Why a command is refused, and what its client is told.
//!
//! One list for all protocols: a reason has a line for text and meta, a status with a sentence for
//! binary, and may cost the connection. memcached's own lines, to the byte, since clients compare
//! them; those of a downstream that failed are ours.

use crate::cacheproxy::operation::Failure;

/// Why a command is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// No such command, or not with so many words.
    Unknown,
    /// A word is not what its place asks for.
    BadFormat,
    /// `delete` with a word that is neither `0` nor `noreply`.
    BadDelete,
    /// The value is not followed by an end of line.
    BadData,
    /// The expiry is no number.
    BadExpTime,
    /// What is to be added is no number.
    BadDelta,
    /// No end of the line within its bound. Closes the connection: where the next command begins is
    /// unknown.
    LineTooLong,
    /// Larger than an item may be.
    TooLarge,
    /// The value there is no number.
    NotANumber,
    /// No room for it could be made.
    NoMemory,
    /// More flags than a meta command may have.
    TooManyFlags,
    /// The same, as `ms`, `md` and `ma` put it.
    FlagsTooLong,
    /// No such flag.
    UnknownFlag,
    /// A flag twice.
    DuplicateFlag,
    /// Something about the flags, as `md` and `ma` put it.
    BadFlags,
    /// What follows a flag's letter is not what it takes.
    BadToken,
    /// The key is no base64.
    BadKey,
    /// A mode is one letter.
    ModeLength,
    /// No such mode of `ms`.
    UnknownSetMode,
    /// No such mode of `ma`.
    UnknownCountMode,
    /// An opaque of more than 31 bytes.
    OpaqueTooLong,
    /// A binary command whose lengths are not those of its opcode. Closes the connection.
    BadLengths,
    /// A binary command whose key and extras are longer than its body. Closes the connection.
    BadBody,
    /// What should be a binary command does not begin like one. Closes the connection, without a
    /// word.
    BadMagic,
    /// `flush_all` where it is not allowed.
    FlushNotAllowed,
    /// Binary statistics of a name that we do not keep.
    NoSuchStats,
    /// A tier downstream did not answer.
    Failed(Failure),
}

/// The status of a binary answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status(pub(super) u16);

impl Status {
    pub(super) const OK: Self = Self(0x00);
    pub(super) const NOT_FOUND: Self = Self(0x01);
    pub(super) const EXISTS: Self = Self(0x02);
    pub(super) const TOO_LARGE: Self = Self(0x03);
    pub(super) const INVALID: Self = Self(0x04);
    pub(super) const NOT_STORED: Self = Self(0x05);
    pub(super) const NOT_A_NUMBER: Self = Self(0x06);
    /// memcached's own name for it is an authentication error.
    pub(super) const NOT_ALLOWED: Self = Self(0x20);
    pub(super) const UNKNOWN: Self = Self(0x81);
    pub(super) const NO_MEMORY: Self = Self(0x82);
    pub(super) const INTERNAL: Self = Self(0x84);
    pub(super) const BUSY: Self = Self(0x85);
    pub(super) const TEMPORARY: Self = Self(0x86);
}

impl Refusal {
    /// Whether the connection is closed once the client was told.
    #[must_use]
    pub const fn closes(self) -> bool {
        matches!(self, Self::LineTooLong | Self::BadLengths | Self::BadBody | Self::BadMagic)
    }

    /// Its line of text, without the end of it.
    pub(super) const fn line(self) -> &'static str {
        match self {
            Self::Unknown | Self::NoSuchStats => "ERROR",
            Self::BadFormat | Self::BadLengths | Self::BadBody | Self::BadMagic => {
                "CLIENT_ERROR bad command line format"
            }
            Self::BadDelete => {
                "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
            }
            Self::BadData => "CLIENT_ERROR bad data chunk",
            Self::BadExpTime => "CLIENT_ERROR invalid exptime argument",
            Self::BadDelta => "CLIENT_ERROR invalid numeric delta argument",
            Self::LineTooLong => "CLIENT_ERROR line too long",
            Self::TooLarge => "SERVER_ERROR object too large for cache",
            Self::NotANumber => "CLIENT_ERROR cannot increment or decrement non-numeric value",
            Self::NoMemory => "SERVER_ERROR out of memory storing object",
            Self::TooManyFlags => "CLIENT_ERROR options flags are too long",
            Self::FlagsTooLong => "CLIENT_ERROR options flags too long",
            Self::UnknownFlag => "CLIENT_ERROR invalid flag",
            Self::DuplicateFlag => "CLIENT_ERROR duplicate flag",
            Self::BadFlags => "CLIENT_ERROR invalid or duplicate flag",
            Self::BadToken => "CLIENT_ERROR bad token in command line format",
            Self::BadKey => "CLIENT_ERROR error decoding key",
            Self::ModeLength => "CLIENT_ERROR incorrect length for M token",
            Self::UnknownSetMode => "CLIENT_ERROR invalid mode for ms M token",
            Self::UnknownCountMode => "CLIENT_ERROR invalid mode for ma M token",
            Self::OpaqueTooLong => "CLIENT_ERROR opaque token too long",
            Self::FlushNotAllowed => "CLIENT_ERROR flush_all not allowed",
            Self::Failed(failure) => line_of(failure),
        }
    }

    /// Its binary status, with the sentence that goes along.
    pub(super) fn status(self) -> (Status, &'static str) {
        match self {
            Self::Unknown | Self::BadBody => (Status::UNKNOWN, "Unknown command"),
            Self::NoSuchStats => (Status::NOT_FOUND, "Not found"),
            Self::TooLarge => (Status::TOO_LARGE, "Too large."),
            Self::NotANumber => {
                (Status::NOT_A_NUMBER, "Non-numeric server-side value for incr or decr")
            }
            Self::NoMemory => (Status::NO_MEMORY, "Out of memory allocating item"),
            Self::FlushNotAllowed => (Status::NOT_ALLOWED, "Auth failure."),
            Self::Failed(failure) => (status_of(failure), reason_of(failure)),
            _ => (Status::INVALID, "Invalid arguments"),
        }
    }
}

const fn line_of(failure: Failure) -> &'static str {
    match failure {
        Failure::Unavailable => "SERVER_ERROR downstream unavailable",
        Failure::Overloaded => "SERVER_ERROR overloaded",
        Failure::Unanswered => "SERVER_ERROR downstream did not answer",
        Failure::Refused => "SERVER_ERROR downstream refused",
        Failure::Closing => "SERVER_ERROR closing",
    }
}

/// The same without the word that tells text clients whose fault it is.
fn reason_of(failure: Failure) -> &'static str {
    let line = line_of(failure);
    line.strip_prefix("SERVER_ERROR ").unwrap_or(line)
}

/// A client may try again at once or later, or must look what has become of it.
const fn status_of(failure: Failure) -> Status {
    match failure {
        Failure::Unavailable | Failure::Closing => Status::TEMPORARY,
        Failure::Overloaded => Status::BUSY,
        Failure::Unanswered | Failure::Refused => Status::INTERNAL,
    }
}
