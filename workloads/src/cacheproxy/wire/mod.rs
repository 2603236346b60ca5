//! The client's side of the memcached protocols: operations into bytes, a server's bytes into outcomes.
//!
//! It opens no socket and knows no time. [`encode`] puts a batch of operations into bytes and gives
//! the [`Replies`] that are due for them; whoever owns the connection feeds what arrives, cut
//! anywhere, to [`Replies::decode`], and takes out one outcome for each operation, in order. A
//! memcached answers in the order in which it was asked, so the only thing that tells whose a reply
//! is are the operations themselves: a reply that cannot be theirs is [`Malformed`], and the
//! connection of no more use.
//!
//! ```text
//!   operations ─ encode ─▶ bytes ─▶ server ─▶ bytes ─ Replies::decode ─▶ (index, outcome) …
//!                     └────── the replies that are due ──────┘
//! ```

mod text;
mod meta;
mod binary;
mod malformed;
mod replies;
mod line;
mod text_reply;
mod meta_reply;
mod binary_reply;
mod flush;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use flush::{FlushReply, encode_flush_all};
pub use malformed::Malformed;
pub use replies::{Replies, VALUE_BYTES_MAX};

use super::operation::{Key, Operation, SetMode, Wanted, What};

/// In which of its protocols a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Lines of text, with many keys to a `get`; what they cannot say goes as a meta command.
    #[default]
    Text,
    /// Meta commands only, one for each key.
    Meta,
    /// The binary protocol, one frame for each key.
    Binary,
}

impl Dialect {
    /// Whether it can say this key. A server has nothing under a key that it was never told.
    #[must_use]
    pub fn can_say(self, key: &Key) -> bool {
        match self {
            Self::Text | Self::Meta => meta::fits(key),
            Self::Binary => true,
        }
    }
}

/// Bytes of a command beside key and value: those of an ordinary `set`.
const COMMAND_BYTES: usize = 32;

/// In which form an operation was sent, which is the form that its reply must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One key of a `get`, `gets` or `gat` line; `END` comes after the last.
    Get(Place),
    Touch,
    Store,
    Delete,
    Count,
    MetaGet(Wanted),
    MetaStore,
    MetaDelete,
    MetaCount,
    MetaDescribe,
    Binary(binary::Verb),
    /// Its dialect has no words for it, so nothing was sent.
    Unsayable,
}

/// Where a key stands in its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Inside,
    Last,
}

/// What was asked, as far as the reply has to be held against it.
#[derive(Debug, Clone)]
struct Asked {
    key: Key,
    form: Form,
}

/// Appends the bytes that ask a server for these operations, in order, and gives what is due for them.
///
/// What a dialect cannot say is not sent; its outcome is `Failed(Refused)`. That is, in binary: what
/// only meta commands know (the time that is left, stale items); in the others: a
/// key that is longer than a line's key may be once it is put into base64 ([`Dialect::can_say`]), and
/// `me` of a key that needs it.
pub fn encode<'a>(
    dialect: Dialect,
    operations: impl IntoIterator<Item = &'a Operation>,
    out: &mut Vec<u8>,
) -> Replies {
    let operations = operations.into_iter();
    let mut asked = Vec::with_capacity(operations.size_hint().0);
    match dialect {
        Dialect::Text => text::encode(operations, out, &mut asked),
        Dialect::Meta => asked.extend(operations.map(|operation| Asked {
            key: operation.key.clone(),
            form: meta::say(operation, out),
        })),
        Dialect::Binary => asked.extend((0..).zip(operations).map(|(idx, operation)| Asked {
            key: operation.key.clone(),
            form: binary::say(operation, idx, out),
        })),
    }
    Replies::new(asked)
}

/// About how many bytes an operation becomes; never far fewer.
#[must_use]
pub fn bytes_about(operation: &Operation) -> usize {
    let n_value = match &operation.what {
        What::Set(set) => set.value.len(),
        What::Get(_) | What::Delete(_) | What::Count(_) | What::Describe => 0,
    };
    COMMAND_BYTES + operation.key.as_bytes().len() + n_value
}

/// Appends a number in decimal digits.
fn put_number(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The text protocol's word for a store.
const fn word(mode: SetMode) -> &'static [u8] {
    match mode {
        SetMode::Set => b"set ",
        SetMode::Add => b"add ",
        SetMode::Replace => b"replace ",
        SetMode::Append => b"append ",
        SetMode::Prepend => b"prepend ",
    }
}
