//! Reads one reply, piece by piece as it comes, and judges it to the last byte.
//!
//! Heads are taken apart by `httparse`; hyper's client would read the rest as well, but costs the
//! clients more than the server that they are to keep busy. Bodies have a `content-length`; one in
//! chunks is refused, as is everything that nobody asked for: a second reply shows here as bytes
//! behind the first.

use forebay_workloads::staged::page::Level;
use httparse::{EMPTY_HEADER, Response, Status};

use super::asks::{Asked, Bodies, Body};

/// Longest head of a reply; a server that sends more sends something else.
const HEAD_BYTES_MAX: usize = 8_192;
/// Most headers of a reply.
const HEADERS_MAX: usize = 32;
/// Longest reason of a refusal that is kept: it becomes part of a metric's name.
const REASON_BYTES_MAX: usize = 32;

/// A reply under way.
#[derive(Debug)]
pub(super) struct Reading {
    page: Asked,
    bodies: Bodies,
    /// The beginning of a head whose rest has not come.
    begun: Vec<u8>,
    head: Option<Head>,
    n_body_bytes: usize,
    wrong: Option<String>,
}

/// A whole reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) answer: Answer,
    pub(super) then: Then,
}

/// What a reply says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The page.
    Whole,
    /// A lesser page, which is right as such.
    Degraded(Level),
    /// No, with its reason.
    Shed(String),
    /// That its deadline passed.
    Late,
    /// Something that it must not, in words.
    Wrong(String),
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Open,
    Closes,
}

/// What of a head matters.
#[derive(Debug)]
struct Head {
    answer: Answer,
    n_bytes: usize,
    /// The body that it must have; a refusal may have any.
    body: Option<Body>,
    then: Then,
}

impl Reading {
    pub(super) fn new(page: Asked, bodies: Bodies) -> Self {
        Self { page, bodies, begun: Vec::new(), head: None, n_body_bytes: 0, wrong: None }
    }

    /// Takes what came; gives the reply when it is whole.
    ///
    /// # Errors
    /// In words, when this is no reply at all or goes on behind one.
    pub(super) fn take(&mut self, chunk: &[u8]) -> Result<Option<Reply>, String> {
        if self.head.is_some() {
            return self.take_body(chunk);
        }
        let mut begun = std::mem::take(&mut self.begun);
        if begun.is_empty() {
            // As good as always: a head comes in one piece, and is not copied.
            return match self.take_head(chunk)? {
                Some(n_bytes) => self.take_body(&chunk[n_bytes..]),
                None => {
                    self.begun = chunk.to_vec();
                    Ok(None)
                }
            };
        }
        begun.extend_from_slice(chunk);
        match self.take_head(&begun)? {
            Some(n_bytes) => self.take_body(&begun[n_bytes..]),
            None => {
                self.begun = begun;
                Ok(None)
            }
        }
    }

    /// Takes the head off the front; tells how long it is, once it is whole.
    fn take_head(&mut self, received: &[u8]) -> Result<Option<usize>, String> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut response = Response::new(&mut headers);
        match response.parse(received) {
            Ok(Status::Complete(n_bytes)) => {
                let head = self.judge(&response)?;
                self.wrong = head.body.filter(|body| body.n_bytes != head.n_bytes).map(|body| {
                    format!("{:?} has {} bytes, not {}", self.page, head.n_bytes, body.n_bytes)
                });
                self.head = Some(head);
                Ok(Some(n_bytes))
            }
            Ok(Status::Partial) if received.len() <= HEAD_BYTES_MAX => Ok(None),
            Ok(Status::Partial) => Err(format!("no end of a head in {} bytes", received.len())),
            Err(error) => Err(format!("no head of a reply: {error}")),
        }
    }

    fn judge(&self, response: &Response<'_, '_>) -> Result<Head, String> {
        if response.version != Some(1) {
            return Err("a reply that is not HTTP/1.1".to_owned());
        }
        if header(response, "transfer-encoding").is_some() {
            return Err("a reply in chunks, where a length was to be told".to_owned());
        }
        let n_bytes = header(response, "content-length").and_then(|text| text.parse().ok());
        let n_bytes = n_bytes.ok_or_else(|| "a reply without its length".to_owned())?;
        let closes =
            header(response, "connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        let (answer, body) = match response.code {
            Some(200) => match header(response, "x-degraded") {
                None => (Answer::Whole, Some(self.bodies.of(self.page, Level::WHOLE))),
                Some(level) => self.degraded(level),
            },
            Some(503) => (refusal(response), None),
            Some(504) => (Answer::Late, None),
            code => (Answer::Wrong(format!("{:?}: status {code:?}", self.page)), None),
        };
        Ok(Head { answer, n_bytes, body, then: if closes { Then::Closes } else { Then::Open } })
    }

    fn degraded(&self, level: &str) -> (Answer, Option<Body>) {
        match level.parse() {
            Ok(level @ 1..) => {
                let level = Level(level);
                (Answer::Degraded(level), Some(self.bodies.of(self.page, level)))
            }
            _ => (Answer::Wrong(format!("x-degraded says {level:?}")), None),
        }
    }

    /// Compares what came of the body; gives the reply behind its last byte.
    fn take_body(&mut self, chunk: &[u8]) -> Result<Option<Reply>, String> {
        let head = self.head.as_ref().expect("a body comes behind a head");
        let n_left = head.n_bytes - self.n_body_bytes;
        if chunk.len() > n_left {
            let n_more = chunk.len() - n_left;
            return Err(format!("{n_more} bytes behind a reply, that nobody asked for"));
        }
        if let Some(body) = head.body
            && self.wrong.is_none()
            && !body.content.is_at(self.n_body_bytes, chunk)
        {
            let (from, to) = (self.n_body_bytes, self.n_body_bytes + chunk.len());
            self.wrong = Some(format!("{:?} is wrong between bytes {from} and {to}", self.page));
        }
        self.n_body_bytes += chunk.len();
        if chunk.len() < n_left {
            return Ok(None);
        }
        let head = self.head.take().expect("looked at above");
        let answer = self.wrong.take().map_or(head.answer, Answer::Wrong);
        Ok(Some(Reply { answer, then: head.then }))
    }
}

/// What a refusal says: why, and when to come again.
fn refusal(response: &Response<'_, '_>) -> Answer {
    let retry_after = header(response, "retry-after").and_then(|text| text.parse::<u64>().ok());
    if retry_after.is_none_or(|seconds| seconds == 0) {
        return Answer::Wrong("a refusal that does not say when to come again".to_owned());
    }
    let is_word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    match header(response, "x-reason") {
        Some(reason) if reason.len() <= REASON_BYTES_MAX && reason.bytes().all(is_word) => {
            Answer::Shed(reason.to_owned())
        }
        reason => Answer::Wrong(format!("a refusal whose reason is {reason:?}")),
    }
}

fn header<'a>(response: &'a Response<'_, '_>, name: &str) -> Option<&'a str> {
    let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(header.value).ok()
}

#[cfg(test)]
mod tests {
    use forebay_workloads::staged::config::Dynamic;
    use forebay_workloads::staged::page::PageId;

    use super::*;

    const PAGE: Asked = Asked::Dynamic(PageId(9));

    fn bodies() -> Bodies {
        let dynamic = Dynamic { page_bytes: 300, degraded_bytes: 100, ..Dynamic::default() };
        Bodies { dynamic, seed: 3 }
    }

    fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    fn page(level: Level) -> Vec<u8> {
        let body = bodies().of(PAGE, level);
        body.content.bytes(body.n_bytes)
    }

    fn read(received: &[u8]) -> Result<Option<Reply>, String> {
        Reading::new(PAGE, bodies()).take(received)
    }

    fn answer(received: &[u8]) -> Answer {
        read(received).unwrap().expect("it is whole").answer
    }

    #[test]
    fn a_reply_is_whole_at_its_last_byte_wherever_it_is_cut() {
        let received = reply("200 OK", "", &page(Level::WHOLE));
        for cut in 1..received.len() {
            let mut reading = Reading::new(PAGE, bodies());
            assert_eq!(reading.take(&received[..cut]), Ok(None), "cut at {cut}");
            let rest = reading.take(&received[cut..]).unwrap();
            assert_eq!(rest, Some(Reply { answer: Answer::Whole, then: Then::Open }), "{cut}");
        }
        let mut reading = Reading::new(PAGE, bodies());
        let (last, before) = received.split_last().unwrap();
        assert!(before.iter().all(|byte| reading.take(&[*byte]) == Ok(None)));
        assert!(reading.take(&[*last]).unwrap().is_some());
    }

    #[test]
    fn every_wrong_byte_of_a_body_is_found() {
        let right = page(Level::WHOLE);
        for byte_idx in 0..right.len() {
            let mut wrong = right.clone();
            wrong[byte_idx] ^= 1;
            let answer = answer(&reply("200 OK", "", &wrong));
            assert!(matches!(answer, Answer::Wrong(_)), "byte {byte_idx}: {answer:?}");
        }
    }

    #[test]
    fn a_body_of_another_length_or_page_is_wrong() {
        for body in [&page(Level::WHOLE)[..299], &page(Level::LEAST), b""] {
            let answer = answer(&reply("200 OK", "", body));
            assert!(matches!(&answer, Answer::Wrong(what) if what.contains("bytes, not 300")));
        }
        let other = bodies().of(Asked::Dynamic(PageId(10)), Level::WHOLE).content.bytes(300);
        assert!(matches!(answer(&reply("200 OK", "", &other)), Answer::Wrong(_)));
    }

    #[test]
    fn a_lesser_page_must_say_so_and_be_right_as_such() {
        let least = page(Level::LEAST);
        let degraded = answer(&reply("200 OK", "x-degraded: 1\r\n", &least));
        assert_eq!(degraded, Answer::Degraded(Level::LEAST));
        for level in ["0", "-1", "", "more"] {
            let headers = format!("x-degraded: {level}\r\n");
            let answer = answer(&reply("200 OK", &headers, &least));
            assert!(matches!(answer, Answer::Wrong(_)), "{level}: {answer:?}");
        }
    }

    #[test]
    fn a_refusal_says_why_and_when_to_come_again() {
        let shed = |headers: &str| answer(&reply("503 No", headers, b"busy"));
        let reason = "Retry-After: 1\r\nX-Reason: queue_full\r\n";
        assert_eq!(shed(reason), Answer::Shed("queue_full".to_owned()));
        for headers in [
            "",
            "Retry-After: 1\r\n",
            "X-Reason: queue_full\r\n",
            "Retry-After: 0\r\nX-Reason: queue_full\r\n",
            "Retry-After: soon\r\nX-Reason: queue_full\r\n",
            "Retry-After: 1\r\nX-Reason: a b\r\n",
        ] {
            assert!(matches!(shed(headers), Answer::Wrong(_)), "{headers}");
        }
        assert_eq!(answer(&reply("504 Late", "", b"")), Answer::Late);
        assert!(matches!(answer(&reply("404 Not Found", "", b"")), Answer::Wrong(_)));
    }

    #[test]
    fn the_end_of_a_connection_is_told() {
        let read = read(&reply("503 No", "Connection: close\r\n", b"")).unwrap().unwrap();
        assert_eq!(read.then, Then::Closes);
    }

    #[test]
    fn two_replies_and_what_is_none_are_refused() {
        let one = reply("200 OK", "", &page(Level::WHOLE));
        assert!(read(&[&one[..], &one[..]].concat()).unwrap_err().contains("nobody asked for"));
        for garbage in [
            &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"\0\0\0\0",
            &[b'x'; 20],
        ] {
            assert!(read(garbage).is_err(), "{}", String::from_utf8_lossy(garbage));
        }
        let endless = [&b"HTTP/1.1 200 OK\r\nx: "[..], &[b'x'; HEAD_BYTES_MAX]].concat();
        assert!(read(&endless).unwrap_err().contains("no end of a head"));
    }
}
