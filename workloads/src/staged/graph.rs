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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use forebay::sim::{SimOptions, Simulation};
    use forebay::{File, Placement, Reply, RequestOptions};

    use super::*;

    const SEED: u64 = 7;
    const ROOT: &str = "/set";
    const SHARDS: usize = 2;
    const REQUESTS: u64 = 120;
    const WITHIN: Duration = Duration::from_millis(20);

    type Answered = Reply<Result<Page, Refusal>>;

    fn config() -> Config {
        let text = r#"{"files": {"directories": 1}, "clients": {"connections": 1},
            "classes": [{"name": "all", "page": "file", "share_percent": 100}]}"#;
        serde_json::from_str(text).unwrap()
    }

    /// The small files of the set.
    fn ids() -> impl Iterator<Item = FileId> {
        super::super::files::all(1).filter(|id| id.n_bytes() < 1_024)
    }

    async fn write_files() {
        for id in ids() {
            let file = File::create(id.path_in(Path::new(ROOT))).await.unwrap();
            file.write_at(0, &id.content(SEED).bytes(id.n_bytes())).await.unwrap();
            file.close().await.unwrap();
        }
    }

    /// Runs until nothing more happens by itself; the books balance after each step.
    fn settle(sim: &mut Simulation) {
        while sim.step() {
            for shard_idx in 0..SHARDS {
                let shard = sim.snapshot(shard_idx);
                for (stage, ledger) in shard.stages.iter().zip(&shard.ledgers) {
                    assert_eq!(ledger.imbalance(), None, "{ledger:?}");
                    assert_eq!(stage.imbalance(ledger.live), None, "{stage:?}");
                }
            }
        }
    }

    fn ask(sim: &Simulation, graph: Graph, number: u64) -> (Asked, Answered) {
        let n = usize::try_from(number).unwrap();
        let asked = match ids().nth(n % 12) {
            Some(id) => Asked::File(id),
            None => Asked::Dynamic(PageId(number)),
        };
        let answer = move || graph.answer(asked);
        let options = RequestOptions::within(WITHIN);
        (asked, sim.handle().submit(n % SHARDS, options, answer).unwrap())
    }

    fn check(asked: Asked, answer: &Result<Page, Refusal>) {
        match (asked, answer) {
            (Asked::File(id), Ok(page)) => {
                assert_eq!(page.body.len(), id.n_bytes());
                assert!(id.content(SEED).is_at(0, &page.body), "{id}");
            }
            (Asked::Dynamic(id), Ok(page)) => assert!(id.content(SEED).is_at(0, &page.body)),
            (
                Asked::Dynamic(_),
                Err(Refusal::Late | Refusal::Shed { reason: "queue_full", .. }),
            ) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn in_any_order_of_events_each_request_is_answered_rightly_or_refused_for_its_reason() {
        let (mut n_pages, mut n_refused) = (0, 0);
        for seed in 0..20 {
            let mut builder = Builder::new();
            let graph = Graph::declare(&mut builder, &config(), Path::new(ROOT), SEED);
            builder.options_mut("cache").unwrap().placement = Placement::Owner;
            builder.options_mut("dynamic").unwrap().queue_max = 4;
            let mut sim = builder.simulate(SimOptions::new(seed, SHARDS)).unwrap();
            let wrote = sim.handle().submit(0, RequestOptions::default(), write_files).unwrap();
            settle(&mut sim);
            wrote.try_take().expect("it has ended").unwrap();
            let asked: Vec<_> = (0..REQUESTS).map(|number| ask(&sim, graph, number)).collect();
            settle(&mut sim);
            for (asked, answered) in asked {
                let answer = answered.try_take().expect("each has ended").unwrap();
                check(asked, &answer);
                if answer.is_ok() { n_pages += 1 } else { n_refused += 1 }
            }
        }
        assert!(n_pages > 1_000 && n_refused > 100, "{n_pages} pages, {n_refused} refusals");
    }
}
