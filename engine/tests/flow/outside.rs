//! From outside: threads that submit, list and cancel; bridges; time.

use std::sync::mpsc::channel;
use std::time::Duration;

use forebay::{Bridge, BridgeError, RequestError, RequestOptions, SubmitError};

use crate::ring::{
    Gate, Notes, PATIENCE, Ring, double, eventually, one_stage, policy, shards, spawn, wait,
};

#[test]
#[allow(clippy::disallowed_methods, reason = "the claim is about ordinary threads")]
fn any_thread_may_submit_and_gets_its_own_reply() {
    let (ring, probe) = one_stage(1, policy(|_| {}), double);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (ring, probe) = (&ring, &probe);
            scope.spawn(move || {
                for n in 0..200 {
                    let (key, calls) = (thread * 1_000 + n, probe.clone());
                    assert_eq!(ring.run(0, move || calls.call(key)).unwrap(), key * 2);
                }
            });
        }
    });
    ring.stop();
}

#[test]
fn a_reply_can_be_awaited_in_any_runtime() {
    let (ring, probe) = one_stage(1, policy(|_| {}), double);
    let reply = ring.submit(0, move || probe.call(21));
    assert_eq!(futures_lite::future::block_on(reply.into_future()).unwrap().unwrap(), 42);
    ring.stop();
}

#[test]
fn a_stopped_engine_refuses_and_old_handles_stay_valid() {
    let (ring, _probe) = one_stage(1, policy(|_| {}), double);
    let handle = ring.handle.clone();
    ring.stop();
    let refused = handle.submit(0, RequestOptions::default(), || async {});
    assert_eq!(refused.unwrap_err(), SubmitError::Closed);
    assert!(handle.requests(0).is_empty());
    assert!(handle.snapshot(0).is_some());
}

#[test]
fn live_requests_are_listed_and_cancelled_from_another_thread() {
    let ring = Ring::start(shards(1));
    let never = Gate::default();
    let held = never.clone();
    let options = RequestOptions::within(PATIENCE);
    let line = line!() + 1;
    let reply = ring.handle.submit(0, options, move || held.passed()).unwrap();
    eventually(|| ring.handle.requests(0).len() == 1);
    let listed = ring.handle.requests(0).remove(0);
    assert!(listed.site.ends_with(&format!("outside.rs:{line}")), "{listed:?}");
    assert!(listed.left.is_some() && listed.units == 0, "{listed:?}");
    ring.handle.cancel(&listed);
    assert_eq!(wait(&reply), Err(RequestError::Cancelled));
    // It has ended: another word for it reaches nobody.
    ring.handle.cancel(&listed);
    assert!(ring.handle.requests(0).is_empty());
    ring.stop();
}

#[test]
fn a_snapshot_of_a_stalled_shard_is_the_last_one_and_says_how_old_it_is() {
    let ring = Ring::start(shards(1));
    let before = ring.shard(0);
    let (begun, (let_go, blocked)) = (Notes::default(), channel::<()>());
    let told = begun.clone();
    let stalled = ring.submit(0, move || async move {
        told.add(());
        blocked.recv_timeout(PATIENCE).unwrap();
    });
    begun.wait_for(1);
    let first = ring.handle.snapshot(0).unwrap();
    let second = ring.handle.snapshot(0).unwrap();
    assert!(first.shard.at >= before.at);
    assert_eq!(first.shard.at, second.shard.at, "a stalled shard publishes nothing");
    // Asking took its 200 ms, and the age has grown by as much.
    assert!(second.age > first.age, "{:?}, then {:?}", first.age, second.age);
    assert!(ring.handle.requests(0).is_empty(), "a stalled shard does not answer");
    let_go.send(()).unwrap();
    wait(&stalled).unwrap();
    ring.stop();
}

#[test]
fn a_poll_that_takes_long_is_reported_with_where_it_was_spawned() {
    let ring = Ring::start(shards(1));
    let (let_go, blocked) = channel::<()>();
    let line = line!() + 1;
    let stalled = ring.submit(0, move || async move {
        assert!(blocked.recv_timeout(Duration::from_millis(50)).is_err(), "nobody sends");
    });
    wait(&stalled).unwrap();
    drop(let_go);
    let shard = ring.shard(0);
    let longest = shard.longest_poll.as_ref().unwrap();
    assert!(shard.long_polls >= 1 && longest.took >= Duration::from_millis(50), "{longest:?}");
    assert!(
        longest.sites.iter().any(|site| site.ends_with(&format!("outside.rs:{line}"))),
        "{longest:?}"
    );
    ring.stop();
}

#[test]
fn a_sleep_is_never_early_and_yielding_lets_others_run() {
    let ring = Ring::start(shards(1));
    let order = ring.run(0, || async {
        let begun = forebay::now();
        let nap = Duration::from_millis(3);
        forebay::sleep(nap).await;
        assert!(forebay::now().since(begun) >= nap);
        let order = Notes::default();
        let noted = order.clone();
        let other = spawn(async move { noted.add("other") });
        order.add("before");
        forebay::yield_now().await;
        order.add("after");
        other.await.unwrap();
        order.all()
    });
    assert_eq!(order, ["before", "other", "after"]);
    ring.stop();
}

#[test]
fn a_sleep_that_is_dropped_wakes_nobody() {
    let ring = Ring::start(shards(1));
    ring.run(0, || async {
        let long = forebay::sleep(PATIENCE * 10);
        let short = forebay::sleep(Duration::from_micros(100));
        futures_lite::future::or(long, short).await;
    });
    ring.stop();
}

/// A bridge made on shard 0, by a request that keeps it.
fn bridged<T: Send + 'static, F>(
    jobs_max: usize,
    connect: impl Fn() -> Option<u64> + Send + Sync + Clone + 'static,
    work: impl FnOnce(Bridge<u64>) -> F + Send + 'static,
) -> T
where
    F: Future<Output = T> + 'static,
{
    let ring = Ring::start(shards(1));
    let result = ring.run(0, move || {
        let bridge = Bridge::new("client", 1, jobs_max, connect).unwrap();
        work(bridge)
    });
    ring.stop();
    result
}

#[test]
fn a_bridge_answers_and_keeps_its_client_between_jobs() {
    let answers = bridged(
        8,
        || Some(0),
        |bridge| async move {
            let mut answers = Vec::new();
            for _ in 0..3 {
                let count = |client: &mut u64| {
                    *client += 1;
                    *client
                };
                answers.push(bridge.call(count).await.unwrap());
            }
            answers
        },
    );
    assert_eq!(answers, [1, 2, 3]);
}

#[test]
fn a_job_that_panics_costs_the_client_and_the_next_job_finds_a_new_one() {
    let (connects, told) = (Notes::default(), Notes::default());
    let noted = connects.clone();
    let connect = move || {
        noted.add(());
        Some(noted.all().len() as u64)
    };
    let replies = bridged(8, connect, move |bridge| async move {
        let first = bridge.call(|client| *client).await;
        let panicked = bridge.call(|_| panic!("planted: a job")).await;
        told.add(());
        (first, panicked, bridge.call(|client| *client).await)
    });
    let (first, panicked, next): (_, Result<(), _>, _) = replies;
    assert_eq!((first, panicked, next), (Ok(1), Err(BridgeError::Panicked), Ok(2)));
    assert_eq!(connects.all().len(), 2);
}

#[test]
fn a_bridge_whose_client_cannot_be_made_says_closed_and_tries_again() {
    let tries = Notes::default();
    let noted = tries.clone();
    let connect = move || {
        noted.add(());
        (noted.all().len() > 2).then_some(7)
    };
    let replies = bridged(8, connect, |bridge| async move {
        let mut replies = Vec::new();
        for _ in 0..3 {
            replies.push(bridge.call(|client| *client).await);
        }
        replies
    });
    assert_eq!(replies, [Err(BridgeError::Closed), Err(BridgeError::Closed), Ok(7)]);
}

#[test]
fn a_full_bridge_refuses_and_serves_what_it_took() {
    let (begun, (let_go, blocked)) = (Notes::default(), channel::<()>());
    let told = begun.clone();
    let replies = bridged(
        2,
        || Some(1),
        move |bridge| async move {
            let blocks = bridge.clone();
            let first = spawn(async move {
                let told = told.clone();
                let job = move |_: &mut u64| {
                    told.add(());
                    blocked.recv_timeout(PATIENCE).unwrap();
                };
                blocks.call(job).await
            });
            while begun.all().is_empty() {
                forebay::sleep(Duration::from_micros(50)).await;
            }
            let waiting: Vec<_> = (0..2)
                .map(|_| {
                    let bridge = bridge.clone();
                    spawn(async move { bridge.call(|_| ()).await })
                })
                .collect();
            forebay::yield_now().await;
            let refused = bridge.call(|_| ()).await;
            let_go.send(()).unwrap();
            let mut replies = vec![refused, first.await.unwrap()];
            for reply in waiting {
                replies.push(reply.await.unwrap());
            }
            replies
        },
    );
    assert_eq!(replies, [Err(BridgeError::Full { depth: 2 }), Ok(()), Ok(()), Ok(())]);
}

#[test]
fn the_threads_of_a_bridge_may_run_where_the_process_may() {
    let allowed = forebay::affinity::current_thread_cpus().unwrap();
    let seen = bridged(
        1,
        || Some(0),
        |bridge| async move {
            bridge.call(|_| forebay::affinity::current_thread_cpus().unwrap()).await.unwrap()
        },
    );
    assert_eq!(seen, allowed);
}
