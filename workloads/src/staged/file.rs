//! The stage `file`: files read through the shard's ring.
//!
//! A batch is what came to be asked together; its files are read at once, each by operations of its
//! own, and each answers its callers as soon as it is there. Equal names share one read, also one
//! that is under way: nothing writes to the set while it is served.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use forebay::{Batch, File, Kind, Stage};
use futures_util::future::join_all;
use rustix::io::Errno;

use super::files::FileId;

/// Reads files of a set.
#[derive(Debug)]
pub(super) struct ReadFiles {
    /// The directory that holds the set.
    pub(super) root: PathBuf,
}

/// Why a file of the set was not read: a fault of the host, never of a client.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The system's error.
    System(io::Error),
    /// It is not as long as it was made.
    Length {
        /// Bytes that it has.
        found: usize,
        /// Bytes that it was made with.
        expected: usize,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => error.fmt(f),
            Self::Length { found, expected } => {
                write!(f, "file of {expected} bytes has {found}")
            }
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl ReadError {
    /// Whether the host has run out of something that comes back: descriptors, memory.
    pub(super) fn is_shortage(&self) -> bool {
        let Self::System(error) = self else { return false };
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        errno.is_some_and(|errno| {
            [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS].contains(&errno)
        })
    }
}

impl ReadFiles {
    async fn read(&self, id: FileId) -> Result<Bytes, ReadError> {
        let file = File::open(id.path_in(&self.root)).await?;
        // One byte more than there should be, so that a file which has grown is found as well.
        let expected = id.n_bytes();
        let read = file.read_at(0, expected + 1).await;
        file.close().await?;
        let bytes = read?;
        match bytes.len() {
            found if found == expected => Ok(bytes.into()),
            found => Err(ReadError::Length { found, expected }),
        }
    }
}

impl Stage for ReadFiles {
    type Item = FileId;
    type Key = FileId;
    type Class = ();
    type Value = Bytes;
    type Error = ReadError;
    const KIND: Kind = Kind::TouchedRead;
    const IDEMPOTENT: bool = true;

    fn key(id: &FileId) -> FileId {
        *id
    }

    fn class(_: &FileId) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), ReadError> {
        join_all(batch.items().map(async |item| item.settle(self.read(*item.item()).await))).await;
        Ok(())
    }
}
