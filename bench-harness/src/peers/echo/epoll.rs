//! Echo by hand: one loop over edge-triggered epoll, reading and writing at once.
//!
//! The least that a readiness server can do. An edge is told once, so each connection is read until a
//! read comes back short: then its socket was empty, unless the client has finished, which the
//! event tells. What a socket does not take waits for it to become writable.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventFlags};

use super::burn;
use crate::peers::serving::{is_passing, listen};

/// Events taken at a time.
const EVENTS_MAX: usize = 1_024;
/// Bytes read at a time, into the one buffer that all connections share.
const READ_BYTES: usize = 16 * 1024;
/// The mark of the listener's events; a connection's is its descriptor, which is never this.
const LISTENER: u64 = u64::MAX;

/// A client's socket, and what it has not taken yet.
struct Client {
    stream: TcpStream,
    unsent: Vec<u8>,
}

/// All clients by their descriptors, which are small numbers: no search for each event.
#[derive(Default)]
struct Clients(Vec<Option<Client>>);

impl Clients {
    /// Where the client of a descriptor stands, or would.
    fn place(&mut self, descriptor: u64) -> io::Result<&mut Option<Client>> {
        let idx = usize::try_from(descriptor).map_err(io::Error::other)?;
        if idx >= self.0.len() {
            self.0.resize_with(idx + 1, || None);
        }
        Ok(&mut self.0[idx])
    }
}

/// What became of a client when its socket was looked at.
enum Standing {
    Open,
    Gone,
}

/// Sends back what comes.
pub(super) fn echo(busy: Option<Duration>, ready: Sender<SocketAddr>) -> io::Result<()> {
    let listener = listen(&ready)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    watch(&epoll, &listener, LISTENER)?;
    let mut clients = Clients::default();
    let mut bytes = vec![0; READ_BYTES];
    let mut events = Vec::with_capacity(EVENTS_MAX);
    // With work of its own it only looks; without, it sleeps until something comes.
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let wait = busy.map(|_| &at_once);
    loop {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), wait) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let mark = event.data.u64();
            if mark == LISTENER {
                accept(&listener, &epoll, &mut clients)?;
                continue;
            }
            let place = clients.place(mark)?;
            if let Some(client) = place
                && let Standing::Gone = serve(client, &mut bytes, is_last(event.flags))
            {
                *place = None;
            }
        }
        if let Some(busy) = busy {
            burn(busy);
        }
    }
}

fn watch(epoll: &OwnedFd, socket: impl AsFd, mark: u64) -> io::Result<()> {
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    Ok(epoll::add(epoll, socket, epoll::EventData::new_u64(mark), flags)?)
}

/// Whether nothing more will be told of a socket, which is then read to its end.
fn is_last(flags: EventFlags) -> bool {
    flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
}

/// Takes every connection that waits.
fn accept(listener: &TcpListener, epoll: &OwnedFd, clients: &mut Clients) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let mark = u64::try_from(stream.as_raw_fd()).map_err(io::Error::other)?;
                watch(epoll, &stream, mark)?;
                *clients.place(mark)? = Some(Client { stream, unsent: Vec::new() });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Moves bytes until one of the two directions would block.
fn serve(client: &mut Client, bytes: &mut [u8], to_the_end: bool) -> Standing {
    loop {
        while !client.unsent.is_empty() {
            match client.stream.write(&client.unsent) {
                Ok(n_sent) => drop(client.unsent.drain(..n_sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Standing::Open,
                Err(_) => return Standing::Gone,
            }
        }
        match client.stream.read(bytes) {
            Ok(0) => return Standing::Gone,
            Ok(n_bytes) => {
                let n_sent = match client.stream.write(&bytes[..n_bytes]) {
                    Ok(n_sent) => n_sent,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(_) => return Standing::Gone,
                };
                client.unsent.extend_from_slice(&bytes[n_sent..n_bytes]);
                if n_bytes < bytes.len() && client.unsent.is_empty() && !to_the_end {
                    return Standing::Open;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Standing::Open,
            Err(_) => return Standing::Gone,
        }
    }
}
