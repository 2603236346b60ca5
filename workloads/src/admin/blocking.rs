//! A blocking socket under hyper: each poll is done when it returns.
//!
//! On a thread that serves one client at a time there is nothing to do while it waits, so no reactor
//! is needed. The client's time is bounded twice: until it has asked, and from the first byte of the
//! reply on, whose making is no time of the client's. Each operation may take what is left of it.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Write};

/// Bytes that one read takes: a request to these pages fits.
const READ_BYTES: usize = 4_096;

/// How long one client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// For its request.
    pub(super) head: Duration,
    /// For taking the reply.
    pub(super) reply: Duration,
}

/// A socket whose reads end by a fixed moment, and so do its writes.
#[derive(Debug)]
pub(super) struct BlockingIo {
    socket: TcpStream,
    read_until: Instant,
    /// From the first write on.
    write_until: Option<Instant>,
    bounds: Bounds,
}

// A call that has a timeout is interrupted, not restarted, when the process is stopped and continued.
impl BlockingIo {
    pub(super) fn new(socket: TcpStream, bounds: Bounds) -> Self {
        Self { socket, read_until: clock() + bounds.head, write_until: None, bounds }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            self.socket.set_read_timeout(Some(left(self.read_until)?))?;
            match self.socket.read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let until = *self.write_until.get_or_insert_with(|| clock() + self.bounds.reply);
        loop {
            self.socket.set_write_timeout(Some(left(until)?))?;
            match self.socket.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(clock());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the admin thread is no shard: it has the host's clock"
)]
fn clock() -> Instant {
    Instant::now()
}

impl Read for BlockingIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ_BYTES];
        let room = into.remaining().min(READ_BYTES);
        Poll::Ready(self.read(&mut bytes[..room]).map(|n_bytes| into.put_slice(&bytes[..n_bytes])))
    }
}

impl Write for BlockingIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(Shutdown::Write))
    }
}
