//! What a half needs to know of the shard it hosts, so that `runtime` imports nothing above it.

use std::rc::Rc;

use super::core::Core;
use super::lane::Parcel;
use super::{ShardId, Time};

/// What to do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is more to do at once.
    Again,
    /// Nothing to do until `until`, a parcel or a message. `pending`: something is live, so a
    /// wake could be lost to harm.
    Wait { until: Time, pending: bool },
    /// The shard has ended.
    Ended,
}

/// What a half saw that the shard counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Look,
    Park,
    /// A wait ended by its cap although it had been woken long before.
    CappedWait,
}

/// A shard, as its half drives it.
pub(crate) trait Hosted {
    fn core(&self) -> &Rc<Core>;
    fn turn(&self) -> Next;
    fn deliver(&self, parcel: Parcel);
    /// Whether a parcel has come since the turn took what there was.
    fn has_incoming(&self) -> bool;
    fn note(&self, seen: Seen);
    /// Ends what is left, after the last turn.
    fn bury(&self);
    /// The shard is about to sleep: completions of sockets signal from here on. Tells whether there
    /// are some already.
    fn arm_ring(&self) -> bool;
    /// The shard is awake.
    fn disarm_ring(&self);
    /// Whether completions of sockets wait for the next turn.
    fn is_ring_ready(&self) -> bool;
    /// Sockets that are open.
    fn open_sockets(&self) -> usize;
    /// After the shard was buried: closes what could not send in time what was written.
    fn cut_sockets(&self);
    /// After the shard was buried: goes on closing its sockets; tells whether all have closed.
    fn end_sockets(&self) -> bool;
}

/// One turn of one shard: what came in from outside, and what was decided.
///
/// A turn's decisions follow from its shard's state, the clock's readings, what was taken and where
/// the slice cut; replaying those in a simulation must give the rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TurnRecord {
    /// The shard.
    pub shard: ShardId,
    /// The time read when the turn began.
    pub began: Time,
    /// The time read when its pass ended.
    pub passed: Time,
    /// Completions taken from the net ring.
    pub reaped: usize,
    /// Messages taken from the inbox.
    pub messages: usize,
    /// Parcels taken, by the shard they came from, in order.
    pub parcels: Vec<ShardId>,
    /// Tasks polled in the pass: where the slice cut it.
    pub polled: usize,
    /// Timers that fired.
    pub fired: usize,
    /// Batches formed: stage rank and items.
    pub sealed: Vec<(usize, usize)>,
    /// The time read when those batches had run.
    pub ran: Time,
    /// Callers answered by those batches that ran in the same turn: where the slice cut them.
    pub answered: usize,
    /// Requests alive when the turn ended.
    pub live: usize,
}
