//! What a client says first: a command that touches no item, and what answers it.
//!
//! Between two looks at the server's memory each connection is greeted, so that none of them is only
//! half there. A request of the load would store items in between, whose memory would count as the
//! connections', and would miss where nothing has been written yet.

use forebay_workloads::cacheproxy::wire::Dialect;

const TEXT: &[u8] = b"version\r\n";
const META: &[u8] = b"mn\r\n";
/// A binary command that does nothing: its magic byte, its opcode, and neither key nor value.
const BINARY: [u8; HEADER_BYTES] = header(0x80);
/// The same with the magic byte of answers. Nothing in it but the server's choice of a cas may differ.
const BINARY_ANSWER: [u8; HEADER_BYTES] = header(0x81);
const HEADER_BYTES: usize = 24;
/// Where the cas begins, the last field of a header.
const CAS_AT: usize = 16;
/// Bytes of a line that answers: memcached's version takes a fraction of them.
const LINE_BYTES_MAX: usize = 256;

const fn header(magic: u8) -> [u8; HEADER_BYTES] {
    const NOOP: u8 = 0x0a;
    let mut header = [0; HEADER_BYTES];
    header[0] = magic;
    header[1] = NOOP;
    header
}

/// Appends the greeting.
pub(super) fn put(dialect: Dialect, out: &mut Vec<u8>) {
    out.extend_from_slice(match dialect {
        // A proxy knows no meta commands, and memcached's text has no word for nothing.
        Dialect::Text => TEXT,
        Dialect::Meta => META,
        Dialect::Binary => &BINARY,
    });
}

/// Takes its answer off the front; `None` as long as that is not whole.
///
/// # Errors
/// In words, when something else stands there.
pub(super) fn take_answer(dialect: Dialect, received: &mut &[u8]) -> Result<Option<()>, String> {
    let Some(n_bytes) = answer_bytes(dialect, received)? else { return Ok(None) };
    let (answer, rest) = received.split_at(n_bytes);
    let is_right = match dialect {
        Dialect::Text => answer.starts_with(b"VERSION "),
        Dialect::Meta => answer == b"MN\r\n",
        Dialect::Binary => answer[..CAS_AT] == BINARY_ANSWER[..CAS_AT],
    };
    if !is_right {
        return Err(format!("`{}` to a greeting", answer.escape_ascii()));
    }
    *received = rest;
    Ok(Some(()))
}

/// Bytes of what stands in front, as soon as it is whole.
fn answer_bytes(dialect: Dialect, received: &[u8]) -> Result<Option<usize>, String> {
    if dialect == Dialect::Binary {
        return Ok((received.len() >= HEADER_BYTES).then_some(HEADER_BYTES));
    }
    match received.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') {
        None if received.len() >= LINE_BYTES_MAX => Err("a long line to a greeting".to_owned()),
        line_end => Ok(line_end.map(|end| end + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: [(Dialect, &[u8]); 3] = [
        (Dialect::Text, b"VERSION 1.6.18\r\n"),
        (Dialect::Meta, b"MN\r\n"),
        (Dialect::Binary, &BINARY_ANSWER),
    ];

    #[test]
    fn an_answer_is_taken_when_it_is_whole_and_what_follows_is_left() {
        for (dialect, answer) in ANSWERS {
            let came = [answer, b"more"].concat();
            for n_bytes in 0..answer.len() {
                assert_eq!(take_answer(dialect, &mut &came[..n_bytes]), Ok(None), "{dialect:?}");
            }
            let mut received = &came[..];
            assert_eq!(take_answer(dialect, &mut received), Ok(Some(())), "{dialect:?}");
            assert_eq!(received, b"more");
        }
    }

    #[test]
    fn anything_else_is_told() {
        let refused = [b"ERROR\r\n".to_vec(), vec![b'x'; LINE_BYTES_MAX]];
        for dialect in [Dialect::Text, Dialect::Meta] {
            for received in &refused {
                let told = take_answer(dialect, &mut &received[..]).unwrap_err();
                assert!(told.contains("to a greeting"), "{told}");
            }
        }
        let unknown = [&BINARY_ANSWER[..7], &[0x81], &BINARY_ANSWER[8..]].concat();
        assert!(take_answer(Dialect::Binary, &mut &unknown[..]).is_err());
    }
}
