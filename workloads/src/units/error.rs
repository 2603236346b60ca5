//! What can go wrong with the data and the databases of the units workload.
//!
//! All of it is `Send + Sync + 'static`, so that a whole batch can share one failure across shards.

use std::fmt;
use std::path::PathBuf;

/// The CSV files are missing or hold something unexpected.
#[derive(Debug)]
#[non_exhaustive]
pub enum DataError {
    /// A file could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A row is wrong.
    Row {
        /// Name of the file.
        file: &'static str,
        /// Line on which the row starts, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Text that is no airport code.
    Code(String),
    /// Text that is no local time from 2000 on.
    Time(String),
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Row { file, line, why } => write!(f, "{file}:{line}: {why}"),
            Self::Code(text) => {
                write!(f, "{text:?} is no airport code (three or four of A-Z and 0-9)")
            }
            Self::Time(text) => {
                write!(f, "{text:?} is no local time from 2000 on (2001-01-31 23:59)")
            }
        }
    }
}

impl std::error::Error for DataError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Row { .. } | Self::Code(_) | Self::Time(_) => None,
        }
    }
}

/// A database call failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// A file of the database could not be made or moved.
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The embedded database refused.
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// The server refused, or is gone.
    #[cfg(feature = "postgres")]
    Postgres {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// The database holds a value that no row of ours has.
    Decode {
        /// What was being read.
        doing: &'static str,
        /// The value.
        value: String,
    },
    /// There is no connection to make the call on, now.
    NoConnection {
        /// Why.
        why: String,
    },
    /// The simulated downstream failed, as it was told to.
    Simulated,
}

impl StoreError {
    /// Whether the connection is gone, so that only a new one can help.
    #[must_use]
    pub fn lost_connection(&self) -> bool {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres { source, .. } => {
                // A server that stops says so in a last error before it closes.
                use tokio_postgres::error::SqlState;
                let going = [
                    &SqlState::ADMIN_SHUTDOWN,
                    &SqlState::CRASH_SHUTDOWN,
                    &SqlState::CANNOT_CONNECT_NOW,
                ];
                source.is_closed() || source.code().is_some_and(|code| going.contains(&code))
            }
            Self::NoConnection { .. } => true,
            Self::File { .. } | Self::Sqlite { .. } | Self::Decode { .. } | Self::Simulated => {
                false
            }
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, source } => write!(f, "cannot write {}: {source}", path.display()),
            Self::Sqlite { doing, source } => write!(f, "sqlite failed {doing}: {source}"),
            #[cfg(feature = "postgres")]
            Self::Postgres { doing, source } => {
                // The client's own text stops at "db error"; the cause says which.
                write!(f, "postgres failed {doing}: {source}")?;
                let cause = std::error::Error::source(source);
                cause.map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
            Self::Decode { doing, value } => write!(f, "unexpected value {value} {doing}"),
            Self::NoConnection { why } => write!(f, "no connection: {why}"),
            Self::Simulated => f.write_str("simulated failure"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Sqlite { source, .. } => Some(source),
            #[cfg(feature = "postgres")]
            Self::Postgres { source, .. } => Some(source),
            Self::Decode { .. } | Self::NoConnection { .. } | Self::Simulated => None,
        }
    }
}
