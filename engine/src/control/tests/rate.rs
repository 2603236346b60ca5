//! The model of a rate limit: some shards that call one downstream, each in its own rhythm.

use std::time::Duration;

use crate::control::rate::{Granted, Leased, RateLimit};
use crate::runtime::Time;
use crate::runtime::shared::tokens::Tokens;

const SECOND: Duration = Duration::from_secs(1);
const US: Duration = Duration::from_micros(1);

/// How the shards ask: every so many microseconds on average, for so much each time, while not in a
/// pause.
#[derive(Clone, Copy, Debug)]
struct Demand {
    n_shards: usize,
    every_us: u32,
    want: u64,
    /// The first half of every so many milliseconds is a pause; 0 for none.
    pause_ms: u64,
}

const STEADY: Demand = Demand { n_shards: 1, every_us: 100, want: 1, pause_ms: 0 };

/// What was spent, in order of time.
fn run(tokens: &Tokens, demand: Demand, from: Time, until: Time) -> Vec<(Time, u64)> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut shards: Vec<(Time, Leased)> =
        (0..demand.n_shards).map(|_| (from, Leased::new(tokens.clone()))).collect();
    let mut spent = vec![];
    loop {
        let (at, shard) = shards.iter_mut().min_by_key(|(at, _)| *at).unwrap();
        let now = *at;
        if now >= until {
            return spent;
        }
        let pause_ns = demand.pause_ms * 1_000_000;
        let pauses = pause_ns > 0 && now.as_nanos() % pause_ns < pause_ns / 2;
        let gap = US * rng.u32(1..=2 * demand.every_us);
        *at = now.after(gap);
        if pauses {
            continue;
        }
        match shard.available(now, demand.want) {
            Granted::Now(n) => {
                assert!((1..=demand.want).contains(&n));
                shard.spend(now, n);
                spent.push((now, n));
            }
            // A shard's timer is late by a tick of its wheel.
            Granted::At(then) => *at = then.max(now).after(US * 64),
        }
    }
}

/// The most that was spent in any second, and how much in all.
fn most_in_a_second(spent: &[(Time, u64)]) -> (u64, u64) {
    let (mut first, mut sum, mut most, mut total) = (0, 0, 0, 0);
    for &(at, n) in spent {
        sum += n;
        total += n;
        while at.since(spent[first].0) >= SECOND {
            sum -= spent[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    (most, total)
}

/// What one lease is at most, of a rate with the default lease time.
fn lease(per_s: u64) -> u64 {
    (per_s * 5).div_ceil(1_000).max(1)
}

fn at(seconds: u32) -> Time {
    Time::ZERO.after(SECOND * seconds)
}

fn tokens(per_s: u64) -> Tokens {
    Tokens::new(per_s, RateLimit::per_s(per_s).lease)
}

fn check(per_s: u64, demand: Demand) {
    let spent = run(&tokens(per_s), demand, Time::ZERO, at(10));
    let (most, total) = most_in_a_second(&spent);
    assert!(most <= per_s + lease(per_s), "{most} of {per_s} in a second: {demand:?}");
    let asked_per_s = 1_000_000 / u64::from(demand.every_us) * demand.want * demand.n_shards as u64;
    if asked_per_s >= 2 * per_s && demand.pause_ms == 0 {
        assert!(total * 100 >= per_s * 10 * 95, "{total} of {per_s} used: {demand:?}");
    }
}

#[test]
fn no_second_sees_more_than_the_rate_and_one_lease_and_nearly_all_is_used() {
    for per_s in [10, 333, 1_000, 20_000, 1_000_000] {
        for n_shards in [1, 2, 5, 8] {
            for want in [1, 16, 128] {
                check(per_s, Demand { n_shards, want, ..STEADY });
            }
        }
    }
}

#[test]
fn a_pause_saves_no_more_than_one_lease() {
    for pause_ms in [3, 20, 1_000] {
        for n_shards in [1, 4] {
            check(1_000, Demand { n_shards, want: 8, pause_ms, ..STEADY });
            check(20_000, Demand { n_shards, want: 64, pause_ms, ..STEADY });
        }
    }
}

#[test]
fn a_bucket_that_saves_a_second_would_be_found() {
    let saving = Tokens::new(1_000, SECOND * 2);
    let spent =
        run(&saving, Demand { every_us: 10, pause_ms: 4_000, ..STEADY }, Time::ZERO, at(20));
    let (most, _) = most_in_a_second(&spent);
    assert!(most > 1_500, "{most}");
}

#[test]
fn a_rate_that_changes_holds_from_then_on() {
    let tokens = tokens(1_000);
    let demand = Demand { n_shards: 4, want: 4, ..STEADY };
    run(&tokens, demand, Time::ZERO, at(5));
    for (from, per_s) in [(5, 5_000), (10, 100), (15, 20_000)] {
        tokens.set_per_s(at(from), per_s);
        let (most, total) = most_in_a_second(&run(&tokens, demand, at(from), at(from + 5)));
        assert!(most <= per_s + lease(per_s), "{most} of {per_s}");
        assert!(total * 100 >= per_s * 5 * 95, "{total} of {per_s}");
    }
}

#[test]
fn an_item_that_weighs_more_than_a_lease_goes_and_is_paid_back_by_all() {
    let tokens = tokens(1_000);
    let (mut one, mut other) = (Leased::new(tokens.clone()), Leased::new(tokens));
    let Granted::Now(granted) = one.available(at(1), 500) else { panic!("a full schedule") };
    assert!(granted <= lease(1_000), "{granted}");
    one.spend(at(1), 500);
    let Granted::At(then) = other.available(at(1), 1) else { panic!("all shards wait") };
    assert!(then >= at(1).after(Duration::from_millis(490)), "{then:?}");
    assert_eq!(other.available(then.after(Duration::from_millis(1)), 1), Granted::Now(1));
}

#[test]
fn what_a_shard_does_not_spend_ends_with_its_lease() {
    let mut shard = Leased::new(tokens(1_000));
    assert_eq!(shard.available(at(1), 2), Granted::Now(2));
    // Half of the lease time later three new ones have come, and the two are gone.
    let later = at(1).after(Duration::from_micros(2_500));
    assert_eq!(shard.available(later, 9), Granted::Now(2));
}
