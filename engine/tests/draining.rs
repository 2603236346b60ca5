//! Goal: whoever drives something endless hears that a stop has begun, and only then.
//! Method: requests that wait for the word, in virtual time, on random seeds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use forebay::sim::{SimOptions, Simulation};
use forebay::{
    Builder, Phase, Reply, RequestError, RequestOptions, draining, is_draining, now, sleep, spawn,
};

const SEEDS: u64 = 20;

fn simulation(seed: u64) -> Simulation {
    Builder::new().simulate(SimOptions::new(seed, 1)).unwrap()
}

/// Runs until nothing more happens by itself.
fn settle(sim: &mut Simulation) {
    while sim.step() {}
}

fn reply<T>(reply: &Reply<T>) -> Option<T> {
    reply.try_take().map(Result::unwrap)
}

#[test]
fn the_word_comes_when_a_stop_begins_and_not_before() {
    for seed in 0..SEEDS {
        let mut sim = simulation(seed);
        let wait = || async {
            let before = is_draining();
            draining().await;
            let refused = spawn(RequestOptions::default(), async {}).await;
            (before, is_draining(), refused)
        };
        let waiting: Vec<_> = (0..3)
            .map(|_| sim.handle().submit(0, RequestOptions::default(), wait).unwrap())
            .collect();
        settle(&mut sim);
        assert!(waiting.iter().all(|waiting| reply(waiting).is_none()), "seed {seed}");
        sim.enter_phase(Phase::Draining);
        settle(&mut sim);
        for waiting in &waiting {
            let heard = reply(waiting).unwrap_or_else(|| panic!("seed {seed}: not told"));
            assert_eq!(heard, (false, true, Err(RequestError::Closed)), "seed {seed}");
        }
        assert_eq!(sim.phase(0), Phase::Drained, "seed {seed}");
    }
}

#[test]
fn who_asks_late_is_told_at_once_and_who_gave_up_is_forgotten() {
    for seed in 0..SEEDS {
        let mut sim = simulation(seed);
        let ask_twice = || async {
            let given_up = async {
                draining().await;
                true
            };
            let gone_on = async {
                sleep(Duration::from_millis(1)).await;
                false
            };
            assert!(!futures_lite::future::or(given_up, gone_on).await);
            draining().await;
            let told = now();
            draining().await;
            now().since(told)
        };
        let asked = sim.handle().submit(0, RequestOptions::default(), ask_twice).unwrap();
        settle(&mut sim);
        sim.enter_phase(Phase::Draining);
        settle(&mut sim);
        assert_eq!(reply(&asked), Some(Duration::ZERO), "seed {seed}");
    }
}

#[test]
fn what_serves_who_had_connected_may_begin_while_a_stop_drains_and_not_after() {
    for seed in 0..SEEDS {
        let mut sim = simulation(seed);
        let begin = || async {
            draining().await;
            let refused = spawn(RequestOptions::default(), async {}).await;
            let served = spawn(RequestOptions::default().also_draining(), async {
                sleep(Duration::from_millis(1)).await;
                7
            });
            (refused, served.await)
        };
        let waiting = sim.handle().submit(0, RequestOptions::default(), begin).unwrap();
        settle(&mut sim);
        sim.enter_phase(Phase::Draining);
        settle(&mut sim);
        assert_eq!(reply(&waiting), Some((Err(RequestError::Closed), Ok(7))), "seed {seed}");
    }
}
