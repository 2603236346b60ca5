//! Connections: hyper on the shard's own sockets, and every bound that a client meets.
//!
//! hyper parses; it answers what breaks the grammar (400), a head of too many headers or bytes (431)
//! and a target beyond its own limit (414), and then closes. A client that is slow with its head or
//! silent is cut, one that does not read is held back and then cut, one that closes its side after
//! asking is still answered.
//!
//! A connection is a request of the engine, so that a stop that drains waits until its replies have
//! left; each HTTP request on it is another, with a deadline, so that it can be listed, cancelled and
//! refused. When the engine stops, requests that are under way end, and those that come afterwards
//! are refused, in words: an idle connection is kept a moment longer, because its client may have
//! sent a request that is still on the wire, and cutting that off would lose it silently.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use forebay::net::{Connection, ConnectionOptions, HyperIo, HyperTimer, ListenOptions, Listener};
use forebay::{Priority, RequestOptions, draining, is_draining, scope, sleep, spawn};
use futures_lite::future::or;
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::asked::Asked;
use super::config::{Class, Config, HttpLimits};
use super::graph::Graph;
use super::make_pages::Page;
use super::refusal::Refusal;
use super::reply::{self, Reply};
use crate::closing::hear_out;

/// The header in which a request says its class.
const X_CLASS: HeaderName = HeaderName::from_static("x-class");
/// The smallest buffer that hyper reads into.
const HYPER_BUFFER_BYTES_MIN: usize = 8_192;

/// What all connections of a shard share.
#[derive(Debug)]
struct Site {
    graph: Graph,
    limits: HttpLimits,
    directories: u32,
    /// The importance of each class that a request may name, the first where it names none.
    priorities: Vec<(HeaderValue, Priority)>,
    hyper: http1::Builder,
}

/// The bounds of a listener.
pub(super) fn listen_options(limits: &HttpLimits) -> ListenOptions {
    let connection = ConnectionOptions {
        idle: Some(millis(limits.idle_ms)),
        write_within: millis(limits.write_ms),
        ..ConnectionOptions::default()
    };
    let connections_max = limits.connections_max as usize;
    ListenOptions { connections_max, connection, ..ListenOptions::default() }
}

/// Gives every connection a request of its own, until the engine stops.
pub(super) async fn accept(listener: Listener, config: Config, graph: Graph) {
    let site = Rc::new(Site {
        graph,
        limits: config.limits,
        directories: config.files.directories,
        priorities: priorities(&config.classes),
        hyper: hyper(&config.limits),
    });
    while let Ok(connection) = listener.accept().await {
        // Whoever had connected when a stop began is heard and refused in words. Where the shard has
        // all the requests that it may, the connection closes.
        let options = RequestOptions::default().also_draining();
        spawn(options, serve(connection, Rc::clone(&site))).detach();
    }
}

fn hyper(limits: &HttpLimits) -> http1::Builder {
    let head_bytes_max = limits.head_bytes_max as usize;
    let mut builder = http1::Builder::new();
    builder
        .timer(HyperTimer::new())
        .header_read_timeout(millis(limits.head_ms))
        .max_headers(limits.headers_max as usize)
        .max_header_size(head_bytes_max)
        .max_buf_size(head_bytes_max.max(HYPER_BUFFER_BYTES_MIN))
        // Not `pipeline_flush`: it loses a reply that closes while more has been read already, and the
        // connection joins what is written in a turn anyway.
        .half_close(true);
    builder
}

/// Serves one connection to its end.
async fn serve(connection: Connection, site: Rc<Site>) {
    let n_asked = Cell::new(0);
    let service = service_fn(|request| {
        n_asked.set(n_asked.get() + 1);
        let is_last = n_asked.get() >= site.limits.requests_per_connection_max;
        let site = Rc::clone(&site);
        async move {
            let reply = site.reply(request).await;
            Ok::<_, Infallible>(if is_last { reply::closing(reply) } else { reply })
        }
    });
    let mut serving = site.hyper.serve_connection(HyperIo::new(connection), service);
    let told_to_end = async {
        draining().await;
        sleep(millis(site.limits.last_word_ms)).await;
        None
    };
    let served = match or(async { Some((&mut serving).await) }, told_to_end).await {
        Some(served) => served,
        None => {
            Pin::new(&mut serving).graceful_shutdown();
            (&mut serving).await
        }
    };
    // A connection that breaks is its client's to notice: there is nobody else to tell.
    // A head that is late may still come while the connection closes: no reset for that either.
    if served.is_ok() || served.is_err_and(|error| error.is_parse() || error.is_timeout()) {
        hear_out(&serving.into_parts().io.into_inner()).await;
    }
}

impl Site {
    /// The reply to one request.
    async fn reply(&self, request: Request<Incoming>) -> Reply {
        let reply = match self.page(request).await {
            Ok(page) => reply::page(page),
            Err(refusal) => reply::refusal(refusal),
        };
        if is_draining() { reply::closing(reply) } else { reply }
    }

    fn priority(&self, headers: &HeaderMap) -> Priority {
        let said = headers.get(X_CLASS);
        let named = self.priorities.iter().find(|(name, _)| Some(name) == said);
        named.or(self.priorities.first()).map_or(Priority::LOWEST, |(_, priority)| *priority)
    }

    async fn page(&self, request: Request<Incoming>) -> Result<Page, Refusal> {
        let (head, body) = request.into_parts();
        let asked = Asked::read(&head, &self.limits, self.directories)?;
        let within = millis(self.limits.request_ms);
        let options = RequestOptions::within(within).priority(self.priority(&head.headers));
        let graph = self.graph;
        // Dropped with the connection, and then cancelled.
        let request = spawn(options, async move {
            discard(body).await?;
            graph.answer(asked).await
        });
        request.await?
    }
}

/// The names by which requests say their class.
fn priorities(classes: &[Class]) -> Vec<(HeaderValue, Priority)> {
    let named = |class: &Class| {
        let name = HeaderValue::from_str(&class.name).ok()?;
        Some((name, Priority::new(class.priority).unwrap_or(Priority::HIGHEST)))
    };
    classes.iter().filter_map(named).collect()
}

/// Reads a body to its end, which its length bounds, and keeps nothing of it.
async fn discard(mut body: Incoming) -> Result<(), Refusal> {
    if body.is_end_stream() {
        return Ok(());
    }
    let read = async {
        while let Some(frame) = body.frame().await {
            frame.map_err(|_broken| Refusal::BadRequest)?;
        }
        Ok(())
    };
    let left = scope().left().unwrap_or(Duration::MAX);
    or(read, async move {
        sleep(left).await;
        Err(Refusal::BodySlow)
    })
    .await
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}
