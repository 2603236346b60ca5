//! What crosses between the shards of one stage, and what each shard keeps of it.
//!
//! A stage's types need not be `Send`. Where they are, a [`Ship`] knows how calls and replies become
//! something that may cross threads, so that nothing else has to ask for it. Each other shard has a
//! [`Lane`], which counts both ways: what is with that shard, and what it has here.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::Stage;
use super::slots::{Reply, SlotKey};
use crate::error::{CallError, Outcome, Shed, ShedReason};
use crate::runtime::core::Core;
use crate::runtime::priority::Priority;
use crate::runtime::shared::buffers::{Buffer, Buffers};
use crate::runtime::{ShardId, Time};

/// How long the level that an owner has told says anything of it once nothing is there: the time in
/// which a delay counts as standing.
const LEVEL_KEPT: Duration = Duration::from_millis(100);

/// One call on its way to its owner.
pub(crate) struct RemoteCall<S: Stage> {
    pub(super) token: u64,
    pub(super) item: S::Item,
    pub(super) deadline: Time,
    pub(super) joins: bool,
    pub(super) priority: Priority,
}

/// One outcome on its way back.
pub(crate) struct RemoteReply<S: Stage> {
    pub(super) token: u64,
    pub(super) reply: Reply<S>,
}

/// How a stage's calls are made into something that may cross threads. Only stages whose types
/// are `Send` have one; it is made where that is known.
pub(crate) struct Ship<S: Stage> {
    pub(super) calls: fn(Buffer<RemoteCall<S>>) -> Box<dyn Any + Send>,
    pub(super) replies: fn(Buffer<RemoteReply<S>>) -> Box<dyn Any + Send>,
    /// The stage's [`Pools`], one for all shards; their type forgotten, since it may only cross
    /// threads where the stage's own types may.
    pools: Arc<dyn Any + Send + Sync>,
}

/// Buffers for what crosses.
pub(super) struct Pools<S: Stage> {
    pub(super) calls: Buffers<RemoteCall<S>>,
    pub(super) replies: Buffers<RemoteReply<S>>,
}

impl<S: Stage> Clone for Ship<S> {
    fn clone(&self) -> Self {
        Self { pools: Arc::clone(&self.pools), ..*self }
    }
}

impl<S: Stage> fmt::Debug for Ship<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ship")
    }
}

impl<S: Stage> Ship<S>
where
    S::Item: Send,
    S::Value: Send,
    S::Error: Send + Sync,
{
    pub(crate) fn new() -> Self {
        let pools = Pools::<S> { calls: Buffers::default(), replies: Buffers::default() };
        Self {
            calls: |calls| Box::new(calls),
            replies: |replies| Box::new(replies),
            pools: Arc::new(pools),
        }
    }
}

impl<S: Stage> Ship<S> {
    pub(super) fn pools(&self) -> &Pools<S> {
        self.pools.downcast_ref().expect("made beside this")
    }
}

/// What waits to cross to one other shard.
pub(super) struct Lane<S: Stage> {
    pub(super) calls: Vec<RemoteCall<S>>,
    /// Calls among them whose slot has left or settled meanwhile.
    pub(super) stale: usize,
    pub(super) replies: Vec<RemoteReply<S>>,
    pub(super) cancels: Vec<u64>,
    /// How many items of this shard the owner would have with it, as it last said; none or fewer
    /// than are there: further ones are shed before they leave.
    pub(super) level: usize,
    /// When it said so.
    pub(super) level_at: Time,
    /// Items that are with the owner.
    pub(super) away: usize,
    /// The other way round: items of the other shard that are here, and how many it was told it may
    /// have here.
    pub(super) guests: usize,
    pub(super) told: usize,
}

impl<S: Stage> Default for Lane<S> {
    fn default() -> Self {
        Self {
            calls: Vec::new(),
            stale: 0,
            replies: Vec::new(),
            cancels: Vec::new(),
            level: usize::MAX,
            level_at: Time::ZERO,
            away: 0,
            guests: 0,
            told: usize::MAX,
        }
    }
}

/// The crossing side of one stage on one shard.
pub(super) struct Crossing<S: Stage> {
    pub(super) ship: Option<Ship<S>>,
    pub(super) lanes: RefCell<Vec<Lane<S>>>,
    /// Live calls that wait to leave, over all lanes.
    pub(super) outgoing: Cell<usize>,
    /// Slots here that answer to other shards.
    pub(super) guests: RefCell<HashMap<(ShardId, u64), SlotKey, foldhash::fast::FixedState>>,
}

impl<S: Stage> Crossing<S> {
    pub(super) fn new(n_shards: usize, ship: Option<Ship<S>>) -> Self {
        Self {
            ship,
            lanes: RefCell::new((0..n_shards).map(|_| Lane::default()).collect()),
            outgoing: Cell::new(0),
            guests: RefCell::default(),
        }
    }

    pub(super) fn outgoing(&self) -> usize {
        self.outgoing.get()
    }

    /// Whether calls for `owner` are refused before they leave.
    pub(super) fn refusal<E>(&self, owner: ShardId, core: &Core) -> Option<CallError<E>> {
        if !core.half().is_alive(owner) {
            return Some(CallError::PeerGone(Outcome::NotSent));
        }
        let lanes = self.lanes.borrow();
        let lane = &lanes[owner.index()];
        let held = lane.away + lane.calls.len() - lane.stale;
        // With nothing away no reply could lift the level: one call goes to ask, and after a pause the
        // level is forgotten.
        let is_old = lane.away == 0 && core.now().since(lane.level_at) > LEVEL_KEPT;
        let shed = held > 0 && held >= lane.level && !is_old;
        let reason = ShedReason::Owner { outstanding: held };
        shed.then_some(CallError::Shed(Shed { reason, retry_after: Duration::ZERO }))
    }

    pub(super) fn take_guest(&self, origin: ShardId, token: u64, slot: SlotKey) {
        self.guests.borrow_mut().insert((origin, token), slot);
        self.lanes.borrow_mut()[origin.index()].guests += 1;
    }

    pub(super) fn reply(&self, origin: ShardId, token: u64, reply: Reply<S>) {
        let left = self.guests.borrow_mut().remove(&(origin, token));
        let lane = &mut self.lanes.borrow_mut()[origin.index()];
        lane.guests -= usize::from(left.is_some());
        lane.replies.push(RemoteReply { token, reply });
    }

    pub(super) fn cancel(&self, owner: ShardId, token: u64) {
        self.lanes.borrow_mut()[owner.index()].cancels.push(token);
    }
}
