//! Stages: a bounded queue, a window, permits and a batch function.
//!
//! ```text
//!            admit                    seal                        settle
//!   call ──▶ slot ─▶ queue ─(window)─▶ flight ─▶ batch function ──▶ slot ─▶ caller
//!             │  dedup: equal keys       │ permit                    │
//!             └─ other shard owns the key: lane there ─▶ its queue   └─ lane back
//! ```
//!
//! A call, its cancellation and its settling only change state; the turn alone forms batches and
//! starts them. User code (`Hash`, `Eq`, `Clone`, `Drop`, wakers) never runs while the stage's
//! state is borrowed.

mod options;
mod core;
mod slots;
mod deadlines;
mod waiters;
mod admit;
mod call;
mod queue;
mod lanes;
mod index;
mod window;
mod permits;
mod controls;
mod leaving;
mod dispatch;
mod sealed;
mod flight;
mod part;
mod batch;
mod attempt;
mod crossing;
mod remote;
mod any;

use std::cell::RefCell;
use std::hash::Hash;
use std::marker::PhantomData;
use std::rc::Rc;

pub(crate) use self::core::StageCore;
pub(crate) use any::{AnyStage, TurnView};
pub use batch::{Batch, BatchItem, ByKey};
pub use call::Call;
pub(crate) use crossing::Ship;
pub(crate) use options::Nature;
pub use options::{Dedup, Kind, Placement, StageOptions};
pub use window::{SealReason, Window};

use crate::runtime::ShardId;

/// A downstream call that is made in batches: what one call asks, and how a batch of them is done.
///
/// One instance per shard. Nothing need be `Send` unless the stage is declared as shared.
pub trait Stage: Sized + 'static {
    /// What one call asks.
    type Item: 'static;
    /// What routes a call to its owner shard and tells equal calls.
    type Key: Hash + Eq + Clone + 'static;
    /// A batch never mixes classes; `()` where all may mix.
    type Class: Hash + Eq + 'static;
    /// What a call gives; every waiter of a shared item gets a clone.
    type Value: Clone + 'static;
    /// What the downstream's failures are.
    type Error: 'static;

    /// What the engine may do with equal keys. The default is the safe one.
    const KIND: Kind = Kind::Write;

    /// Whether making the downstream call twice does no more than making it once. Only then are
    /// failed batches tried again, where the options say so.
    const IDEMPOTENT: bool = false;

    /// How many levels of less an item can be asked for with, see [`Stage::degrade`]; 0 for none.
    const DEGRADE_LEVELS: u8 = 0;

    /// The key of an item.
    fn key(item: &Self::Item) -> Self::Key;

    /// The class of an item.
    fn class(item: &Self::Item) -> Self::Class;

    /// What the item counts for against `weight_max`.
    fn weight(_item: &Self::Item) -> u64 {
        1
    }

    /// How often batches of this class get their turn, relative to other classes; at least 1.
    fn share(_class: &Self::Class) -> u32 {
        1
    }

    /// Makes an item ask for less, because the stage is pressed: 1 is a little less, the highest
    /// level the least. Called before the item is queued, with levels up to `DEGRADE_LEVELS`. What
    /// the call then gives should tell.
    fn degrade(_item: &mut Self::Item, _level: u8) {}

    /// Makes the downstream call for a whole batch and settles its items, in any order.
    ///
    /// An error fails what is not yet settled, a panic likewise; what is unsettled after `Ok` gets
    /// `Missing`. It runs in the batch's own scope: [`Batch::deadline`] is its deadline, and only
    /// stages declared later may be called. After `run_max` it is dropped where it awaits.
    fn run(self: Rc<Self>, batch: Batch<Self>) -> impl Future<Output = Result<(), Self::Error>>;

    /// Called after a batch of this stage was dropped unfinished, so that a connection in an
    /// unknown state can be given up.
    fn on_abandon(&self) {}
}

/// Names a declared stage; works on every shard of its engine.
pub struct StageRef<S> {
    pub(crate) rank: u16,
    stage: PhantomData<fn() -> S>,
}

impl<S> Clone for StageRef<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for StageRef<S> {}

impl<S> std::fmt::Debug for StageRef<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StageRef({})", self.rank)
    }
}

impl<S: Stage> StageRef<S> {
    pub(crate) fn new(rank: u16) -> Self {
        Self { rank, stage: PhantomData }
    }

    /// Calls the stage with one item; see [`Call`].
    ///
    /// # Panics
    ///
    /// Outside of a shard, or on a shard of another engine.
    #[must_use = "a call is made when it is awaited"]
    pub fn call(&self, item: S::Item) -> Call<S> {
        Call::new(self.on_current_shard(), item)
    }

    /// Ends the joining of whatever was dispatched for `key` before this moment: a read after a
    /// write must not share the answer of a read from before it. Call it where the write is
    /// known to be done, on the shard that owns the key.
    ///
    /// # Panics
    ///
    /// Outside of a shard, or on a shard of another engine.
    pub fn touch(&self, key: &S::Key) {
        self.on_current_shard().touch(key);
    }

    /// Ends the joining of whatever was dispatched before this moment, for all keys: a change that
    /// concerns everything is known to be done. On this shard; each shard that calls has its own.
    ///
    /// # Panics
    ///
    /// Outside of a shard, or on a shard of another engine.
    pub fn touch_all(&self) {
        self.on_current_shard().touch_all();
    }

    /// The shard whose queue a call with `key` made here goes to.
    ///
    /// # Panics
    ///
    /// Outside of a shard, or on a shard of another engine.
    #[must_use]
    pub fn owner(&self, key: &S::Key) -> ShardId {
        self.on_current_shard().owner(key)
    }

    /// This shard's instance of the stage: what its factory made. For what is no call: figures of the
    /// instance, or state that others beside the batch function need.
    ///
    /// # Panics
    ///
    /// Outside of a shard, or on a shard of another engine.
    #[must_use]
    pub fn instance(&self) -> Rc<S> {
        Rc::clone(&self.on_current_shard().instance)
    }

    fn on_current_shard(&self) -> Rc<StageCore<S>> {
        STAGES
            .with(|stages| stages.borrow().get(usize::from(self.rank)).cloned())
            .and_then(|stage| stage.as_any().downcast::<StageCore<S>>().ok())
            .expect("a stage is called on a shard of the engine that declared it")
    }
}

thread_local! {
    static STAGES: RefCell<Rc<[Rc<dyn AnyStage>]>> = RefCell::new(Rc::new([]));
}

/// Makes these the stages of the current shard and gives those that were before.
pub(crate) fn swap_current(stages: Rc<[Rc<dyn AnyStage>]>) -> Rc<[Rc<dyn AnyStage>]> {
    STAGES.with(|current| std::mem::replace(&mut *current.borrow_mut(), stages))
}
