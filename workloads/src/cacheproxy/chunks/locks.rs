//! Whose turn it is to work on a key: one writer, or readers, in the order of their calls.
//!
//! An operation on a value in pieces is many at servers, so equal keys need an order of their own. A key
//! has one shard, and so has its lock. The lock is tokio's, which needs nothing else of tokio: it is fair
//! by a queue, where others look at the clock to be so, and gives a turn back that nobody waits for any
//! more. Locks exist while somebody holds or awaits them: no more than there are calls under way, which
//! the stage bounds.

use std::cell::RefCell;
use std::rc::Rc;

use hashbrown::HashMap;
use tokio::sync::RwLock;

use crate::cacheproxy::operation::Key;

/// The locks of one shard.
#[derive(Debug, Default)]
pub(super) struct KeyLocks {
    locks: RefCell<HashMap<Key, Rc<RwLock<()>>>>,
}

/// Who may work on a key at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// All others with this access.
    Shared,
    /// Nobody.
    Exclusive,
}

impl KeyLocks {
    /// Does `work` when all have ended who asked for this key before, but for those it is shared with.
    /// Who asks takes its place when it is polled first. Dropped at any moment, it leaves that to
    /// the next one.
    pub(super) async fn hold<T>(
        &self,
        key: &Key,
        access: Access,
        work: impl Future<Output = T>,
    ) -> T {
        let lock = Rc::clone(self.locks.borrow_mut().entry(key.clone()).or_default());
        // Dropped after the guard, which borrows it.
        let place = Place { locks: self, key, lock };
        match access {
            Access::Shared => {
                let _guard = place.lock.read().await;
                work.await
            }
            Access::Exclusive => {
                let _guard = place.lock.write().await;
                work.await
            }
        }
    }
}

/// The lock of a key in the table, which it leaves with the last who wants it.
struct Place<'a> {
    locks: &'a KeyLocks,
    key: &'a Key,
    lock: Rc<RwLock<()>>,
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
    use std::collections::VecDeque;
    use std::pin::Pin;

    use futures_lite::future::{block_on, poll_once, yield_now};

    use super::*;

    /// Those who work on one key now, by their numbers.
    type Inside = RefCell<Vec<usize>>;
    type Working<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

    fn key(name: &'static str) -> Key {
        Key::new(name.as_bytes()).unwrap()
    }

    /// Holds a key over a few polls.
    fn work<'a>(
        locks: &'a KeyLocks,
        key: &'a Key,
        access: Access,
        inside: &'a Inside,
        number: usize,
    ) -> Working<'a> {
        Box::pin(locks.hold(key, access, async move {
            inside.borrow_mut().push(number);
            yield_now().await;
            yield_now().await;
            inside.borrow_mut().retain(|other| *other != number);
        }))
    }

    #[test]
    fn writers_are_alone_and_in_order_and_readers_between_them_together() {
        use Access::{Exclusive, Shared};
        let (locks, a, inside) = (KeyLocks::default(), key("a"), Inside::default());
        let asked = [Exclusive, Exclusive, Shared, Shared, Exclusive, Shared, Exclusive];
        block_on(async {
            let mut working: Vec<_> = (0..)
                .zip(asked)
                .map(|(number, access)| Some(work(&locks, &a, access, &inside, number)))
                .collect();
            let mut seen = Vec::new();
            while working.iter().any(Option::is_some) {
                for place in &mut working {
                    let Some(one) = place else { continue };
                    if poll_once(one).await.is_some() {
                        *place = None;
                    }
                    let now = inside.borrow().clone();
                    if seen.last() != Some(&now) && !now.is_empty() {
                        seen.push(now);
                    }
                }
            }
            let mut firsts: Vec<usize> = seen.iter().map(|inside| inside[0]).collect();
            firsts.dedup();
            assert!(seen.contains(&vec![2, 3]), "{seen:?}");
            assert_eq!(firsts.iter().filter(|number| **number != 3).count(), 6, "{seen:?}");
            assert!(firsts.is_sorted(), "{seen:?}");
            let is_alone = |inside: &Vec<usize>| {
                inside.len() == 1 || inside.iter().all(|number| asked[*number] == Shared)
            };
            assert!(seen.iter().all(is_alone), "{seen:?}");
        });
        assert!(locks.locks.borrow().is_empty());
    }

    #[test]
    fn one_that_is_dropped_holding_or_waiting_leaves_the_key_to_the_next() {
        let (locks, a, b, inside) = (KeyLocks::default(), key("a"), key("b"), Inside::default());
        block_on(async {
            let exclusive = |number| work(&locks, &a, Access::Exclusive, &inside, number);
            let mut waiting: VecDeque<_> = (0..4).map(exclusive).collect();
            for one in &mut waiting {
                assert!(poll_once(one).await.is_none());
            }
            // Another key's is another lock.
            work(&locks, &b, Access::Exclusive, &inside, 9).await;
            waiting.remove(1);
            waiting.pop_front();
            assert!(poll_once(&mut waiting[0]).await.is_none());
            assert_eq!(*inside.borrow(), [0, 2], "the first was dropped within its work");
            drop(waiting);
        });
        assert!(locks.locks.borrow().is_empty());
    }
}
