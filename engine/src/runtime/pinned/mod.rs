//! The pinned half: one glommio executor per core, one driver task that hosts the shard.
//!
//! The only folder that names glommio. Beside the driver there is one receive task per incoming
//! lane; requests are tasks of the shard's own queue and never seen by the executor.

mod driver;
mod files;
mod signal;
mod start;

pub(crate) use files::PinnedFile;
pub(crate) use start::{ShardSpec, lanes, start};

use std::fmt;
use std::sync::Arc;

use glommio::channels::shared_channel::ConnectedSender;
use glommio::{GlommioError, ResourceType};

use super::clock::Clock;
use super::lane::Parcel;
use super::shared::Outside;
use super::{ShardId, Time};

/// How a shard waits when it has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// It sleeps, unless something is expected within 50 µs: a timer, an answer that a bridge owes,
    /// the next word of one of few clients whose last one came as soon.
    /// A wake costs 30 to 70 µs and about 25 µs of CPU.
    Park,
    /// It spins for this long before it sleeps: a wake meanwhile costs 3 to 4 µs, the core is
    /// busy all the while.
    SpinUs(u64),
}

impl fmt::Display for IdlePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Park => f.write_str("park"),
            Self::SpinUs(us) => write!(f, "spin {us} us"),
        }
    }
}

/// One shard's side of the pinned half.
#[derive(Debug)]
pub(crate) struct PinnedHalf {
    clock: Clock,
    outsides: Arc<[&'static Outside]>,
    lanes: Vec<Option<ConnectedSender<Parcel>>>,
}

impl PinnedHalf {
    pub(crate) fn now(&self) -> Time {
        self.clock.now()
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
