//! Lines of a stream that is cut anywhere, and the words and numbers in them.

use std::str::FromStr;

use super::Malformed;

/// Bytes of a line at most. The longest a memcached writes tells an item with a key of 250 bytes;
/// its error lines are shorter still.
const LINE_BYTES_MAX: usize = 1_024;

/// What has come of a line, or of a header, of which the rest is still to come.
#[derive(Debug, Default)]
pub(super) struct Partial {
    bytes: Vec<u8>,
    /// Whether the bytes were given out whole, and nobody needs them any more.
    given: bool,
}

impl Partial {
    /// Takes the next line out of `input`, without its end, or all of `input` while it has no end.
    pub(super) fn line<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
    ) -> Result<Option<&'a [u8]>, Malformed> {
        self.forget_given();
        let end = memchr::memchr(b'\n', input);
        let (head, rest) = input.split_at(end.map_or(input.len(), |at| at + 1));
        if self.bytes.len() + head.len() > LINE_BYTES_MAX {
            return Err(Malformed::LineTooLong);
        }
        *input = rest;
        if end.is_some() && self.bytes.is_empty() {
            return without_end(head).map(Some);
        }
        self.bytes.extend_from_slice(head);
        if end.is_none() {
            return Ok(None);
        }
        self.given = true;
        without_end(&self.bytes).map(Some)
    }

    /// Takes the next `N` bytes out of `input`, or all of it while there are fewer.
    pub(super) fn exactly<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        self.forget_given();
        let n_taken = (N - self.bytes.len()).min(input.len());
        let (head, rest) = input.split_at(n_taken);
        self.bytes.extend_from_slice(head);
        *input = rest;
        let whole = <[u8; N]>::try_from(self.bytes.as_slice()).ok();
        self.given = whole.is_some();
        whole
    }

    fn forget_given(&mut self) {
        if std::mem::take(&mut self.given) {
            self.bytes.clear();
        }
    }
}

fn without_end(line: &[u8]) -> Result<&[u8], Malformed> {
    line.strip_suffix(b"\r\n").ok_or(Malformed::NotAReply)
}

/// The words of a line.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
}

/// The number that a word is.
pub(super) fn number<N: FromStr>(word: Option<&[u8]>) -> Result<N, Malformed> {
    let text = word.and_then(|word| std::str::from_utf8(word).ok());
    text.and_then(|text| text.parse().ok()).ok_or(Malformed::NotAReply)
}
