//! Bytes on their way: received into pooled buffers, sent from whatever owns them.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use bytes::Bytes;

/// Buffers of one size that received bytes stand in, and that return when nobody holds them.
///
/// Bounded by its holders: those that stand ready in the ring, those held as unread or unsent bytes
/// (each connection has its bound for both), and `spare_max` that wait for use.
#[derive(Debug)]
pub(crate) struct Pool {
    spare: RefCell<Vec<Box<[u8]>>>,
    spare_max: usize,
    buffer_bytes: usize,
}

impl Pool {
    pub(crate) fn new(buffer_bytes: usize, spare_max: usize) -> Rc<Self> {
        Rc::new(Self { spare: RefCell::default(), spare_max, buffer_bytes })
    }

    pub(crate) fn take(&self) -> Box<[u8]> {
        let spare = self.spare.borrow_mut().pop();
        spare.unwrap_or_else(|| vec![0; self.buffer_bytes].into_boxed_slice())
    }

    pub(crate) fn put(&self, buffer: Box<[u8]>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < self.spare_max {
            spare.push(buffer);
        }
    }
}

/// Bytes as they were received: owned, in a buffer of the shard's that returns when this is
/// dropped. Writing it to a connection copies nothing.
pub struct Chunk {
    /// Empty where there are no bytes.
    buffer: Box<[u8]>,
    start: u32,
    end: u32,
    pool: Option<Rc<Pool>>,
}

impl Chunk {
    /// The first `len` bytes of a buffer of the pool.
    pub(crate) fn new(buffer: Box<[u8]>, len: usize, pool: &Rc<Pool>) -> Self {
        assert!(len <= buffer.len(), "{len} bytes in a buffer of {}", buffer.len());
        let end = u32::try_from(len).expect("a buffer is smaller than 4 GiB");
        Self { buffer, start: 0, end, pool: Some(Rc::clone(pool)) }
    }

    /// No bytes: the end of a stream.
    pub(crate) fn empty() -> Self {
        Self { buffer: Box::default(), start: 0, end: 0, pool: None }
    }

    /// Leaves out the first `n_bytes`.
    ///
    /// # Panics
    ///
    /// If it has fewer.
    pub fn advance(&mut self, n_bytes: usize) {
        assert!(n_bytes <= self.len(), "{n_bytes} of {} bytes", self.len());
        self.start += u32::try_from(n_bytes).expect("at most its length");
    }

    /// A copy of the bytes, in a buffer of the pool; nothing if they do not fit.
    pub(crate) fn copy(bytes: &[u8], pool: &Rc<Pool>) -> Option<Self> {
        if bytes.len() > pool.buffer_bytes {
            return None;
        }
        let mut chunk = Self::new(pool.take(), 0, pool);
        chunk.absorb(bytes);
        Some(chunk)
    }

    /// Takes more bytes in behind its own if there is room; tells whether it did.
    pub(crate) fn absorb(&mut self, bytes: &[u8]) -> bool {
        let end = self.end as usize;
        let Some(room) = self.buffer.get_mut(end..end + bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        // It fits, so the new end lies inside a buffer.
        self.end += u32::try_from(bytes.len()).expect("a buffer is smaller than 4 GiB");
        true
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start as usize..self.end as usize]
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.put(std::mem::take(&mut self.buffer));
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

/// Bytes to send: owned by whoever gives them, then by the connection until they have left.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outgoing {
    /// As they were received.
    Chunk(Chunk),
    /// Owned alone.
    Owned(Vec<u8>),
    /// Shared, or static.
    Shared(Bytes),
}

impl Outgoing {
    /// Takes more bytes in behind its own, as long as the whole stays below `joined_max`; tells
    /// whether it did. Shared bytes cannot grow.
    pub(crate) fn absorb(&mut self, bytes: &[u8], joined_max: usize) -> bool {
        match self {
            Self::Chunk(chunk) => chunk.absorb(bytes),
            Self::Owned(own) if own.len() + bytes.len() <= joined_max => {
                own.extend_from_slice(bytes);
                true
            }
            Self::Owned(_) | Self::Shared(_) => false,
        }
    }

    /// What is left after the first `n_bytes`.
    pub(crate) fn without(self, n_bytes: usize) -> Self {
        match self {
            Self::Chunk(mut chunk) => {
                chunk.advance(n_bytes);
                Self::Chunk(chunk)
            }
            Self::Owned(bytes) => Self::Shared(Bytes::from(bytes).slice(n_bytes..)),
            Self::Shared(bytes) => Self::Shared(bytes.slice(n_bytes..)),
        }
    }
}

impl Deref for Outgoing {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Chunk(chunk) => chunk,
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl From<Chunk> for Outgoing {
    fn from(chunk: Chunk) -> Self {
        Self::Chunk(chunk)
    }
}

impl From<Vec<u8>> for Outgoing {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl From<String> for Outgoing {
    fn from(text: String) -> Self {
        Self::Owned(text.into_bytes())
    }
}

impl From<Bytes> for Outgoing {
    fn from(bytes: Bytes) -> Self {
        Self::Shared(bytes)
    }
}

impl From<&'static [u8]> for Outgoing {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Shared(Bytes::from_static(bytes))
    }
}

impl From<&'static str> for Outgoing {
    fn from(text: &'static str) -> Self {
        Self::Shared(Bytes::from_static(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(pool: &Rc<Pool>, bytes: &[u8]) -> Chunk {
        let mut buffer = pool.take();
        buffer[..bytes.len()].copy_from_slice(bytes);
        Chunk::new(buffer, bytes.len(), pool)
    }

    #[test]
    fn a_buffer_returns_to_its_pool_and_no_more_than_may_be_spare() {
        let pool = Pool::new(8, 1);
        let (first, second) = (chunk(&pool, b"one"), chunk(&pool, b"two"));
        drop((first, second));
        assert_eq!(pool.spare.borrow().len(), 1);
    }

    #[test]
    fn a_chunk_takes_in_what_there_is_room_for() {
        let pool = Pool::new(8, 4);
        let mut held = chunk(&pool, b"abcde");
        held.advance(2);
        assert!(held.absorb(&chunk(&pool, b"fgh")));
        assert_eq!(&*held, b"cdefgh");
        assert!(!held.absorb(&chunk(&pool, b"i")), "what was left out is no room");
        assert!(!Chunk::empty().absorb(&held));
    }
}
