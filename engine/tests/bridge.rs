//! Goal: a bridge in simulation behaves as one with threads, and a seed decides when its jobs end.
//! Method: random seeds, printed when they fail; each runs twice and must give the same turns.

#![allow(clippy::disallowed_types, reason = "what a factory counts with")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::sim::SimOptions;
use forebay::{Bridge, BridgeError, Builder, Reply, RequestOptions};

const N_JOBS: u64 = 40;

type Answer = Result<u64, BridgeError>;

/// Sends jobs to a bridge of two threads, some of which panic; gives the answers and the digest of
/// the turns.
fn answers(seed: u64, jobs_max: usize) -> (Vec<Answer>, u64) {
    let mut sim = Builder::new().simulate(SimOptions::new(seed, 1)).unwrap();
    let work = move || async move {
        let bridge = Bridge::new("client", 2, jobs_max, || Some(0_u64)).unwrap();
        let ask = |n: u64| {
            let bridge = bridge.clone();
            forebay::spawn(RequestOptions::default(), async move {
                forebay::sleep(Duration::from_micros(n * 37 % 500)).await;
                let job = move |client: &mut u64| {
                    assert!(n % 8 != 7, "planted: a job");
                    *client += 1;
                    n * 2
                };
                bridge.call(job).await
            })
        };
        let asked: Vec<_> = (0..N_JOBS).map(ask).collect();
        let mut answers = Vec::new();
        for request in asked {
            answers.push(request.await.unwrap());
        }
        answers
    };
    let reply: Reply<Vec<Answer>> =
        sim.handle().submit(0, RequestOptions::default(), work).unwrap();
    while sim.step() {}
    (reply.try_take().expect("it has ended").unwrap(), sim.digest())
}

#[test]
fn every_job_is_answered_once_and_a_panic_is_its_own() {
    for seed in 0..50 {
        let (given, digest) = answers(seed, 64);
        for (n, answer) in (0..N_JOBS).zip(&given) {
            let expected = if n % 8 == 7 { Err(BridgeError::Panicked) } else { Ok(n * 2) };
            assert_eq!(*answer, expected, "seed {seed}, job {n}");
        }
        assert_eq!(answers(seed, 64), (given, digest), "seed {seed} runs alike twice");
    }
}

#[test]
fn two_seeds_do_not_run_alike() {
    assert_ne!(answers(1, 64).1, answers(2, 64).1);
}

#[test]
fn a_bridge_that_is_full_refuses_and_answers_what_it_took() {
    let full: usize = (0..50)
        .map(|seed| {
            let (given, _) = answers(seed, 1);
            let is_full = |answer: &&Answer| matches!(answer, Err(BridgeError::Full { .. }));
            assert!(given.iter().any(|answer| answer.is_ok()), "seed {seed}: {given:?}");
            given.iter().filter(is_full).count()
        })
        .sum();
    assert!(full > 50, "{full} of the jobs of 50 seeds were refused");
}

#[test]
fn a_client_stays_with_its_thread_and_a_factory_that_fails_is_tried_again() {
    let mut sim = Builder::new().simulate(SimOptions::new(3, 1)).unwrap();
    let work = || async {
        // A factory may be called from several threads, whatever runs it here.
        let n_tries = Arc::new(AtomicU64::new(0));
        let connect = move || (n_tries.fetch_add(1, Ordering::Relaxed) >= 2).then_some(10);
        let bridge = Bridge::new("client", 1, 8, connect).unwrap();
        let mut answers = Vec::new();
        for _ in 0..4 {
            let count = |client: &mut u64| {
                *client += 1;
                *client
            };
            answers.push(bridge.call(count).await);
        }
        answers
    };
    let reply = sim.handle().submit(0, RequestOptions::default(), work).unwrap();
    while sim.step() {}
    let answers = reply.try_take().expect("it has ended").unwrap();
    assert_eq!(answers, [Err(BridgeError::Closed), Err(BridgeError::Closed), Ok(11), Ok(12)]);
}
