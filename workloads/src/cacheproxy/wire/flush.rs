//! `flush_all`, which is about no key and so is no operation: its line, and the line that answers it.

use super::line::Partial;
use super::text_reply::{Sent, refusal};
use super::{Malformed, put_number};
use crate::cacheproxy::operation::{ExpTime, Failure};

/// The reply that is due to a `flush_all`, cut anywhere.
#[derive(Debug, Default)]
pub struct FlushReply(Partial);

/// Appends the line that makes all items of a server nothing, now or when this time comes.
pub fn encode_flush_all(delay: ExpTime, out: &mut Vec<u8>) {
    out.extend_from_slice(b"flush_all ");
    put_number(delay.0, out);
    out.extend_from_slice(b"\r\n");
}

impl FlushReply {
    /// Takes bytes off `input` and gives what the server says, once it is whole.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: nothing more can be made of the connection.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Result<(), Failure>>, Malformed> {
        Ok(match self.0.line(input)? {
            None => None,
            Some(b"OK") => Some(Ok(())),
            Some(line) => {
                refusal(line, Sent::Line)?;
                Some(Err(Failure::Refused))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a reply that arrives byte by byte.
    fn reply(bytes: &[u8]) -> Result<Option<Result<(), Failure>>, Malformed> {
        let mut reply = FlushReply::default();
        let mut told = None;
        for byte in bytes.chunks(1) {
            assert_eq!(told, None, "there are bytes behind");
            told = reply.decode(&mut &*byte)?;
        }
        Ok(told)
    }

    #[test]
    fn a_flush_is_one_line_and_so_is_its_reply() {
        let mut line = Vec::new();
        encode_flush_all(ExpTime(-1), &mut line);
        assert_eq!(line, b"flush_all -1\r\n");
        assert_eq!(reply(b"OK\r"), Ok(None));
        assert_eq!(reply(b"OK\r\n"), Ok(Some(Ok(()))));
        let refused = Ok(Some(Err(Failure::Refused)));
        for line in ["CLIENT_ERROR flush_all not allowed\r\n", "ERROR\r\n", "SERVER_ERROR x\r\n"] {
            assert_eq!(reply(line.as_bytes()), refused, "{line}");
        }
        assert_eq!(reply(b"STORED\r\n"), Err(Malformed::NotAReply));
    }
}
