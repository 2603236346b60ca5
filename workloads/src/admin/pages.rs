//! Which page is asked, and its reply.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay::{AdjustError, Adjustment, Handle, Phase, ShardSnapshot, Snapshot};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::rates::Rates;
use super::stages::Stages;
use super::{Desk, metrics};

/// A shard that has published nothing for so long does not turn: it answers within 200 ms when asked,
/// and publishes every 50 ms by itself while it is busy.
const SILENT_MAX: Duration = Duration::from_secs(2);
/// The longest target that a controller is given.
const TARGET_MS_MAX: u64 = 60_000;
/// What plain words are.
const TEXT: &str = "text/plain; charset=utf-8";

type Reply = Response<Full<Bytes>>;

/// A page of its own, or why there is none.
pub(super) fn reply(desk: &Desk, request: &Request<Incoming>) -> Reply {
    let (handle, path) = (&desk.handle, request.uri().path());
    match (request.method(), path) {
        (&Method::GET, "/health") => health(handle),
        (&Method::GET, "/ready") => ready(handle),
        (&Method::GET, "/metrics") => counts(handle),
        (&Method::GET, "/stages") => stages(handle, &mut desk.rates.borrow_mut()),
        (&Method::POST, path) => {
            match (stage_of_target(path), desk.access.check(request.headers())) {
                (None, _) => words(StatusCode::NOT_FOUND),
                (Some(_), Err(why)) => {
                    full(StatusCode::FORBIDDEN, TEXT, Bytes::from_static(why.as_bytes()))
                }
                (Some(stage), Ok(())) => retarget(handle, stage, request.uri().query()),
            }
        }
        (&Method::GET, _) => words(StatusCode::NOT_FOUND),
        _ => words(StatusCode::METHOD_NOT_ALLOWED),
    }
}

/// The stage that is named in `/stages/NAME/target`.
fn stage_of_target(path: &str) -> Option<&str> {
    path.strip_prefix("/stages/")?.strip_suffix("/target")
}

/// The milliseconds of `ms=N`.
fn target_of(query: Option<&str>) -> Option<Duration> {
    let ms = query?.strip_prefix("ms=")?.parse().ok()?;
    (1..=TARGET_MS_MAX).contains(&ms).then(|| Duration::from_millis(ms))
}

fn health(handle: &Handle) -> Reply {
    let turns = |seen: &Option<Snapshot>| seen.as_ref().is_some_and(|seen| seen.age < SILENT_MAX);
    let alive = handle.snapshots().iter().all(turns);
    said(if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, "a shard is silent")
}

fn ready(handle: &Handle) -> Reply {
    let serves = (0..handle.n_shards()).all(|shard_idx| handle.phase(shard_idx) == Phase::Running);
    said(if serves { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, "draining")
}

fn counts(handle: &Handle) -> Reply {
    match metrics::text(snapshots(handle)) {
        Ok(page) => full(StatusCode::OK, metrics::CONTENT_TYPE, page.into()),
        Err(_) => words(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn stages(handle: &Handle, rates: &mut Rates) -> Reply {
    match serde_json::to_vec(&Stages::new(&snapshots(handle), rates)) {
        Ok(page) => full(StatusCode::OK, "application/json", page.into()),
        Err(_) => words(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn retarget(handle: &Handle, stage: &str, query: Option<&str>) -> Reply {
    let Some(target) = target_of(query) else { return words(StatusCode::BAD_REQUEST) };
    words(match handle.adjust(stage, Adjustment::Target(target)) {
        Ok(()) => StatusCode::OK,
        Err(AdjustError::NoStage) => StatusCode::NOT_FOUND,
        Err(AdjustError::NoController) => StatusCode::CONFLICT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    })
}

fn snapshots(handle: &Handle) -> Vec<Arc<ShardSnapshot>> {
    handle.snapshots().into_iter().flatten().map(|snapshot| snapshot.shard).collect()
}

/// `OK`, or what is wrong.
fn said(status: StatusCode, wrong: &'static str) -> Reply {
    let word = if status == StatusCode::OK { "ok" } else { wrong };
    full(status, TEXT, Bytes::from_static(word.as_bytes()))
}

fn words(status: StatusCode) -> Reply {
    full(status, TEXT, Bytes::from_static(status.canonical_reason().unwrap_or_default().as_bytes()))
}

fn full(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_or_refused() {
        assert_eq!(stage_of_target("/stages/dynamic/target"), Some("dynamic"));
        assert_eq!(stage_of_target("/stages/target"), None);
        assert_eq!(stage_of_target("/stages/dynamic"), None);
        assert_eq!(target_of(Some("ms=50")), Some(Duration::from_millis(50)));
        for query in
            ["", "ms=", "ms=0", "ms=-1", "ms=60001", "ms=5&x=1", "s=5", "ms=99999999999999999999"]
        {
            assert_eq!(target_of(Some(query)), None, "{query}");
        }
        assert_eq!(target_of(None), None);
    }
}
