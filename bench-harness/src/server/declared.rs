//! A service of a workload file: what it declares before its engine starts, and how it then serves.

use std::net::SocketAddr;
use std::time::Duration;

use forebay::net::Address;
use forebay::{Builder, Engine};
#[cfg(feature = "http")]
use forebay_workloads::admin::{Admin, Token};
use forebay_workloads::cacheproxy::Cacheproxy;
use forebay_workloads::listening::ServeError;
use forebay_workloads::planted::Planted;
#[cfg(feature = "http")]
use forebay_workloads::staged::{Graph, Staged};
use forebay_workloads::{cacheproxy, echo};
use serde::{Deserialize, Serialize};

use super::ours::Places;
#[cfg(feature = "http")]
use super::ours::TOKEN_VARIABLE;
use crate::subject::CellError;
use crate::workload_file::Workload;

/// How long a stop waits for what an echo server has begun: turns, no more.
const ECHO_DRAIN: Duration = Duration::from_secs(5);

/// A workload that is served over a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Connections that get back what they send.
    Echo(forebay_workloads::echo::Config),
    /// Files and pages over HTTP.
    Staged(forebay_workloads::staged::Config),
    /// Keys and values, by memcached's protocols.
    Cacheproxy {
        /// What the file says.
        config: cacheproxy::Config,
        /// The memcacheds behind it that were started for it, in the order in which they share keys.
        backends: Vec<SocketAddr>,
    },
}

impl Service {
    /// The service of a workload file; `None` if it makes its requests itself.
    #[must_use]
    pub fn of(workload: &Workload) -> Option<Self> {
        match workload {
            Workload::Units(_) => None,
            Workload::Echo(config) => Some(Self::Echo(config.clone())),
            Workload::Staged(config) => Some(Self::Staged(config.clone())),
            Workload::Cacheproxy(config) => {
                Some(Self::Cacheproxy { config: config.clone(), backends: Vec::new() })
            }
        }
    }

    /// Whether it has pages for whoever runs it.
    #[must_use]
    pub const fn has_admin(&self) -> bool {
        matches!(self, Self::Staged(_) | Self::Cacheproxy { .. })
    }

    /// How long a stop waits for its clients before it cuts them off.
    pub(super) fn drain_within(&self) -> Duration {
        match self {
            // Its connections are no requests: a stop does not wait for them.
            Self::Echo(_) => ECHO_DRAIN,
            Self::Staged(config) => config.limits.drain_within(),
            Self::Cacheproxy { config, .. } => config.service.limits.drain_within(),
        }
    }

    /// What wrong is done to its replies, to show that its clients find it.
    pub(super) const fn planted(&self) -> Option<Planted> {
        match self {
            Self::Echo(_) => None,
            Self::Staged(config) => config.planted,
            Self::Cacheproxy { config, .. } => config.planted,
        }
    }

    /// Connections that its clients may hold open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        match self {
            Self::Echo(config) => config.connections.into(),
            Self::Staged(config) => config.clients.connections.into(),
            Self::Cacheproxy { config, .. } => config.load.connections.into(),
        }
    }
}

/// A service whose stages stand on a builder. Its files, if it has any, last as long as this.
#[derive(Debug)]
pub(super) enum Declared {
    Echo(echo::Config),
    #[cfg(feature = "http")]
    Staged(Staged, Graph),
    Cacheproxy(Cacheproxy),
}

impl Declared {
    /// Makes the service's data and declares its stages.
    pub(super) fn new(
        service: &Service,
        seed: u64,
        builder: &mut Builder,
    ) -> Result<Self, CellError> {
        match service {
            Service::Echo(config) => Ok(Self::Echo(config.clone())),
            Service::Staged(config) => Self::staged(config, seed, builder),
            Service::Cacheproxy { config, backends } => {
                let backends: Vec<Address> = backends.iter().copied().map(Address::Tcp).collect();
                let declared = Cacheproxy::declare(builder, config, &backends);
                let declared = declared.map_err(|error| CellError::Setup(error.to_string()));
                Ok(Self::Cacheproxy(declared?))
            }
        }
    }

    #[cfg(feature = "http")]
    fn staged(
        config: &forebay_workloads::staged::Config,
        seed: u64,
        builder: &mut Builder,
    ) -> Result<Self, CellError> {
        let staged =
            Staged::new(config, seed).map_err(|error| CellError::Setup(error.to_string()))?;
        let graph = staged.declare(builder);
        Ok(Self::Staged(staged, graph))
    }

    #[cfg(not(feature = "http"))]
    fn staged(
        _: &forebay_workloads::staged::Config,
        _: u64,
        _: &mut Builder,
    ) -> Result<Self, CellError> {
        Err(ServeError::LeftOut("http").into())
    }

    /// Serves at an address on all shards, and tells the one that the system chose.
    pub(super) fn serve(&self, engine: &Engine, address: &Address) -> Result<Address, CellError> {
        Ok(match self {
            Self::Echo(config) => echo::serve(engine, config, address)?,
            #[cfg(feature = "http")]
            Self::Staged(staged, graph) => staged.serve(engine, *graph, address)?,
            Self::Cacheproxy(cacheproxy) => cacheproxy.serve(engine, address)?,
        })
    }

    /// Serves the pages for whoever runs the service, if it has some.
    #[cfg(feature = "http")]
    pub(super) fn serve_admin(
        &self,
        engine: &Engine,
        places: &Places,
    ) -> Result<AdminPages, CellError> {
        if matches!(self, Self::Echo(_)) {
            return Ok(AdminPages(None));
        }
        let (handle, address) = (engine.handle().clone(), places.admin);
        let admin = match &places.admin_token {
            None => Admin::start(handle, address),
            Some(text) => {
                let wrong = || CellError::Setup(format!("{TOKEN_VARIABLE} {}", Token::RULE));
                Admin::start_guarded(handle, address, Token::new(text).ok_or_else(wrong)?)
            }
        };
        let failed = |error| format!("admin pages cannot be at {address}: {error}");
        Ok(AdminPages(Some(admin.map_err(|error| CellError::Setup(failed(error)))?)))
    }

    /// This build has no service with admin pages.
    #[cfg(not(feature = "http"))]
    pub(super) fn serve_admin(&self, _: &Engine, _: &Places) -> Result<AdminPages, CellError> {
        Ok(AdminPages)
    }
}

/// The admin pages of a service, served as long as this is kept.
#[cfg(feature = "http")]
#[derive(Debug)]
pub(super) struct AdminPages(Option<Admin>);

/// The admin pages of a service: none in this build.
#[cfg(not(feature = "http"))]
#[derive(Debug)]
pub(super) struct AdminPages;

impl AdminPages {
    /// Where they are.
    #[cfg(feature = "http")]
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.0.as_ref().map(Admin::address)
    }

    /// Nowhere.
    #[cfg(not(feature = "http"))]
    pub(super) fn address(&self) -> Option<SocketAddr> {
        None
    }
}

impl From<ServeError> for CellError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::LeftOut(_) => Self::NotBuilt(error.to_string()),
            error => Self::Setup(error.to_string()),
        }
    }
}
