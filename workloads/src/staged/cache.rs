//! The stage `cache`: file bodies kept in memory, at most so many bytes on each shard.
//!
//! Lookups and entries are both calls of the stage, so that it may stand on the shard that owns a
//! file's key as well as on each shard: a workload file's `placement` decides. A batch of it never
//! waits, since what is not here is read by the request itself (`graph.rs`), so no hit ever queues
//! behind a miss.
//!
//! The crate `quick_cache` decides what stays: weights are bytes, one single-threaded instance per
//! shard without locks, and its eviction is not flushed by a client that asks for every large file
//! once, as plain LRU is.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use forebay::{Batch, Stage};
use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use super::files::FileId;

/// What an entry takes beside its body: key, handle and the cache's own record.
const ENTRY_BYTES: u64 = 96;
/// The mean size of what is asked, by which the cache sizes its first table.
const BODY_BYTES_EXPECTED: u64 = 16 << 10;

/// The bodies that one shard keeps.
pub(super) struct FileCache {
    kept: RefCell<Cache<FileId, Bytes, Weight>>,
}

impl fmt::Debug for FileCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileCache({} files)", self.kept.borrow().len())
    }
}

/// What is asked of the cache.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// The body of a file, if it is kept.
    Get(FileId),
    /// To keep a body from now on.
    Keep(FileId, Bytes),
}

#[derive(Clone)]
struct Weight;

impl Weighter<FileId, Bytes> for Weight {
    fn weight(&self, _: &FileId, body: &Bytes) -> u64 {
        body.len() as u64 + ENTRY_BYTES
    }
}

impl FileCache {
    /// A cache of at most so many bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        let n_expected = usize::try_from(bytes_max / BODY_BYTES_EXPECTED).unwrap_or(usize::MAX);
        Self { kept: RefCell::new(Cache::with_weighter(n_expected.max(1), bytes_max, Weight)) }
    }

    fn answer(&self, access: &Access) -> Option<Bytes> {
        match access {
            Access::Get(id) => self.kept.borrow().get(id).cloned(),
            Access::Keep(id, body) => {
                self.kept.borrow_mut().insert(*id, body.clone());
                None
            }
        }
    }
}

impl Stage for FileCache {
    type Item = Access;
    type Key = FileId;
    type Class = ();
    type Value = Option<Bytes>;
    type Error = Infallible;

    fn key(access: &Access) -> FileId {
        match access {
            Access::Get(id) | Access::Keep(id, _) => *id,
        }
    }

    fn class(_: &Access) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Infallible> {
        for item in batch.items() {
            item.settle(Ok(self.answer(item.item())));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::files;
    use super::*;

    #[test]
    fn what_is_kept_never_weighs_more_than_it_may() {
        const BYTES_MAX: u64 = 200_000;
        let cache = FileCache::new(BYTES_MAX);
        for round in 0..3 {
            for id in files::all(2) {
                cache.answer(&Access::Keep(id, Bytes::from(vec![0; id.n_bytes()])));
                assert!(cache.kept.borrow().weight() <= BYTES_MAX, "{id}, round {round}");
            }
        }
        assert!(cache.kept.borrow().len() > 1, "some are kept");
    }

    #[test]
    fn a_body_that_is_kept_is_found_and_another_is_not() {
        let cache = FileCache::new(1 << 20);
        let body = Bytes::from_static(b"body");
        assert_eq!(cache.answer(&Access::Get(FileId::FRONT)), None);
        cache.answer(&Access::Keep(FileId::FRONT, body.clone()));
        assert_eq!(cache.answer(&Access::Get(FileId::FRONT)), Some(body));
        let other = FileId::new(0, 0, 1).unwrap();
        assert_eq!(cache.answer(&Access::Get(other)), None);
    }
}
