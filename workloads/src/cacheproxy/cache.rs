//! The cache as a connection sees it: an operation goes in, its outcome comes out.
//!
//! Where items are kept in memory, or in two tiers, each key has one shard, and a connection of
//! another shard reaches it over the mesh, in batches: the stage [`Owned`]. Servers downstream alone
//! need no such owner, since they are one for all shards: operations leave from the shard of their
//! connection.
//!
//! ```text
//!   memcached alone     connection ─▶ downstream's stages of this shard
//!   anything else       connection ─▶ [cache], on the shard of the key ─▶ memory, or tier and tier
//! ```

use std::rc::Rc;
use std::time::Duration;

use forebay::{
    Batch, CallError, Outcome as Sent, ShardId, Stage, StageRef, n_shards, on_shard, sleep,
    spawn_background,
};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::census::{Census, Counted, Listed};
use super::downstream::{Downstream, UnansweredReads};
use super::held::Held;
use super::operation::{ExpTime, Failure, Key, Operation, Outcome, What};
use super::protocol::Refusal;
use super::store::{Pass, Stats};
use super::tier::Tier;
use super::tiers::GRACE;

/// Between two passes of the sweep, in which nothing is gone that was there: memory comes back soon
/// enough, and a host at rest stays at rest.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Between two steps of a pass: a million items take 40 s and a hundredth of the shard's time.
const SWEEP_PAUSE: Duration = Duration::from_millis(10);
/// Between two steps of what ends doubts: as long as what was not answered is given to be done late,
/// so that no step comes in vain.
const WORK_OFF_EVERY: Duration = GRACE;

/// What a shard has of the cache: the keys it owns, and what its connections have done.
#[derive(Debug)]
pub(super) struct Owned {
    /// Shared with the work that keeps it.
    held: Rc<Held>,
    census: Rc<Census>,
}

impl Owned {
    /// With what a shard owns, which from now on is kept in order there, whether anybody asks that shard
    /// or not.
    pub(super) fn new(held: Held) -> Self {
        let held = Rc::new(held);
        spawn_background(sweep(Rc::clone(&held))).detach();
        spawn_background(work_off(Rc::clone(&held))).detach();
        Self { held, census: Rc::default() }
    }
}

impl Stage for Owned {
    type Item = Operation;
    type Key = Key;
    type Class = ();
    type Value = Outcome;
    type Error = Failure;

    fn key(operation: &Operation) -> Key {
        operation.key.clone()
    }

    fn class(_: &Operation) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Failure> {
        let this = &*self.held;
        // Whatever waits keeps its batch, of which there may be any number, and nothing that others need.
        let mut waiting = FuturesUnordered::new();
        for item in batch.items() {
            match this.apply_at_once(item.item()) {
                Some(outcome) => item.settle(Ok(outcome)),
                None => waiting.push(async move {
                    item.settle(Ok(this.apply(item.item()).await));
                }),
            }
        }
        while waiting.next().await.is_some() {}
        Ok(())
    }
}

/// The whole cache, from any shard.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    owned: StageRef<Owned>,
    /// Servers that operations go to without asking an owner.
    downstream: Option<Downstream>,
    unanswered_reads: UnansweredReads,
}

impl Cache {
    /// With the stage of what shards own; `downstream` where all items are with servers.
    pub(super) const fn new(
        owned: StageRef<Owned>,
        downstream: Option<Downstream>,
        unanswered_reads: UnansweredReads,
    ) -> Self {
        Self { owned, downstream, unanswered_reads }
    }

    /// Does an operation. Dropped half-way, it may be done or not.
    pub(super) async fn apply(&self, operation: Operation) -> Outcome {
        let if_unanswered = self.if_unanswered(&operation);
        let outcome = match &self.downstream {
            Some(downstream) => downstream.apply(operation).await,
            None => match self.owned.call(operation).await {
                Ok(outcome) => outcome,
                Err(error) => Outcome::Failed(failure(&error)),
            },
        };
        match (outcome, if_unanswered) {
            (
                Outcome::Failed(Failure::Unavailable | Failure::Unanswered),
                UnansweredReads::Miss,
            ) => Outcome::Miss,
            (outcome, _) => outcome,
        }
    }

    /// What a client is told if this operation is not answered. Only here, where nobody decides by it
    /// any more what becomes of an item.
    const fn if_unanswered(&self, operation: &Operation) -> UnansweredReads {
        match &operation.what {
            What::Get(get) if get.may_be_shared() => self.unanswered_reads,
            _ => UnansweredReads::Fail,
        }
    }

    /// Whether a client may make all items nothing.
    pub(super) fn may_flush_all(&self) -> bool {
        self.owned.instance().held.tiers().all(Tier::may_flush_all)
    }

    /// Makes all items nothing, in memory on every shard and with servers, now or when this time comes.
    /// Dropped half-way, it is done in part.
    pub(super) async fn flush_all(&self, delay: ExpTime) -> Result<(), Refusal> {
        if !self.may_flush_all() {
            return Err(Refusal::FlushNotAllowed);
        }
        self.owned.instance().census.count(|commands| commands.cmd_flush += 1);
        self.flush(delay).await.map_err(Refusal::Failed)
    }

    async fn flush(&self, delay: ExpTime) -> Result<(), Failure> {
        let owned = self.owned;
        let begins = move || owned.instance().held.flush_begins(delay);
        let everywhere_begun = async || {
            let begun = everywhere(begins).await;
            begun.map(|_| ()).ok_or(Failure::Unanswered)
        };
        everywhere_begun().await?;
        let flushed = self.flush_decider(delay).await;
        everywhere_begun().await?;
        flushed
    }

    async fn flush_decider(&self, delay: ExpTime) -> Result<(), Failure> {
        let (owned, here) = (self.owned, self.owned.instance());
        let decider = here.held.decider();
        if decider.store().is_none() {
            return decider.flush_all(delay).await;
        }
        let in_memory = move || {
            if let Some((store, clock)) = owned.instance().held.decider().store() {
                store.borrow_mut().flush_all(clock.now(), delay);
            }
        };
        everywhere(in_memory).await.map(|_| ()).ok_or(Failure::Unanswered)
    }

    /// What is in memory on all shards together, if anything is kept there, and what shards have
    /// counted of their clients. `None` if one does not answer.
    pub(super) async fn counted(&self) -> Option<(Option<Stats>, Counted)> {
        let owned = self.owned;
        let of_shards = everywhere(move || {
            let here = owned.instance();
            (here.held.stats(), here.census.counted())
        });
        let (mut stats, mut counted) = (None::<Stats>, Counted::default());
        for (of_store, of_shard) in of_shards.await? {
            match (&mut stats, of_store) {
                (Some(sum), Some(other)) => sum.add(&other),
                (None, other) => stats = other,
                (Some(_), None) => {}
            }
            counted.add(&of_shard);
        }
        Some((stats, counted))
    }

    /// Bytes of the largest item, as memcached reckons it, of the first tier in memory.
    pub(super) fn item_bytes_max(&self) -> Option<u64> {
        let here = self.owned.instance();
        let mut stores = here.held.tiers().filter_map(Tier::store);
        stores.next().map(|(store, _clock)| store.borrow().item_bytes_max() as u64)
    }

    /// Tells of the connections of all shards; `None` if one does not answer.
    pub(super) async fn clients(&self) -> Option<Vec<Listed>> {
        let owned = self.owned;
        let of_shards = everywhere(move || owned.instance().census.listed()).await?;
        Some(of_shards.into_iter().flatten().collect())
    }

    /// The clients of this shard.
    pub(super) fn census(&self) -> Rc<Census> {
        Rc::clone(&self.owned.instance().census)
    }
}

/// Returns the memory of what has expired on this shard, for ever: a pass every now and then, a step of
/// which takes some tens of microseconds.
async fn sweep(held: Rc<Held>) {
    loop {
        sleep(SWEEP_EVERY).await;
        while held.sweep() == Pass::Going {
            sleep(SWEEP_PAUSE).await;
        }
    }
}

/// Ends what two tiers doubt on this shard, for ever.
async fn work_off(held: Rc<Held>) {
    let Held::Two(tiers) = &*held else { return };
    loop {
        sleep(WORK_OFF_EVERY).await;
        tiers.work_off().await;
    }
}

/// What `ask` gives on each shard; `None` if one does not answer.
async fn everywhere<T, F>(ask: F) -> Option<Vec<T>>
where
    T: Send + 'static,
    F: Fn() -> T + Clone + Send + 'static,
{
    // All begin before the first is awaited.
    let asked: Vec<_> = (0..n_shards())
        .map(|shard| {
            let ask = ask.clone();
            on_shard(ShardId::new(shard), move || async move { ask() })
        })
        .collect();
    let mut answers = Vec::with_capacity(asked.len());
    for answer in asked {
        answers.push(answer.await.ok()?);
    }
    Some(answers)
}

fn failure(error: &CallError<Failure>) -> Failure {
    match error {
        CallError::Item(failure) | CallError::Batch(failure) => **failure,
        CallError::Shed(_) | CallError::Expired(Sent::NotSent) => Failure::Overloaded,
        CallError::Closed(Sent::NotSent) => Failure::Closing,
        _ => Failure::Unanswered,
    }
}
