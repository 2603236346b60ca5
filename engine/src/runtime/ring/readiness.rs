//! The readiness back: `epoll` tells which sockets may go on, plain calls do the work.
//!
//! For kernels that have io_uring, on which the executor stands, but lack what the shard's own ring
//! needs. Above it nothing differs: operations are pushed and complete, multishot ones stay armed,
//! a send completes when all of it has left.
//!
//! ```text
//!   push ─▶ queued ─▶ enter: sends and connects are tried, accepts and receives armed
//!   reap: epoll_wait(0) ─▶ may_go_on (each socket once) ─▶ one step each, in turn ─▶ done ─▶ out
//! ```
//!
//! Sockets are watched edge-triggered for everything from their first operation on, so that arming
//! and disarming are no system calls; what an edge has told is remembered in the socket's [`Slot`].
//! A socket that has more after its step goes to the end of the line: none can starve another.
//!
//! Two things differ: receives never find themselves without a buffer, and a connect to a Unix
//! socket whose backlog is full ends at once with `WouldBlock`, where the ring waits for room.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{Completion, How, Kind, Op, Outcome, Pool, Ring, Socket, Token, socket};
use crate::limits::NET_EVENTS;

mod slot;

use slot::{Slot, failed};

const WATCHED: EventFlags = EventFlags::ET
    .union(EventFlags::IN)
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::PRI);

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Calls that one reap makes at most: whoever reads is asked again in between, as between two
/// deliveries of the kernel's, which are as long for one socket.
const STEPS_PER_REAP: usize = 32;

pub(super) struct Readiness {
    epoll: OwnedFd,
    pool: Rc<Pool>,
    /// What a ring would hold ready; here a buffer is taken when there is something to receive.
    n_buffers: usize,
    /// By the token's slot.
    slots: Vec<Option<Slot>>,
    /// Pushed and not begun.
    queued: VecDeque<(Token, Rc<OwnedFd>, Op)>,
    /// Sockets with something under way that may go on, by key; each once.
    may_go_on: VecDeque<u64>,
    /// At most two for each socket: not reaped yet.
    done: VecDeque<Completion>,
    /// Room for what one call tells.
    events: Vec<Event>,
    /// Operations whose last completion has not been reaped.
    under_way: usize,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n_under_way, n_in_line) = (self.under_way, self.may_go_on.len());
        write!(f, "Readiness({n_under_way} under way, {n_in_line} may go on)")
    }
}

impl Readiness {
    pub(super) fn new(n_buffers: u16, pool: &Rc<Pool>) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            pool: Rc::clone(pool),
            n_buffers: usize::from(n_buffers),
            slots: Vec::new(),
            queued: VecDeque::new(),
            may_go_on: VecDeque::new(),
            done: VecDeque::new(),
            events: Vec::with_capacity(NET_EVENTS),
            under_way: 0,
        })
    }

    fn begin(&mut self, token: Token, descriptor: Rc<OwnedFd>, op: Op) {
        if let Op::Cancel(kind) = op {
            return self.cancel(token, kind);
        }
        if let Err(error) = self.watch(token, &descriptor) {
            return self.done.push_back(failed(token, op, error));
        }
        let slot = self.slots[token.slot()].as_mut().expect("made by `watch`");
        slot.begin(descriptor, op, &mut self.done);
        self.line_up(token.key());
    }

    /// Both complete; if there is nothing to take back, the cancel alone does.
    fn cancel(&mut self, token: Token, kind: Kind) {
        let slot = slot_of(&mut self.slots, token.key());
        self.done.extend(slot.and_then(|slot| slot.cancel(kind)));
        self.done.push_back(Completion { token, more: false, outcome: Outcome::Cancelled });
    }

    /// Makes the slot of a socket that has had no operation yet, and asks for its readiness.
    fn watch(&mut self, token: Token, descriptor: &OwnedFd) -> io::Result<()> {
        let key = token.key();
        if slot_of(&mut self.slots, key).is_some() {
            return Ok(());
        }
        epoll::add(&self.epoll, descriptor, EventData::new_u64(key), WATCHED)?;
        let place = token.slot();
        if self.slots.len() <= place {
            self.slots.resize_with(place + 1, || None);
        }
        let old = self.slots[place].replace(Slot::new(key));
        debug_assert!(old.is_none_or(|old| old.is_idle()), "slot {place} was taken while in use");
        Ok(())
    }

    /// Puts a socket that may go on at the end of the line.
    fn line_up(&mut self, key: u64) {
        if slot_of(&mut self.slots, key).is_some_and(Slot::joins_line) {
            self.may_go_on.push_back(key);
        }
    }

    /// Learns which sockets have become ready; tells whether there may be more of them.
    fn look(&mut self) -> bool {
        let mut events = std::mem::take(&mut self.events);
        let told =
            retry_on_intr(|| epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&NOW)));
        match told {
            Ok(_) => {}
            Err(error) => panic!("epoll_wait of the net: {error}"),
        }
        let is_full = events.len() == events.capacity();
        for event in events.drain(..) {
            let (key, flags) = (event.data.u64(), event.flags);
            // An event of a socket that was closed meanwhile finds no slot.
            if let Some(slot) = slot_of(&mut self.slots, key) {
                slot.learn(flags);
                self.line_up(key);
            }
        }
        self.events = events;
        is_full
    }

    /// Lets the first in the line go one step; false if there is none.
    fn step(&mut self) -> bool {
        let Some(key) = self.may_go_on.pop_front() else { return false };
        if let Some(slot) = slot_of(&mut self.slots, key) {
            slot.step(&self.pool, &mut self.done);
            self.line_up(key);
        }
        true
    }
}

/// The slot of the socket that `key` names; `None` if another has its place.
fn slot_of(slots: &mut [Option<Slot>], key: u64) -> Option<&mut Slot> {
    let place = Token::from_bits(key).slot();
    slots.get_mut(place)?.as_mut().filter(|slot| slot.key() == key)
}

impl Ring for Readiness {
    fn push(&mut self, token: Token, socket: &Socket, op: Op) {
        self.under_way += 1;
        self.queued.push_back((token, Rc::clone(socket.kernel()), op));
    }

    fn wants_enter(&mut self) -> bool {
        !self.queued.is_empty()
    }

    fn enter(&mut self) {
        while let Some((token, descriptor, op)) = self.queued.pop_front() {
            self.begin(token, descriptor, op);
        }
    }

    /// Takes at most `max` steps as well: a long send to a fast reader would be many without a
    /// completion. What is left in the line then keeps [`Ring::arm`] from letting the shard sleep.
    fn reap(&mut self, max: usize, into: &mut Vec<Completion>) {
        if self.under_way > 0 {
            self.look();
        }
        let max = max.min(STEPS_PER_REAP);
        let full = into.len() + max;
        let mut steps_left = max;
        while into.len() < full {
            if let Some(completion) = self.done.pop_front() {
                self.under_way -= usize::from(!completion.more);
                into.push(completion);
            } else if steps_left == 0 || !self.step() {
                return;
            } else {
                steps_left -= 1;
            }
        }
    }

    fn recycle(&mut self) -> usize {
        self.n_buffers
    }

    fn close(&mut self, socket: Socket, how: How) {
        socket::prepare_close(&socket, how);
        let descriptor = socket.kernel();
        debug_assert_eq!(Rc::strong_count(descriptor), 1, "closed with an operation under way");
        match epoll::delete(&self.epoll, descriptor) {
            // It has had no operation.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => panic!("epoll_ctl of a socket that is closed: {error}"),
        }
    }

    fn is_ready(&mut self) -> bool {
        let is_known = !self.may_go_on.is_empty() || !self.done.is_empty();
        if !is_known && self.under_way > 0 {
            self.look();
        }
        is_known || !self.may_go_on.is_empty()
    }

    /// Edges that nobody waits for are taken in here as well, so that they do not signal. One that
    /// comes later does: a wake for nothing, once for each time that a socket is left unread.
    fn arm(&mut self) -> bool {
        let may_be_more = self.look();
        may_be_more || !self.may_go_on.is_empty() || !self.done.is_empty()
    }

    fn disarm(&mut self) {
        // What has woken the shard is remembered, and the signal quiet.
        self.look();
    }

    fn signal(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }
}
