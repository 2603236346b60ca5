//! The engine as any thread sees it.

use std::ops::Range;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::{AdjustError, RequestError, SubmitError};
use crate::metrics::ShardSnapshot;
use crate::runtime::clock::Clock;
use crate::runtime::guard::contain;
use crate::runtime::shared::board::{Board, Phase};
use crate::runtime::shared::inbox::Refused;
use crate::runtime::shared::published::Published;
use crate::runtime::shared::{Adjustment, Control, Message, Outside, RequestInfo};
use crate::runtime::{ShardId, Time, TurnRecord};
use crate::task::{self, RequestOptions};

/// How long a question to a shard may take before the asker goes on without it.
const ANSWER_WITHIN: Duration = Duration::from_millis(200);

/// The `Send + Sync` handle of an engine. Clones are cheap and stay valid after the engine's end:
/// everything then answers `Closed` or with the last there was.
#[derive(Clone, Debug)]
pub struct Handle {
    outsides: Arc<[&'static Outside]>,
    snapshots: Arc<[Arc<Published<ShardSnapshot>>]>,
    board: Arc<Board>,
    clock: Clock,
}

/// What a shard last published, and how old that is.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Time since it was published: large when the shard is stalled.
    pub age: Duration,
    /// What was published.
    pub shard: Arc<ShardSnapshot>,
}

impl Handle {
    pub(crate) fn new(
        outsides: Arc<[&'static Outside]>,
        snapshots: Vec<Arc<Published<ShardSnapshot>>>,
        board: Arc<Board>,
        clock: Clock,
    ) -> Self {
        Self { outsides, snapshots: snapshots.into(), board, clock }
    }

    /// How many shards the engine has.
    #[must_use]
    pub fn n_shards(&self) -> usize {
        self.outsides.len()
    }

    /// Where a shard has come to in its life, without asking it.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    #[must_use]
    pub fn phase(&self, shard: usize) -> Phase {
        self.board.line(shard)
    }

    /// Hands a request to a shard: `start` is called there and its future runs as a request.
    ///
    /// Dropping the [`Reply`] does not cancel it.
    ///
    /// # Errors
    ///
    /// `Full` when `inbox_max` submissions wait there; `Closed` when the shard has ended. A shard
    /// that refuses the request later says so in the reply.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    #[track_caller]
    pub fn submit<S, F>(
        &self,
        shard: usize,
        options: RequestOptions,
        start: S,
    ) -> Result<Reply<F::Output>, SubmitError>
    where
        S: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let site = Location::caller();
        let job = Box::new(move || {
            let request = task::spawn_from(site, options, async move { start().await });
            task::forward(request, move |result| {
                // Where nobody waits any more the reply is dropped here, and that is user code.
                contain(|| drop(sender.send(result)));
            });
        });
        match self.outsides[shard].inbox().submit(Message::Submit(job)) {
            Ok(()) => Ok(Reply { receiver }),
            Err(Refused::Full(_, depth)) => Err(SubmitError::Full { depth }),
            Err(Refused::Closed(_)) => Err(SubmitError::Closed),
        }
    }

    /// What a shard has counted: asked now, and if it does not answer soon, the last it published.
    /// `None` before the first publication.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    #[must_use]
    pub fn snapshot(&self, shard: usize) -> Option<Snapshot> {
        self.ask(shard..shard + 1).pop().flatten()
    }

    /// What every shard has counted, in their order, as [`Handle::snapshot`] gives it: all are asked
    /// first, so that however many do not answer, the wait is that for one.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Option<Snapshot>> {
        self.ask(0..self.n_shards())
    }

    fn ask(&self, shards: Range<usize>) -> Vec<Option<Snapshot>> {
        let published_at = |shard: usize| self.snapshots[shard].get().map(|(at, _)| at);
        let before: Vec<_> = shards.clone().map(|shard| (shard, published_at(shard))).collect();
        for shard in shards.clone() {
            self.outsides[shard].control(Control::Publish);
        }
        let asked = self.clock.now();
        let is_awaited = |&(shard, before): &(usize, Option<Time>)| {
            self.outsides[shard].is_alive() && published_at(shard) == before
        };
        while before.iter().any(is_awaited) && self.clock.now().since(asked) < ANSWER_WITHIN {
            pause();
        }
        let last = |shard: usize| {
            let (at, shard) = self.snapshots[shard].get()?;
            Some(Snapshot { age: self.clock.now().since(at), shard })
        };
        shards.map(last).collect()
    }

    /// The live requests of a shard, oldest first; empty if it does not answer within 200 ms.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    #[must_use]
    pub fn requests(&self, shard: usize) -> Vec<RequestInfo> {
        let (sender, receiver) = oneshot::channel();
        self.outsides[shard].control(Control::List(sender));
        receiver.recv_timeout(ANSWER_WITHIN).unwrap_or_default()
    }

    /// Changes a controller of a stage on every shard, while it runs.
    ///
    /// # Errors
    ///
    /// [`AdjustError`]; a shard that does not answer within 200 ms makes the change when it can.
    pub fn adjust(&self, stage: &str, adjustment: Adjustment) -> Result<(), AdjustError> {
        if matches!(adjustment, Adjustment::Target(Duration::ZERO) | Adjustment::RatePerS(0)) {
            return Err(AdjustError::Zero);
        }
        let asked: Vec<_> = self
            .outsides
            .iter()
            .map(|outside| {
                let (reply, answer) = oneshot::channel();
                let stage = stage.to_owned();
                outside.control(Control::Adjust { stage, adjustment, reply });
                answer
            })
            .collect();
        for answer in asked {
            match answer.recv_timeout(ANSWER_WITHIN) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Err(AdjustError::NoController),
                Ok(None) => return Err(AdjustError::NoStage),
                Err(_) => return Err(AdjustError::NoAnswer),
            }
        }
        Ok(())
    }

    /// Cancels a live request, by message; one that has ended meanwhile is left alone.
    pub fn cancel(&self, request: &RequestInfo) {
        self.outsides[request.shard.index()].control(Control::Cancel(request.id));
    }

    /// Ends one shard at once, without draining it. What waits for it elsewhere gets `PeerGone`.
    /// For supervisors that give a shard up, and for tests of those that remain.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    pub fn abandon_shard(&self, shard: usize) {
        self.outsides[shard].control(Control::Enter(Phase::Gone));
    }

    /// Takes the turns recorded so far (see [`Builder::record_turns`](crate::Builder::record_turns)), of all shards, in the order in which they began.
    #[must_use]
    pub fn take_turns(&self) -> Vec<TurnRecord> {
        let mut turns = Vec::new();
        for outside in self.outsides.iter() {
            let (sender, receiver) = oneshot::channel();
            outside.control(Control::TakeLog(sender));
            turns.extend(receiver.recv_timeout(ANSWER_WITHIN).unwrap_or_default());
        }
        turns.sort_by_key(|turn| (turn.began, turn.shard));
        turns
    }

    pub(crate) fn control_all(&self, control: impl Fn() -> Control) {
        for outside in self.outsides.iter() {
            outside.control(control());
        }
    }

    pub(crate) fn last_snapshots(&self) -> Vec<Option<Arc<ShardSnapshot>>> {
        self.snapshots.iter().map(|published| Some(published.get()?.1)).collect()
    }

    pub(crate) fn alive(&self, shard: ShardId) -> bool {
        self.outsides[shard.index()].is_alive()
    }
}

#[allow(clippy::disallowed_methods, reason = "an ordinary thread waits for an answer")]
fn pause() {
    std::thread::sleep(Duration::from_micros(200));
}

/// The reply to a submitted request. Await it in any runtime, or [`Reply::wait`] on a thread.
#[derive(Debug)]
#[must_use = "the reply tells whether the request failed"]
pub struct Reply<T> {
    receiver: oneshot::Receiver<Result<T, RequestError>>,
}

impl<T> Reply<T> {
    /// Blocks this thread until the reply is there. Never call it on a shard.
    ///
    /// # Errors
    ///
    /// The [`RequestError`] the request ended with; `PeerGone` if its shard ended first.
    pub fn wait(self) -> Result<T, RequestError> {
        self.receiver.recv().unwrap_or(Err(RequestError::PeerGone))
    }

    /// The reply, if it is there already.
    pub fn try_take(&self) -> Option<Result<T, RequestError>> {
        match self.receiver.try_recv() {
            Ok(result) => Some(result),
            Err(oneshot::TryRecvError::Empty) => None,
            Err(oneshot::TryRecvError::Disconnected) => Some(Err(RequestError::PeerGone)),
        }
    }

    /// Blocks for at most `timeout`; `None` when it was not enough.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<T, RequestError>> {
        match self.receiver.recv_timeout(timeout) {
            Ok(result) => Some(result),
            Err(oneshot::RecvTimeoutError::Timeout) => None,
            Err(oneshot::RecvTimeoutError::Disconnected) => Some(Err(RequestError::PeerGone)),
        }
    }
}

impl<T> IntoFuture for Reply<T> {
    type Output = Result<T, RequestError>;
    type IntoFuture = AwaitReply<T>;

    fn into_future(self) -> AwaitReply<T> {
        AwaitReply { receiver: self.receiver.into_future() }
    }
}

/// Future of a [`Reply`] that is awaited.
#[derive(Debug)]
pub struct AwaitReply<T> {
    receiver: oneshot::AsyncReceiver<Result<T, RequestError>>,
}

impl<T> Future for AwaitReply<T> {
    type Output = Result<T, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver)
            .poll(cx)
            .map(|received| received.unwrap_or(Err(RequestError::PeerGone)))
    }
}
