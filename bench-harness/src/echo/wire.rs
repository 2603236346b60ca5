//! What travels on a connection, and whether what came back is right, to the last byte.
//!
//! A message begins with the number of its connection and its own number on it, so that a reply
//! that is late, early or somebody else's is found; the bytes behind follow from the two. A page is
//! the same for all: there the order of replies is not seen, only their whole content.

use forebay_workloads::echo::{PAGE, Protocol};

/// Bytes of one of the two numbers.
const NUMBER_BYTES: usize = size_of::<u64>();
const HEAD_BYTES: usize = 2 * NUMBER_BYTES;
const PAGE_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: echo\r\n\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";
/// Longest head of a reply; a server that sends more sends something else.
const REPLY_HEAD_BYTES_MAX: usize = 4_096;

/// What the connections of a cell carry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wire {
    Messages { message_bytes: usize },
    Pages,
}

/// Which request of which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) connection: u64,
    pub(super) number: u64,
}

/// What stands at the front of the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// Not yet a whole reply.
    Part,
    /// A reply of this many bytes, and what is wrong with it.
    Reply { bytes: usize, wrong: Option<String> },
    /// No reply at all; what follows cannot be read either.
    Garbage(String),
}

impl Wire {
    pub(super) fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Bytes(bytes) => {
                Self::Messages { message_bytes: bytes.message_bytes as usize }
            }
            Protocol::Http => Self::Pages,
        }
    }

    /// Appends the request of a place.
    pub(super) fn put_request(self, place: Place, out: &mut Vec<u8>) {
        match self {
            Self::Messages { message_bytes } => {
                out.extend_from_slice(&head(place));
                out.extend((HEAD_BYTES..message_bytes).map(|byte_idx| filling(place, byte_idx)));
            }
            Self::Pages => out.extend_from_slice(PAGE_REQUEST),
        }
    }

    /// Looks at the front of what was received, where the reply to `place` should stand.
    pub(super) fn front(self, place: Place, received: &[u8]) -> Front {
        match self {
            Self::Messages { message_bytes } => match received.get(..message_bytes) {
                None => Front::Part,
                Some(message) => {
                    Front::Reply { bytes: message_bytes, wrong: check_message(place, message) }
                }
            },
            Self::Pages => page_front(received),
        }
    }
}

fn head(place: Place) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..NUMBER_BYTES].copy_from_slice(&place.connection.to_le_bytes());
    head[NUMBER_BYTES..].copy_from_slice(&place.number.to_le_bytes());
    head
}

/// The byte of a message at an index behind its head: another one in every message and place.
const fn filling(place: Place, byte_idx: usize) -> u8 {
    let [low, ..] = place.number.wrapping_add(place.connection).to_le_bytes();
    let [at, ..] = byte_idx.to_le_bytes();
    low.wrapping_mul(31).wrapping_add(at)
}

fn check_message(place: Place, message: &[u8]) -> Option<String> {
    let right = message[..HEAD_BYTES] == head(place)
        && (HEAD_BYTES..message.len()).all(|idx| message[idx] == filling(place, idx));
    (!right).then(|| describe(place, message))
}

#[cold]
fn describe(place: Place, message: &[u8]) -> String {
    let Place { connection, number } = place;
    let mut expected = Vec::with_capacity(message.len());
    Wire::Messages { message_bytes: message.len() }.put_request(place, &mut expected);
    let byte_idx = expected.iter().zip(message).position(|(a, b)| a != b).unwrap_or_default();
    let (is, must) = (message[byte_idx], expected[byte_idx]);
    format!("message {number} of connection {connection}: byte {byte_idx} is {is}, not {must}")
}

fn page_front(received: &[u8]) -> Front {
    let end = received.windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END);
    let Some(end) = end else {
        return if received.len() > REPLY_HEAD_BYTES_MAX {
            Front::Garbage(format!("no end of a head in {} bytes", received.len()))
        } else {
            Front::Part
        };
    };
    let head = String::from_utf8_lossy(&received[..end]);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let Some(length) = length else {
        return Front::Garbage(format!("a reply without its length: {head}"));
    };
    let body_from = end + HEAD_END.len();
    let Some(body) = received.get(body_from..body_from.saturating_add(length)) else {
        return Front::Part;
    };
    let right = head.starts_with("HTTP/1.1 200 ") && body == PAGE;
    let wrong = (!right).then(|| format!("not the page: {head} with {length} bytes"));
    Front::Reply { bytes: body_from + length, wrong }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { connection: 7, number: 300 };
    const MESSAGES: Wire = Wire::Messages { message_bytes: 64 };

    fn message() -> Vec<u8> {
        let mut bytes = Vec::new();
        MESSAGES.put_request(PLACE, &mut bytes);
        bytes
    }

    #[test]
    fn a_message_that_comes_back_is_right_and_part_of_it_is_none() {
        let mut received = message();
        assert_eq!(received.len(), 64);
        assert_eq!(MESSAGES.front(PLACE, &received[..63]), Front::Part);
        received.extend(message());
        assert_eq!(MESSAGES.front(PLACE, &received), Front::Reply { bytes: 64, wrong: None });
    }

    #[test]
    fn every_spoiled_byte_is_found() {
        for byte_idx in 0..64 {
            let mut received = message();
            received[byte_idx] ^= 1;
            let Front::Reply { bytes: 64, wrong: Some(what) } = MESSAGES.front(PLACE, &received)
            else {
                panic!("byte {byte_idx} was not looked at");
            };
            let at = format!("message 300 of connection 7: byte {byte_idx} is");
            assert!(what.starts_with(&at), "{what}");
        }
    }

    #[test]
    fn the_reply_to_another_request_is_wrong() {
        for other in [Place { number: 301, ..PLACE }, Place { connection: 8, ..PLACE }] {
            let front = MESSAGES.front(other, &message());
            assert!(matches!(front, Front::Reply { wrong: Some(_), .. }), "{front:?}");
        }
    }

    #[test]
    fn a_page_is_read_to_its_end_and_checked() {
        let reply = |status: &str, body: &str| {
            let length = body.len();
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
        };
        let right = reply("200 OK", "Hello, World!");
        let whole = right.len();
        let front = |received: &[u8]| Wire::Pages.front(PLACE, received);
        for part in 0..whole {
            assert_eq!(front(&right[..part]), Front::Part, "{part} bytes");
        }
        assert_eq!(front(&right), Front::Reply { bytes: whole, wrong: None });
        for wrong in [reply("500 No", "Hello, World!"), reply("200 OK", "Hello, World?")] {
            assert!(matches!(front(&wrong), Front::Reply { wrong: Some(_), .. }));
        }
        assert!(matches!(front(b"HTTP/1.1 200 OK\r\n\r\n"), Front::Garbage(_)));
        assert!(matches!(front(&[b'x'; 5_000]), Front::Garbage(_)));
    }
}
