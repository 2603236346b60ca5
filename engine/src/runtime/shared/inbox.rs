//! The one way into a shard for other threads: a queue, and the waker of the sleeping shard.
//!
//! Both stand under one lock, so that "is there anything?" and "wake me when there is" are one
//! step: a message pushed before it is seen by it, one pushed after it finds the waker. A flag
//! beside the lock spares the busy shard the lock while nothing has come. What may be refused
//! (submissions) is bounded; what may not (wakes) is bounded by what it wakes: a task is scheduled
//! at most once, so wakes never outnumber live tasks.
//!
//! ```text
//!   thread:  push  ── lock: queue, take waker ── wake ─┐
//!   shard:   take  ── lock: drain                      │
//!            watch ── lock: empty? leave waker ── sleep ┴▶ awake
//! ```

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use super::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// Why a message was not taken; it comes back with its refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused<M> {
    Full(M, usize),
    Closed(M),
}

/// Whether the shard may sleep.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    Sleep,
    Work,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Refusable,
    Certain,
}

#[derive(Debug)]
struct State<M> {
    queue: VecDeque<(M, Kind)>,
    /// Messages in the queue that count against the bound.
    bounded: usize,
    sleeper: Option<Waker>,
    /// When the sleeper was last woken: tells a wake that was served late.
    rung: Option<Instant>,
    closed: bool,
}

impl<M> State<M> {
    fn leave(&mut self, waker: &Waker) {
        if !self.sleeper.as_ref().is_some_and(|old| old.will_wake(waker)) {
            self.sleeper = Some(waker.clone());
        }
    }
}

/// A bounded queue that many threads push and one shard drains.
#[derive(Debug)]
pub(crate) struct Inbox<M> {
    state: Mutex<State<M>>,
    /// Set under the lock whenever the queue may hold something.
    pending: AtomicBool,
    depth_max: usize,
}

impl<M> Inbox<M> {
    pub(crate) fn new(depth_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                bounded: 0,
                sleeper: None,
                rung: None,
                closed: false,
            }),
            pending: AtomicBool::new(false),
            depth_max,
        }
    }

    /// Pushes a message that may be refused when `depth_max` of its kind wait.
    pub(crate) fn submit(&self, message: M) -> Result<(), Refused<M>> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed(message));
        }
        if state.bounded >= self.depth_max {
            return Err(Refused::Full(message, state.bounded));
        }
        state.bounded += 1;
        self.push(state, message, Kind::Refusable);
        Ok(())
    }

    /// Pushes a message that must arrive; only a closed inbox gives it back.
    pub(crate) fn deliver(&self, message: M) -> Result<(), M> {
        let state = self.lock();
        if state.closed {
            return Err(message);
        }
        self.push(state, message, Kind::Certain);
        Ok(())
    }

    fn push(&self, mut state: StateGuard<'_, M>, message: M, kind: Kind) {
        state.queue.push_back((message, kind));
        self.pending.store(true, Ordering::Release);
        let sleeper = state.sleeper.take();
        if sleeper.is_some() {
            state.rung = Some(now());
        }
        drop(state);
        // A waker is foreign code: never under the lock.
        if let Some(waker) = sleeper {
            waker.wake();
        }
    }

    /// Moves at most `max` messages into `into`, oldest first.
    pub(crate) fn take(&self, max: usize, into: &mut Vec<M>) {
        if !self.pending.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.lock();
        let n_messages = state.queue.len().min(max);
        let State { queue, bounded, .. } = &mut *state;
        for (message, kind) in queue.drain(..n_messages) {
            *bounded -= usize::from(kind == Kind::Refusable);
            into.push(message);
        }
        if queue.is_empty() {
            self.pending.store(false, Ordering::Release);
        }
    }

    /// Tells whether something waits; otherwise leaves `waker` to be woken by the next push.
    pub(crate) fn watch(&self, waker: &Waker) -> Watch {
        let mut state = self.lock();
        if !state.queue.is_empty() {
            return Watch::Work;
        }
        // Whatever was rung for before has been taken.
        state.rung = None;
        state.leave(waker);
        Watch::Sleep
    }

    /// The planted fault "a dropped re-check": leaves the waker without looking at the queue.
    pub(crate) fn watch_without_recheck(&self, waker: &Waker) -> Watch {
        self.lock().leave(waker);
        Watch::Sleep
    }

    /// Takes the moment at which a push last woke the sleeper.
    pub(crate) fn take_rung(&self) -> Option<Instant> {
        self.lock().rung.take()
    }

    /// Tells whether a message waits, without the lock.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Refuses all further messages and gives back what waits.
    pub(crate) fn close(&self) -> Vec<M> {
        let mut state = self.lock();
        state.closed = true;
        state.sleeper = None;
        state.bounded = 0;
        self.pending.store(false, Ordering::Release);
        state.queue.drain(..).map(|(message, _)| message).collect()
    }

    fn lock(&self) -> StateGuard<'_, M> {
        self.state.lock().expect("no code that can panic runs under the inbox's lock")
    }
}

type StateGuard<'a, M> = MutexGuard<'a, State<M>>;

#[allow(clippy::disallowed_methods, reason = "measures the executor underneath; decides nothing")]
fn now() -> Instant {
    Instant::now()
}
