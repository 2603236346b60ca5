//! Copies between a connection and a caller's buffers: what all adaptors are made of.
//!
//! Each is cancel-safe: what answers `Pending` has taken nothing and queued nothing.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use super::connection::Connection;

impl Connection {
    /// Hands over at most `room` received bytes and gives how many; 0 at the end of the stream, or
    /// if there is no room.
    pub(super) fn poll_read_into(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if room == 0 {
            return Poll::Ready(Ok(0));
        }
        let Some(mut chunk) = ready!(self.poll_read_chunk(cx))? else { return Poll::Ready(Ok(0)) };
        let n_bytes = chunk.len().min(room);
        take(&chunk[..n_bytes]);
        if n_bytes < chunk.len() {
            chunk.advance(n_bytes);
            self.unread(chunk);
        }
        Poll::Ready(Ok(n_bytes))
    }

    /// Queues a copy of as many bytes, in their order, as may be queued now.
    pub(super) fn poll_write_from(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(cx))?;
        let mut n_bytes = 0;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            let n_fit = slice.len().min(room - n_bytes);
            if n_fit == 0 {
                break;
            }
            self.queue_copy(&slice[..n_fit]);
            n_bytes += n_fit;
        }
        Poll::Ready(Ok(n_bytes))
    }

    /// What an adaptor's flush is: nothing to wait for, as with a system's socket. What is queued
    /// leaves at the end of the turn whether anybody waits or not.
    ///
    /// Waiting for [`Connection::flush`] would wake the writer once more for every reply. And hyper
    /// counts a reply as given only when it is flushed: a client that closes as soon as it has its
    /// reply would seem to have closed before.
    pub(super) fn poll_flush_queued(&self) -> Poll<io::Result<()>> {
        Poll::Ready(self.check_writes())
    }
}
