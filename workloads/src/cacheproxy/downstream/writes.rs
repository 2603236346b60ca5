//! What changes items of one server, and reads that nobody may share: pipelined, in order.
//!
//! One connection and one batch at a time, so operations are done in the order of their calls. When a
//! write has been answered, and before its caller is told, reads of its key that are under way on any
//! shard are closed to further callers. Whoever reads after the caller was told, wherever it is, then
//! has an answer that the server gave after the write.
//!
//! ```text
//!   server: STORED ─▶ touch here ─▶ touch on every other shard ─▶ settle ─▶ the caller goes on
//! ```
//!
//! Reads stay on the shard of their connection for that price: with an owner shard for each key, most
//! reads would cross shards there and back, and reads are what there is most of. A write that was
//! not answered may be done at any later time, for all that can be known.

use std::rc::Rc;

use forebay::{Batch, RequestError, ShardId, Stage, StageRef, n_shards, on_shard, this_shard};

use super::flush::Flushes;
use super::pool::{Pool, Take};
use super::reads::{ReadKey, Reads};
use crate::cacheproxy::operation::{Failure, Get, Key, Operation, Outcome};
use crate::cacheproxy::wire::bytes_about;

/// The writes of one server on one shard.
#[derive(Debug)]
pub(super) struct Writes {
    pub(super) pool: Pool,
    pub(super) reads: StageRef<Reads>,
    pub(super) sharing: Sharing,
    pub(super) flushes: Flushes,
}

/// Which reads a write closes to further callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Those of its key, on every shard.
    EndedByWrites,
    /// Planted fault: those of its key on its own shard only.
    #[cfg(test)]
    EndedHere,
    /// Planted fault: none.
    #[cfg(test)]
    NeverEnded,
}

impl Stage for Writes {
    type Item = Operation;
    type Key = Key;
    type Class = ();
    type Value = Outcome;
    type Error = Failure;

    fn key(item: &Operation) -> Key {
        item.key.clone()
    }

    fn class(_: &Operation) {}

    fn weight(item: &Operation) -> u64 {
        bytes_about(item) as u64
    }

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Failure> {
        let items: Vec<_> = batch.items().collect();
        let operations: Vec<&Operation> = items.iter().map(|item| item.item()).collect();
        let exchange = self.pool.send(&operations, Take::Any).await;
        let mut exchange = exchange.map_err(|why| why.fail(&batch))?;
        while let Some(told) = exchange.told().await.map_err(|_broken| Failure::Unanswered)? {
            let keys = told.iter().map(|(idx, _)| operations[*idx].key.clone()).collect();
            let ended = self.end_sharing(keys).await;
            for (idx, outcome) in told {
                // Done, but somebody may still be told what was before: nobody may rely on it.
                items[idx].settle(ended.map(|()| outcome).map_err(|_error| Failure::Unanswered));
            }
        }
        Ok(())
    }
}

impl Writes {
    async fn end_sharing(&self, keys: Vec<Key>) -> Result<(), RequestError> {
        let reads = self.reads;
        let end = move || {
            for key in &keys {
                reads.touch(&ReadKey { key: key.clone(), get: Get::PLAIN });
            }
        };
        self.sharing.end(end).await
    }
}

/// Closes all reads that are under way on any shard to further callers.
pub(super) async fn end_all_sharing(
    reads: StageRef<Reads>,
    sharing: Sharing,
) -> Result<(), RequestError> {
    sharing.end(move || reads.touch_all()).await
}

impl Sharing {
    /// Does what ends the sharing on a shard on every shard.
    async fn end(self, end: impl Fn() + Clone + Send + 'static) -> Result<(), RequestError> {
        match self {
            Self::EndedByWrites => end(),
            #[cfg(test)]
            Self::EndedHere => {
                end();
                return Ok(());
            }
            #[cfg(test)]
            Self::NeverEnded => return Ok(()),
        }
        let others = (0..n_shards()).map(ShardId::new).filter(|shard| *shard != this_shard());
        // All begin before the first is awaited.
        let ended: Vec<_> = others
            .map(|shard| {
                let end = end.clone();
                on_shard(shard, move || async move { end() })
            })
            .collect();
        for ended in ended {
            match ended.await {
                // A shard that has ended, or ends, answers nobody any more.
                Ok(()) | Err(RequestError::PeerGone | RequestError::Closed) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
