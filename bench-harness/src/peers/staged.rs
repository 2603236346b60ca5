//! The other server of the staged workload: hyper on tokio, with every body in memory.
//!
//! What it shows is the price of stages, cache and files on a page that needs none of them. So it
//! has no limits, no admission and no dynamic page, and refuses files that ask for these.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use forebay_workloads::staged::config::{Config, Page};
use forebay_workloads::staged::files::{self, FileId};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::{serving, tokio_accept};
use crate::subject::CellError;
use crate::workload_file::Peer;

/// Most directories that are held in memory, 5 MB each.
const DIRECTORIES_MAX: u32 = 64;

/// Starts the peer and tells where it listens and how it reaches its sockets.
///
/// # Errors
/// When it cannot do what the file asks, or cannot listen.
pub fn serve(
    peer: Peer,
    config: &Config,
    seed: u64,
    cpus: &[usize],
) -> Result<(String, String), CellError> {
    let not_built = |what: &str| Err(CellError::NotBuilt(format!("peer {} {what}", peer.name())));
    if peer != Peer::Tokio {
        return not_built("for this workload");
    }
    if cpus.len() != 1 {
        return not_built("of staged that uses several cores");
    }
    if config.classes.iter().any(|class| class.page == Page::Dynamic) {
        return not_built("that makes dynamic pages");
    }
    if config.files.directories > DIRECTORIES_MAX {
        return not_built("that holds so many files in memory");
    }
    let pages = Arc::new(Pages::new(config, seed));
    let address = serving::start(peer, move |ready| listen(&pages, &ready))?;
    Ok((address.to_string(), "tokio".to_owned()))
}

/// Every body that may be asked for.
struct Pages {
    front: Bytes,
    files: BTreeMap<FileId, Bytes>,
}

impl Pages {
    fn new(config: &Config, seed: u64) -> Self {
        let body = |id: FileId| Bytes::from(id.content(seed).bytes(id.n_bytes()));
        let of_class = |page| config.classes.iter().any(|class| class.page == page);
        let directories = if of_class(Page::File) { config.files.directories } else { 0 };
        let files = files::all(directories).map(|id| (id, body(id))).collect();
        Self { front: body(FileId::FRONT), files }
    }

    fn answer(&self, target: &str) -> Response<Full<Bytes>> {
        let body = match target {
            "/front" => Some(&self.front),
            target => FileId::parse(target).and_then(|id| self.files.get(&id)),
        };
        let mut response = Response::new(Full::new(body.cloned().unwrap_or_default()));
        if body.is_none() {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        response
    }
}

fn listen(pages: &Arc<Pages>, ready: &Sender<SocketAddr>) -> io::Result<()> {
    tokio_accept::serve(
        ready,
        || (),
        |stream| {
            let pages = Arc::clone(pages);
            async move {
                let answer = |request: Request<Incoming>| {
                    let response = pages.answer(request.uri().path());
                    async move { Ok::<_, Infallible>(response) }
                };
                let serving = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                // A connection that breaks is its client's to notice.
                drop(serving.await);
            }
        },
    )
}
