//! The turn: who runs in it, and that nobody is forgotten.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use forebay::sim::SimOptions;
use forebay::{Builder, RequestOptions};
use futures_lite::future::zip;
use send_wrapper::SendWrapper;

use crate::ring::{Notes, Probe, all, double, one_stage, policy, spawn};

/// Makes one call in a request of its own, which begins the next one when it has its answer.
fn chain(probe: Probe, left: u64, ended: Notes<()>) {
    let request = async move {
        probe.call(left).await.unwrap();
        match left {
            0 => ended.add(()),
            _ => chain(probe, left - 1, ended),
        }
    };
    forebay::spawn(RequestOptions::default(), request).detach();
}

#[test]
fn a_caller_that_its_turn_has_answered_goes_on_in_the_same_turn() {
    let (ring, probe) = one_stage(1, policy(|_| {}), double);
    let ended = Notes::default();
    let noted = ended.clone();
    // Nothing else may be ready on the shard, or the window would wait a pass for it.
    ring.run(0, move || async move { chain(probe, 999, noted) });
    ended.wait_for(1);
    let turns = ring.stop()[0].turns;
    // With a round through the ready queue in between, each request would take two.
    assert!((1_000..1_500).contains(&turns), "{turns} turns for 1,000 requests");
}

#[test]
fn callers_that_are_answered_at_once_keep_nobody_waiting() {
    const CALLERS: usize = 8;
    const YIELDS: usize = 100;
    // Full with all of them, so that no window holds them back.
    let options = policy(|options| options.items_max = CALLERS);
    let (ring, probe) = one_stage(1, options, double);
    let calls_meanwhile = ring.run(0, move || async move {
        let (calls, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let callers: Vec<_> = (0..CALLERS as u64)
            .map(|key| {
                let (probe, calls, done) = (probe.clone(), Rc::clone(&calls), Rc::clone(&done));
                spawn(async move {
                    while !done.get() {
                        probe.call(key).await.unwrap();
                        calls.set(calls.get() + 1);
                    }
                })
            })
            .collect();
        let bystander = spawn(async move {
            for _ in 0..YIELDS {
                forebay::yield_now().await;
            }
            done.set(true);
            calls.get()
        });
        zip(all(callers), bystander).await.1.unwrap()
    });
    // One call of each caller for each turn of the bystander, and a few at the start.
    assert!(
        calls_meanwhile <= CALLERS * (YIELDS + 10),
        "{calls_meanwhile} calls in {YIELDS} yields"
    );
    ring.stop();
}

#[test]
fn what_the_turn_brings_runs_before_those_that_give_way() {
    let mut options = SimOptions::new(7, 1);
    options.shuffle = false;
    let mut sim = Builder::new().simulate(options).unwrap();
    let turns = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&turns);
    let start = SendWrapper::new(move || async move {
        let yields = Rc::clone(&seen);
        let _ends_with_the_request = forebay::spawn_background(async move {
            loop {
                yields.borrow_mut().push(("gave way", forebay::now()));
                forebay::yield_now().await;
            }
        });
        for _ in 0..50 {
            forebay::sleep(Duration::from_millis(1)).await;
            seen.borrow_mut().push(("woken", forebay::now()));
        }
    });
    let reply = sim.handle().submit(0, RequestOptions::default(), move || start.take()()).unwrap();
    assert!(sim.run_until(1_000_000, |_| reply.try_take().is_some()));
    let turns = turns.borrow();
    let woken = turns.iter().enumerate().filter(|(_, (what, _))| *what == "woken");
    let late = woken.filter(|(idx, (_, at))| *idx > 0 && turns[idx - 1].1 == *at).count();
    assert_eq!(late, 0, "a task that had given way ran before one that its turn had woken");
}

#[test]
fn one_request_may_have_as_many_calls_outstanding_as_the_queue_holds() {
    // The executor's own tasks bear 32,767 wakers and no more; a request is none of them.
    const CALLS: u64 = 60_000;
    let (ring, probe) = one_stage(1, policy(|_| {}), double);
    let sum = ring.run(0, move || async move {
        let mut calls: Vec<_> = (0..CALLS).map(|key| Some(probe.call(key))).collect();
        let mut sum = 0;
        std::future::poll_fn(|cx| {
            for slot in &mut calls {
                let Some(call) = slot else { continue };
                if let std::task::Poll::Ready(reply) = std::pin::Pin::new(call).poll(cx) {
                    sum += reply.unwrap();
                    *slot = None;
                }
            }
            if calls.iter().all(Option::is_none) {
                std::task::Poll::Ready(sum)
            } else {
                std::task::Poll::Pending
            }
        })
        .await
    });
    assert_eq!(sum, (0..CALLS).map(|key| key * 2).sum());
    ring.stop();
}
