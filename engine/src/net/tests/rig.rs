//! The sockets of one shard on a scripted ring, without the rest of the shard.

use std::cell::RefMut;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::super::connection::Connection;
use super::super::listener::Listener;
use super::super::{ConnectOptions, ConnectionOptions, ListenOptions, Net};
use crate::limits::Limits;
use crate::runtime::core::{Core, Due, Entered};
use crate::runtime::half::Half;
use crate::runtime::ring::scripted::{Script, State, ring};
use crate::runtime::ring::{Kind, NetChance};
use crate::runtime::shared::Outside;
use crate::runtime::shared::bridges::Bridges;
use crate::runtime::shared::flag::Flag;
use crate::runtime::simulated::{SimulatedHalf, World};
use crate::runtime::{ShardId, Time, affinity::CpuList};

pub(super) const ADDRESS: &str = "127.0.0.1:7";

/// Error numbers of Linux, and errors made of them.
pub(super) mod errno {
    pub(crate) const EINTR: i32 = 4;
    pub(crate) const EAGAIN: i32 = 11;
    pub(crate) const EMFILE: i32 = 24;
    pub(crate) const EPIPE: i32 = 32;
    pub(crate) const ECONNABORTED: i32 = 103;
    pub(crate) const ECONNRESET: i32 = 104;
    pub(crate) const ENOTCONN: i32 = 107;
    pub(crate) const ENOBUFS: i32 = 105;
    pub(crate) const ECANCELED: i32 = 125;

    pub(crate) fn error(number: i32) -> std::io::Error {
        std::io::Error::from_raw_os_error(number)
    }
}

/// Polls a future that must be ready.
pub(super) fn ready<T>(rig: &Rig, future: impl Future<Output = T>) -> T {
    match rig.poll(Box::pin(future).as_mut()) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

pub(super) struct Rig {
    pub(super) net: Rc<Net>,
    core: Rc<Core>,
    world: Rc<World>,
    script: Rc<std::cell::RefCell<Script>>,
    woken: Arc<Flag>,
    _entered: Entered,
}

impl Rig {
    pub(super) fn new() -> Self {
        let world = Rc::new(World::for_tests(1, 1, NetChance::NONE));
        let outside = Outside::leak(ShardId::new(0), 1, Bridges::new(CpuList::default()));
        let outsides: Arc<[&'static Outside]> = Arc::new([outside]);
        let half = SimulatedHalf { id: ShardId::new(0), world: Rc::clone(&world), outsides };
        let half = Half::Simulated(half);
        let core = Core::new(ShardId::new(0), 1, outside, half, Limits::default(), 1);
        let (ring, script) = ring();
        let net = Net::new(Rc::clone(&core), ring);
        Net::swap_current(Some(Rc::clone(&net)));
        let entered = core.enter();
        Self { net, world, script, woken: Arc::default(), _entered: entered, core }
    }

    pub(super) fn script(&self) -> RefMut<'_, Script> {
        self.script.borrow_mut()
    }

    /// The part of a turn that concerns sockets.
    pub(super) fn turn(&self) {
        self.core.read_clock();
        self.net.reap();
        let mut fired = Vec::new();
        self.core.advance_wheel(usize::MAX, &mut fired);
        for due in fired {
            match due {
                Due::Socket(socket) => self.net.on_time(socket),
                Due::Wake(waker) => waker.wake(),
                other => panic!("{other:?} is no socket's"),
            }
        }
        self.net.submit();
    }

    pub(super) fn now(&self) -> Time {
        self.world.clock.get()
    }

    pub(super) fn pass_time(&self, duration: Duration) {
        self.world.clock.set(self.now().after(duration));
    }

    pub(super) fn poll<T>(&self, future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        // Each poll is a task's own: its budget is full.
        let before = self.core.begin(self.core.context());
        let waker = Waker::from(Arc::clone(&self.woken));
        let polled = future.poll(&mut Context::from_waker(&waker));
        self.core.leave(before);
        polled
    }

    /// Whether a waiting future was woken since this was last asked.
    pub(super) fn was_woken(&self) -> bool {
        self.woken.take()
    }

    /// Lets the taking back of an operation, which must have been asked for, complete.
    pub(super) fn take_back(&self, key: u64, kind: Kind) {
        assert!(self.script().is_under_way(key, Kind::Cancel), "{kind:?} is not taken back");
        let error = errno::error(errno::ECANCELED);
        match kind {
            Kind::Accept => self.script().accept_failed(key, error),
            Kind::Connect => self.script().connected(key, Err(error)),
            Kind::Receive => self.script().receive_failed(key, error),
            Kind::Send => self.script().sent(key, Err(error)),
            Kind::Cancel => panic!("a cancel is not taken back"),
        }
        self.script().cancelled(key);
        self.turn();
    }

    /// A connection that stands, and its key.
    pub(super) fn connected(&self, connection: ConnectionOptions) -> (Connection, u64) {
        let options = ConnectOptions { connection, ..ConnectOptions::default() };
        let address = ADDRESS.parse().unwrap();
        let mut connecting = Box::pin(Connection::connect(&address, options));
        assert!(self.poll(connecting.as_mut()).is_pending());
        self.turn();
        let key = self.last_key(Kind::Connect);
        self.script().connected(key, Ok(()));
        self.turn();
        let Poll::Ready(connection) = self.poll(connecting.as_mut()) else { panic!("it waits") };
        self.turn();
        (connection.unwrap(), key)
    }

    pub(super) fn listening(&self, options: ListenOptions) -> (Listener, u64) {
        let listener = Listener::bind(&ADDRESS.parse().unwrap(), options).unwrap();
        self.turn();
        (listener, self.last_key(Kind::Accept))
    }

    /// The socket of the operation of this kind that was pushed last.
    pub(super) fn last_key(&self, kind: Kind) -> u64 {
        let script = self.script();
        let last = script.pushed.iter().rev().find(|pushed| pushed.kind == kind);
        last.expect("one was pushed").key
    }

    pub(super) fn key_of(&self, connection: &Connection) -> u64 {
        connection.key().bits()
    }

    /// What the socket is at, as the ring knows it.
    pub(super) fn state(&self, key: u64) -> State {
        let script = self.script();
        let pushed = script.pushed.iter().rev().find(|pushed| pushed.key == key);
        script.state(pushed.expect("something was pushed").socket)
    }

    /// The bytes of all sends of a socket.
    pub(super) fn sent_so_far(&self, key: u64) -> Vec<String> {
        let script = self.script();
        let sends = script.pushed.iter().filter(|p| p.key == key && p.kind == Kind::Send);
        sends.map(|send| String::from_utf8(send.bytes.clone()).unwrap()).collect()
    }
}
