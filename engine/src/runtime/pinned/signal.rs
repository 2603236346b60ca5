//! The net ring's signal, watched by the executor while the shard sleeps.
//!
//! glommio has no public way to wait for a descriptor. A stream made of one does: it asks for
//! readiness when it is made and whenever it would block, reports it by trying to read, and for a
//! descriptor that is no socket that read fails. The failure is the wake.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::AsyncRead;
use glommio::net::UnixStream;

use crate::runtime::ring::{Ring, adopt_as};

#[derive(Debug)]
pub(super) struct Signal {
    descriptor: OwnedFd,
    /// Live from one wake to the next, so that a sleep that should not be ends with the next
    /// completion (design rule 2).
    watch: Option<UnixStream>,
}

impl Signal {
    pub(super) fn of(ring: &dyn Ring) -> io::Result<Self> {
        let signal = ring.signal().ok_or(io::ErrorKind::Unsupported)?;
        let watch = Some(adopt_as(signal)?);
        Ok(Self { descriptor: rustix::io::fcntl_dupfd_cloexec(signal.as_fd(), 0)?, watch })
    }

    /// Ready once when the descriptor has become readable; registers the waker otherwise.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(watch) = self.watch() else {
            // No descriptor is left for it. The wait ends by its cap until one is.
            return Poll::Pending;
        };
        let polled = Pin::new(watch).poll_read(cx, &mut [0]);
        if polled.is_ready() {
            // Made anew at once: later its descriptor might be a connection's.
            self.watch = None;
            self.watch();
        }
        polled.map(drop)
    }

    fn watch(&mut self) -> Option<&mut UnixStream> {
        if self.watch.is_none() {
            self.watch = adopt_as(&self.descriptor).ok();
        }
        self.watch.as_mut()
    }
}
