//! The io_uring back: multishot accept and receive, sends as entries, one enter per turn.
//!
//! The ring is made for one thread, which runs its deferred completions when it enters
//! (`SINGLE_ISSUER`, `DEFER_TASKRUN`): nothing interrupts a turn, and completions come in groups.
//! Received bytes stand in buffers that the kernel picks from a ring shared with it; each is
//! handed out whole and another takes its place, so what a slow reader holds is never missing there.
//!
//! Invariant of all `unsafe` here: **what the kernel may touch is owned by this struct** (bytes of
//! sends in `sends`, addresses in `connects`, buffers in `buffers`) from the push of an operation
//! to its last completion, and never moved meanwhile; [`Drop`] gives up the memory of what has not
//! completed by then instead of freeing it.

#![allow(
    unsafe_code,
    reason = "io_uring takes raw pointers; each block names who keeps them valid"
)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::rc::Rc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::SocketAddrAny;
use rustix::net::addr::SocketAddrArg;

use super::buffers::BufferRing;
use super::{
    Chunk, Completion, How, Kind, Op, Outcome, Outgoing, Pool, Ring, Socket, Token, socket,
};
use crate::limits::{NET_CQ_ENTRIES, NET_SQ_ENTRIES};

/// The one group of provided buffers.
const GROUP: u16 = 0;

/// `MSG_NOSIGNAL`: an error instead of a signal. Without `MSG_WAITALL`: what has left is told as it
/// leaves, so that a slow reader is told from one that does not read.
const SEND_FLAGS: i32 = 0x4000;

/// `SOCK_CLOEXEC | SOCK_NONBLOCK` of what is accepted.
const ACCEPT_FLAGS: i32 = 0o2_000_000 | 0o4_000;

#[derive(Debug)]
pub(super) struct Uring {
    /// Dropped first: closing it ends what the kernel still does.
    ring: Ringed,
    signal: OwnedFd,
    buffers: BufferRing,
    pool: Rc<Pool>,
    /// What is being sent, by the socket's slot.
    sends: Vec<Option<Outgoing>>,
    /// Where sockets are connecting to, by their slots: few at a time.
    connects: Vec<(usize, Box<SocketAddrAny>)>,
    /// Entries that found the submission queue full.
    waiting: VecDeque<squeue::Entry>,
    /// Operations whose last completion has not come.
    under_way: usize,
}

/// The crate's type tells nothing of itself.
struct Ringed(IoUring);

impl std::fmt::Debug for Ringed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ring {}", self.0.as_raw_fd())
    }
}

impl Uring {
    /// Makes the ring on the thread that will use it.
    pub(super) fn new(n_buffers: u16, pool: &Rc<Pool>) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_cqsize(NET_CQ_ENTRIES)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .dontfork()
            .build(NET_SQ_ENTRIES)?;
        let signal = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        ring.submitter().register_eventfd(signal.as_raw_fd())?;
        let buffers = BufferRing::register(&ring, GROUP, n_buffers, pool)?;
        let mut ring = Self {
            ring: Ringed(ring),
            signal,
            buffers,
            pool: Rc::clone(pool),
            sends: Vec::new(),
            connects: Vec::new(),
            waiting: VecDeque::new(),
            under_way: 0,
        };
        ring.disarm();
        Ok(ring)
    }

    fn entry(&mut self, token: Token, socket: &Socket, op: Op) -> squeue::Entry {
        let fd = types::Fd(socket.kernel().as_raw_fd());
        match op {
            // The kernel wakes one of those that wait, and that one stays the first: each goes to the
            // end of their line with every connection.
            Op::Accept if matches!(socket, Socket::Shared(_)) => {
                opcode::Accept::new(fd, ptr::null_mut(), ptr::null_mut())
                    .flags(ACCEPT_FLAGS)
                    .build()
            }
            Op::Accept => opcode::AcceptMulti::new(fd).flags(ACCEPT_FLAGS).build(),
            Op::Receive => opcode::RecvMulti::new(fd, GROUP).build(),
            Op::Send(bytes) => {
                let slot = token.slot();
                if self.sends.len() <= slot {
                    self.sends.resize_with(slot + 1, || None);
                }
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                assert!(self.sends[slot].is_none(), "two sends under way in slot {slot}");
                let bytes = self.sends[slot].insert(bytes);
                opcode::Send::new(fd, bytes.as_ptr(), len).flags(SEND_FLAGS).build()
            }
            Op::Connect(address) => {
                // An address that does not fit is refused when its socket is opened.
                let address = address.to_kernel().expect("checked when it was opened");
                self.connects.push((token.slot(), Box::new(address)));
                let (_, address) = self.connects.last().expect("pushed just now");
                connect_entry(fd, address)
            }
            Op::Cancel(kind) => {
                let other = Token::new(token.key(), kind);
                opcode::AsyncCancel::new(other.bits()).build()
            }
        }
        .user_data(token.bits())
    }

    /// Moves entries to the submission queue; what does not fit waits for the next round.
    fn fill(&mut self) {
        let mut queue = self.ring.0.submission();
        while let Some(entry) = self.waiting.pop_front() {
            // SAFETY: what the entry points to is owned by `self` until it completes (see top).
            if unsafe { queue.push(&entry) }.is_err() {
                self.waiting.push_front(entry);
                return;
            }
        }
    }

    /// One system call: submits, and runs some of the deferred completions if there are any.
    fn call(&self) -> io::Result<()> {
        match self.ring.0.submitter().submit() {
            Err(error) if !is_transient(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Begins what was pushed. An error is for the trial before a start: the kernel does not let
    /// this process enter.
    pub(super) fn try_enter(&mut self) -> io::Result<()> {
        loop {
            self.fill();
            self.call()?;
            // A kernel that takes nothing at the moment is asked again in the next turn.
            if self.waiting.is_empty() || self.ring.0.submission().is_full() {
                return Ok(());
            }
        }
    }

    fn is_held_back(&mut self) -> bool {
        let queue = self.ring.0.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    fn complete(&mut self, entry: &cqueue::Entry) -> Completion {
        let token = Token::from_bits(entry.user_data());
        let more = cqueue::more(entry.flags());
        if !more {
            self.under_way -= 1;
        }
        let result = match entry.result() {
            n_done @ 0.. => Ok(n_done.unsigned_abs() as usize),
            error => Err(io::Error::from_raw_os_error(-error)),
        };
        let outcome = match token.kind() {
            Kind::Accept => Outcome::Accepted(result.map(|_| {
                // SAFETY: a successful accept gives a new descriptor that nobody else knows of.
                Socket::of(unsafe { OwnedFd::from_raw_fd(entry.result()) })
            })),
            Kind::Connect => {
                self.connects.retain(|(slot, _)| *slot != token.slot());
                Outcome::Connected(result.map(drop))
            }
            Kind::Receive => Outcome::Received(self.received(entry.flags(), result)),
            Kind::Send => {
                let sent = self.sends[token.slot()].take().expect("a send completes once");
                Outcome::Sent(sent, result)
            }
            Kind::Cancel => Outcome::Cancelled,
        };
        Completion { token, more, outcome }
    }

    fn received(&mut self, flags: u32, result: io::Result<usize>) -> io::Result<Chunk> {
        let buffer = cqueue::buffer_select(flags).map(|id| self.buffers.take(id));
        let n_bytes = result?;
        Ok(match buffer {
            Some(buffer) => Chunk::new(buffer, n_bytes, &self.pool),
            None => Chunk::empty(),
        })
    }
}

fn connect_entry(fd: types::Fd, address: &SocketAddrAny) -> squeue::Entry {
    // SAFETY: the pointer is only put into an entry; the address stays boxed in `connects` until
    // the connect has completed.
    unsafe {
        address.with_sockaddr(|pointer, len| opcode::Connect::new(fd, pointer.cast(), len).build())
    }
}

/// It was let in when the ring was tried.
fn refused(error: &io::Error) -> ! {
    panic!("io_uring_enter of the net ring: {error}")
}

/// Signals interrupt; a full completion queue and want of memory keep the kernel from taking more
/// until something has been reaped.
fn is_transient(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::INTR, Errno::AGAIN, Errno::BUSY, Errno::TIME]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Ring for Uring {
    fn push(&mut self, token: Token, socket: &Socket, op: Op) {
        let entry = self.entry(token, socket, op);
        self.under_way += 1;
        self.waiting.push_back(entry);
    }

    fn wants_enter(&mut self) -> bool {
        !self.waiting.is_empty() || !self.ring.0.submission().is_empty()
    }

    fn enter(&mut self) {
        self.try_enter().unwrap_or_else(|error| refused(&error));
    }

    fn reap(&mut self, max: usize, into: &mut Vec<Completion>) {
        self.buffers.refill(&self.pool);
        if !self.is_ready() {
            return;
        }
        for _ in 0..max {
            let Some(entry) = self.ring.0.completion().next() else { break };
            let completion = self.complete(&entry);
            into.push(completion);
        }
    }

    fn recycle(&mut self) -> usize {
        self.buffers.refill(&self.pool)
    }

    fn close(&mut self, socket: Socket, how: How) {
        socket::prepare_close(&socket, how);
        drop(socket);
    }

    fn is_ready(&mut self) -> bool {
        // An enter delivers some twenty of the completions that are held back. The flag that tells
        // of them is only a hint: the kernel queues first and raises it then, and when this thread
        // enters in between it stays up with nothing behind it.
        if self.ring.0.completion().is_empty() && self.is_held_back() {
            self.call().unwrap_or_else(|error| refused(&error));
        }
        !self.ring.0.completion().is_empty()
    }

    fn arm(&mut self) -> bool {
        self.ring.0.completion().enable_eventfd();
        // The kernel writes a completion, then reads whether to signal; this writes that it
        // should, then reads whether there is a completion: one of the two sees the other.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.is_ready()
    }

    fn disarm(&mut self) {
        self.ring.0.completion().disable_eventfd();
        // Empty unless a completion has come while armed.
        let _count = rustix::io::read(&self.signal, &mut [0; 8]);
    }

    fn signal(&self) -> Option<BorrowedFd<'_>> {
        Some(self.signal.as_fd())
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.under_way == 0 {
            return;
        }
        // The kernel takes back what is under way some time after the ring is closed: memory that
        // it may write to until then is given up.
        self.buffers.give_up();
        std::mem::forget(std::mem::take(&mut self.sends));
        std::mem::forget(std::mem::take(&mut self.connects));
    }
}
