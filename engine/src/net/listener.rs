//! A listener, as its holder sees it.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::connection::Connection;
use super::options::ListenOptions;
use super::table::SlotKey;
use super::{Address, Net};
use crate::runtime::ring::{End, ListenSpec, Ring, Socket};

/// A socket of one shard that takes in connections. Dropping it closes it; connections that nobody
/// has accepted yet are closed with it.
///
/// Each shard listens for itself on the same TCP address, and the kernel spreads connections over
/// them by a hash of their addresses. A Unix socket has one listener: let one shard bind it.
///
/// A socket that was passed to the process ([`Address::Passed`]) may be bound by every shard, TCP or
/// Unix, and so may copies of one socket be [adopted](Listener::adopt). All shards then take from one
/// line of connections and in turns, for one operation more per connection. (By readiness all are
/// woken and the quickest takes it, mostly the same one where connections come singly.)
///
/// It has room for one waiting task: of several that await [`accept`](Listener::accept), only the
/// last is woken.
///
/// When a stop begins to drain, nobody more can connect, and [`accept`](Listener::accept) goes on
/// giving who has, until the last; the stop waits until all are handed out. Begin what serves them
/// with [`RequestOptions::also_draining`](crate::RequestOptions::also_draining). Of a socket that was
/// passed or adopted, who stands in line is left to the others that take from it.
///
/// When descriptors run out (`EMFILE`), accepting pauses for 10 ms, doubled each time up to 1 s.
pub struct Listener {
    net: Rc<Net>,
    key: SlotKey,
    address: Address,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({})", self.address)
    }
}

impl Listener {
    /// Listens on an address. The path of a Unix socket must be free: removing one that a service
    /// has left behind is the caller's decision. A socket that was passed listens already, with the
    /// backlog that its opener chose; what comes after its listeners have closed is not refused, but
    /// waits for as long as the process or the manager lives.
    ///
    /// Binding the first that was passed takes all of them over, once for the process, and keeps them
    /// from processes that this one starts.
    ///
    /// # Errors
    ///
    /// The system's error: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`; for a socket that was
    /// passed a [`PassedError`](super::PassedError) within.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn bind(address: &Address, options: ListenOptions) -> io::Result<Self> {
        let spec = ListenSpec { address: address.clone(), backlog: options.backlog };
        Self::open(options, |ring| ring.listen(&spec))
    }

    /// Takes over a socket that listens already, such as one from the process before this one.
    /// Shards that adopt copies of one socket share its connections.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is no stream socket that listens, a
    /// [`PassedError`](super::PassedError) within.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn adopt(descriptor: OwnedFd, options: ListenOptions) -> io::Result<Self> {
        Self::open(options, |ring| ring.adopt(descriptor))
    }

    fn open(
        options: ListenOptions,
        open: impl FnOnce(&mut dyn Ring) -> io::Result<Socket>,
    ) -> io::Result<Self> {
        let net = Net::current();
        let (key, address) = net.with(|table| {
            let socket = open(table.ring())?;
            let address = table.ring().name(&socket, End::Here)?;
            Ok::<_, io::Error>((table.add_listener(socket, options), address))
        })?;
        Ok(Self { net, key, address })
    }

    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection. Cancel-safe: a dropped future has taken none.
    ///
    /// # Errors
    ///
    /// `ConnectionAborted` when the engine stops and everybody who has connected was given: nothing
    /// more will come.
    pub async fn accept(&self) -> io::Result<Connection> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Connection>> {
        if !self.net.core.spend() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Cloned and dropped outside of the table's borrow: a waker is foreign code.
        let mut waker = Some(cx.waker().clone());
        let polled = self.net.with(|table| {
            let listening = table.listener(self.key)?;
            let accepted = listening.accepted.pop_front();
            if accepted.is_none() {
                if listening.is_closing() {
                    return Err(super::fault::Fault::Closed);
                }
                std::mem::swap(&mut listening.waker, &mut waker);
            }
            Ok(accepted)
        });
        match polled {
            Ok(Some(key)) => Poll::Ready(Ok(Connection::new(Rc::clone(&self.net), key))),
            Ok(None) => Poll::Pending,
            Err(fault) => Poll::Ready(Err(fault.error())),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.net.with(|table| table.release_listener(self.key));
    }
}
