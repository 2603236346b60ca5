//! Pages for whoever runs a service: is it alive, is it ready, what does it count, change a target.
//!
//! ```text
//!   GET  /health                    200 while every shard shows that it turns, else 503
//!   GET  /ready                     200 while requests are taken, 503 from the begin of a stop on
//!   GET  /metrics                   what shards and stages have counted, as Prometheus reads it
//!   GET  /stages                    the stages of every shard, with their controllers, as JSON
//!   POST /stages/NAME/target?ms=N   gives a stage's controller another target
//! ```
//!
//! They are served by a thread of their own, one connection after the other, and not by a shard: a
//! shard that is overloaded or stuck could not say so, it must not block to ask the others, and its
//! listeners close just when `/ready` has something to tell. The thread reads what shards publish and
//! touches nothing of theirs. hyper parses here as well, over a socket that blocks (`blocking.rs`).
//!
//! Whoever can connect may read. A change needs more (`access.rs`): pages that listen on loopback, or
//! a token.

mod access;
mod blocking;
mod metrics;
mod pages;
mod rates;
mod stages;

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use forebay::Handle;
use futures_lite::future::block_on;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;

use access::Access;
pub use access::Token;
use blocking::{BlockingIo, Bounds};
use rates::Rates;

/// How long one client may take: the next one waits for it. It has connected and can have asked before
/// its turn comes, so one that has not is cut soon; a reply of many stages may need several windows.
const CLIENT_BOUNDS: Bounds =
    Bounds { head: Duration::from_millis(100), reply: Duration::from_millis(500) };
/// How long the thread may take to be woken by a connection.
const WAKE_MAX: Duration = Duration::from_millis(500);
/// Pause after an accept that failed, so that a lasting cause (no descriptor left) does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 8_192;

/// Admin pages of one engine. Dropped, they are served no more.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Serves the pages of an engine at an address, until it is dropped; also while the engine
    /// drains and after its end. They change something only if the address is on loopback.
    ///
    /// # Errors
    ///
    /// The system's error when the address cannot be listened on or no thread be started.
    pub fn start(handle: Handle, address: SocketAddr) -> io::Result<Self> {
        Self::serve(handle, address, Access::at(address))
    }

    /// The same, and whoever changes something must send the token, on loopback too.
    ///
    /// # Errors
    ///
    /// As [`Admin::start`].
    pub fn start_guarded(handle: Handle, address: SocketAddr, token: Token) -> io::Result<Self> {
        Self::serve(handle, address, Access::Bearer(token))
    }

    fn serve(handle: Handle, address: SocketAddr, access: Access) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopping);
        let serve = move || {
            let desk = Desk { handle, access, rates: RefCell::default() };
            while !told.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok((socket, _)) => desk.serve(socket),
                    Err(_) => pause(ACCEPT_PAUSE),
                }
            }
        };
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(serve)?;
        Ok(Self { address, stopping, thread: Some(thread) })
    }

    /// Where the pages are.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // The thread waits in an accept: a connection wakes it. Where none can be made the thread
        // is left behind, and ends with the process.
        let woken = TcpStream::connect_timeout(&self.address, WAKE_MAX).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            // It has told its own story if it panicked.
            let _ended = thread.join();
        }
    }
}

/// What the pages are made of.
struct Desk {
    handle: Handle,
    access: Access,
    rates: RefCell<Rates>,
}

impl Desk {
    /// Answers one request of a client.
    fn serve(&self, socket: TcpStream) {
        let service = service_fn(|request: Request<Incoming>| {
            let reply = pages::reply(self, &request);
            std::future::ready(Ok::<_, Infallible>(reply))
        });
        let mut builder = http1::Builder::new();
        builder.keep_alive(false).max_buf_size(HEAD_BYTES_MAX).header_read_timeout(None);
        // Else hyper would look, before it replies, whether the client has gone: by a read that blocks.
        builder.half_close(true);
        let serving = builder.serve_connection(BlockingIo::new(socket, CLIENT_BOUNDS), service);
        // A client that breaks off, or is too slow, has nobody to be told but itself.
        drop(block_on(serving));
    }
}

#[expect(clippy::disallowed_methods, reason = "the admin thread is no shard")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
