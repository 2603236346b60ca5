//! How a large value stands in items: pieces, and metadata under the client's key that tells of them.
//!
//! Pure: bytes in, bytes out. Small values stand as they are, without any mark, so that servers can
//! count in them and clients that go past this proxy can read them. What tells metadata from them is
//! its form, length and magic together; a client's small value of the same form is put into a piece
//! like a large one, so nothing that stands whole ever has it.
//!
//! ```text
//!   client's key              magic 8 │ token 16 │ value_bytes 4 │ piece_bytes 4 │ check 8
//!   ~fb.TOKEN.0 … ~fb.TOKEN.n         │ token 16 │ index 4 │ piece_bytes of the value, or the rest
//! ```
//!
//! A token is a digest of key and value under a drawn salt. Two writes draw different salts; and had
//! they drawn the same one, they still had different tokens unless they wrote the same bytes. So what
//! is joined by one token was one value, whoever wrote beside.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::config::PIECES_MAX;
use crate::cacheproxy::operation::Key;

/// What metadata begins with. No number begins so: arithmetic on metadata is refused by servers,
/// as it would be on the large value.
const MAGIC: &[u8; 8] = b"\0fbcut\r\x01";
/// Bytes of a token.
const TOKEN_BYTES: usize = 16;
/// Bytes of metadata without its check.
const CHECKED_BYTES: usize = MAGIC.len() + TOKEN_BYTES + 2 * size_of::<u32>();
/// Bytes of metadata.
pub(super) const METADATA_BYTES: usize = CHECKED_BYTES + size_of::<u64>();
/// Bytes of a piece before its part of the value.
pub(super) const HEADER_BYTES: u32 = 20;
const _: () = assert!(HEADER_BYTES as usize == TOKEN_BYTES + size_of::<u32>());

/// What the pieces of one write have in common, and no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token(u128);

impl Token {
    /// The token of a write: `salt` is drawn for it.
    pub(super) fn of(key: &Key, value: &[u8], salt: u64) -> Self {
        let mut digest = Xxh3::with_seed(salt);
        digest.update(&key.as_bytes().len().to_le_bytes());
        digest.update(key.as_bytes());
        digest.update(value);
        Self(digest.digest128())
    }

    /// Planted fault: one for all writes of a key.
    #[cfg(test)]
    pub(super) fn same_for_all(key: &Key) -> Self {
        Self::of(key, b"", 0)
    }
}

/// What is told of a value that stands in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Metadata {
    token: Token,
    /// At least 1.
    value_bytes: u32,
    /// Bytes of the value in each piece but the last; at least 1.
    piece_bytes: u32,
}

/// What an item under a client's key is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The value itself.
    Whole,
    /// Metadata of a value in pieces.
    Cut(Metadata),
    /// Metadata that is damaged, or of a value that may not be read here.
    Damaged,
}

impl Form {
    /// The form of an item, where values of up to `value_bytes_max` may be read.
    pub(super) fn of(item: &[u8], value_bytes_max: u32) -> Self {
        if !looks_like_metadata(item) {
            return Self::Whole;
        }
        match Metadata::decode(item) {
            Some(metadata) if metadata.value_bytes <= value_bytes_max => Self::Cut(metadata),
            _ => Self::Damaged,
        }
    }
}

/// Whether a value may not stand whole, since it would be taken for metadata.
pub(super) fn looks_like_metadata(value: &[u8]) -> bool {
    value.len() == METADATA_BYTES && value.starts_with(MAGIC)
}

impl Metadata {
    /// Tells of a value that is cut into pieces of so many bytes.
    ///
    /// # Panics
    ///
    /// If the value is empty or makes more than [`PIECES_MAX`] pieces.
    pub(super) fn new(token: Token, value: &[u8], piece_bytes: u32) -> Self {
        let value_bytes = u32::try_from(value.len()).expect("a value's bytes are bounded");
        let metadata = Self { token, value_bytes, piece_bytes };
        assert!(metadata.is_possible(), "{metadata:?} cannot be read back");
        metadata
    }

    fn is_possible(&self) -> bool {
        self.value_bytes > 0 && self.piece_bytes > 0 && self.n_pieces() <= PIECES_MAX
    }

    pub(super) fn token(&self) -> Token {
        self.token
    }

    pub(super) fn value_bytes(&self) -> u32 {
        self.value_bytes
    }

    pub(super) fn n_pieces(&self) -> u32 {
        self.value_bytes.div_ceil(self.piece_bytes)
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut item = BytesMut::with_capacity(METADATA_BYTES);
        item.put_slice(MAGIC);
        item.put_u128_le(self.token.0);
        item.put_u32_le(self.value_bytes);
        item.put_u32_le(self.piece_bytes);
        let check = xxh3_64(&item);
        item.put_u64_le(check);
        item.freeze()
    }

    fn decode(item: &[u8]) -> Option<Self> {
        let (checked, mut check) = item.split_at_checked(CHECKED_BYTES)?;
        if check.try_get_u64_le() != Ok(xxh3_64(checked)) {
            return None;
        }
        let mut fields = checked.strip_prefix(MAGIC)?;
        let metadata = Self {
            token: Token(fields.try_get_u128_le().ok()?),
            value_bytes: fields.try_get_u32_le().ok()?,
            piece_bytes: fields.try_get_u32_le().ok()?,
        };
        metadata.is_possible().then_some(metadata)
    }

    /// The key of a piece. It stands on a line of text and is spread over servers like any other; a
    /// client that does not read this proxy's items cannot come upon it, since it had to guess the
    /// token.
    pub(super) fn piece_key(&self, idx: u32) -> Key {
        let key = format!("~fb.{:032x}.{idx}", self.token.0);
        Key::new(key.as_bytes()).expect("a prefix, a token and a number are short")
    }

    /// The piece with this index of the value that this tells of.
    pub(super) fn piece(&self, value: &[u8], idx: u32) -> Bytes {
        let piece_bytes = self.piece_bytes as usize;
        let start = idx as usize * piece_bytes;
        let part = &value[start..value.len().min(start + piece_bytes)];
        let mut piece = BytesMut::with_capacity(HEADER_BYTES as usize + part.len());
        piece.put_u128_le(self.token.0);
        piece.put_u32_le(idx);
        piece.put_slice(part);
        piece.freeze()
    }

    /// The value, from all of its pieces in order; `None` unless each is the one that was written.
    pub(super) fn join(&self, pieces: &[Bytes]) -> Option<Bytes> {
        if pieces.len() != self.n_pieces() as usize {
            return None;
        }
        // Metadata alone reserves no memory: this much is in the pieces, or is found not to be.
        let n_bytes: usize = pieces.iter().map(Bytes::len).sum();
        let mut value = BytesMut::with_capacity(n_bytes.min(self.value_bytes as usize));
        for (idx, piece) in (0..).zip(pieces) {
            value.put_slice(self.part(piece, idx)?);
        }
        Some(value.freeze())
    }

    /// What a piece holds of the value, if it is the one with this index.
    fn part<'a>(&self, mut piece: &'a [u8], idx: u32) -> Option<&'a [u8]> {
        let token = piece.try_get_u128_le().ok()?;
        let is_ours = Token(token) == self.token && piece.try_get_u32_le() == Ok(idx);
        let due = self.piece_bytes.min(self.value_bytes - idx * self.piece_bytes);
        (is_ours && piece.len() == due as usize).then_some(piece)
    }
}
