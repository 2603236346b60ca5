//! The listener of a peer: the options that ours has, set by hand.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::mpsc::Sender;

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, listen as start, socket_with, sockopt,
};

/// Connections that wait to be accepted, as many as ours lets wait.
const BACKLOG: i32 = 4_096;

/// Listens on a free loopback port, without blocking, and says where.
pub(super) fn listen(ready: &Sender<SocketAddr>) -> io::Result<TcpListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    start(&socket, BACKLOG)?;
    let listener = TcpListener::from(socket);
    // Nobody listens only where the process has ended.
    let _ended = ready.send(listener.local_addr()?);
    Ok(listener)
}
