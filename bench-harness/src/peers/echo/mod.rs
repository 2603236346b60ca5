//! Other servers of the echo workload: the same bytes, the same socket options, the same one core.
//!
//! Each runs on a thread of its own that never ends; the process does. The calling thread only
//! answers for it, as it does beside ours.

mod listening;
mod tokio_server;
mod epoll;
mod glommio_stream;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use forebay_workloads::echo::{Config, Protocol};

use crate::subject::CellError;
use crate::workload_file::Peer;

/// Where a server listens: its port does not matter.
const ANY_PORT: &str = "127.0.0.1:0";
/// How long a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(10);

/// Listens, says where, and serves for ever beside a task that burns this long at a time.
type Serve = fn(Option<Duration>, Sender<SocketAddr>) -> std::io::Result<()>;

/// Starts a peer and tells where it listens and how it reaches its sockets.
///
/// # Errors
/// When there is no such peer of this service, or it cannot listen.
pub fn serve(peer: Peer, service: &Config, cpus: &[usize]) -> Result<(String, String), CellError> {
    if cpus.len() != 1 {
        return Err(CellError::NotBuilt("a peer of echo that uses several cores".to_owned()));
    }
    let (server, sockets): (Serve, &str) = match (peer, service.protocol) {
        (_, Protocol::Bytes(bytes)) if bytes.is_faulty() => {
            return Err(CellError::NotBuilt("a peer that spoils replies".to_owned()));
        }
        (Peer::Tokio, Protocol::Bytes(_)) => (tokio_server::echo, "tokio"),
        (Peer::Tokio, Protocol::Http) => (tokio_server::pages, "tokio"),
        (Peer::Epoll, Protocol::Bytes(_)) => (epoll::echo, "epoll"),
        (Peer::GlommioStream, Protocol::Bytes(_)) => (glommio_stream::echo, "glommio"),
        _ => {
            let why = format!("peer {} for this workload", peer.name());
            return Err(CellError::NotBuilt(why));
        }
    };
    let broken = |error: std::io::Error| CellError::Setup(format!("{}: {error}", peer.name()));
    let (ready, listening) = mpsc::channel();
    let busy = service.busy_us.map(|busy_us| Duration::from_micros(busy_us.into()));
    std::thread::Builder::new()
        .name(peer.name().to_owned())
        .spawn(move || {
            // It serves for ever: an end is a failure, and its clients must not wait. A panic has
            // told its own story by the time it comes here.
            let ended = catch_unwind(AssertUnwindSafe(|| server(busy, ready)));
            eprintln!("error: {} ended: {ended:?}", peer.name());
            std::process::exit(1);
        })
        .map_err(broken)?;
    let late = |error| CellError::Setup(format!("{} does not listen: {error}", peer.name()));
    let address = listening.recv_timeout(START_MAX).map_err(late)?;
    Ok((address.to_string(), sockets.to_owned()))
}

/// Burns CPU, as the busy task of ours does.
#[expect(clippy::disallowed_methods, reason = "burning real time is the purpose")]
fn burn(busy: Duration) {
    let begun = std::time::Instant::now();
    while begun.elapsed() < busy {
        std::hint::spin_loop();
    }
}

/// Whether an error of `accept` is about one client or a shortage, so that accepting goes on.
fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, Interrupted};
    matches!(error.kind(), ConnectionAborted | Interrupted)
}
