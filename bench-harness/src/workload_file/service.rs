//! The service of a workload file, and who else does the same work.

use forebay_workloads::echo::{Config as Echo, Protocol};
use forebay_workloads::{cacheproxy, staged};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::programs::Program;

/// The service and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Requests that are trees of units making database calls.
    Units(forebay_workloads::units::Config),
    /// Connections that get back what they send.
    Echo(forebay_workloads::echo::Config),
    /// Files and pages over HTTP, which keep their goodput under overload.
    Staged(staged::Config),
    /// Keys and values, by memcached's protocols.
    Cacheproxy(cacheproxy::Config),
}

/// The connections of a service's clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// How many are open at most.
    pub n_open: u64,
    /// Most requests in flight on each.
    pub pipelined_max: u64,
    /// Who holds them.
    pub clients: Clients,
}

/// What the clients of a service do with their connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Each keeps one open throughout and never pauses.
    Streams,
    /// Each asks one thing at a time, may think, come and go, and open another connection.
    People,
}

impl Workload {
    /// The word that stands for this service in a file.
    #[must_use]
    pub const fn tag(&self) -> &'static str {
        match self {
            Self::Units(_) => "units",
            Self::Echo(_) => "echo",
            Self::Staged(_) => "staged",
            Self::Cacheproxy(_) => "cacheproxy",
        }
    }

    /// Names of the stages that the service declares, in order of rank.
    #[must_use]
    pub fn stages(&self) -> Vec<String> {
        let names = match self {
            Self::Units(config) => config.stages(),
            Self::Echo(_) => Vec::new(),
            Self::Cacheproxy(config) => return config.stages(),
            Self::Staged(_) => staged::Config::stages(),
        };
        names.into_iter().map(ToOwned::to_owned).collect()
    }

    /// The options of a stage that are no file's to set, since what the service promises rests on them,
    /// and why.
    #[must_use]
    pub fn fixed_options(&self, stage: &str) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Cacheproxy(_) => cacheproxy::Config::fixed_options(stage),
            Self::Units(_) | Self::Echo(_) | Self::Staged(_) => &[],
        }
    }

    /// The cargo feature that this service needs and this build was made without.
    #[must_use]
    pub fn left_out(&self) -> Option<&'static str> {
        match self {
            Self::Units(config) => config.left_out(),
            Self::Echo(config) => config.left_out(),
            Self::Staged(config) => config.left_out(),
            Self::Cacheproxy(_) => None,
        }
    }

    /// The connections that its clients hold open; `None` where there are no clients.
    #[must_use]
    pub fn connections(&self) -> Option<Connections> {
        match self {
            Self::Units(_) => None,
            Self::Echo(config) => Some(Connections {
                n_open: config.connections.into(),
                pipelined_max: config.pipelined_max().into(),
                clients: Clients::Streams,
            }),
            Self::Staged(config) => Some(Connections {
                n_open: config.clients.connections.into(),
                pipelined_max: 1,
                clients: Clients::People,
            }),
            Self::Cacheproxy(config) => Some(Connections {
                n_open: config.load.connections.into(),
                pipelined_max: config.load.pipelined_max.into(),
                clients: Clients::Streams,
            }),
        }
    }

    /// The other implementations that there are of this service.
    #[must_use]
    pub const fn peers(&self) -> &'static [Peer] {
        match self {
            Self::Units(_) => Peer::OF_UNITS,
            Self::Echo(Echo { protocol: Protocol::Bytes(_), .. }) => Peer::OF_ECHO,
            Self::Echo(Echo { protocol: Protocol::Http, .. }) => Peer::OF_PAGES,
            Self::Staged(_) => Peer::OF_STAGED,
            Self::Cacheproxy(_) => Peer::OF_CACHE,
        }
    }
}

/// Another implementation of the same work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    /// The same requests as tokio tasks, one call at a time against a pool.
    TokioDirect,
    /// tokio with async-graphql's `DataLoader`.
    TokioDataloader,
    /// tokio with the `batch-aint-one` crate.
    TokioBatchAintOne,
    /// Plain tokio tasks, where no batching is at stake; hyper on them where pages are served.
    Tokio,
    /// A hand-written loop over edge-triggered epoll.
    Epoll,
    /// The streams of the executor that shards run on.
    GlommioStream,
    /// The program of this name, alone.
    Memcached,
    /// The program of this name (twemproxy), before as many memcacheds as stand behind ours.
    Nutcracker,
}

impl Peer {
    /// Those of the units workload.
    const OF_UNITS: &'static [Self] =
        &[Self::TokioDirect, Self::TokioDataloader, Self::TokioBatchAintOne, Self::Tokio];
    /// Those of the echo workload that carry bytes.
    const OF_ECHO: &'static [Self] = &[Self::Tokio, Self::Epoll, Self::GlommioStream];
    /// Those of the echo workload that serve pages.
    const OF_PAGES: &'static [Self] = &[Self::Tokio];
    /// Those of the staged workload.
    const OF_STAGED: &'static [Self] = &[Self::Tokio];
    /// Those of the cache.
    const OF_CACHE: &'static [Self] = &[Self::Memcached, Self::Nutcracker];

    /// The name in files, cell ids and dumps.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TokioDirect => "tokio_direct",
            Self::TokioDataloader => "tokio_dataloader",
            Self::TokioBatchAintOne => "tokio_batch_aint_one",
            Self::Tokio => "tokio",
            Self::Epoll => "epoll",
            Self::GlommioStream => "glommio_stream",
            Self::Memcached => "memcached",
            Self::Nutcracker => "nutcracker",
        }
    }

    /// The program of this host that it is, if it is one.
    #[must_use]
    pub const fn program(self) -> Option<Program> {
        match self {
            Self::Memcached => Some(Program::Memcached),
            Self::Nutcracker => Some(Program::Nutcracker),
            _ => None,
        }
    }

    /// Whether it can be run: programs by this host, others by this build.
    #[must_use]
    pub fn is_there(self) -> bool {
        self.program().map_or(cfg!(feature = "peers"), |program| program.find().is_some())
    }
}
