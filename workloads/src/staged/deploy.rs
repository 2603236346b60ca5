//! From a workload file's words to a service on an engine: files made, stages declared, listeners.

use std::path::PathBuf;
use std::{fmt, io};

use forebay::net::Address;
use forebay::{Builder, Engine};
use tempfile::TempDir;

use super::config::Config;
use super::files;
use super::graph::Graph;
use super::http;
use crate::listening::{self, ServeError};

/// Why the workload cannot be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// The files cannot be written.
    Files(PathBuf, io::Error),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(path, error) => {
                let path = path.display();
                write!(
                    f,
                    "cannot write the file set to {path}: {error}; TMPDIR chooses another place"
                )
            }
        }
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Files(_, error) => Some(error),
        }
    }
}

/// The service with its files ready. They are gone when it is dropped.
#[derive(Debug)]
pub struct Staged {
    config: Config,
    seed: u64,
    files: TempDir,
}

impl Staged {
    /// Writes the file set to a temporary directory. Blocks.
    ///
    /// # Errors
    ///
    /// [`SetupError::Files`].
    pub fn new(config: &Config, seed: u64) -> Result<Self, SetupError> {
        let failed = |path: PathBuf| move |error| SetupError::Files(path, error);
        let files = tempfile::Builder::new()
            .prefix("forebay-staged-")
            .tempdir()
            .map_err(failed(std::env::temp_dir()))?;
        files::write_all(files.path(), config.files.directories, seed)
            .map_err(failed(files.path().to_owned()))?;
        Ok(Self { config: config.clone(), seed, files })
    }

    /// Declares the stages, in order of rank. Their options may be changed until the engine starts.
    pub fn declare(&self, builder: &mut Builder) -> Graph {
        Graph::declare(builder, &self.config, self.files.path(), self.seed)
    }

    /// Serves on every shard of the engine (a Unix address on the first alone) and tells the
    /// address, with the port that the system chose where `address` has none. Returns when all
    /// shards accept.
    ///
    /// # Errors
    ///
    /// [`ServeError`]; nothing is undone, since the caller ends the engine.
    pub fn serve(
        &self,
        engine: &Engine,
        graph: Graph,
        address: &Address,
    ) -> Result<Address, ServeError> {
        let config = self.config.clone();
        let options = http::listen_options(&config.limits);
        listening::on_every_shard(engine, address, options, move |listener| {
            forebay::spawn_background(http::accept(listener, config.clone(), graph)).detach();
        })
    }
}
