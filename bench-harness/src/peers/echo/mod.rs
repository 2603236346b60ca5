//! Other servers of the echo workload: the same bytes, the same socket options, the same one core.
//!
//! Each runs on a thread of its own that never ends; the process does. The calling thread only
//! answers for it, as it does beside ours.

mod tokio_server;
mod epoll;
mod glommio_stream;

use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::time::Duration;

use forebay_workloads::echo::{Config, Protocol};

use crate::peers::serving;
use crate::subject::CellError;
use crate::workload_file::Peer;

/// Where a server listens: its port does not matter.
const ANY_PORT: &str = "127.0.0.1:0";
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
    let busy = service.busy_us.map(|busy_us| Duration::from_micros(busy_us.into()));
    let address = serving::start(peer, move |ready| server(busy, ready))?;
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
