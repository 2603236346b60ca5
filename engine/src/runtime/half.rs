//! The seam between a shard and what hosts it.
//!
//! An enum behind concrete types, not a trait: one copy of everything above, no generic in any
//! public type, both halves always compiled.

use std::io;
use std::path::Path;

use super::lane::Parcel;
use super::pinned::{PinnedFile, PinnedHalf};
use super::simulated::{SimulatedFile, SimulatedHalf};
use super::{ShardId, Time};

/// A fault planted on purpose, to show that the simulation finds its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// An owner loses the reply to another shard's call.
    ShedReply,
    /// A shard goes to sleep without looking at its inbox once more.
    DroppedRecheck,
    /// A touch does not end the joining of what is in flight.
    JoinAcrossWrite,
}

/// What hosts a shard.
#[derive(Debug)]
pub(crate) enum Half {
    Pinned(PinnedHalf),
    Simulated(SimulatedHalf),
}

impl Half {
    /// The time since the engine started.
    pub(crate) fn now(&self) -> Time {
        match self {
            Self::Pinned(half) => half.now(),
            Self::Simulated(half) => half.now(),
        }
    }

    /// The time after one more poll; in simulation a poll takes some.
    pub(crate) fn after_poll(&self) -> Time {
        match self {
            Self::Pinned(half) => half.now(),
            Self::Simulated(half) => half.after_poll(),
        }
    }

    /// The time when a pass has ended.
    pub(crate) fn after_pass(&self) -> Time {
        match self {
            Self::Pinned(half) => half.now(),
            Self::Simulated(half) => half.after_pass(),
        }
    }

    /// The time when the batches of a turn have run.
    pub(crate) fn after_batches(&self) -> Time {
        match self {
            Self::Pinned(half) => half.now(),
            Self::Simulated(half) => half.after_batches(),
        }
    }

    /// Whether a pass must end here; `polled` tasks have run in it.
    pub(crate) fn cuts_pass(&self, polled: usize, over_slice: bool) -> bool {
        match self {
            Self::Pinned(_) => over_slice,
            Self::Simulated(half) => half.cuts_pass(polled, over_slice),
        }
    }

    /// Whether the last step of a turn must end here; `answered` callers have run in it.
    pub(crate) fn cuts_last_step(&self, answered: usize, over_slice: bool) -> bool {
        match self {
            Self::Pinned(_) => over_slice,
            Self::Simulated(half) => half.cuts_last_step(answered, over_slice),
        }
    }

    /// Which of the `n_ready` tasks of a pass runs next.
    pub(crate) fn pick(&self, n_ready: usize) -> usize {
        match self {
            Self::Pinned(_) => 0,
            Self::Simulated(half) => half.pick(n_ready),
        }
    }

    /// How many messages the turn takes from its inbox, at most `max`.
    pub(crate) fn intake(&self, max: usize) -> usize {
        match self {
            Self::Pinned(_) => max,
            Self::Simulated(half) => half.intake(max),
        }
    }

    /// Sends a parcel; it comes back when the lane has no room.
    pub(crate) fn send(&self, to: ShardId, parcel: Parcel) -> Result<(), Parcel> {
        match self {
            Self::Pinned(half) => half.send(to, parcel),
            Self::Simulated(half) => half.send(to, parcel),
        }
    }

    /// Opens a file; in simulation one that lives in memory for as long as the world does.
    pub(crate) async fn open(&self, path: &Path, access: Access) -> io::Result<FileHandle> {
        Ok(match self {
            Self::Pinned(_) => FileHandle::Pinned(PinnedFile::open(path, access).await?),
            Self::Simulated(half) => FileHandle::Simulated(half.open(path, access)?),
        })
    }

    /// Whether another shard still answers.
    pub(crate) fn is_alive(&self, peer: ShardId) -> bool {
        match self {
            Self::Pinned(half) => half.is_alive(peer),
            Self::Simulated(half) => half.is_alive(peer),
        }
    }

    /// Whether this fault is planted here; never in a pinned half.
    pub(crate) fn planted(&self, plant: Plant) -> bool {
        match self {
            Self::Pinned(_) => false,
            Self::Simulated(half) => half.planted(plant),
        }
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// And for reading; it is made if there is none.
    Write,
}

/// An open file of either half.
#[derive(Debug)]
pub(crate) enum FileHandle {
    Pinned(PinnedFile),
    Simulated(SimulatedFile),
}

impl FileHandle {
    pub(crate) async fn read_at(&self, offset: u64, n_bytes: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Pinned(file) => file.read_at(offset, n_bytes).await,
            Self::Simulated(file) => Ok(file.read_at(offset, n_bytes)),
        }
    }

    pub(crate) async fn write_at(&self, bytes: Vec<u8>, offset: u64) -> io::Result<usize> {
        match self {
            Self::Pinned(file) => file.write_at(bytes, offset).await,
            Self::Simulated(file) => Ok(file.write_at(&bytes, offset)),
        }
    }

    pub(crate) async fn sync(&self) -> io::Result<()> {
        match self {
            Self::Pinned(file) => file.sync().await,
            Self::Simulated(_) => Ok(()),
        }
    }

    pub(crate) async fn close(self) -> io::Result<()> {
        match self {
            Self::Pinned(file) => file.close().await,
            Self::Simulated(_) => Ok(()),
        }
    }
}
