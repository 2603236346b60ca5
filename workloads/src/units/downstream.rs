//! What answers the calls of one shard: a database behind a bridge, a model, or nothing.
//!
//! ```text
//!   batch function ─▶ Downstream ─┬─ None       in memory, at once
//!                                 ├─ Simulated  in memory, after a drawn delay on the shard's timer
//!                                 ├─ Sqlite     a bridge: its thread blocks in the statement
//!                                 └─ Postgres   the shard's own connections
//! ```
//!
//! All stages of a shard share one downstream and with it one bridge, so that batches of two
//! stages that leave in one turn cost its thread one wake.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use forebay::{Bridge, ShardId};

use super::config::Simulated;
use super::data::{Airport, BoardKey, Flight, FlightId, Iata, Tables};
use super::error::StoreError;
#[cfg(feature = "postgres")]
use super::postgres_client::Clients;
use super::simulated::Model;
use super::{sqlite, views};

/// Jobs that may wait for a bridge: every stage of a shard with all its permits out is far fewer.
const JOBS_MAX: usize = 1_024;

/// What a downstream answers: a row, or why there is none, for each key it knows.
pub(super) type Rows<Key, Row> = Vec<(Key, Result<Row, StoreError>)>;

/// What shards make their downstreams from: plain data, the same on all of them.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) kind: SourceKind,
    pub(super) tables: Option<Arc<Tables>>,
    pub(super) seed: u64,
    /// Called on a bridge's thread after each batch: what a harness counts there.
    pub(super) after_blocking: fn(),
}

/// Which downstream, and where it is.
#[derive(Clone)]
pub(super) enum SourceKind {
    None,
    Simulated(Simulated),
    Sqlite {
        database: PathBuf,
        views: PathBuf,
    },
    #[cfg(feature = "postgres")]
    Postgres(Box<super::postgres_setup::Server>),
}

/// The downstream of one shard.
pub(super) enum Downstream {
    None,
    Simulated {
        model: Box<RefCell<Model>>,
        tables: Option<Arc<Tables>>,
    },
    Sqlite {
        reads: Bridge<sqlite::Store>,
        /// Used on the one shard that gathers the views; elsewhere its thread sleeps for ever.
        views: Bridge<views::Views>,
        after_blocking: fn(),
    },
    #[cfg(feature = "postgres")]
    Postgres(Box<Clients>),
}

impl fmt::Debug for Downstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "Downstream(none)",
            Self::Simulated { .. } => "Downstream(simulated)",
            Self::Sqlite { .. } => "Downstream(sqlite)",
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "Downstream(postgres)",
        })
    }
}

thread_local! {
    /// The downstream of each shard of this thread, for as long as a stage holds it.
    static OF_SHARDS: RefCell<BTreeMap<usize, Weak<Downstream>>> =
        const { RefCell::new(BTreeMap::new()) };
}

impl Source {
    /// The downstream of a shard: made for its first stage, shared by the others.
    pub(super) fn on_shard(&self, shard: ShardId) -> std::io::Result<Rc<Downstream>> {
        let known = OF_SHARDS.with_borrow(|all| all.get(&shard.index()).and_then(Weak::upgrade));
        if let Some(downstream) = known {
            return Ok(downstream);
        }
        let downstream = Rc::new(self.make(shard)?);
        OF_SHARDS.with_borrow_mut(|all| all.insert(shard.index(), Rc::downgrade(&downstream)));
        Ok(downstream)
    }

    fn make(&self, shard: ShardId) -> std::io::Result<Downstream> {
        let after_blocking = self.after_blocking;
        Ok(match &self.kind {
            SourceKind::None => Downstream::None,
            SourceKind::Simulated(simulated) => {
                let stream = u64::try_from(shard.index()).unwrap_or(u64::MAX);
                let model = Box::new(RefCell::new(Model::new(simulated, self.seed, stream)));
                Downstream::Simulated { model, tables: self.tables.clone() }
            }
            SourceKind::Sqlite { database, views } => {
                let (database, counters) = (database.clone(), views.clone());
                let open = move || told(sqlite::Store::open(&database));
                let open_views = move || told(views::Views::open(&counters));
                Downstream::Sqlite {
                    reads: Bridge::new(&format!("sqlite-{shard}"), 1, JOBS_MAX, open)?,
                    views: Bridge::new(&format!("views-{shard}"), 1, JOBS_MAX, open_views)?,
                    after_blocking,
                }
            }
            #[cfg(feature = "postgres")]
            SourceKind::Postgres(server) => {
                Downstream::Postgres(Box::new(Clients::new((**server).clone())))
            }
        })
    }
}

/// A client that cannot be opened: the reason goes to the log, the callers get `NoConnection`.
fn told<C>(opened: Result<C, StoreError>) -> Option<C> {
    opened.inspect_err(|error| eprintln!("warning: {error}")).ok()
}

impl Downstream {
    pub(super) async fn flights(
        &self,
        ids: Vec<FlightId>,
    ) -> Result<Rows<FlightId, Flight>, StoreError> {
        let keyed = |rows: Vec<Flight>| rows.into_iter().map(|row| (row.id, Ok(row))).collect();
        match self {
            Self::None => Ok(Vec::new()),
            Self::Simulated { tables, .. } => {
                self.simulate(&ids, |id| tables.as_ref()?.flight(*id).copied()).await
            }
            Self::Sqlite { reads, after_blocking, .. } => {
                bridged(reads, *after_blocking, move |db| db.flights(&ids)).await.map(keyed)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(clients) => {
                clients.run(async |db| db.flights(&ids).await).await.map(keyed)
            }
        }
    }

    pub(super) async fn airports(
        &self,
        codes: Vec<Iata>,
    ) -> Result<Rows<Iata, Arc<Airport>>, StoreError> {
        let keyed = |rows: Vec<Airport>| {
            rows.into_iter().map(|row| (row.iata, Ok(Arc::new(row)))).collect()
        };
        match self {
            Self::None => Ok(Vec::new()),
            Self::Simulated { tables, .. } => {
                self.simulate(&codes, |code| tables.as_ref()?.airport(*code).cloned()).await
            }
            Self::Sqlite { reads, after_blocking, .. } => {
                bridged(reads, *after_blocking, move |db| db.airports(&codes)).await.map(keyed)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(clients) => {
                clients.run(async |db| db.airports(&codes).await).await.map(keyed)
            }
        }
    }

    pub(super) async fn departures(
        &self,
        keys: Vec<BoardKey>,
        limit: u32,
    ) -> Result<Rows<BoardKey, Arc<[Flight]>>, StoreError> {
        let asked = keys.clone();
        let keyed = move |boards: Vec<Vec<Flight>>| {
            asked.into_iter().zip(boards.into_iter().map(|board| Ok(Arc::from(board)))).collect()
        };
        match self {
            Self::None => Ok(Vec::new()),
            Self::Simulated { tables, .. } => {
                let board = |key: &BoardKey| Some(Arc::from(tables.as_ref()?.board(*key, limit)));
                self.simulate(&keys, board).await
            }
            Self::Sqlite { reads, after_blocking, .. } => {
                let read = move |db: &mut sqlite::Store| db.departures(&keys, limit);
                bridged(reads, *after_blocking, read).await.map(keyed)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(clients) => {
                clients.run(async |db| db.departures(&keys, limit).await).await.map(keyed)
            }
        }
    }

    /// Adds views, durably where there is a database. Gives the places of those that failed alone,
    /// ascending.
    pub(super) async fn add_views(
        &self,
        viewed: Vec<(FlightId, u64)>,
    ) -> Result<Vec<usize>, StoreError> {
        match self {
            Self::None | Self::Simulated { .. } => self.pass(viewed.len()).await,
            Self::Sqlite { views, after_blocking, .. } => {
                bridged(views, *after_blocking, move |db| db.add(&viewed)).await?;
                Ok(Vec::new())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(clients) => {
                clients.run(async |db| db.add_views(&viewed).await).await?;
                Ok(Vec::new())
            }
        }
    }

    /// Takes the time that a batch of `n_items` takes where it takes time alone; gives the places
    /// of the items that fail, ascending.
    pub(super) async fn pass(&self, n_items: usize) -> Result<Vec<usize>, StoreError> {
        let Self::Simulated { model, .. } = self else { return Ok(Vec::new()) };
        let fate = model.borrow_mut().draw(n_items);
        if !fate.delay.is_zero() {
            forebay::sleep(fate.delay).await;
        }
        Ok(fate.failed)
    }

    async fn simulate<Key: Copy, Row>(
        &self,
        keys: &[Key],
        row: impl Fn(&Key) -> Option<Row>,
    ) -> Result<Rows<Key, Row>, StoreError> {
        let failed = self.pass(keys.len()).await?;
        let answer = |(key_idx, key): (usize, &Key)| {
            if failed.binary_search(&key_idx).is_ok() {
                return Some((*key, Err(StoreError::Simulated)));
            }
            row(key).map(|row| (*key, Ok(row)))
        };
        Ok(keys.iter().enumerate().filter_map(answer).collect())
    }
}

/// Runs one statement on a bridge's thread.
async fn bridged<Client: 'static, T: Send + 'static>(
    bridge: &Bridge<Client>,
    after_blocking: fn(),
    statement: impl FnOnce(&mut Client) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let counted = move |client: &mut Client| {
        let answer = statement(client);
        after_blocking();
        answer
    };
    match bridge.call(counted).await {
        Ok(answer) => answer,
        Err(error) => Err(StoreError::NoConnection { why: error.to_string() }),
    }
}
