//! Units of work: many await one, failures reach down and not up, circles are named.

use std::time::Duration;

use forebay::{RequestError, Scope, UnitError, UnitKey, scope};

use crate::ring::{Gate, Notes, Ring, shards, spawn, wait};

fn ring() -> Ring {
    Ring::start(shards(1))
}

#[test]
fn a_unit_that_many_await_runs_once() {
    let (ring, runs) = (ring(), Notes::default());
    let noted = runs.clone();
    let sum = ring.run(0, move || async move {
        let scope = scope();
        let shared = {
            let noted = noted.clone();
            scope.unit("shared", async move {
                noted.add(());
                forebay::yield_now().await;
                Ok::<_, ()>(7_u64)
            })
        };
        let units: Vec<_> = (0..10_u64)
            .map(|idx| {
                let shared = shared.clone();
                scope.unit(("reader", idx), async move { Ok::<_, ()>(shared.await.unwrap() + idx) })
            })
            .collect();
        // The same key finds the unit there is; the second future is never run.
        let noted = noted.clone();
        let again = scope.unit("shared", async move {
            noted.add(());
            Ok::<_, ()>(0_u64)
        });
        let mut sum = again.await.unwrap();
        for unit in units {
            sum += unit.await.unwrap();
        }
        sum
    });
    assert_eq!(sum, 7 + 10 * 7 + 45);
    assert_eq!(runs.all().len(), 1);
    ring.stop();
}

/// A tree of units: each awaits its children and adds one.
fn grow(scope: Scope, depth: u32, number: u64) -> forebay::Unit<u64, ()> {
    scope.unit(("node", number), async move {
        if depth == 0 {
            return Ok(1);
        }
        let children: Vec<_> =
            (1..=3).map(|child| grow(scope, depth - 1, number * 4 + child)).collect();
        let mut sum = 1;
        for child in children {
            sum += child.await.map_err(|_| ())?;
        }
        Ok(sum)
    })
}

#[test]
fn units_fan_out_and_join_at_any_depth() {
    let ring = ring();
    let nodes = ring.run(0, || async { grow(scope(), 7, 1).await });
    assert_eq!(nodes.unwrap(), (3_u64.pow(8) - 1) / 2);
    ring.stop();
}

#[test]
fn a_request_ends_when_its_units_have_ended() {
    let (ring, gate, ended) = (ring(), Gate::default(), Notes::default());
    let (held, noted) = (gate.clone(), ended.clone());
    let reply = ring.submit(0, move || async move {
        scope().unit("slow", async move {
            held.passed().await;
            noted.add(());
            Ok::<_, ()>(())
        });
    });
    ring.wait_until(0, |shard| shard.live_requests == 1);
    assert!(reply.wait_timeout(Duration::ZERO).is_none(), "its unit still runs");
    assert_eq!(ring.handle.requests(0)[0].units, 1);
    gate.open();
    wait(&reply).unwrap();
    assert_eq!(ended.all().len(), 1);
    ring.stop();
}

/// Notes when it is dropped: a unit that is cancelled never ends in another way.
struct Marker(Notes<&'static str>, &'static str);

impl Drop for Marker {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}

#[test]
fn a_unit_that_fails_cancels_its_children_and_leaves_its_siblings() {
    let (ring, dropped) = (ring(), Notes::default());
    let noted = dropped.clone();
    let (failed, sibling) = ring.run(0, move || async move {
        let scope = scope();
        let gate = Gate::default();
        let held = gate.clone();
        let sibling = scope.unit("sibling", async move {
            held.passed().await;
            Ok::<_, &str>(1)
        });
        let parent = scope.unit("parent", async move {
            for (name, mark) in [("child", "child"), ("other child", "other")] {
                let marker = Marker(noted.clone(), mark);
                scope.unit(name, async move {
                    let _marker = marker;
                    std::future::pending::<Result<(), &str>>().await
                });
            }
            forebay::yield_now().await;
            Err::<u64, _>("parent failed")
        });
        let failed = parent.await.unwrap_err();
        let UnitError::Failed(error) = failed else { panic!("{failed:?}") };
        gate.open();
        (*error, sibling.await.unwrap())
    });
    assert_eq!((failed, sibling), ("parent failed", 1));
    let mut dropped = dropped.all();
    dropped.sort_unstable();
    assert_eq!(dropped, ["child", "other"]);
    ring.stop();
}

#[test]
fn a_request_that_is_cancelled_takes_all_its_units_with_it() {
    let (ring, dropped) = (ring(), Notes::default());
    let noted = dropped.clone();
    ring.run(0, move || async move {
        let request = spawn(async move {
            let scope = scope();
            let parent = scope.unit("parent", async move {
                let marker = Marker(noted, "child");
                let child = scope.unit("child", async move {
                    let _marker = marker;
                    std::future::pending::<Result<(), ()>>().await
                });
                child.await.map_err(|_| ())
            });
            parent.await
        });
        for _ in 0..5 {
            forebay::yield_now().await;
        }
        drop(request);
    });
    assert_eq!(dropped.wait_for(1), ["child"]);
    ring.stop();
}

#[test]
fn waiting_in_a_circle_is_an_error_with_its_path() {
    let ring = ring();
    let path = ring.run(0, || async {
        let scope = scope();
        let await_next = move |own: u64| async move {
            // Each asks for the next by its key: the one there is, whatever is given here.
            let next = scope.unit(("unit", (own + 1) % 3), async { Ok::<u64, ()>(0) });
            match next.await {
                Err(UnitError::Cycle(path)) => Ok::<_, ()>(path.len() as u64),
                Ok(length) => Ok(length),
                Err(other) => panic!("{other:?}"),
            }
        };
        let units: Vec<_> = (0..3).map(|own| scope.unit(("unit", own), await_next(own))).collect();
        let mut lengths = Vec::new();
        for unit in units {
            lengths.push(unit.await.unwrap());
        }
        lengths
    });
    // Three units, and the first once more at the end; the others then get its answer.
    assert_eq!(path, [4, 4, 4]);
    ring.stop();
}

#[test]
fn a_unit_that_awaits_itself_is_told_so() {
    let ring = ring();
    let path = ring.run(0, || async {
        let scope = scope();
        let unit = scope.unit("self", async move {
            let same = scope.unit("self", async { Ok::<Vec<UnitKey>, ()>(Vec::new()) });
            match same.await {
                Err(UnitError::Cycle(path)) => Ok::<_, ()>(path),
                other => panic!("{other:?}"),
            }
        });
        unit.await.unwrap()
    });
    assert_eq!(path, [UnitKey::from("self"), UnitKey::from("self")]);
    ring.stop();
}

#[test]
fn a_key_of_another_type_is_a_mismatch() {
    let ring = ring();
    let mismatch = ring.run(0, || async {
        let number = scope().unit("key", async { Ok::<u64, ()>(1) });
        let text = scope().unit("key", async { Ok::<String, ()>(String::new()) });
        number.await.unwrap();
        matches!(text.await, Err(UnitError::Mismatch(key)) if key == UnitKey::from("key"))
    });
    assert!(mismatch);
    ring.stop();
}

#[test]
fn a_unit_awaited_by_another_request_s_unit_still_answers() {
    let ring = ring();
    let seen = ring.run(0, || async {
        let scope = scope();
        for idx in 0..3 {
            scope.unit(("other", idx), async { Ok::<_, ()>(()) });
        }
        let gate = Gate::default();
        let held = gate.clone();
        let unit = scope.unit("lent", async move {
            held.passed().await;
            Ok::<_, ()>(7_u64)
        });
        let borrower = spawn(async move {
            // Its own first unit has a number that means something else over there.
            let waits = forebay::scope().unit("waits", async move { Ok::<_, ()>(unit.await) });
            waits.await.unwrap().map_err(|_| ())
        });
        forebay::yield_now().await;
        forebay::yield_now().await;
        forebay::yield_now().await;
        gate.open();
        borrower.await
    });
    assert_eq!(seen, Ok::<_, RequestError>(Ok(7)));
    ring.stop();
}

#[test]
fn units_carry_their_requests_deadline() {
    let ring = ring();
    let options = forebay::RequestOptions::within(Duration::from_secs(60));
    let reply = ring
        .handle
        .submit(0, options, || async {
            let own = scope().deadline();
            let unit = scope().unit("unit", async move { Ok::<_, ()>(scope().deadline()) });
            unit.await.unwrap() == own && scope().left().is_some()
        })
        .unwrap();
    assert_eq!(wait(&reply), Ok(true));
    ring.stop();
}
