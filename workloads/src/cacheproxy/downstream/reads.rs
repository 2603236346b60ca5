//! Reads of one server: a batch is one multi-get, and equal reads share one answer.
//!
//! Of a batch there stand in memory here its keys, what the socket has given at once, and the value that
//! is on its way: one that is whole is settled, and those who asked for it bound how many they ask for.
//!
//! A read that is dispatched after a write was acknowledged sees it, since the server had applied it
//! by then. One that is shared was dispatched earlier than some who share it; so each write, before
//! it is acknowledged, ends the sharing of what was dispatched before (`super::writes`).

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use forebay::{Batch, BatchItem, Kind, Stage};

use super::exchange::{Broken, Exchange};
use super::pool::{Pool, Take};
use crate::cacheproxy::operation::{Failure, Get, Key, Operation, Outcome, What};

/// The reads of one server on one shard.
#[derive(Debug)]
pub(super) struct Reads {
    pub(super) pool: Pool,
}

/// What equal reads have in common. Its hash is the key's alone, so that a write, which knows nothing
/// of how a key is read, ends the sharing of all its reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadKey {
    pub(super) key: Key,
    pub(super) get: Get,
}

impl Hash for ReadKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl Stage for Reads {
    /// A get that may be shared.
    type Item = Operation;
    type Key = ReadKey;
    type Class = ();
    type Value = Outcome;
    type Error = Failure;
    const KIND: Kind = Kind::TouchedRead;
    const IDEMPOTENT: bool = true;

    fn key(item: &Operation) -> ReadKey {
        let get = get(item).expect("only reads are called here");
        ReadKey { key: item.key.clone(), get }
    }

    fn class(_: &Operation) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Failure> {
        let mut items: Vec<_> = batch.items().collect();
        // Those that are read alike stand together, so that they share a line.
        items.sort_by_key(|item| get(item.item()).map(|get| (get.beside, get.value)));
        let mut left = &items[..];
        // A read may be made twice, and a connection may have ended while it was idle.
        for take in [Take::Any, Take::New] {
            let operations: Vec<&Operation> = left.iter().map(BatchItem::item).collect();
            let exchange = self.pool.send(&operations, take).await;
            let mut exchange = exchange.map_err(|why| why.fail(&batch))?;
            match settle(left, &mut exchange).await {
                Ok(()) => return Ok(()),
                Err(Broken::Lost) => left = &left[left.len() - exchange.n_due()..],
                Err(Broken::Late | Broken::Malformed) => break,
            }
        }
        Err(Failure::Unanswered)
    }
}

/// Settles items as their outcomes come, which is in their order.
async fn settle(items: &[BatchItem<'_, Reads>], exchange: &mut Exchange<'_>) -> Result<(), Broken> {
    while let Some(told) = exchange.told().await? {
        for (idx, outcome) in told {
            items[idx].settle(Ok(outcome));
        }
    }
    Ok(())
}

fn get(item: &Operation) -> Option<Get> {
    match item.what {
        What::Get(get) => Some(get),
        _ => None,
    }
}
