//! The connection under crates that speak tokio's traits.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use send_wrapper::SendWrapper;

use super::connection::Connection;

/// A connection as tokio's crates read and write it: tokio-postgres takes it in `connect_raw`.
///
/// Only the traits are tokio's: no runtime of its is needed, and crates that call one for their
/// timeouts must have those switched off and be timed by [`sleep`](crate::sleep) instead.
#[derive(Debug)]
pub struct TokioIo(Connection);

impl TokioIo {
    /// Puts the connection under a crate.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// Gives the connection back.
    #[must_use]
    pub fn into_inner(self) -> Connection {
        self.0
    }

    /// The same for crates that ask for a stream that is `Send`, as redis does.
    ///
    /// It still belongs to its shard, whose thread is checked on each use: read, written or dropped
    /// on another thread it panics. What drives it therefore runs on the shard, by
    /// [`spawn_background`](crate::spawn_background).
    #[must_use]
    pub fn into_send(self) -> impl AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {
        // tokio's traits pass through a pinned pointer, which the wrapper is.
        Pin::new(SendWrapper::new(self))
    }
}

impl AsyncRead for TokioIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = into.remaining();
        let read = self.0.poll_read_into(cx, room, |bytes| into.put_slice(bytes));
        read.map_ok(|_n_bytes| ())
    }
}

impl AsyncWrite for TokioIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write_from(cx, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write_from(cx, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush_queued()
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_finish(cx)
    }
}
