//! Files, through the shard's ring: nothing here blocks the shard.

use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::runtime::core::{self, Core};
use crate::runtime::half::{Access, FileHandle};

/// An open file of one shard. Close it with [`File::close`]; one that is dropped is closed later,
/// and nobody hears of an error.
///
/// Operations own their buffers: a future dropped half-way leaves the operation to finish by
/// itself, and a write may or may not have happened.
#[derive(Debug)]
pub struct File {
    handle: FileHandle,
    core: Rc<Core>,
}

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// The system's error, such as `NotFound`.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_for(path.as_ref(), Access::Read).await
    }

    /// Opens a file for reading and writing, and makes it if there is none.
    ///
    /// # Errors
    ///
    /// The system's error.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_for(path.as_ref(), Access::Write).await
    }

    async fn open_for(path: &Path, access: Access) -> io::Result<Self> {
        let core = core::current();
        let _under_way = core.enter_executor();
        let handle = core.half().open(path, access).await?;
        Ok(Self { handle, core: Rc::clone(&core) })
    }

    /// Reads at most `n_bytes` at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub async fn read_at(&self, offset: u64, n_bytes: usize) -> io::Result<Vec<u8>> {
        let _under_way = self.core.enter_executor();
        let mut bytes = self.handle.read_at(offset, n_bytes).await?;
        while bytes.len() < n_bytes {
            let at = offset + bytes.len() as u64;
            let more = self.handle.read_at(at, n_bytes - bytes.len()).await?;
            if more.is_empty() {
                break;
            }
            bytes.extend(more);
        }
        Ok(bytes)
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// The system's error; part of the bytes may have been written then.
    pub async fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let _under_way = self.core.enter_executor();
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            // The operation owns its buffer, so that dropping this future harms nobody.
            let n_bytes = self.handle.write_at(rest.to_vec(), at).await?;
            if n_bytes == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            at += n_bytes as u64;
            rest = &rest[n_bytes..];
        }
        Ok(())
    }

    /// Makes what was written durable. After an error nothing is known about it: neither a second
    /// sync nor a second write makes it so.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub async fn sync(&self) -> io::Result<()> {
        let _under_way = self.core.enter_executor();
        self.handle.sync().await
    }

    /// Closes the file and tells whether that went well.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub async fn close(self) -> io::Result<()> {
        let _under_way = self.core.enter_executor();
        self.handle.close().await
    }
}
