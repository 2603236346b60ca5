//! The pinned half: one glommio executor per core, one driver task that hosts the shard.
//!
//! The only folder that names glommio. Beside the driver there is one receive task per incoming
//! lane; requests are tasks of the shard's own queue and never seen by the executor.

mod driver;
mod files;
mod start;

pub(crate) use files::FileHandle;
pub(crate) use start::{LaneEnds, ShardSpec, lanes, start};

use std::sync::Arc;
use std::time::Instant;

use glommio::channels::shared_channel::ConnectedSender;
use glommio::{GlommioError, ResourceType};

use super::lane::Parcel;
use super::shared::Outside;
use super::{ShardId, Time};

/// How a shard waits when it has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// It sleeps. A wake costs 30 to 70 µs and about 25 µs of CPU.
    Park,
    /// It spins for this long before it sleeps: a wake meanwhile costs 3 to 4 µs, the core is
    /// busy all the while.
    SpinUs(u64),
}

/// One shard's side of the pinned half.
#[derive(Debug)]
pub(crate) struct PinnedHalf {
    epoch: Instant,
    outsides: Arc<[Arc<Outside>]>,
    lanes: Vec<Option<ConnectedSender<Parcel>>>,
}

impl PinnedHalf {
    #[allow(clippy::disallowed_methods, reason = "this is the door through which time comes in")]
    pub(crate) fn now(&self) -> Time {
        let since = Instant::now().saturating_duration_since(self.epoch);
        Time::from_nanos(super::nanos(since))
    }

    pub(crate) fn send(&self, to: ShardId, parcel: Parcel) -> Result<(), Parcel> {
        let lane = self.lanes[to.index()].as_ref().expect("a lane to every other shard");
        lane.try_send(parcel).map_err(|refused| match refused {
            GlommioError::WouldBlock(ResourceType::Channel(parcel))
            | GlommioError::Closed(ResourceType::Channel(parcel)) => parcel,
            // Nothing else gives the parcel back; the executor's own state is broken.
            other => panic!("lane to shard {to}: {other}"),
        })
    }

    pub(crate) fn is_alive(&self, peer: ShardId) -> bool {
        self.outsides[peer.index()].is_alive()
    }
}
