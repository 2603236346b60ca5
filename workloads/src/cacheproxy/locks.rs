//! One lock for each key that somebody works on across tiers.
//!
//! A write changes two tiers, one after the other, and a read that fills the upper one has read the
//! lower one before: done side by side, the copy above could stay older than what is below for ever. A
//! key has one shard, so its lock stands on that shard alone. Locks exist while somebody holds or
//! awaits them: no more than there are calls under way, which the stage bounds.

use std::cell::RefCell;
use std::rc::Rc;

use async_lock::Mutex;
use hashbrown::HashMap;

use super::operation::Key;

/// The locks of one shard.
#[derive(Debug, Default)]
pub(super) struct KeyLocks {
    locks: RefCell<HashMap<Key, Rc<Mutex<()>>>>,
}

/// Whether somebody else had the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    No,
    Yes,
}

impl KeyLocks {
    /// Does `work` while nobody else works on this key. Dropped half-way, it gives the key free.
    pub(super) async fn hold<T>(&self, key: &Key, work: impl AsyncFnOnce(Waited) -> T) -> T {
        let lock = Rc::clone(self.locks.borrow_mut().entry(key.clone()).or_default());
        // Dropped after the guard, which borrows it.
        let place = Place { locks: self, key, lock };
        let (guard, waited) = match place.lock.try_lock() {
            Some(guard) => (guard, Waited::No),
            None => (place.lock.lock().await, Waited::Yes),
        };
        let done = work(waited).await;
        drop(guard);
        done
    }

    #[cfg(test)]
    pub(super) fn n_locks(&self) -> usize {
        self.locks.borrow().len()
    }

    /// Planted fault: whoever comes next knows nothing of those who hold a lock or wait.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.locks.borrow_mut().clear();
    }
}

/// The lock of a key in the table, which it leaves with the last who wants it.
struct Place<'a> {
    locks: &'a KeyLocks,
    key: &'a Key,
    lock: Rc<Mutex<()>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // The table's own, and this one.
        if Rc::strong_count(&self.lock) == 2 {
            self.locks.locks.borrow_mut().remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_lite::future::{block_on, poll_once, yield_now};
    use futures_util::future::join_all;

    use super::*;

    fn key(name: &'static str) -> Key {
        Key::new(name.as_bytes()).unwrap()
    }

    #[test]
    fn nobody_else_works_on_a_key_that_is_held_and_no_lock_is_left() {
        let (locks, n_inside, n_waited) = (KeyLocks::default(), Cell::new(0), Cell::new(0));
        let (a, b) = (key("a"), key("b"));
        let work = |key| {
            locks.hold(key, async |waited| {
                n_waited.set(n_waited.get() + usize::from(waited == Waited::Yes));
                n_inside.set(n_inside.get() + 1);
                assert_eq!(n_inside.get(), 1, "with one key held there is one inside");
                yield_now().await;
                n_inside.set(n_inside.get() - 1);
            })
        };
        block_on(join_all((0..10).map(|_| work(&a))));
        assert_eq!((n_waited.get(), locks.n_locks()), (9, 0));
        // Another key's is another lock.
        let held = locks.hold(&a, async |_| std::future::pending::<()>().await);
        block_on(async {
            let mut held = std::pin::pin!(held);
            assert!(poll_once(&mut held).await.is_none());
            work(&b).await;
        });
        assert_eq!(locks.n_locks(), 0);
    }

    #[test]
    fn one_that_is_dropped_half_way_gives_the_key_free() {
        let (locks, a) = (KeyLocks::default(), key("a"));
        block_on(async {
            let mut held = Box::pin(locks.hold(&a, async |_| std::future::pending::<()>().await));
            assert!(poll_once(&mut held).await.is_none());
            let mut next = Box::pin(locks.hold(&a, async |_| ()));
            assert!(poll_once(&mut next).await.is_none());
            drop(held);
            next.await;
        });
        assert_eq!(locks.n_locks(), 0);
    }
}
