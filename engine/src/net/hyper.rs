//! The connection under hyper, and hyper's timers on the shard's own wheel.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::hyper::rt::{Read, ReadBufCursor, Sleep, Timer, Write};
use send_wrapper::SendWrapper;

use super::connection::Connection;
use crate::runtime::Time;
use crate::runtime::sleep::{self, now};

/// A connection as hyper reads and writes it, for servers and for clients.
///
/// hyper's connection future stays on its shard: a server awaits it in a request, a client runs it
/// by [`spawn_background`](crate::spawn_background).
#[derive(Debug)]
pub struct HyperIo(Connection);

impl HyperIo {
    /// Puts the connection under hyper.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// Gives the connection back: after an upgrade, or when hyper has been asked for its parts.
    #[must_use]
    pub fn into_inner(self) -> Connection {
        self.0
    }
}

impl Read for HyperIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = into.remaining();
        let read = self.0.poll_read_into(cx, room, |bytes| into.put_slice(bytes));
        read.map_ok(|_n_bytes| ())
    }
}

impl Write for HyperIo {
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

/// hyper's timers on the wheel of the shard they are made on, and its time from the shard's clock,
/// so that a simulation's time is hyper's too.
///
/// hyper asks for timers that may go to other threads. These must not: one that is awaited or
/// dropped outside of its shard's thread panics. hyper does neither as long as what holds the timer,
/// its connection, stays on the shard.
#[derive(Clone, Copy, Debug)]
pub struct HyperTimer {
    /// The engine's start, as hyper counts.
    epoch: Instant,
}

impl HyperTimer {
    /// Relates hyper's time to the shard's: one that is made now serves any shard of the engine.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    #[must_use]
    pub fn new() -> Self {
        #[allow(clippy::disallowed_methods, reason = "an opaque origin: only differences count")]
        let instant = Instant::now();
        Self { epoch: instant - now().since(Time::ZERO) }
    }
}

impl Default for HyperTimer {
    fn default() -> Self {
        Self::new()
    }
}

impl Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(ShardSleep(SendWrapper::new(sleep::sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }

    fn now(&self) -> Instant {
        self.epoch + now().since(Time::ZERO)
    }
}

/// Checks on each use that it is on the thread it was made on.
struct ShardSleep(SendWrapper<sleep::Sleep>);

impl Future for ShardSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut *self.0).poll(cx)
    }
}

impl Sleep for ShardSleep {}
