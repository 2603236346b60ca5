//! A connection, as its holder sees it.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::future::or;

use super::fault::Fault;
use super::options::ConnectOptions;
use super::receiving::Read;
use super::stream::Stream;
use super::table::SlotKey;
use super::{Address, Chunk, Net, Outgoing};
use crate::runtime::Time;
use crate::runtime::ring::End;
use crate::runtime::sleep::sleep;

/// A stream connection of one shard, TCP or Unix.
///
/// Its methods take it by reference, so that one task may read while another writes; each direction
/// has room for one waiting task. Dropping it sends what is queued, within
/// [`ConnectionOptions::write_within`](super::ConnectionOptions), and closes it.
pub struct Connection {
    net: Rc<Net>,
    key: SlotKey,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({:?})", self.key)
    }
}

/// Which waker of a connection.
#[derive(Clone, Copy)]
enum Waits {
    Reader,
    Writer,
}

impl Connection {
    pub(super) fn new(net: Rc<Net>, key: SlotKey) -> Self {
        Self { net, key }
    }

    #[cfg(test)]
    pub(super) fn key(&self) -> SlotKey {
        self.key
    }

    /// Connects to a server, without delay of small writes (`TCP_NODELAY`). Dropping the future
    /// gives the attempt up.
    ///
    /// # Errors
    ///
    /// The system's error: `ConnectionRefused`, `NotFound` for a Unix socket that is not there,
    /// `TimedOut` when it took longer than `options.within`.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn connect(address: &Address, options: ConnectOptions) -> io::Result<Self> {
        let net = Net::current();
        let key = net.with(|table| {
            let socket = table.ring().open(address, options.from)?;
            Ok::<_, io::Error>(table.add_connecting(socket, address.clone(), options.connection))
        })?;
        let connection = Self { net, key };
        let connected = poll_fn(|cx| {
            connection.poll(cx, Waits::Writer, |stream| match stream.connected() {
                Ok(connected) => connected.then_some(Ok(())),
                Err(fault) => Some(Err(fault)),
            })
        });
        or(connected, too_long(options.within)).await?;
        Ok(connection)
    }

    /// The next bytes, as they came; `None` at the end of the stream. Cancel-safe: a dropped future
    /// has taken nothing.
    ///
    /// # Errors
    ///
    /// The system's error (`ConnectionReset`, …); `TimedOut` when a bound in time has passed;
    /// `ConnectionAborted` when it was ended from here.
    pub async fn read(&self) -> io::Result<Option<Chunk>> {
        poll_fn(|cx| self.poll_read_chunk(cx)).await
    }

    pub(super) fn poll_read_chunk(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        if !self.net.core.spend() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let now = self.net.core.now();
        let read = self.poll(cx, Waits::Reader, |stream| match stream.receiving().read(now) {
            Read::Bytes(chunk) => Some(Ok((Some(chunk), stream.receiving().is_paused()))),
            Read::End => Some(Ok((None, false))),
            Read::Failed(fault) => Some(Err(fault)),
            Read::Nothing => None,
        });
        read.map_ok(|(chunk, was_behind)| {
            if was_behind {
                // The reader may have caught up.
                self.net.with(|table| table.list(self.key));
            }
            chunk
        })
    }

    /// Puts back what a reader did not need.
    pub(super) fn unread(&self, chunk: Chunk) {
        self.net.with(|table| {
            if let Ok(stream) = table.stream(self.key) {
                stream.receiving().unread(chunk);
            }
        });
    }

    /// Queues bytes to be sent at the end of the turn; waits before that for as long as
    /// [`write_bytes_max`](super::ConnectionOptions) are queued. Cancel-safe: a dropped future has
    /// queued nothing.
    ///
    /// # Errors
    ///
    /// Why the connection is of no more use, as in [`Connection::read`]; `BrokenPipe` after
    /// [`Connection::finish`] or when the other side has closed. Bytes queued before may be lost.
    pub async fn write(&self, bytes: impl Into<Outgoing>) -> io::Result<()> {
        poll_fn(|cx| self.poll_room(cx)).await?;
        self.queue(bytes.into());
        Ok(())
    }

    /// Waits until bytes may be queued; gives how many.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll(cx, Waits::Writer, |stream| match stream.room() {
            Ok(0) => None,
            Ok(n_bytes) => Some(Ok(n_bytes)),
            Err(fault) => Some(Err(fault)),
        })
    }

    pub(super) fn queue(&self, bytes: Outgoing) {
        self.net.with(|table| table.queue(self.key, bytes));
    }

    /// Queues a copy of bytes.
    pub(super) fn queue_copy(&self, bytes: &[u8]) {
        self.net.with(|table| table.queue_copy(self.key, bytes, &self.net.pool));
    }

    /// Waits until the kernel has taken all that was written.
    ///
    /// # Errors
    ///
    /// As [`Connection::write`].
    pub async fn flush(&self) -> io::Result<()> {
        let poll_flushed = |cx: &mut Context<'_>| {
            self.poll(cx, Waits::Writer, |stream| match stream.flushed() {
                Ok(flushed) => flushed.then_some(Ok(())),
                Err(fault) => Some(Err(fault)),
            })
        };
        poll_fn(poll_flushed).await
    }

    /// Why what was written will not leave, if it is known already.
    pub(super) fn check_writes(&self) -> io::Result<()> {
        let checked = self.net.with(|table| table.stream(self.key)?.flushed());
        checked.map(|_flushed| ()).map_err(Fault::error)
    }

    /// Sends the end behind all that was written (half-close); reading goes on. Nothing may be
    /// written after it.
    ///
    /// # Errors
    ///
    /// As [`Connection::write`].
    pub async fn finish(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    pub(super) fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, Waits::Writer, |stream| match stream.finished() {
            Ok(finished) => finished.then_some(Ok(())),
            Err(fault) => Some(Err(fault)),
        })
    }

    /// Breaks the connection off now, without regard to what is queued: the other side sees a reset.
    /// Dropping it ends it properly.
    pub fn abort(self) {
        self.net.with(|table| {
            if let Ok(stream) = table.stream(self.key) {
                stream.abort(Fault::Closed);
            }
        });
    }

    /// Sets when reads fail with `TimedOut` if nothing has come: a header, the next request. `None`
    /// takes the deadline away. The connection stays open.
    pub fn read_by(&self, deadline: Option<Time>) {
        self.net.with(|table| {
            if let Ok(stream) = table.stream(self.key) {
                stream.receiving().set_read_by(deadline.unwrap_or(Time::NEVER));
                table.watch_time(self.key);
            }
        });
    }

    /// The other side's address.
    ///
    /// # Errors
    ///
    /// `NotConnected` when it has gone.
    pub fn peer(&self) -> io::Result<Address> {
        self.name(End::There)
    }

    /// This side's address.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn local(&self) -> io::Result<Address> {
        self.name(End::Here)
    }

    fn name(&self, end: End) -> io::Result<Address> {
        self.net.with(|table| {
            let (socket, ring) = table.socket(self.key)?;
            ring.name(socket, end)
        })
    }

    /// Asks the connection's state for something; leaves the waker while there is nothing.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        waits: Waits,
        mut ask: impl FnMut(&mut Stream) -> Option<Result<T, Fault>>,
    ) -> Poll<io::Result<T>> {
        let asked = self.net.with(|table| {
            let stream = table.stream(self.key)?;
            if let Some(answer) = ask(stream) {
                return answer.map(Asked::Answer);
            }
            let waits_already =
                waker(stream, waits).as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            // Closing and finishing are steps too.
            if stream.wants_step() {
                table.list(self.key);
            }
            Ok(if waits_already { Asked::Waits } else { Asked::Nothing })
        });
        match asked {
            Ok(Asked::Answer(answer)) => return Poll::Ready(Ok(answer)),
            Err(fault) => return Poll::Ready(Err(fault.error())),
            Ok(Asked::Waits) => return Poll::Pending,
            Ok(Asked::Nothing) => {}
        }
        // Cloning and dropping wakers is foreign code: not under the table's borrow.
        let mine = cx.waker().clone();
        let before = self.net.with(|table| {
            let before = waker(table.stream(self.key).ok()?, waits).replace(mine);
            table.watch_time(self.key);
            before
        });
        drop(before);
        Poll::Pending
    }
}

enum Asked<T> {
    Answer(T),
    Waits,
    Nothing,
}

fn waker(stream: &mut Stream, waits: Waits) -> &mut Option<Waker> {
    match waits {
        Waits::Reader => &mut stream.reader,
        Waits::Writer => &mut stream.writer,
    }
}

async fn too_long(within: Duration) -> io::Result<()> {
    sleep(within).await;
    Err(io::ErrorKind::TimedOut.into())
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.net.with(|table| table.release(self.key));
    }
}
