//! Counts heap allocations exactly, at the cost of two additions in thread-local memory.
//!
//! A process-wide counter would be two contended atomic additions per allocation, more than the
//! allocation itself when two shards run: it would slow the very thing it measures. So every thread
//! counts for itself (`densa-alloc`: const thread-locals, no destructor, no lock), and a thread
//! whose count another one needs publishes it when it is quiet: a shard at the end of a phase, a
//! bridge after a batch, a tokio worker when it parks.
//!
//! The counting allocator is installed by `main.rs`; without it every count is 0 and
//! [`is_active`] says so.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use densa_alloc::{CountingAllocator, is_active};

/// Threads that can publish; a cell has a handful (shards, bridges, a tokio pool).
const PUBLISHERS_MAX: usize = 256;

static PUBLISHED: [AtomicU64; PUBLISHERS_MAX] = [const { AtomicU64::new(0) }; PUBLISHERS_MAX];
static PUBLISHERS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SLOT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Allocations the calling thread has made so far; a reallocation counts as one.
#[must_use]
pub fn of_this_thread() -> u64 {
    let stats = densa_alloc::thread_stats();
    stats.allocs + stats.reallocs
}

/// Makes the calling thread's count visible to [`published_total`]. Costs one store.
pub fn publish() {
    let slot = SLOT.get().unwrap_or_else(|| {
        let slot = PUBLISHERS.fetch_add(1, Ordering::Relaxed);
        SLOT.set(Some(slot));
        slot
    });
    if let Some(count) = PUBLISHED.get(slot) {
        // Release pairs with the acquire of the reader: whoever sees a thread's end sees its count.
        count.store(of_this_thread(), Ordering::Release);
    }
}

/// Sum of what all threads have published, also those that have ended.
///
/// `None` when more threads published than there are slots: a sum that misses some is no count.
#[must_use]
pub fn published_total() -> Option<u64> {
    if PUBLISHERS.load(Ordering::Relaxed) > PUBLISHERS_MAX {
        return None;
    }
    Some(PUBLISHED.iter().map(|count| count.load(Ordering::Acquire)).sum())
}
