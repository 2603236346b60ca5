//! Tasks, and the shard's own ready queue.
//!
//! Requests are not tasks of the executor underneath: its spawn takes a process-wide lock, 120 ns
//! alone and 245 ns on each of two shards at once, where this queue stays at 111 ns. A task is one
//! allocation; it is first polled in a later pass, never inside `spawn`.
//!
//! A waker called on the task's own shard pushes to the queue; called anywhere else (another
//! thread, the executor between turns, another shard of a simulation) it goes through the inbox.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::Location;
use std::task::Waker;

use super::core::{self, Core};
use super::guard::contain;
use super::shared::{Message, Outside};

/// Where a task was spawned: named in the report of a long poll.
pub(crate) type Site = &'static Location<'static>;

/// A task that is ready to be polled.
pub(crate) type Runnable = async_task::Runnable<Site>;

/// The handle of a task: awaits its output, cancels it when dropped.
pub(crate) type Task<T> = async_task::Task<T, Site>;

/// The FIFO of tasks that are ready to be polled, and those that the turn's last step answers.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    queue: RefCell<VecDeque<Runnable>>,
    /// Callers whose calls have settled in the last step of the turn: they run in it too, while
    /// what they and the batch have touched is still in the cache.
    answered: RefCell<VecDeque<Runnable>>,
    last_step: Cell<bool>,
    waking_caller: Cell<bool>,
    /// Tasks that gave way: behind whatever the next turn brings, or one that gives way for ever
    /// would run before each client's next word.
    yielded: RefCell<VecDeque<Runnable>>,
    yielding: Cell<bool>,
    /// Tasks in the queue before the first that gave way.
    before_yielded: Cell<Option<usize>>,
}

impl ReadyQueue {
    // Bounded by live tasks: each is here at most once.
    pub(crate) fn push(&self, runnable: Runnable) {
        if self.waking_caller.get() && self.last_step.get() {
            self.answered.borrow_mut().push_back(runnable);
        } else if self.yielding.get() {
            self.yielded.borrow_mut().push_back(runnable);
        } else {
            self.queue.borrow_mut().push_back(runnable);
        }
    }

    /// Wakes the caller of a call that has settled.
    pub(crate) fn wake_caller(&self, waker: Waker) {
        let before = self.waking_caller.replace(true);
        // A caller that polls its call by itself may have put any waker there.
        contain(|| waker.wake());
        self.waking_caller.set(before);
    }

    /// The task that runs gives way. It comes back by itself when its poll ends; what it wakes until
    /// then gives way with it.
    pub(crate) fn give_way(&self) {
        self.yielding.set(true);
    }

    /// The poll of a task has ended.
    pub(crate) fn end_poll(&self) {
        self.yielding.set(false);
    }

    /// What the turn has brought stands in the queue: those that gave way come behind it.
    pub(crate) fn take_yielded(&self) {
        let (mut queue, mut yielded) = (self.queue.borrow_mut(), self.yielded.borrow_mut());
        if !yielded.is_empty() {
            let before = self.before_yielded.get().unwrap_or(queue.len());
            self.before_yielded.set(Some(before));
            queue.append(&mut yielded);
        }
    }

    /// Tells once that the next task is the first that gave way: it may take long.
    pub(crate) fn comes_to_yielded(&self) -> bool {
        let comes = self.before_yielded.get() == Some(0);
        if comes {
            self.before_yielded.set(None);
        }
        comes
    }

    /// From here on callers that are answered stand apart from all that is ready.
    pub(crate) fn begin_last_step(&self) {
        self.last_step.set(true);
    }

    /// A caller that was answered in this step.
    pub(crate) fn pop_answered(&self) -> Option<Runnable> {
        self.answered.borrow_mut().pop_front()
    }

    /// Answered callers whom this step had no time for wait like everybody else.
    pub(crate) fn end_last_step(&self) {
        self.last_step.set(false);
        self.queue.borrow_mut().append(&mut self.answered.borrow_mut());
    }

    /// Puts a task before all others: a batch that was just sealed runs at once.
    pub(crate) fn push_first(&self, runnable: Runnable) {
        self.queue.borrow_mut().push_front(runnable);
    }

    pub(crate) fn pop(&self) -> Option<Runnable> {
        self.before_yielded.set(self.before_yielded.get().map(|n_tasks| n_tasks.saturating_sub(1)));
        self.queue.borrow_mut().pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.borrow().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty() && self.yielded.borrow().is_empty()
    }

    /// Takes the ready task at `idx` to the front: how a simulation shuffles a pass.
    pub(crate) fn bring_forward(&self, idx: usize) {
        self.queue.borrow_mut().swap(0, idx);
    }
}

impl Core {
    /// Makes a task of `future` and puts it at the end of the ready queue.
    pub(crate) fn spawn<F>(&self, site: Site, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let (runnable, task) = self.make_task(site, future);
        self.ready().push(runnable);
        task
    }

    /// Makes a task of `future` and puts it before all that are ready.
    pub(crate) fn spawn_first<F>(&self, site: Site, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let (runnable, task) = self.make_task(site, future);
        self.ready().push_first(runnable);
        self.count_sealed();
        task
    }

    fn make_task<F>(&self, site: Site, future: F) -> (Runnable, Task<F::Output>)
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let outside = self.outside();
        async_task::Builder::new()
            .metadata(site)
            .spawn_local(move |_| future, move |runnable| schedule(outside, runnable))
    }
}

fn schedule(outside: &'static Outside, runnable: Runnable) {
    if let Some(runnable) = core::push_if_current(outside.uid(), runnable)
        && let Err(Message::Wake(runnable)) = outside.inbox().deliver(Message::Wake(runnable))
    {
        // The shard has ended. Its tasks may only be dropped on its own thread, which is gone:
        // leaking one task is the safe end of it.
        std::mem::forget(runnable);
    }
}
