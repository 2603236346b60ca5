//! Why a connection is given up: its server has said what nobody can have asked for.

use std::fmt;

/// What came is no reply to what was asked: nothing that follows can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A line without an end.
    LineTooLong,
    /// A reply about a key, or to a request, that is not the one due.
    OtherKey,
    /// What is no reply to such a request.
    NotAReply,
    /// Bytes when nothing more is due. Only who owns the connection can tell, see
    /// [`Replies::decode`](super::Replies::decode).
    NotAsked,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LineTooLong => "a line without an end",
            Self::OtherKey => "a reply about another key",
            Self::NotAReply => "no reply to what was asked",
            Self::NotAsked => "a reply that nobody asked for",
        })
    }
}

impl std::error::Error for Malformed {}
