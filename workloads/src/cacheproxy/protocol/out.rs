//! Where answers are put: bytes, between which large values stand as they are shared.
//!
//! A small value is copied to where its answer stands, since a piece of its own to write costs more
//! than that. A large one is not: a client that asks for many and reads slowly would have us hold all
//! of them a second time.

use bytes::Bytes;

/// A value of so many bytes is shared: from here on a copy costs more than two further writes.
const SHARED_BYTES_MIN: usize = 64 << 10;

/// Takes answers.
pub trait Out {
    /// All that was put so far but for values that are shared; whatever is appended stands behind
    /// those too.
    fn bytes(&mut self) -> &mut Vec<u8>;

    /// Makes room for a value and so many bytes around it.
    fn reserve(&mut self, around_bytes: usize, value: &Bytes);

    /// Puts a value.
    fn value(&mut self, value: &Bytes);
}

/// Copies values of any size.
impl Out for Vec<u8> {
    fn bytes(&mut self) -> &mut Vec<u8> {
        self
    }

    fn reserve(&mut self, around_bytes: usize, value: &Bytes) {
        Self::reserve(self, around_bytes + value.len());
    }

    fn value(&mut self, value: &Bytes) {
        self.extend_from_slice(value);
    }
}

/// Answers that share large values with whoever has them.
#[derive(Debug, Default)]
pub struct Pieces {
    bytes: Vec<u8>,
    /// Large values, in their order. Whoever writes after each answer has one at most.
    values: Vec<Inserted>,
}

/// A value that stands among bytes.
#[derive(Debug)]
struct Inserted {
    /// Behind so many of them.
    at: usize,
    value: Bytes,
}

impl Pieces {
    /// Room for so many bytes to begin with.
    #[must_use]
    pub fn with_capacity(n_bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(n_bytes), values: Vec::new() }
    }

    /// Bytes of all that was put.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.bytes.len() + self.values.iter().map(|inserted| inserted.value.len()).sum::<usize>()
    }

    /// All of it, if no value is shared: what nearly every answer is.
    ///
    /// # Errors
    ///
    /// Gives itself back if one is.
    pub fn into_bytes(self) -> Result<Vec<u8>, Self> {
        if self.values.is_empty() { Ok(self.bytes) } else { Err(self) }
    }

    /// All of it in the order in which it is to be written. None is empty but the last.
    pub fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        let bytes = Bytes::from(self.bytes);
        let ends = self.values.iter().map(|inserted| inserted.at).chain([bytes.len()]);
        let starts = std::iter::once(0).chain(self.values.iter().map(|inserted| inserted.at));
        let copied: Vec<_> = starts.zip(ends).map(|(from, to)| bytes.slice(from..to)).collect();
        let shared = self.values.into_iter().map(|inserted| Some(inserted.value)).chain([None]);
        copied.into_iter().zip(shared).flat_map(|(copied, shared)| [Some(copied), shared]).flatten()
    }
}

impl Out for Pieces {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn reserve(&mut self, around_bytes: usize, value: &Bytes) {
        let copied_bytes = if value.len() < SHARED_BYTES_MIN { value.len() } else { 0 };
        self.bytes.reserve(around_bytes + copied_bytes);
    }

    fn value(&mut self, value: &Bytes) {
        if value.len() < SHARED_BYTES_MIN {
            self.bytes.extend_from_slice(value);
        } else {
            self.values.push(Inserted { at: self.bytes.len(), value: value.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(out: &mut impl Out, values: &[Bytes]) {
        for (idx, value) in values.iter().enumerate() {
            out.bytes().extend_from_slice(format!("<{idx} ").as_bytes());
            out.reserve(1, value);
            out.value(value);
            out.bytes().push(b'>');
        }
    }

    #[test]
    fn pieces_are_the_bytes_that_copies_would_be() {
        let value = |n_bytes: usize| Bytes::from(vec![b'v'; n_bytes]);
        let [small, large] = [value(SHARED_BYTES_MIN - 1), value(SHARED_BYTES_MIN)];
        let together = [&small, &large, &large, &small, &large, &small].map(Bytes::clone);
        for values in [&together[..0], &together[..1], &together[1..2], &together[1..3], &together]
        {
            let (mut copied, mut pieces) = (Vec::new(), Pieces::default());
            put(&mut copied, values);
            put(&mut pieces, values);
            assert_eq!(pieces.n_bytes(), copied.len());
            assert_eq!(pieces.into_pieces().collect::<Vec<_>>().concat(), copied);
        }
    }

    #[test]
    fn a_large_value_is_not_copied_and_a_small_one_is() {
        let value = Bytes::from(vec![b'v'; SHARED_BYTES_MIN]);
        let mut pieces = Pieces::default();
        put(&mut pieces, std::slice::from_ref(&value));
        assert!(pieces.bytes.capacity() < SHARED_BYTES_MIN);
        let told: Vec<_> = pieces.into_pieces().collect();
        assert!(told.iter().any(|piece| piece.as_ptr() == value.as_ptr()), "it is another");

        let mut pieces = Pieces::default();
        put(&mut pieces, &[value.slice(1..)]);
        assert!(pieces.into_bytes().is_ok());
    }
}
