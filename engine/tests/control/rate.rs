//! The downstream's rate: exact over any second, all shards together.

use std::time::Duration;

use forebay::{Counts, Priority, RateLimit, RequestOptions, Retry, Time, spawn};

use crate::downstream::{Behaviour, End, call, seen, simulate};

const PER_S: u64 = 2_000;

/// The most that the downstream saw in any second, and in all, when two shards ask at once.
fn seen_by_downstream(counts: Counts, count: fn(&[u64]) -> usize) -> (usize, usize, Duration) {
    let mut limit = RateLimit::per_s(PER_S);
    limit.counts = counts;
    let (mut sim, stage) = simulate(11, 2, Behaviour::sound(Duration::from_micros(1)), |options| {
        options.rate = Some(limit);
        options.items_max = 4;
        options.permits = 8;
    });
    let work = move || async move {
        let calls: Vec<_> = (0..3_000)
            .map(|n| spawn(RequestOptions::default(), call(stage, n, Priority::LOWEST)))
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    };
    for shard in 0..2 {
        drop(sim.handle().submit(shard, RequestOptions::default(), work).unwrap());
    }
    while sim.step() {}
    assert_eq!((sim.violation(), sim.unsettled()), (None, None));
    let seen = seen();
    let batches = &seen.borrow().batches;
    let in_second_from = |from: Time| {
        let until = from.after(Duration::from_secs(1));
        let within = batches.iter().filter(|(at, _)| (from..until).contains(at));
        within.map(|(_, items)| count(items)).sum::<usize>()
    };
    let most = batches.iter().map(|(at, _)| in_second_from(*at)).max().unwrap();
    let all = batches.iter().map(|(_, items)| count(items)).sum();
    (most, all, batches.last().unwrap().0.since(batches[0].0))
}

#[test]
fn the_rate_holds_over_any_second_whatever_the_downstream_counts() {
    let one_lease = usize::try_from(PER_S).unwrap() / 200;
    let check = |counts, count: fn(&[u64]) -> usize| {
        let (most, all, took) = seen_by_downstream(counts, count);
        let allowed = usize::try_from(PER_S).unwrap() + one_lease + 1;
        assert!(most <= allowed, "{counts:?}: {most} in a second, {allowed} allowed");
        let least = 0.95 * PER_S as f64 * took.as_secs_f64();
        assert!(all as f64 > least, "{counts:?}: {all} in {took:?}");
    };
    check(Counts::Calls, |_| 1);
    check(Counts::Items, <[u64]>::len);
    check(Counts::Weight, <[u64]>::len);
}

#[test]
fn what_is_tried_again_counts_against_the_rate() {
    // Every batch fails at first: half of what the downstream sees are second tries.
    let behaviour =
        Behaviour { item: Duration::from_micros(1), fails: |_, n_before| n_before % 2 == 0 };
    let (mut sim, stage) = simulate(12, 1, behaviour, |options| {
        options.rate = Some(RateLimit::per_s(100));
        options.items_max = 1;
        let backoff = Duration::from_micros(100);
        options.retry =
            Some(Retry { attempts_max: 2, backoff, budget_percent: 100, min_per_s: 100 });
    });
    let work = move || async move {
        let calls: Vec<_> = (0..150)
            .map(|n| spawn(RequestOptions::default(), call(stage, n, Priority::LOWEST)))
            .collect();
        for call in calls {
            assert_eq!(call.await.unwrap().end, End::Answered { level: 0 });
        }
    };
    drop(sim.handle().submit(0, RequestOptions::default(), work).unwrap());
    while sim.step() {}
    assert_eq!((sim.violation(), sim.unsettled()), (None, None));
    let seen = seen();
    let batches = &seen.borrow().batches;
    assert_eq!(batches.len(), 300);
    let took = batches.last().unwrap().0.since(batches[0].0);
    assert!(took > Duration::from_millis(2_900), "300 calls at 100/s took {took:?}");
}
