//! Goal: what two threads touch is right in every order of their steps.
//! Method: the very files of `runtime/shared`, compiled here against loom's primitives; loom runs
//! each model in all orders that differ. A wake that is lost is a deadlock there, which fails the
//! model, since a time limit never runs out in it. And the fault that was planted in the inbox must
//! be found.

#![allow(dead_code, reason = "a model uses its part of a file")]
#![allow(unreachable_pub, reason = "what is public in its own place is not in this one")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

/// Loom's versions of what `runtime/shared/sync.rs` names.
mod sync {
    use std::time::Duration;

    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;

    pub(crate) fn wait_while<'a, T>(
        changed: &Condvar,
        mut guard: MutexGuard<'a, T>,
        _timeout: Duration,
        waits: impl Fn(&T) -> bool,
    ) -> MutexGuard<'a, T> {
        while waits(&guard) {
            guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        guard
    }
}

/// What the files name by its place in the engine.
mod runtime {
    use std::time::Duration;

    pub(crate) use forebay::{Time, affinity};

    pub(crate) fn nanos(duration: Duration) -> u64 {
        Time::ZERO.after(duration).as_nanos()
    }
}

#[path = "../src/runtime/shared/inbox.rs"]
mod inbox;
#[path = "../src/runtime/shared/board.rs"]
mod board;
#[path = "../src/runtime/shared/bridges.rs"]
mod bridges;
#[path = "../src/runtime/shared/gathering.rs"]
mod gathering;
#[path = "../src/runtime/shared/published.rs"]
mod published;
#[path = "../src/runtime/shared/tokens.rs"]
mod tokens;

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use board::{Board, Phase};
use bridges::Bridges;
use gathering::Gathering;
use inbox::{Inbox, Refused, Watch};
use loom::thread;
use published::Published;
use tokens::Tokens;

const ANY_TIME: Duration = Duration::from_secs(1);

/// Wakes the shard's thread, as the executor's waker does.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// How the shard looks before it sleeps.
type Look = fn(&Inbox<u8>, &Waker) -> Watch;

/// The shard's side: takes, and sleeps when there is nothing, until `n_messages` have come.
fn take_all(inbox: &Inbox<u8>, n_messages: usize, look: Look) -> Vec<u8> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut taken = Vec::new();
    loop {
        inbox.take(1, &mut taken);
        if taken.len() >= n_messages {
            return taken;
        }
        if look(inbox, &waker) == Watch::Sleep {
            thread::park();
        }
    }
}

fn a_push_beside_a_shard_that_goes_to_sleep(look: Look) {
    let inbox = Arc::new(Inbox::new(4));
    let pusher = {
        let inbox = Arc::clone(&inbox);
        thread::spawn(move || inbox.submit(7).unwrap())
    };
    assert_eq!(take_all(&inbox, 1, look), [7]);
    pusher.join().unwrap();
}

#[test]
fn a_push_is_never_lost_on_a_shard_that_goes_to_sleep() {
    loom::model(|| a_push_beside_a_shard_that_goes_to_sleep(Inbox::watch));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_sleep_without_a_last_look_at_the_queue_is_found() {
    loom::model(|| a_push_beside_a_shard_that_goes_to_sleep(Inbox::watch_without_recheck));
}

#[test]
fn two_threads_push_and_both_messages_arrive() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::new(4));
        let pushers = [1, 2].map(|message| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.deliver(message).unwrap())
        });
        let mut taken = take_all(&inbox, 2, Inbox::watch);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
        for pusher in pushers {
            pusher.join().unwrap();
        }
        assert!(!inbox.is_pending());
    });
}

#[test]
fn messages_of_one_thread_keep_their_order() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::new(4));
        let pusher = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || (1..=3).for_each(|message| inbox.submit(message).unwrap()))
        };
        assert_eq!(take_all(&inbox, 3, Inbox::watch), [1, 2, 3]);
        pusher.join().unwrap();
    });
}

#[test]
fn a_message_beside_a_close_is_taken_given_back_or_refused_and_never_two_of_these() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::new(4));
        let pusher = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.submit(7))
        };
        let mut seen = Vec::new();
        inbox.take(1, &mut seen);
        seen.extend(inbox.close());
        if let Err(refused) = pusher.join().unwrap() {
            assert_eq!(refused, Refused::Closed(7));
            seen.push(7);
        }
        assert_eq!(seen, [7]);
        assert_eq!(inbox.submit(8), Err(Refused::Closed(8)));
        assert_eq!(inbox.deliver(9), Err(9));
        assert!(!inbox.is_pending());
    });
}

#[test]
fn a_full_inbox_refuses_what_may_be_refused_and_nothing_else() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::new(1));
        let pushers = [1, 2].map(|message| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.submit(message))
        });
        inbox.deliver(3).unwrap();
        let mut taken = Vec::new();
        inbox.take(8, &mut taken);
        for pusher in pushers {
            match pusher.join().unwrap() {
                Ok(()) => {}
                Err(Refused::Full(message, depth)) => {
                    assert_eq!(depth, 1);
                    taken.push(message);
                }
                Err(closed) => panic!("{closed:?}"),
            }
        }
        inbox.take(8, &mut taken);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3]);
        assert_eq!(inbox.submit(4), Ok(()), "room again once all is taken");
    });
}

#[test]
fn a_barrier_misses_no_shard_that_reaches_it() {
    loom::model(|| {
        let board = Arc::new(Board::new(2));
        let shards = [0, 1].map(|shard| {
            let board = Arc::clone(&board);
            thread::spawn(move || board.reach(shard, Phase::Running))
        });
        board.wait_for(Phase::Running, ANY_TIME).unwrap();
        assert_eq!([board.line(0), board.line(1)], [Phase::Running; 2]);
        for shard in shards {
            shard.join().unwrap();
        }
    });
}

#[test]
fn a_start_sees_every_success_or_the_first_error() {
    loom::model(|| {
        let gathering = Arc::new(Gathering::default());
        let shards = [Ok(()), Err("no memory")].map(|result| {
            let gathering = Arc::clone(&gathering);
            thread::spawn(move || gathering.add(result))
        });
        assert_eq!(gathering.wait(2, ANY_TIME), Err(Some("no memory")));
        for shard in shards {
            shard.join().unwrap();
        }
    });
    loom::model(|| {
        let gathering = Arc::new(Gathering::<()>::default());
        let shards = [(), ()].map(|()| {
            let gathering = Arc::clone(&gathering);
            thread::spawn(move || gathering.add(Ok(())))
        });
        assert_eq!(gathering.wait(2, ANY_TIME), Ok(()));
        for shard in shards {
            shard.join().unwrap();
        }
    });
}

#[test]
fn bridges_are_joined_whenever_their_threads_end() {
    loom::model(|| {
        let bridges = Bridges::new(forebay::affinity::CpuList::default());
        let (idx, closed) = bridges.enter("client");
        let threads = [(), ()].map(|()| {
            let running = bridges.thread(idx);
            thread::spawn(move || drop(running))
        });
        assert_eq!(bridges.join(ANY_TIME), [""; 0]);
        assert!(closed.recv().is_err(), "they are told to end");
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_reader_sees_whole_snapshots_and_never_an_older_one_again() {
    loom::model(|| {
        let published = Arc::new(Published::default());
        let shard = {
            let published = Arc::clone(&published);
            thread::spawn(move || {
                for round in 1..=2 {
                    published.put(forebay::Time::from_nanos(round), [round; 2]);
                }
            })
        };
        let mut newest = 0;
        for _ in 0..2 {
            if let Some((at, value)) = published.get() {
                assert_eq!(*value, [at.as_nanos(); 2]);
                assert!(at.as_nanos() >= newest);
                newest = at.as_nanos();
            }
        }
        shard.join().unwrap();
        assert_eq!(published.get().unwrap().0, forebay::Time::from_nanos(2));
    });
}

/// A thousand a second, of which five can be had at once.
fn rate() -> Tokens {
    Tokens::new(1_000, Duration::from_millis(10))
}

#[test]
fn two_shards_lease_no_more_than_has_come_and_leave_nothing() {
    loom::model(|| {
        let (tokens, now) = (rate(), forebay::Time::from_nanos(1_000_000_000));
        let shards = [4, 3].map(|want| {
            let tokens = tokens.clone();
            thread::spawn(move || tokens.lease(now, want).granted)
        });
        let granted: u64 = shards.into_iter().map(|shard| shard.join().unwrap()).sum();
        assert_eq!(granted, 5);
        assert_eq!(tokens.lease(now, 1).granted, 0);
    });
}

#[test]
fn a_loan_beside_a_lease_is_paid_back_whole() {
    loom::model(|| {
        let (tokens, now) = (rate(), forebay::Time::from_nanos(1_000_000_000));
        let borrower = {
            let tokens = tokens.clone();
            thread::spawn(move || tokens.borrow(now, 100))
        };
        let granted = tokens.lease(now, 5).granted;
        borrower.join().unwrap();
        // The next one may be had four milliseconds before it is due.
        let more_at = tokens.lease(now, 1).more_at;
        assert_eq!(more_at, now.after(Duration::from_millis(100 + granted - 4)));
    });
}

#[test]
fn a_rate_that_changes_beside_a_lease_loses_neither() {
    loom::model(|| {
        let (tokens, now) = (rate(), forebay::Time::from_nanos(1_000_000_000));
        let changer = {
            let tokens = tokens.clone();
            thread::spawn(move || tokens.set_per_s(now, 100))
        };
        let granted = tokens.lease(now, 3).granted;
        changer.join().unwrap();
        assert!(granted == 3 || granted == 1, "{granted}: at the old rate or at the new one");
        assert_eq!(tokens.per_s(), 100);
        assert_eq!(tokens.lease(now, 1).granted, 0, "nothing is left at the new rate");
    });
}
