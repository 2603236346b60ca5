//! What every part of a shard stands on: its time, its ready queue, its timers, its outbox.
//!
//! One [`Core`] per shard, reached from user code through a thread-local that the turn sets while
//! it runs. The core decides nothing; it holds what the siblings above it share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use super::ShardId;
use super::clock::Time;
use super::half::Half;
use super::lane::Outbox;
use super::priority::Priority;
use super::ready::{ReadyQueue, Runnable};
use super::shared::Outside;
use super::wheel::{TimerId, Wheel};
use crate::limits::Limits;

/// What a timer means when it fires.
#[derive(Debug)]
pub(crate) enum Due {
    /// Somebody sleeps.
    Wake(Waker),
    /// A request has outlived its deadline and grace.
    Request(u64),
    /// A call has reached its deadline.
    Call { rank: u16, slot: u64 },
    /// A socket has come to one of its bounds.
    Socket(u64),
    /// A batch has run for as long as it may.
    Batch { rank: u16, batch: u64 },
}

/// On whose behalf code runs: set around each poll, captured by each call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// The request, zero outside of any.
    pub(crate) request: u64,
    /// The unit of work inside it, zero for the request's own future.
    pub(crate) unit: u32,
    /// One more than the rank of the stage whose batch function runs, zero outside of any.
    pub(crate) floor: u16,
    pub(crate) deadline: Time,
    pub(crate) priority: Priority,
}

impl Context {
    pub(crate) const NONE: Self =
        Self { request: 0, unit: 0, floor: 0, deadline: Time::NEVER, priority: Priority::LOWEST };

    /// What a request begun from here takes over: everything but who it is.
    pub(crate) const fn heir(self) -> Self {
        Self { request: 0, unit: 0, ..self }
    }
}

/// The ground of one shard.
#[derive(Debug)]
pub(crate) struct Core {
    id: ShardId,
    n_shards: usize,
    outside: &'static Outside,
    half: Half,
    limits: Limits,
    hash_seed: u64,
    now: Cell<Time>,
    pass: Cell<u64>,
    ready: ReadyQueue,
    wheel: RefCell<Wheel<Due>>,
    outbox: Outbox,
    context: Cell<Context>,
    budget: Cell<u32>,
    sealed: Cell<usize>,
    owed: Cell<usize>,
    in_executor: Cell<usize>,
}

impl Core {
    pub(crate) fn new(
        id: ShardId,
        n_shards: usize,
        outside: &'static Outside,
        half: Half,
        limits: Limits,
        hash_seed: u64,
    ) -> Rc<Self> {
        let now = half.now();
        Rc::new(Self {
            id,
            n_shards,
            outside,
            half,
            limits,
            hash_seed,
            now: Cell::new(now),
            pass: Cell::new(0),
            ready: ReadyQueue::default(),
            wheel: RefCell::new(Wheel::new()),
            outbox: Outbox::new(n_shards),
            context: Cell::new(Context::NONE),
            budget: Cell::new(0),
            sealed: Cell::new(0),
            owed: Cell::new(0),
            in_executor: Cell::new(0),
        })
    }

    pub(crate) fn id(&self) -> ShardId {
        self.id
    }

    pub(crate) fn n_shards(&self) -> usize {
        self.n_shards
    }

    pub(crate) fn outside(&self) -> &'static Outside {
        self.outside
    }

    pub(crate) fn half(&self) -> &Half {
        &self.half
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The seed of every keyed hash, the same on all shards so that they agree on owners.
    pub(crate) fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    /// The time that decisions use: read when the turn begins, when its pass ends, and when the
    /// batches that it has sealed have run.
    pub(crate) fn now(&self) -> Time {
        self.now.get()
    }

    /// Reads the clock of the half beneath; time never goes back.
    pub(crate) fn read_clock(&self) -> Time {
        let now = self.half.now().max(self.now.get());
        self.now.set(now);
        now
    }

    /// The number of the pass that runs or ran last.
    pub(crate) fn pass(&self) -> u64 {
        self.pass.get()
    }

    pub(crate) fn begin_pass(&self) {
        self.pass.set(self.pass.get() + 1);
    }

    /// Reads the clock for what the turn decides after its pass.
    pub(crate) fn end_pass(&self) -> Time {
        let now = self.half.after_pass().max(self.now.get());
        self.now.set(now);
        now
    }

    /// Reads the clock for those whom the turn's batches have answered.
    pub(crate) fn end_batches(&self) -> Time {
        let now = self.half.after_batches().max(self.now.get());
        self.now.set(now);
        now
    }

    pub(crate) fn ready(&self) -> &ReadyQueue {
        &self.ready
    }

    /// One more task stands before the others in the ready queue.
    pub(super) fn count_sealed(&self) {
        self.sealed.set(self.sealed.get() + 1);
    }

    /// How many tasks were put first since this was last asked.
    pub(crate) fn take_sealed(&self) -> usize {
        self.sealed.take()
    }

    /// Notes that another thread owes this shard an answer, until the guard is dropped.
    pub(crate) fn owe(self: &Rc<Self>) -> Owed {
        self.owed.set(self.owed.get() + 1);
        Owed { core: Rc::clone(self) }
    }

    /// Notes that the executor underneath works for this shard, until the guard is dropped.
    pub(crate) fn enter_executor(self: &Rc<Self>) -> InExecutor {
        self.in_executor.set(self.in_executor.get() + 1);
        InExecutor { core: Rc::clone(self) }
    }

    /// Whether something may come from the executor underneath: a parcel, the end of an operation.
    pub(crate) fn expects_executor(&self) -> bool {
        self.n_shards > 1 || self.in_executor.get() > 0
    }

    /// Answers that other threads owe this shard.
    pub(crate) fn owed(&self) -> usize {
        self.owed.get()
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(crate) fn arm(&self, due: Time, what: Due) -> TimerId {
        self.wheel.borrow_mut().insert(due, what)
    }

    pub(crate) fn disarm(&self, timer: TimerId) {
        let removed = self.wheel.borrow_mut().remove(timer);
        // A waker is foreign code: dropped after the borrow has ended.
        drop(removed);
    }

    pub(crate) fn advance_wheel(&self, budget: usize, fired: &mut Vec<Due>) {
        self.wheel.borrow_mut().advance(self.now.get(), budget, fired);
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        self.wheel.borrow().next_due()
    }

    pub(crate) fn timers(&self) -> usize {
        self.wheel.borrow().armed()
    }

    pub(crate) fn context(&self) -> Context {
        self.context.get()
    }

    /// Begins a poll on behalf of `context`; the returned one is put back by `leave`.
    pub(crate) fn begin(&self, context: Context) -> Context {
        self.budget.set(self.limits.poll_budget);
        self.context.replace(context)
    }

    pub(crate) fn leave(&self, before: Context) {
        self.context.set(before);
    }

    /// Spends one ready result of this poll's budget; `false` means: yield first.
    pub(crate) fn spend(&self) -> bool {
        let left = self.budget.get();
        self.budget.set(left.saturating_sub(1));
        left > 0
    }

    /// Makes this shard the current one of the thread until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        Entered { before: CURRENT.with(|current| current.borrow_mut().replace(Rc::clone(self))) }
    }
}

/// An answer that another thread owes.
#[derive(Debug)]
pub(crate) struct Owed {
    core: Rc<Core>,
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.core.owed.set(self.core.owed.get() - 1);
    }
}

/// An operation that the executor works on.
#[derive(Debug)]
pub(crate) struct InExecutor {
    core: Rc<Core>,
}

impl Drop for InExecutor {
    fn drop(&mut self) {
        self.core.in_executor.set(self.core.in_executor.get() - 1);
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// Restores the shard that was current before.
#[derive(Debug)]
pub(crate) struct Entered {
    before: Option<Rc<Core>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| *current.borrow_mut() = self.before.take());
    }
}

/// The shard this code runs on.
///
/// # Panics
///
/// Outside of a shard's turn: calls, sleeps and scopes have no meaning on an ordinary thread.
pub(crate) fn current() -> Rc<Core> {
    try_current().expect("this belongs on a shard: call it inside a request or a batch function")
}

pub(crate) fn try_current() -> Option<Rc<Core>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Pushes to the current shard's ready queue if it is the shard `uid`, else gives the task back.
pub(super) fn push_if_current(uid: u64, runnable: Runnable) -> Option<Runnable> {
    let mut runnable = Some(runnable);
    // When the thread's locals are gone the shard has ended, and the task stays in our hands.
    let _ = CURRENT.try_with(|current| {
        if let Some(core) = current.borrow().as_ref().filter(|core| core.outside.uid() == uid) {
            core.ready.push(runnable.take().expect("taken only here"));
        }
    });
    runnable
}
