//! What every peer over sockets does: it serves for ever on a thread of its own, and listens with the
//! options that ours has, set by hand. The calling thread only answers for it, as it does beside ours.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, listen as listen_on, socket_with, sockopt,
};

use crate::subject::CellError;
use crate::workload_file::Peer;

/// How long a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted, as many as ours lets wait.
const BACKLOG: i32 = 4_096;

/// Starts a peer and tells where it listens, as it has said itself.
pub(super) fn start(
    peer: Peer,
    serve: impl FnOnce(Sender<SocketAddr>) -> io::Result<()> + Send + 'static,
) -> Result<SocketAddr, CellError> {
    let (ready, listening) = mpsc::channel();
    std::thread::Builder::new()
        .name(peer.name().to_owned())
        .spawn(move || {
            // It serves for ever: an end is a failure, and its clients must not wait. A panic has
            // told its own story by the time it comes here.
            let ended = catch_unwind(AssertUnwindSafe(|| serve(ready)));
            eprintln!("error: {} ended: {ended:?}", peer.name());
            std::process::exit(1);
        })
        .map_err(|error| CellError::Setup(format!("{}: {error}", peer.name())))?;
    let late = |error| CellError::Setup(format!("{} does not listen: {error}", peer.name()));
    listening.recv_timeout(START_MAX).map_err(late)
}

/// Listens on a free loopback port, without blocking, and says where.
pub(super) fn listen(ready: &Sender<SocketAddr>) -> io::Result<TcpListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    listen_on(&socket, BACKLOG)?;
    let listener = TcpListener::from(socket);
    // Nobody listens only where the process has ended.
    let _ended = ready.send(listener.local_addr()?);
    Ok(listener)
}

/// Whether an error of `accept` is about one client or a shortage, so that accepting goes on.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted};
    matches!(error.kind(), ConnectionAborted | Interrupted)
}
