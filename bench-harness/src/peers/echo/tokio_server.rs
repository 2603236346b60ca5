//! Echo and pages on tokio's current-thread scheduler, one task for each connection.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::time::Duration;

use forebay_workloads::echo::PAGE;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::burn;
use crate::peers::tokio_accept;

/// Bytes read at a time: what a task holds for its connection.
const READ_BYTES: usize = 4_096;

/// Sends back what comes.
pub(super) fn echo(busy: Option<Duration>, ready: Sender<SocketAddr>) -> io::Result<()> {
    serve(busy, ready, |mut stream| async move {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            match stream.read(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(n_bytes) => {
                    if stream.write_all(&bytes[..n_bytes]).await.is_err() {
                        return;
                    }
                }
            }
        }
    })
}

/// Answers every request with the page, by hyper.
pub(super) fn pages(busy: Option<Duration>, ready: Sender<SocketAddr>) -> io::Result<()> {
    serve(busy, ready, |stream| async move {
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        // A connection that breaks is its client's to notice.
        drop(serving.await);
    })
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(PAGE))))
}

/// Serves connections beside a task that burns this long at a time.
fn serve<F>(
    busy: Option<Duration>,
    ready: Sender<SocketAddr>,
    connection: impl Fn(TcpStream) -> F,
) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let burning = move || {
        let Some(busy) = busy else { return };
        tokio::spawn(async move {
            loop {
                burn(busy);
                tokio::task::yield_now().await;
            }
        });
    };
    tokio_accept::serve(&ready, burning, connection)
}
