//! What the tests on real rings share: an engine whose books are checked when it stops, requests
//! that must answer in bounded time, and a stage whose batch function each test writes itself.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::disallowed_types,
    reason = "a test's own thread and its shards share what they saw"
)]

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use forebay::{
    Batch, Builder, Engine, Handle, Kind, Reply, RequestError, RequestOptions, ShardSnapshot,
    Stage, StageOptions, StageRef, StageSnapshot,
};

/// Long enough for any machine: only a test that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Whether this host can run two shards; says so when not.
pub(crate) fn two_cpus() -> bool {
    let enough = forebay::affinity::current_thread_cpus().unwrap().len() >= 2;
    if !enough {
        eprintln!("skipped: two shards need two CPUs");
    }
    enough
}

/// A running engine whose books must balance when it stops.
pub(crate) struct Ring {
    pub(crate) engine: Engine,
    pub(crate) handle: Handle,
}

impl Ring {
    pub(crate) fn start(builder: Builder) -> Self {
        let engine = builder.start().unwrap();
        let handle = engine.handle().clone();
        Self { engine, handle }
    }

    /// Submits a request, to be awaited later.
    #[track_caller]
    pub(crate) fn submit<S, F>(&self, shard: usize, start: S) -> Reply<F::Output>
    where
        S: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        self.handle.submit(shard, RequestOptions::default(), start).unwrap()
    }

    /// Runs a request and gives its reply.
    #[track_caller]
    pub(crate) fn run<S, F>(&self, shard: usize, start: S) -> F::Output
    where
        S: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        wait(&self.submit(shard, start)).unwrap()
    }

    pub(crate) fn shard(&self, shard: usize) -> Arc<ShardSnapshot> {
        self.handle.snapshot(shard).expect("a serving shard has published").shard
    }

    /// What a shard has counted for its stage of this rank.
    pub(crate) fn stage(&self, shard: usize, rank: usize) -> StageSnapshot {
        self.shard(shard).stages[rank].clone()
    }

    /// Waits until what a shard counts satisfies `condition`.
    #[track_caller]
    pub(crate) fn wait_until(&self, shard: usize, condition: impl Fn(&ShardSnapshot) -> bool) {
        eventually(|| condition(&self.shard(shard)));
    }

    /// Drains and stops; nothing may be left, lost or counted twice.
    #[track_caller]
    pub(crate) fn stop(self) -> Vec<Arc<ShardSnapshot>> {
        let Self { engine, handle } = self;
        let report = engine.stop(PATIENCE);
        assert!(report.drained, "{report:?}");
        assert_eq!((report.requests_cut, report.stuck_shards.len()), (0, 0), "{report:?}");
        check_books(&handle)
    }
}

/// Checks the last books of shards that have ended, and that none of them slept over its work.
#[track_caller]
pub(crate) fn check_books(handle: &Handle) -> Vec<Arc<ShardSnapshot>> {
    let last = |shard| handle.snapshot(shard).expect("published at its end").shard;
    let snapshots: Vec<_> = (0..handle.n_shards()).map(last).collect();
    for shard in &snapshots {
        assert_eq!(shard.live_requests, 0, "{shard:?}");
        assert_eq!(shard.requests_started, shard.requests_ended, "{shard:?}");
        assert_eq!(shard.waits_capped, 0, "{shard:?}");
        for ledger in &shard.ledgers {
            assert_eq!(ledger.imbalance(), None, "{ledger:?}");
            let left =
                (ledger.live, ledger.guests, ledger.permits_out, ledger.queued, ledger.indexed);
            assert_eq!(left, (0, 0, 0, 0, 0), "{ledger:?}");
        }
    }
    snapshots
}

/// The reply of a request, which must come.
#[track_caller]
pub(crate) fn wait<T>(reply: &Reply<T>) -> Result<T, RequestError> {
    reply.wait_timeout(PATIENCE).expect("the reply comes")
}

/// Asks again and again until `condition` holds.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "an ordinary thread waits for a condition, bounded")]
pub(crate) fn eventually(condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "it never came to hold");
        std::thread::sleep(Duration::from_micros(200));
    }
}

pub(crate) fn n_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// What happened, noted from any thread.
pub(crate) struct Notes<T>(Arc<(Mutex<Vec<T>>, Condvar)>);

impl<T> Clone for Notes<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Notes<T> {
    fn default() -> Self {
        Self(Arc::new((Mutex::new(Vec::new()), Condvar::new())))
    }
}

impl<T: Clone + fmt::Debug> Notes<T> {
    pub(crate) fn add(&self, note: T) {
        self.0.0.lock().unwrap().push(note);
        self.0.1.notify_all();
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.0.lock().unwrap().clone()
    }

    /// The notes, once there are `n_notes` of them.
    #[track_caller]
    pub(crate) fn wait_for(&self, n_notes: usize) -> Vec<T> {
        let notes = self.0.0.lock().unwrap();
        let few = |notes: &mut Vec<T>| notes.len() < n_notes;
        let (notes, _) = self.0.1.wait_timeout_while(notes, PATIENCE, few).unwrap();
        assert!(notes.len() >= n_notes, "wanted {n_notes} notes, found {notes:?}");
        notes.clone()
    }
}

/// Holds requests and batches back until it is opened, from any thread.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<(bool, VecDeque<Waker>)>>);

impl Gate {
    pub(crate) fn open(&self) {
        let wakers = {
            let mut state = self.0.lock().unwrap();
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Completes once the gate is open.
    pub(crate) fn passed(&self) -> impl Future<Output = ()> + use<> {
        let gate = self.clone();
        std::future::poll_fn(move |cx: &mut Context<'_>| {
            let mut state = gate.0.lock().unwrap();
            if state.0 {
                return Poll::Ready(());
            }
            state.1.push_back(cx.waker().clone());
            Poll::Pending
        })
    }
}

/// What a call of the scripted stage asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) key: u64,
    pub(crate) class: u8,
    pub(crate) weight: u64,
}

/// Its own code panics: a key that cannot be made, a class that cannot.
pub(crate) const BAD_KEY: u64 = u64::MAX;
pub(crate) const BAD_CLASS: u8 = u8::MAX;

impl From<u64> for Ask {
    fn from(key: u64) -> Self {
        Self { key, class: 0, weight: 1 }
    }
}

/// The error of the scripted stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) &'static str);

pub(crate) type Running = Pin<Box<dyn Future<Output = Result<(), Fault>>>>;
pub(crate) type Script = Arc<dyn Fn(Batch<Scripted>) -> Running + Send + Sync>;

/// A stage whose batch function the test writes.
pub(crate) struct Scripted {
    script: Script,
    /// The keys of each batch, in the order in which they came.
    batches: Notes<Vec<u64>>,
    abandoned: Notes<()>,
}

impl Stage for Scripted {
    type Item = Ask;
    type Key = u64;
    type Class = u8;
    type Value = u64;
    type Error = Fault;
    const KIND: Kind = Kind::TouchedRead;

    fn key(ask: &Ask) -> u64 {
        assert_ne!(ask.key, BAD_KEY, "planted: no key");
        ask.key
    }

    fn class(ask: &Ask) -> u8 {
        assert_ne!(ask.class, BAD_CLASS, "planted: no class");
        ask.class
    }

    fn weight(ask: &Ask) -> u64 {
        ask.weight
    }

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Fault> {
        self.batches.add(batch.items().map(|item| item.item().key).collect());
        (self.script)(batch).await
    }

    fn on_abandon(&self) {
        self.abandoned.add(());
    }
}

/// A declared scripted stage, and what it notes.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) stage: StageRef<Scripted>,
    pub(crate) batches: Notes<Vec<u64>>,
    pub(crate) abandoned: Notes<()>,
}

impl Probe {
    /// Calls the stage, whatever becomes of it.
    pub(crate) fn call(&self, ask: impl Into<Ask>) -> forebay::Call<Scripted> {
        self.stage.call(ask.into())
    }
}

/// Declares a stage with this batch function.
pub(crate) fn scripted<F>(
    builder: &mut Builder,
    name: &'static str,
    options: StageOptions,
    script: impl Fn(Batch<Scripted>) -> F + Send + Sync + 'static,
) -> Probe
where
    F: Future<Output = Result<(), Fault>> + 'static,
{
    let (batches, abandoned) = (Notes::default(), Notes::default());
    let script: Script = Arc::new(move |batch| Box::pin(script(batch)));
    let noted = (batches.clone(), abandoned.clone());
    let stage = builder.shared_stage(name, options, move |_| {
        let made = Scripted {
            script: Arc::clone(&script),
            batches: noted.0.clone(),
            abandoned: noted.1.clone(),
        };
        async move { Ok(made) }
    });
    Probe { stage, batches, abandoned }
}

/// Answers every item with its key, doubled.
pub(crate) async fn double(batch: Batch<Scripted>) -> Result<(), Fault> {
    for item in batch.items() {
        item.settle(Ok(item.item().key * 2));
    }
    Ok(())
}

/// A stage that is declared later than the script that calls it.
pub(crate) type Later = Arc<OnceLock<StageRef<Scripted>>>;

/// A builder of so many shards.
pub(crate) fn shards(n_shards: usize) -> Builder {
    let mut builder = Builder::new();
    builder.quiet();
    builder.shards(n_shards);
    // The tests of sockets run over both backs; see `.ci/run`.
    if std::env::var_os("FOREBAY_TEST_SOCKETS").is_some_and(|wish| wish == "readiness") {
        builder.sockets(forebay::Sockets::Readiness);
    }
    builder
}

/// The default policy, changed.
pub(crate) fn policy(change: impl FnOnce(&mut StageOptions)) -> StageOptions {
    let mut options = StageOptions::default();
    change(&mut options);
    options
}

/// One engine with one scripted stage.
pub(crate) fn one_stage<F>(
    n_shards: usize,
    options: StageOptions,
    script: impl Fn(Batch<Scripted>) -> F + Send + Sync + 'static,
) -> (Ring, Probe)
where
    F: Future<Output = Result<(), Fault>> + 'static,
{
    let mut builder = shards(n_shards);
    let probe = scripted(&mut builder, "probe", options, script);
    (Ring::start(builder), probe)
}

/// Starts a request on this shard and lets its handle be awaited: `spawn` with no deadline.
pub(crate) fn spawn<F>(future: F) -> forebay::Request<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    forebay::spawn(RequestOptions::default(), future)
}

/// Awaits one after the other what was begun before.
pub(crate) async fn all<T>(requests: Vec<forebay::Request<T>>) -> Vec<T> {
    let mut replies = Vec::with_capacity(requests.len());
    for request in requests {
        replies.push(request.await.unwrap());
    }
    replies
}
