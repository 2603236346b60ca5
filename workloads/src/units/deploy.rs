//! From a workload file's words to a service on an engine: data made ready, stages declared.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay::{Builder, Dedup, Placement, ShardId, Stage, StageOptions, StageRef};
use tempfile::TempDir;

use super::config::{self, Config, Downstream, OwnedBy, Request, stage};
use super::data::Tables;
use super::downstream::{self, Source, SourceKind};
use super::error::{DataError, StoreError};
use super::request::{Burners, Cards, Lookups, Nothing};
use super::stages::{Airports, Departures, Flights, Lookup, Views};
use super::tree::Trees;
use super::{sqlite, views};

/// Why the workload cannot be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// The CSV files are missing or wrong.
    Data(DataError),
    /// The database cannot be built or reached.
    Store(StoreError),
    /// This build is without a cargo feature that the file needs.
    LeftOut(&'static str),
    /// The file asks for something that this number of shards cannot give.
    Shards(String),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::LeftOut(feature) => {
                write!(f, "built without the cargo feature `{feature}`; add `--features {feature}`")
            }
            Self::Shards(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Data(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::LeftOut(_) | Self::Shards(_) => None,
        }
    }
}

impl From<DataError> for SetupError {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

impl From<StoreError> for SetupError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The workload with its data ready: read, checked, and in the database.
pub struct Ready {
    config: Config,
    source: Source,
    /// Holds the view counters of this run alone.
    _scratch: Option<TempDir>,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ready({})", self.config.downstream.name())
    }
}

/// The service as declared on an engine, by the request it makes.
#[derive(Debug)]
pub enum Units {
    /// Flight cards.
    Cards(Cards),
    /// Single calls.
    Lookups(Lookups),
    /// Single calls beside burning ones.
    Burners(Burners),
    /// Trees of dependent requests.
    Trees(Trees),
    /// No requests.
    Idle(Nothing),
}

impl Ready {
    /// Reads the data and builds what databases are missing. Blocks.
    ///
    /// Paths in `config` are relative to `base_dir`; `seed` drives the simulated downstream.
    /// `after_blocking` is called on a bridge's thread after each batch, for those who count there.
    ///
    /// # Errors
    /// Data, database or build as [`SetupError`] says.
    pub fn new(
        config: &Config,
        base_dir: &Path,
        seed: u64,
        after_blocking: fn(),
    ) -> Result<Self, SetupError> {
        if let Some(feature) = config.left_out() {
            return Err(SetupError::LeftOut(feature));
        }
        let tables = match &config.request {
            Request::FlightCard(card) => {
                Some(Arc::new(Tables::load(&base_dir.join(&card.data_dir))?))
            }
            _ => None,
        };
        let (kind, scratch) = match (&config.downstream, &tables) {
            (Downstream::None, _) => (SourceKind::None, None),
            (Downstream::Simulated(simulated), _) => {
                (SourceKind::Simulated(simulated.clone()), None)
            }
            (Downstream::Sqlite(sqlite), Some(tables)) => build_sqlite(sqlite, tables, base_dir)?,
            #[cfg(feature = "postgres")]
            (Downstream::Postgres(postgres), Some(tables)) => {
                (reach_postgres(postgres, tables)?, None)
            }
            (downstream, _) => {
                let name = downstream.name();
                unreachable!("the file's check refuses {name} for a request without tables")
            }
        };
        let source = Source { kind, tables, seed, after_blocking };
        Ok(Self { config: config.clone(), source, _scratch: scratch })
    }

    /// Declares the stages, in order of rank, and gives the service that calls them.
    ///
    /// # Errors
    /// `Shards` when the request needs more shards than there are.
    pub fn declare(&self, builder: &mut Builder, n_shards: usize) -> Result<Units, SetupError> {
        Ok(match &self.config.request {
            Request::FlightCard(card) => Units::Cards(self.declare_cards(builder, card)),
            Request::Lookup(lookup) => {
                let lookups = self.declare_lookup(builder, lookup.keys, lookup.owned_by);
                check_owners(lookup, n_shards)?;
                Units::Lookups(lookups)
            }
            Request::Burner(burner) => Units::Burners(Burners {
                lookups: self.declare_lookup(builder, burner.keys, OwnedBy::Any),
                config: burner.clone(),
            }),
            Request::Tree(tree) => Units::Trees(Trees::new(tree, n_shards)),
            Request::Idle => Units::Idle(Nothing),
        })
    }

    fn declare_cards(&self, builder: &mut Builder, card: &config::FlightCard) -> Cards {
        let reads = self.reads();
        Cards {
            tables: self.source.tables.clone().expect("cards come with tables"),
            flights: self
                .stage(builder, stage::FLIGHTS, reads.clone(), |downstream| Flights { downstream }),
            airports: self.stage(builder, stage::AIRPORTS, reads.clone(), |downstream| Airports {
                downstream,
            }),
            departures: (card.departures > 0).then(|| {
                self.stage(builder, stage::DEPARTURES, reads, |downstream| Departures {
                    downstream,
                })
            }),
            limit: card.departures,
            views: card.count_views.then(|| {
                self.stage(builder, stage::VIEWS, self.writes(), |downstream| Views { downstream })
            }),
            views_counted: Cell::new(0),
        }
    }

    fn declare_lookup(&self, builder: &mut Builder, n_keys: u64, owned_by: OwnedBy) -> Lookups {
        let options = StageOptions::default();
        let lookup =
            self.stage(builder, stage::LOOKUP, options, |downstream| Lookup { downstream });
        Lookups { lookup, n_keys, owned_by, others: OnceCell::new() }
    }

    fn stage<S>(
        &self,
        builder: &mut Builder,
        name: &'static str,
        options: StageOptions,
        make: fn(std::rc::Rc<downstream::Downstream>) -> S,
    ) -> StageRef<S>
    where
        S: Stage<Error = StoreError>,
        S::Item: Send,
        S::Value: Send,
    {
        let source = self.source.clone();
        builder.shared_stage(name, options, move |shard: ShardId| {
            let made = source.on_shard(shard).map(make);
            async move { Ok(made?) }
        })
    }

    /// Equal keys that wait share one item; as many batches in flight as the downstream can use.
    fn reads(&self) -> StageOptions {
        let mut options = StageOptions::default();
        options.dedup = Dedup::Queued;
        options.permits = self.permits();
        options
    }

    /// The embedded database has one writer: one shard gathers all views. A server has many.
    fn writes(&self) -> StageOptions {
        let mut options = StageOptions::default();
        options.permits = self.permits();
        if matches!(self.source.kind, SourceKind::Sqlite { .. }) {
            options.placement = Placement::Gather(ShardId::new(0));
        }
        options
    }

    fn permits(&self) -> usize {
        match self.source.kind {
            #[cfg(feature = "postgres")]
            SourceKind::Postgres(_) => super::postgres_client::PERMITS,
            _ => 1,
        }
    }

    /// The views that this run has added, read back from the database; `None` where nothing is
    /// durable.
    ///
    /// # Errors
    /// Whatever the database says.
    pub fn views_added(&self) -> Result<Option<u64>, StoreError> {
        match &self.source.kind {
            SourceKind::None | SourceKind::Simulated(_) => Ok(None),
            SourceKind::Sqlite { views, .. } => views::Views::open(views)?.total().map(Some),
            #[cfg(feature = "postgres")]
            SourceKind::Postgres(server) => super::postgres_setup::views_added(server).map(Some),
        }
    }
}

fn build_sqlite(
    config: &config::Sqlite,
    tables: &Tables,
    base_dir: &Path,
) -> Result<(SourceKind, Option<TempDir>), StoreError> {
    let cache_dir: PathBuf = match &config.cache_dir {
        Some(dir) => base_dir.join(dir),
        None => sqlite::default_cache_dir(),
    };
    let database = sqlite::ensure(tables, &cache_dir)?;
    let in_cache = |source| StoreError::File { path: cache_dir.clone(), source };
    let scratch = tempfile::tempdir_in(&cache_dir).map_err(in_cache)?;
    let views = scratch.path().join("views.sqlite");
    Ok((SourceKind::Sqlite { database, views }, Some(scratch)))
}

#[cfg(feature = "postgres")]
fn reach_postgres(config: &config::Postgres, tables: &Tables) -> Result<SourceKind, StoreError> {
    let password = std::env::var("PGPASSWORD").ok();
    let target = super::postgres::Target::parse(&config.url, password.as_deref())?;
    let server = super::postgres_setup::prepare(&target, tables)?;
    Ok(SourceKind::Postgres(Box::new(server)))
}

/// Every shard must find a key that another one owns, or its requests would look for one for ever.
fn check_owners(lookup: &config::Lookup, n_shards: usize) -> Result<(), SetupError> {
    /// With so many uniformly owned keys, that one shard of two owns all has odds of 2^-1000.
    const KEYS_MIN: u64 = 1_000;
    match lookup.owned_by {
        OwnedBy::OtherShard if n_shards < 2 => Err(SetupError::Shards(
            "`owned_by: other_shard` needs at least 2 shards: set engine.shards".to_owned(),
        )),
        OwnedBy::OtherShard if lookup.keys < KEYS_MIN => Err(SetupError::Shards(format!(
            "`owned_by: other_shard` needs at least {KEYS_MIN} keys, there are {}",
            lookup.keys
        ))),
        _ => Ok(()),
    }
}
