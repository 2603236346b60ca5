//! Connections of a shard to servers, under any protocol crate that speaks futures-io.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::future::or;
use futures_lite::{AsyncRead, AsyncWrite};

use crate::runtime::core;
use crate::runtime::pinned::PinnedStream;
use crate::runtime::sleep::sleep;

/// A TCP connection of one shard. Dropping it closes it.
///
/// Reads and writes go straight to the socket, each one a system call: put a buffer in front of a
/// protocol crate that writes in pieces.
#[derive(Debug)]
pub struct Connection {
    stream: PinnedStream,
}

impl Connection {
    /// Connects to a server, without delay of small writes (`TCP_NODELAY`). Dropping the future
    /// gives the attempt up.
    ///
    /// # Errors
    ///
    /// The system's error: `ConnectionRefused`, `TimedOut` when it took longer than `within`.
    /// `Unsupported` in simulation, which has no sockets.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn connect(address: SocketAddr, within: Duration) -> io::Result<Self> {
        let core = core::current();
        let connecting = async { Ok(Self { stream: core.half().connect(address).await? }) };
        let too_long = async {
            sleep(within).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        or(connecting, too_long).await
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
