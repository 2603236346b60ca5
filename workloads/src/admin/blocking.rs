//! A blocking socket under hyper: each poll is done when it returns.
//!
//! On a thread that serves one client at a time there is nothing to do while it waits, so no reactor
//! is needed. The client's time is bounded as a whole: each operation may take what is left of it.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Write};

/// Bytes that one read takes: a request to these pages fits.
const READ_BYTES: usize = 4_096;

/// A socket whose operations end by a fixed moment.
#[derive(Debug)]
pub(super) struct BlockingIo {
    socket: TcpStream,
    until: Instant,
}

impl BlockingIo {
    pub(super) fn new(socket: TcpStream, within: Duration) -> Self {
        Self { socket, until: clock() + within }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(clock());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        self.socket.read(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        self.socket.write(bytes)
    }
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
