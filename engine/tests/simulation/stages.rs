//! The stages of a campaign: a store with readers and writers, and two that only misbehave.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use forebay::{Batch, Kind, Stage, StageRef};

/// What the owner of a key holds: its newest version. One per shard, shared by both stages.
pub(crate) type Versions = Rc<RefCell<BTreeMap<u64, u64>>>;

thread_local! {
    /// A stand-in for the downstream database of the simulation that runs on this thread.
    pub(crate) static DATABASE: Versions = Rc::default();
}

pub(crate) fn database() -> Versions {
    DATABASE.with(Rc::clone)
}

/// A delay that follows from what is asked, so that a seed decides it.
fn delay(of: u64) -> Duration {
    Duration::from_nanos(of.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44)
}

#[derive(Debug, PartialEq)]
pub(crate) struct Refused;

/// Reads the version of a key: as of the moment the batch left, answered later.
pub(crate) struct Read;

impl Stage for Read {
    type Item = u64;
    type Key = u64;
    type Class = ();
    type Value = u64;
    type Error = Refused;
    const KIND: Kind = Kind::TouchedRead;

    fn key(item: &u64) -> u64 {
        *item
    }

    fn class(_: &u64) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Refused> {
        let by_key = batch.by_key();
        let versions: Vec<(u64, u64)> = {
            let database = database();
            let database = database.borrow();
            let mut keys: Vec<u64> = by_key.keys().copied().collect();
            keys.sort_unstable();
            keys.iter().map(|key| (*key, database.get(key).copied().unwrap_or(0))).collect()
        };
        for (key, version) in versions {
            forebay::sleep(delay(key ^ version) / 4).await;
            by_key.settle(&key, Ok(version));
        }
        Ok(())
    }
}

/// Raises the version of a key, then ends the joining of reads from before.
pub(crate) struct Write {
    pub(crate) reads: StageRef<Read>,
}

impl Stage for Write {
    type Item = (u64, u64);
    type Key = u64;
    type Class = ();
    type Value = u64;
    type Error = Refused;

    fn key(item: &(u64, u64)) -> u64 {
        item.0
    }

    fn class(_: &(u64, u64)) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Refused> {
        for item in batch.items() {
            let (key, nonce) = *item.item();
            forebay::sleep(delay(nonce) / 8).await;
            let version = {
                let database = database();
                let mut database = database.borrow_mut();
                let version = database.entry(key).or_default();
                *version += 1;
                *version
            };
            self.reads.touch(&key);
            item.settle(Ok(version));
        }
        Ok(())
    }
}

/// What an unruly item asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wish {
    Answer(u64),
    Fail(u64),
    Forget(u64),
    FailBatch,
    Panic,
    Never,
}

/// Does what its items wish; classes keep the destructive ones apart from nobody.
pub(crate) struct Unruly;

impl Stage for Unruly {
    type Item = (u8, Wish);
    type Key = Wish;
    type Class = u8;
    type Value = u64;
    type Error = Refused;
    const KIND: Kind = Kind::TouchedRead;
    const IDEMPOTENT: bool = true;
    const DEGRADE_LEVELS: u8 = 2;

    fn key(item: &(u8, Wish)) -> Wish {
        item.1
    }

    fn class(item: &(u8, Wish)) -> u8 {
        item.0
    }

    fn share(class: &u8) -> u32 {
        u32::from(*class) + 1
    }

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Refused> {
        for item in batch.items() {
            assert_eq!(item.item().0, *batch.class(), "a batch never mixes classes");
            match item.item().1 {
                Wish::Answer(n) => {
                    forebay::sleep(delay(n) / 16).await;
                    item.settle(Ok(n));
                }
                Wish::Fail(_) => item.settle(Err(Refused)),
                Wish::Forget(_) => {}
                Wish::FailBatch => return Err(Refused),
                Wish::Panic => panic!("as wished"),
                Wish::Never => forebay::sleep(Duration::from_secs(3_600)).await,
            }
        }
        Ok(())
    }
}
