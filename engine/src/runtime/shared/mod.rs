//! Everything two threads touch, and nothing else.
//!
//! A shard shares no state on its hot path. What must be shared stands here, small enough to be
//! checked whole: the inbox (also under loom), the board of phases, published snapshots, and the
//! few flags of [`Outside`].

#![allow(clippy::disallowed_types, reason = "the one module that shares between threads")]

pub(crate) mod sync;
pub(crate) mod inbox;
pub(crate) mod board;
pub(crate) mod bridges;
pub(crate) mod buffers;
pub(crate) mod flag;
pub(crate) mod published;
pub(crate) mod tokens;
mod gathering;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::ShardId;
use super::ready::Runnable;
use board::Phase;
use bridges::Bridges;
pub(crate) use gathering::Gathering;
use inbox::Inbox;

/// What other threads may send to a shard.
pub(crate) enum Message {
    /// A task of the shard is ready.
    Wake(Runnable),
    /// Work from an ordinary thread, run between passes.
    Submit(Box<dyn FnOnce() + Send>),
    /// A word from whoever runs the engine.
    Control(Control),
}

/// What whoever runs the engine may ask of a shard.
pub(crate) enum Control {
    /// Go on to this phase of stopping.
    Enter(Phase),
    /// Publish the metrics now.
    Publish,
    /// List the live requests.
    List(oneshot::Sender<Vec<RequestInfo>>),
    /// Cancel one request.
    Cancel(u64),
    /// Change a controller of a stage; tells whether it has one, `None` where there is no such
    /// stage.
    Adjust { stage: String, adjustment: Adjustment, reply: oneshot::Sender<Option<bool>> },
    /// Another shard has ended; the shard looks which.
    PeerGone,
    /// Hand out the log of turns kept so far.
    TakeLog(oneshot::Sender<Vec<super::TurnRecord>>),
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wake(_) => "Wake",
            Self::Submit(_) => "Submit",
            Self::Control(_) => "Control",
        })
    }
}

/// A change of a stage's controllers while it runs; see [`Handle::adjust`](crate::Handle::adjust).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Adjustment {
    /// The conditioner's target.
    Target(Duration),
    /// How often the downstream is called per second, all shards together.
    RatePerS(u64),
}

/// One live request, as listed for another thread.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestInfo {
    /// Names the request on its shard.
    pub id: u64,
    /// The shard it runs on.
    pub shard: ShardId,
    /// Time since it started.
    pub age: Duration,
    /// Time left to its deadline; `None` where it has none.
    pub left: Option<Duration>,
    /// Where in the source it was started, as `file:line`.
    pub site: String,
    /// Its units of work that have not ended.
    pub units: usize,
}

/// What other threads may touch of one shard.
#[derive(Debug)]
pub(crate) struct Outside {
    /// Unique in the process, so that a waker knows its shard among several engines.
    uid: u64,
    id: ShardId,
    inbox: Inbox<Message>,
    alive: AtomicBool,
    bridges: Arc<Bridges>,
}

impl Outside {
    /// Makes one that lives as long as the process. Wakers may be kept by anybody for ever, and a
    /// counted reference in each of them costs every task two atomic operations; an engine that
    /// has ended leaves less than a kilobyte per shard.
    pub(crate) fn leak(id: ShardId, inbox_max: usize, bridges: Arc<Bridges>) -> &'static Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Box::leak(Box::new(Self {
            uid: NEXT.fetch_add(1, Ordering::Relaxed),
            id,
            inbox: Inbox::new(inbox_max),
            alive: AtomicBool::new(true),
            bridges,
        }))
    }

    pub(crate) fn uid(&self) -> u64 {
        self.uid
    }

    pub(crate) fn id(&self) -> ShardId {
        self.id
    }

    pub(crate) fn inbox(&self) -> &Inbox<Message> {
        &self.inbox
    }

    pub(crate) fn bridges(&self) -> &Arc<Bridges> {
        &self.bridges
    }

    /// Whether the shard still answers; once `false` it stays so.
    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    pub(crate) fn mark_gone(&self) {
        self.alive.store(false, Ordering::Release);
    }

    /// Sends a word that must not be refused; a shard that has ended needs none.
    pub(crate) fn control(&self, control: Control) {
        let _gone = self.inbox.deliver(Message::Control(control));
    }
}
