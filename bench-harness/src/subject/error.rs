//! Why a repetition could not be run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::workload_file::Peer;

/// Why a repetition could not be run; the child writes it in place of the repetition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CellError {
    /// This binary has no code for it.
    NotBuilt(String),
    /// This host cannot run the engine; the message names the remedy.
    HostUnfit(String),
    /// The service could not be set up: data, database, stage.
    Setup(String),
    /// The run began and broke.
    Failed(String),
}

impl CellError {
    /// The error of a peer in a build without peers.
    #[cfg_attr(feature = "peers", allow(dead_code, reason = "every peer is there"))]
    pub(crate) fn peer_left_out(peer: Peer) -> Self {
        Self::NotBuilt(format!("peer {} needs the cargo feature `peers`", peer.name()))
    }
}

impl fmt::Display for CellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBuilt(what) => write!(f, "not built into this binary: {what}"),
            Self::HostUnfit(why) => write!(f, "this host cannot run the engine: {why}"),
            Self::Setup(why) => write!(f, "the service could not be set up: {why}"),
            Self::Failed(why) => write!(f, "the run broke: {why}"),
        }
    }
}

impl std::error::Error for CellError {}
