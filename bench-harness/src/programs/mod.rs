//! Servers that are programs of their own, found on this host's PATH: `memcached`, `nutcracker`.
//!
//! They stand behind a service or are compared with it. Each is started on a loopback port that it
//! chooses itself where it can, keeps to the CPUs that it is given, and ends with whoever started it:
//! by its process id when it is dropped, and by the kernel when its starter is killed outright.

mod held;
mod running;
mod memcached;
mod nutcracker;

use std::env;
use std::path::PathBuf;

use crate::subject::CellError;

pub(crate) use held::{HeldArgs, become_program};
pub(crate) use memcached::{Stats, start as start_memcached};
pub(crate) use nutcracker::start as start_nutcracker;
pub(crate) use running::Running;

/// A program that this harness knows how to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The cache that everybody compares with.
    Memcached,
    /// twemproxy, which spreads keys over several caches.
    Nutcracker,
}

impl Program {
    /// Its file's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memcached => "memcached",
            Self::Nutcracker => "nutcracker",
        }
    }

    /// Where it is on this host; `None` if PATH does not have it.
    #[must_use]
    pub fn find(self) -> Option<PathBuf> {
        let path = env::var_os("PATH")?;
        let mut files = env::split_paths(&path).map(|directory| directory.join(self.name()));
        files.find(|file| file.is_file())
    }

    /// Where it is.
    ///
    /// # Errors
    /// When it is not on PATH; the remedy stands in the message.
    pub(crate) fn found(self) -> Result<PathBuf, CellError> {
        self.find().ok_or_else(|| CellError::Setup(self.remedy()))
    }

    /// What to do where it is not found, in words.
    #[must_use]
    pub fn remedy(self) -> String {
        let name = self.name();
        format!("`{name}` is not on PATH: install it, as by `apt-get install {name}`")
    }
}
