//! The peers' way to the same downstreams: a pool, as people have one.
//!
//! SQLite runs on the runtime's blocking threads, one connection for each; PostgreSQL on as many
//! clients, each lent to one caller at a time. The statements are those of our own side.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use forebay_workloads::units::config::{self, Config};
use forebay_workloads::units::data::{Airport, BoardKey, Flight, FlightId, Iata, Tables};
use forebay_workloads::units::simulated::Model;
use forebay_workloads::units::views::Views;
use forebay_workloads::units::{StoreError, sqlite};
use tokio::sync::Mutex;

#[cfg(feature = "postgres")]
use super::postgres_pool::PostgresPool;
use crate::alloc_count;
use crate::subject::CellError;

/// A failure that all callers of a batch share.
pub(super) type Failure = Arc<StoreError>;

/// What answers the calls; cheap to clone.
#[derive(Clone)]
pub(super) enum Downstream {
    /// Nothing: the call computes its reply.
    None,
    /// A model that takes its time.
    Simulated(Arc<Simulated>),
    /// The embedded database.
    Sqlite(Arc<SqlitePool>),
    /// A server.
    #[cfg(feature = "postgres")]
    Postgres(Arc<PostgresPool>),
}

/// The simulated downstream: drawn delays, values from the tables.
pub(super) struct Simulated {
    model: Mutex<Model>,
    tables: Option<Arc<Tables>>,
}

/// The embedded database behind the blocking threads.
pub(super) struct SqlitePool {
    path: Arc<Path>,
    /// SQLite has one writer, so the writers take turns here and not inside it.
    views: Arc<Mutex<Views>>,
    /// Holds the counters; a directory of its own for each run.
    _scratch: tempfile::TempDir,
}

thread_local! {
    /// The connection of a blocking thread.
    static STORE: RefCell<Option<sqlite::Store>> = const { RefCell::new(None) };
}

impl Downstream {
    /// Makes the downstream ready: builds or loads what it needs, and connects.
    pub(super) async fn open(
        config: &Config,
        tables: Option<&Arc<Tables>>,
        base_dir: &Path,
        seed: u64,
    ) -> Result<Self, CellError> {
        match (&config.downstream, tables) {
            (config::Downstream::None, _) => Ok(Self::None),
            (config::Downstream::Simulated(simulated), tables) => {
                let model = Mutex::new(Model::new(simulated, seed, 0));
                Ok(Self::Simulated(Arc::new(Simulated { model, tables: tables.cloned() })))
            }
            (config::Downstream::Sqlite(sqlite), Some(tables)) => {
                let pool = SqlitePool::open(sqlite, tables, base_dir).map_err(setup)?;
                Ok(Self::Sqlite(Arc::new(pool)))
            }
            #[cfg(feature = "postgres")]
            (config::Downstream::Postgres(postgres), Some(tables)) => {
                let pool = PostgresPool::connect(&postgres.url, tables).await?;
                Ok(Self::Postgres(Arc::new(pool)))
            }
            (downstream, _) => {
                let name = downstream.name();
                Err(CellError::NotBuilt(format!("downstream {name} for this request")))
            }
        }
    }

    /// Doubles keys; what the simulated downstream fails is left out.
    pub(super) async fn lookups(&self, keys: &[u64]) -> Result<Vec<(u64, u64)>, Failure> {
        let double = |&key: &u64| (key, key * 2);
        match self {
            Self::Simulated(simulated) => Ok(simulated.pass(keys, |key| Some(double(key))).await),
            _ => Ok(keys.iter().map(double).collect()),
        }
    }

    pub(super) async fn flights(&self, ids: &[FlightId]) -> Result<Vec<Flight>, Failure> {
        match self {
            Self::None => Ok(Vec::new()),
            Self::Simulated(simulated) => {
                let row = |id: &FlightId| simulated.tables.as_ref()?.flight(*id).copied();
                Ok(simulated.pass(ids, row).await)
            }
            Self::Sqlite(pool) => {
                let ids = ids.to_vec();
                pool.read(move |store| store.flights(&ids)).await
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.lend().await.flights(ids).await.map_err(Arc::new),
        }
    }

    pub(super) async fn airports(&self, codes: &[Iata]) -> Result<Vec<Arc<Airport>>, Failure> {
        let shared = |rows: Vec<Airport>| rows.into_iter().map(Arc::new).collect();
        match self {
            Self::None => Ok(Vec::new()),
            Self::Simulated(simulated) => {
                let row = |code: &Iata| simulated.tables.as_ref()?.airport(*code).cloned();
                Ok(simulated.pass(codes, row).await)
            }
            Self::Sqlite(pool) => {
                let codes = codes.to_vec();
                pool.read(move |store| store.airports(&codes)).await.map(shared)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => {
                pool.lend().await.airports(codes).await.map(shared).map_err(Arc::new)
            }
        }
    }

    pub(super) async fn departures(
        &self,
        keys: &[BoardKey],
        limit: u32,
    ) -> Result<Vec<(BoardKey, Arc<[Flight]>)>, Failure> {
        let with_keys = |boards: Vec<Vec<Flight>>| {
            keys.iter().copied().zip(boards.into_iter().map(Arc::from)).collect()
        };
        match self {
            Self::None => Ok(Vec::new()),
            Self::Simulated(simulated) => {
                let row = |key: &BoardKey| {
                    Some((*key, Arc::from(simulated.tables.as_ref()?.board(*key, limit))))
                };
                Ok(simulated.pass(keys, row).await)
            }
            Self::Sqlite(pool) => {
                let keys = keys.to_vec();
                pool.read(move |store| store.departures(&keys, limit)).await.map(with_keys)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => {
                let boards = pool.lend().await.departures(keys, limit).await;
                boards.map(with_keys).map_err(Arc::new)
            }
        }
    }

    /// Adds one view for each flight, durably where there is a database.
    pub(super) async fn add_views(&self, flights: &[FlightId]) -> Result<(), Failure> {
        let views: Vec<_> = flights.iter().map(|&flight| (flight, 1)).collect();
        match self {
            Self::None | Self::Simulated(_) => Ok(()),
            Self::Sqlite(pool) => pool.add_views(views).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.lend().await.add_views(&views).await.map_err(Arc::new),
        }
    }

    /// Sums the counters; `None` where there is no database.
    pub(super) async fn views_total(&self) -> Result<Option<u64>, Failure> {
        match self {
            Self::None | Self::Simulated(_) => Ok(None),
            Self::Sqlite(pool) => pool.views.lock().await.total().map(Some).map_err(Arc::new),
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => {
                pool.lend().await.views_total().await.map(Some).map_err(Arc::new)
            }
        }
    }
}

impl Simulated {
    /// Takes as long as the model says, then returns what did not fail.
    async fn pass<K, V>(&self, keys: &[K], row: impl Fn(&K) -> Option<V>) -> Vec<V> {
        let fate = self.model.lock().await.draw(keys.len());
        if !fate.delay.is_zero() {
            tokio::time::sleep(fate.delay).await;
        }
        let mut failed = fate.failed.iter().copied().peekable();
        let spared = keys
            .iter()
            .enumerate()
            .filter(|(item_idx, _key)| failed.next_if_eq(item_idx).is_none());
        spared.filter_map(|(_item_idx, key)| row(key)).collect()
    }
}

impl SqlitePool {
    fn open(config: &config::Sqlite, tables: &Tables, base_dir: &Path) -> Result<Self, StoreError> {
        let cache_dir = config.cache_dir.as_ref().map(|dir| base_dir.join(dir));
        let cache_dir = cache_dir.unwrap_or_else(sqlite::default_cache_dir);
        let path = sqlite::ensure(tables, &cache_dir)?;
        let in_cache = |source| StoreError::File { path: cache_dir.clone(), source };
        let scratch = tempfile::tempdir_in(&cache_dir).map_err(in_cache)?;
        let views = Views::open(&scratch.path().join("views.sqlite"))?;
        Ok(Self { path: path.into(), views: Arc::new(Mutex::new(views)), _scratch: scratch })
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut sqlite::Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Failure> {
        let path = Arc::clone(&self.path);
        blocking(move || {
            STORE.with_borrow_mut(|slot| {
                let store = match slot {
                    Some(store) => store,
                    None => slot.insert(sqlite::Store::open(&path)?),
                };
                read(store)
            })
        })
        .await
    }

    async fn add_views(&self, views: Vec<(FlightId, u64)>) -> Result<(), Failure> {
        let mut counters = Arc::clone(&self.views).lock_owned().await;
        blocking(move || counters.add(&views)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    let counted = move || {
        let result = work();
        // Blocking threads do not park between two pieces of work as workers do.
        alloc_count::publish();
        result
    };
    match tokio::task::spawn_blocking(counted).await {
        Ok(result) => result.map_err(Arc::new),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is being shut down; nobody will see the reply.
            Err(_cancelled) => Err(Arc::new(StoreError::Simulated)),
        },
    }
}

pub(super) fn setup(error: StoreError) -> CellError {
    CellError::Setup(error.to_string())
}
