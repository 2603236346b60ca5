//! What a request asks, read from its head. Pure.
//!
//! hyper has parsed the head by the grammar before this; here stands what this server makes of it.
//! A target either names a page exactly or is not found: nothing is decoded, resolved or joined, so
//! no spelling of a path leads out of the file set. Of two ways to tell a body's length none is
//! taken: a request that says `Transfer-Encoding` is refused and its connection closed, since hyper
//! then no longer tells whether a `Content-Length` stood beside it (RFC 9112, section 6.1). Equal
//! `Content-Length` headers count as one, different ones are hyper's 400 (RFC 9110, section 8.6).

use hyper::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Method, Uri, Version};

use super::config::HttpLimits;
use super::files::FileId;
use super::page::PageId;
use super::refusal::Refusal;

/// A page of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    File(FileId),
    Dynamic(PageId),
}

impl Asked {
    /// What the head of a request asks of a set of so many directories.
    pub(super) fn read(
        head: &Parts,
        limits: &HttpLimits,
        directories: u32,
    ) -> Result<Self, Refusal> {
        if target_bytes(&head.uri) > limits.target_bytes_max as usize {
            return Err(Refusal::TargetTooLong);
        }
        check_host(head)?;
        check_length(head, limits)?;
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return Err(Refusal::Method);
        }
        page(head.uri.path(), directories).ok_or(Refusal::NotFound)
    }
}

/// A query changes nothing: every page has one content.
fn page(path: &str, directories: u32) -> Option<Asked> {
    match path {
        "/front" => Some(Asked::File(FileId::FRONT)),
        path => PageId::parse(path).map(Asked::Dynamic).or_else(|| {
            let id = FileId::parse(path).filter(|id| id.directory() < directories);
            id.map(Asked::File)
        }),
    }
}

fn target_bytes(target: &Uri) -> usize {
    let path = target.path_and_query().map_or(0, |path| path.as_str().len());
    path + target.authority().map_or(0, |authority| authority.as_str().len())
}

/// RFC 9112, section 3.2: exactly one, which may be missing only before HTTP/1.1.
fn check_host(head: &Parts) -> Result<(), Refusal> {
    let n_hosts = head.headers.get_all(HOST).iter().count();
    let is_right = n_hosts == 1 || (n_hosts == 0 && head.version == Version::HTTP_10);
    if is_right { Ok(()) } else { Err(Refusal::BadRequest) }
}

fn check_length(head: &Parts, limits: &HttpLimits) -> Result<(), Refusal> {
    if head.headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refusal::LengthRequired);
    }
    let Some(length) = head.headers.get(CONTENT_LENGTH) else { return Ok(()) };
    let length = length.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    match length {
        None => Err(Refusal::BadRequest),
        Some(length) if length > limits.body_bytes_max.into() => Err(Refusal::BodyTooLarge),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    const FILE: Asked = Asked::File(FileId::FRONT);

    /// What a request for `target` with these headers asks of a set of four directories.
    fn read(target: &str, headers: &[(&'static str, &str)]) -> Result<Asked, Refusal> {
        let request = headers
            .iter()
            .fold(Request::get(target), |request, (name, value)| request.header(*name, *value));
        let limits = HttpLimits { target_bytes_max: 100, ..HttpLimits::default() };
        Asked::read(&request.body(()).unwrap().into_parts().0, &limits, 4)
    }

    #[test]
    fn a_target_names_a_page_or_nothing() {
        let host = [("host", "here")];
        for (target, asked) in [
            ("/front", Some(FILE)),
            ("/front?again", Some(FILE)),
            ("http://elsewhere/front", Some(FILE)),
            ("/dynamic/7", Some(Asked::Dynamic(PageId(7)))),
            ("/file/dir00003/class2_4", FileId::new(3, 2, 4).map(Asked::File)),
            ("/file/dir00004/class2_4", None),
            ("/front/", None),
            ("/", None),
            ("*", None),
            ("/dynamic/x", None),
            ("/%66ront", None),
            ("/file/dir00003/../dir00003/class2_4", None),
            ("/file/%2e%2e/%2e%2e/etc/passwd", None),
            ("/../etc/passwd", None),
        ] {
            assert_eq!(read(target, &host), asked.ok_or(Refusal::NotFound), "{target}");
        }
    }

    #[test]
    fn heads_that_others_may_read_differently_are_refused() {
        let host = ("host", "here");
        for (headers, refusal) in [
            (&[][..], Refusal::BadRequest),
            (&[host, ("host", "there")], Refusal::BadRequest),
            (&[host, ("transfer-encoding", "chunked")], Refusal::LengthRequired),
            (
                &[host, ("content-length", "1"), ("transfer-encoding", "chunked")],
                Refusal::LengthRequired,
            ),
            (&[host, ("content-length", "-1")], Refusal::BadRequest),
            (&[host, ("content-length", "1048577")], Refusal::BodyTooLarge),
        ] {
            assert_eq!(read("/front", headers), Err(refusal), "{headers:?}");
        }
        assert_eq!(read("/front", &[host, ("content-length", "1048576")]), Ok(FILE));
    }

    #[test]
    fn a_long_target_is_refused_before_it_is_read() {
        let target = format!("/{}", "a".repeat(100));
        assert_eq!(read(&target, &[]), Err(Refusal::TargetTooLong));
    }

    #[test]
    fn only_reading_is_allowed() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let request = Request::builder().method(method).uri("/front").header("host", "here");
            let head = request.body(()).unwrap().into_parts().0;
            assert_eq!(Asked::read(&head, &HttpLimits::default(), 4), Err(Refusal::Method));
        }
    }
}
