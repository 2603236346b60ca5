//! The way of a request through the stages, whole and in one place.
//!
//! ```text
//!              ┌──────────── in the connection's task ────────────┐
//!   client ──▶ receive ──▶ parse ──▶ admit ────────────▶ reply ──▶ send ──▶ client
//!                                      │                   ▲
//!                request with a deadline and a class       │
//!                                      ├─▶ [cache] ── hit ─┤
//!                                      │      └ miss ─▶ [file] ─▶ [cache] keeps it
//!                                      └─▶ [dynamic] ──────┘
//! ```
//!
//! Receiving, parsing and sending are no stages: they never wait for anything but their own client,
//! whose limits bound them (`http.rs`), and a queue in front of each would only be another place to
//! wait in. A stage stands where there is something to batch or to bound: `cache` may belong to
//! another shard, `file` has the disk behind it, `dynamic` is the bottleneck.
//!
//! A file is never older than its cached copy, so there is no stale copy to fall back on; of a
//! dynamic page there is no copy at all. What degrades is the dynamic page, by becoming smaller, when the stage's
//! conditioner says so (`Stage::degrade` in `make_pages.rs`).

use std::path::Path;

use forebay::{Builder, CallError, Dedup, StageOptions, StageRef};

use super::asked::Asked;
use super::cache::{Access, FileCache};
use super::config::Config;
use super::file::{ReadError, ReadFiles};
use super::files::FileId;
use super::make_pages::{MakePages, Order, Page};
use super::page::{Level, PageId};
use super::refusal::Refusal;

/// Files that one batch reads at once: operations of one file are few, and a ring's entries many.
const FILES_PER_BATCH: usize = 32;

/// The stages, on whatever shard this is used.
#[derive(Clone, Copy, Debug)]
pub struct Graph {
    cache: StageRef<FileCache>,
    file: StageRef<ReadFiles>,
    dynamic: StageRef<MakePages>,
}

impl Graph {
    /// Declares the stages, in order of rank, as [`Config::stages`](super::Config::stages) names them.
    pub(super) fn declare(builder: &mut Builder, config: &Config, files: &Path, seed: u64) -> Self {
        let bytes_max = config.cache.bytes_max;
        let cache = builder.shared_stage("cache", StageOptions::default(), move |_| async move {
            Ok(FileCache::new(bytes_max))
        });
        let root = files.to_owned();
        let file = builder.shared_stage("file", reads(), move |_| {
            let root = root.clone();
            async move { Ok(ReadFiles { root }) }
        });
        let dynamic = config.dynamic;
        let dynamic = builder.shared_stage("dynamic", one_by_one(), move |_| async move {
            Ok(MakePages { dynamic, seed })
        });
        Self { cache, file, dynamic }
    }

    /// The page that is asked. Runs inside the request, whose deadline every call inherits.
    pub(super) async fn answer(self, asked: Asked) -> Result<Page, Refusal> {
        match asked {
            Asked::File(id) => self.file(id).await,
            Asked::Dynamic(id) => self.dynamic(id).await,
        }
    }

    async fn file(self, id: FileId) -> Result<Page, Refusal> {
        if let Some(body) = self.cache.call(Access::Get(id)).await? {
            return Ok(Page { body, level: Level::WHOLE });
        }
        let body = self.file.call(id).await.map_err(not_read)?;
        // A cache that has no room for the call keeps nothing, counts it, and costs the next reader
        // a read; this one has its page.
        let _kept = self.cache.call(Access::Keep(id, body.clone())).await;
        Ok(Page { body, level: Level::WHOLE })
    }

    async fn dynamic(self, id: PageId) -> Result<Page, Refusal> {
        Ok(self.dynamic.call(Order { id, level: Level::WHOLE }).await?)
    }
}

/// A host that is out of descriptors has no room now, as a stage that is full; any other fault of it
/// is one.
fn not_read(error: CallError<ReadError>) -> Refusal {
    match error {
        CallError::Item(read) if read.is_shortage() => Refusal::exhausted(),
        other => other.into(),
    }
}

/// The disk answers several reads at once, and equal ones share one.
fn reads() -> StageOptions {
    let mut options = StageOptions::default();
    options.items_max = FILES_PER_BATCH;
    options.dedup = Dedup::InFlight;
    options
}

/// One page after the other, none of them kept back for company.
fn one_by_one() -> StageOptions {
    let mut options = StageOptions::default();
    options.items_max = 1;
    options
}
