//! The page over HTTP/1.1, with hyper on the shard's own connections.

use std::convert::Infallible;

use forebay::net::{Connection, HyperIo, HyperTimer};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use super::PAGE;

/// Answers every request of a connection with the page.
pub(super) async fn page(connection: Connection) {
    let serving = http1::Builder::new()
        .timer(HyperTimer::new())
        .pipeline_flush(true)
        .serve_connection(HyperIo::new(connection), service_fn(answer));
    // A connection that breaks is its client's to notice: there is nobody else to tell.
    drop(serving.await);
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(PAGE))))
}
