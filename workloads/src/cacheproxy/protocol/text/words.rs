//! The words of a line: what stands between blanks.

use memchr::memchr;

/// Most words of a line that is no list of keys, verb not counted. memcached looks at no more; a
/// command that knows its words is refused with so many.
const WORDS_MAX: usize = 22;

/// The words after a verb; those beyond [`WORDS_MAX`] are left out.
pub(crate) struct Words<'a> {
    words: [&'a [u8]; WORDS_MAX],
    n_words: usize,
}

impl<'a> Words<'a> {
    pub(crate) fn of(line: &'a [u8]) -> Self {
        let mut words = Self { words: [&[]; WORDS_MAX], n_words: 0 };
        for (place, word) in words.words.iter_mut().zip(each(line)) {
            *place = word;
            words.n_words += 1;
        }
        words
    }

    pub(crate) const fn len(&self) -> usize {
        self.n_words
    }

    /// This word, or an empty one if there are not so many.
    pub(crate) fn at(&self, word_idx: usize) -> &'a [u8] {
        self.words.get(word_idx).copied().unwrap_or_default()
    }

    /// The words from this one on.
    pub(crate) fn from(&self, word_idx: usize) -> &[&'a [u8]] {
        self.words[..self.n_words].get(word_idx..).unwrap_or_default()
    }

    pub(super) fn last(&self) -> &'a [u8] {
        self.n_words.checked_sub(1).map_or(&[], |word_idx| self.at(word_idx))
    }
}

/// The first word, empty if there is none, and what follows it.
pub(super) fn first(line: &[u8]) -> (&[u8], &[u8]) {
    let n_blanks = line.iter().take_while(|byte| **byte == b' ').count();
    let line = &line[n_blanks..];
    line.split_at(memchr(b' ', line).unwrap_or(line.len()))
}

/// Every word.
pub(super) fn each(mut line: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (word, rest) = first(line);
        line = rest;
        (!word.is_empty()).then_some(word)
    })
}
