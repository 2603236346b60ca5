//! Files of a pinned shard: glommio's buffered files, through its ring.

use std::io;
use std::path::Path;

use glommio::GlommioError;
use glommio::io::{BufferedFile, OpenOptions};

use crate::runtime::half::Access;

/// An open file on a pinned shard.
#[derive(Debug)]
pub(crate) struct PinnedFile(BufferedFile);

impl PinnedFile {
    pub(crate) async fn open(path: &Path, access: Access) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true);
        if access == Access::Write {
            options.write(true).create(true);
        }
        Ok(Self(options.buffered_open(path).await.map_err(system)?))
    }

    pub(crate) async fn read_at(&self, offset: u64, n_bytes: usize) -> io::Result<Vec<u8>> {
        Ok(self.0.read_at(offset, n_bytes).await.map_err(system)?.to_vec())
    }

    pub(crate) async fn write_at(&self, bytes: Vec<u8>, offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset).await.map_err(system)
    }

    pub(crate) async fn sync(&self) -> io::Result<()> {
        self.0.fdatasync().await.map_err(system)
    }

    pub(crate) async fn close(self) -> io::Result<()> {
        self.0.close().await.map_err(system)
    }
}

/// The system's own error, which callers can tell from others: glommio's conversion keeps words alone.
fn system(error: GlommioError<()>) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => error.into(),
    }
}
