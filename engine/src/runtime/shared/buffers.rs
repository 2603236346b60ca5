//! Buffers that one shard fills and another empties, again and again.
//!
//! A parcel's calls are written on one thread and read on another. Made anew for each parcel, the
//! memory would be allocated here, grown here and freed there, in the arena of another thread;
//! from a pool of `sharded-slab` it comes back to the shard that filled it, as large as it was.

use std::sync::Arc;

use sharded_slab::pool::OwnedRefMut;
use sharded_slab::{Clear, Pool};
use sync_wrapper::SyncWrapper;

use crate::runtime::guard::contain;

/// A buffer that holds more than this when it is given back is freed instead: one burst does not
/// keep its memory for ever.
const KEPT_MAX: usize = 4_096;

/// Makes buffers for one kind of content. Clones share one pool.
pub(crate) struct Buffers<T> {
    pool: Arc<Pool<Kept<T>>>,
}

/// A buffer on loan; dropped, on whatever thread, it goes back empty.
pub(crate) struct Buffer<T>(Loan<T>);

enum Loan<T> {
    Pooled(OwnedRefMut<Kept<T>>, Arc<Pool<Kept<T>>>),
    /// The pool had no room: an ordinary allocation does as well.
    Own(Vec<T>),
}

/// What the pool keeps. Only ever reached by whoever holds it alone, so it may be shared between
/// threads whatever it holds.
pub(crate) struct Kept<T>(SyncWrapper<Vec<T>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(SyncWrapper::new(Vec::new()))
    }
}

impl<T> Clear for Kept<T> {
    fn clear(&mut self) {
        let kept = self.0.get_mut();
        kept.clear();
        if kept.capacity() > KEPT_MAX {
            *kept = Vec::new();
        }
    }
}

impl<T> Default for Buffers<T> {
    fn default() -> Self {
        Self { pool: Arc::new(Pool::new()) }
    }
}

impl<T> Clone for Buffers<T> {
    fn clone(&self) -> Self {
        Self { pool: Arc::clone(&self.pool) }
    }
}

impl<T> Buffers<T> {
    /// An empty buffer.
    pub(crate) fn take(&self) -> Buffer<T> {
        let pool = Arc::clone(&self.pool);
        Buffer(match Arc::clone(&pool).create_owned() {
            Some(kept) => Loan::Pooled(kept, pool),
            None => Loan::Own(Vec::new()),
        })
    }
}

impl<T> Buffer<T> {
    pub(crate) fn contents(&mut self) -> &mut Vec<T> {
        match &mut self.0 {
            Loan::Pooled(kept, _) => kept.0.get_mut(),
            Loan::Own(vec) => vec,
        }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // What is left is the user's, and so is its drop: not inside the pool.
        let left = self.contents().drain(..);
        contain(|| drop(left));
        if let Loan::Pooled(kept, pool) = std::mem::replace(&mut self.0, Loan::Own(Vec::new())) {
            let key = kept.key();
            drop(kept);
            // Without this word the pool would keep it as something that others may yet read.
            pool.clear(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any other thread will do")]
    fn a_buffer_emptied_on_another_thread_comes_back_with_its_memory() {
        let buffers = Buffers::<u64>::default();
        let mut buffer = buffers.take();
        buffer.contents().extend(0..1_000);
        let memory = buffer.contents().as_ptr();
        std::thread::spawn(move || {
            assert_eq!(buffer.contents().drain(..).sum::<u64>(), 499_500);
        })
        .join()
        .unwrap();
        let mut again = (0..100).map(|_| buffers.take()).collect::<Vec<_>>();
        let is_it = |buffer: &mut Buffer<u64>| {
            buffer.contents().is_empty() && buffer.contents().as_ptr() == memory
        };
        assert!(again.iter_mut().any(is_it), "none of 100 buffers is the one given back");
    }

    #[test]
    fn a_burst_does_not_keep_its_memory() {
        let buffers = Buffers::<u64>::default();
        let mut buffer = buffers.take();
        buffer.contents().extend(0..100_000);
        drop(buffer);
        let mut all = (0..100).map(|_| buffers.take()).collect::<Vec<_>>();
        assert!(all.iter_mut().all(|buffer| buffer.contents().capacity() <= KEPT_MAX));
    }
}
