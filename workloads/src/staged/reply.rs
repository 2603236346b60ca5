//! Replies as HTTP has them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use super::make_pages::Page;
use super::page::Level;
use super::refusal::Refusal;

/// The header that tells how far a page is degraded.
const X_DEGRADED: HeaderName = HeaderName::from_static("x-degraded");
/// The header that tells why a request was refused.
const X_REASON: HeaderName = HeaderName::from_static("x-reason");

/// A reply of this server: its body is there as a whole.
pub(super) type Reply = Response<Full<Bytes>>;

/// A page, whole or degraded.
pub(super) fn page(page: Page) -> Reply {
    let mut reply = plain(StatusCode::OK, "application/octet-stream", page.body);
    if page.level != Level::WHOLE {
        reply.headers_mut().insert(X_DEGRADED, HeaderValue::from(u16::from(page.level.0)));
    }
    reply
}

/// Why there is none.
pub(super) fn refusal(refusal: Refusal) -> Reply {
    let status = refusal.status();
    let words = status.canonical_reason().unwrap_or_default();
    let mut reply =
        plain(status, "text/plain; charset=utf-8", Bytes::from_static(words.as_bytes()));
    let headers = reply.headers_mut();
    if let Some(reason) = refusal.reason() {
        headers.insert(X_REASON, HeaderValue::from_static(reason));
    }
    if let Some(wait) = refusal.retry_after() {
        // The header has whole seconds: rounded up, and never "at once".
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if refusal == Refusal::Method {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    if refusal.closes() { closing(reply) } else { reply }
}

/// The last reply of its connection.
pub(super) fn closing(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}

fn plain(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_refusal_tells_when_to_come_again_in_whole_seconds_and_never_at_once() {
        for (wait, told) in [(0, "1"), (1, "1"), (999, "1"), (1_000, "1"), (1_001, "2")] {
            let retry_after = Duration::from_millis(wait);
            let reply = refusal(Refusal::Shed { reason: "queue_full", retry_after });
            assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(reply.headers()[RETRY_AFTER], told, "{wait} ms");
            assert_eq!(reply.headers()[X_REASON], "queue_full");
        }
    }

    #[test]
    fn only_a_degraded_page_says_so() {
        let degraded = |level| page(Page { body: Bytes::new(), level });
        assert!(!degraded(Level::WHOLE).headers().contains_key(X_DEGRADED));
        assert_eq!(degraded(Level::LEAST).headers()[X_DEGRADED], "1");
    }
}
