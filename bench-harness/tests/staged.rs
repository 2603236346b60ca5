//! Goal: the clients of the staged workload ask as a file says, check every byte, and count each
//! request once, whatever becomes of it; a server that lies cannot pass, one that stands still shows.
//! Method: small fixed numbers of requests through the binary, as the parent starts its children; a
//! relay in the server's process does the lying. What is asserted are counts and checks, and times
//! only where the server is stopped for a second.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "http")]

mod binary;

use std::process::Child;
use std::time::Duration;

use bench_harness::dump::Repetition;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use binary::{is_of_the_host, run_quick, start_cell, workloads};

/// One class that asks for a page.
fn class(name: &str, page: &str, share_percent: u32) -> Value {
    json!({"name": name, "page": page, "share_percent": share_percent})
}

/// A small service with these classes and clients; pages of a millisecond, all alike.
fn service(classes: &[Value], clients: Value) -> Value {
    json!({
        "files": {"directories": 1},
        "dynamic": {"service_us": 1000, "spread": "fixed"},
        "classes": classes,
        "clients": clients,
    })
}

fn front(connections: u32) -> Value {
    service(&[class("front", "front", 100)], json!({"connections": connections}))
}

/// One repetition, as the parent asks a child for it.
struct Cell {
    staged: Value,
    stages: Value,
    peer: Option<&'static str>,
    arrival: Value,
    until: Value,
    warmup_until: Value,
    deadline_ms: Option<u64>,
    target_ms: Option<u64>,
}

impl Cell {
    fn of(staged: Value, in_flight: u32) -> Self {
        Self {
            staged,
            stages: json!({}),
            peer: None,
            arrival: json!({"closed": {"in_flight": in_flight}}),
            until: json!({"requests": 400}),
            warmup_until: json!({"requests": 40}),
            deadline_ms: None,
            target_ms: None,
        }
    }

    fn spec(&self) -> Value {
        let connections = self.staged["clients"]["connections"].as_u64().unwrap();
        let warmup = json!({"closed": {"in_flight": connections.min(4)}});
        json!({
            "cell_id": "measure",
            "base_dir": workloads(),
            "seed": 7,
            "repetition": 0,
            "peer": self.peer,
            "engine": {"shards": 1},
            "workload": {"staged": self.staged},
            "stages": self.stages,
            "warmups": [{"name": "warmup", "role": "warmup", "arrival": warmup,
                "until": self.warmup_until}],
            "phase": {"name": "measure", "role": "measure", "arrival": self.arrival,
                "until": self.until, "deadline_ms": self.deadline_ms, "target_ms": self.target_ms},
        })
    }

    fn start(&self) -> Child {
        start_cell(&self.spec())
    }

    /// Runs, and checks that every request is counted once.
    fn run(&self) -> Repetition {
        repetition(self.start())
    }

    /// Runs, and checks that nothing but the host makes it invalid.
    fn run_valid(&self) -> Repetition {
        let repetition = self.run();
        let wrong = repetition.invalid_reasons.iter().find(|why| !is_of_the_host(why));
        assert_eq!(wrong, None, "{:?}", repetition.errors_by_kind);
        repetition
    }

    /// Runs, and checks that every request completed and was verified.
    fn completes(&self) -> Repetition {
        let repetition = self.run_valid();
        let ops = &repetition.ops;
        assert_eq!((ops.completed, ops.verified), (400, 400), "{ops:?}");
        repetition
    }
}

fn repetition(child: Child) -> Repetition {
    let repetition = binary::repetition(binary::reply(child));
    let ops = &repetition.ops;
    assert_eq!(ops.offered, ops.started + ops.dropped, "{ops:?}");
    let ended = ops.completed + ops.failed + ops.timed_out + ops.shed;
    assert_eq!(ops.started, ended + ops.in_flight_at_end, "{ops:?}");
    repetition
}

fn extra(repetition: &Repetition, name: &str) -> f64 {
    let metric = repetition.extra.get(name).unwrap_or_else(|| panic!("no extra.{name}"));
    metric.value.get().unwrap_or_else(|| panic!("extra.{name}: {:?}", metric.value.reason()))
}

fn count(repetition: &Repetition, name: &str) -> u64 {
    let value = extra(repetition, name);
    assert!(value >= 0.0 && value.fract() == 0.0, "extra.{name} is {value}");
    format!("{value}").parse().unwrap()
}

/// What became of the requests of all classes is what became of all requests.
fn reconcile_classes(repetition: &Repetition) {
    let ops = &repetition.ops;
    for (what, in_all) in [
        ("offered", ops.offered),
        ("dropped", ops.dropped),
        ("completed", ops.completed),
        ("degraded", ops.degraded),
        ("rejected", ops.shed),
        ("timed_out", ops.timed_out),
        ("failed", ops.failed),
        ("in_flight_at_end", ops.in_flight_at_end),
    ] {
        let ending = format!(".{what}");
        let names = repetition.extra.keys();
        let of_classes = names.filter(|name| name.starts_with("class.") && name.ends_with(&ending));
        assert_eq!(of_classes.map(|name| count(repetition, name)).sum::<u64>(), in_all, "{what}");
    }
}

#[test]
fn every_kind_of_page_is_served_and_checked_by_class() {
    let classes =
        [class("files", "file", 60), class("front", "front", 20), class("dynamic", "dynamic", 20)];
    let cell = Cell::of(service(&classes, json!({"connections": 8})), 8);
    let repetition = Cell { deadline_ms: Some(10_000), ..cell }.completes();
    let of_classes = |what: &str| -> u64 {
        let name = |class: &Value| format!("class.{}.{what}", class["name"].as_str().unwrap());
        classes.iter().map(|class| count(&repetition, &name(class))).sum()
    };
    assert_eq!(
        (of_classes("offered"), of_classes("completed"), of_classes("rejected")),
        (400, 400, 0)
    );
    assert!(extra(&repetition, "class.dynamic.goodput_per_s") > 0.0);
    assert!(extra(&repetition, "jain_index") > 0.9);
    assert!(extra(&repetition, "server_busy_percent") > 0.0);
    // Of the measured phase alone: each request passed one of the two.
    let calls = |stage: &str| repetition.stages[stage].calls;
    assert!(calls("cache") >= 400 - calls("dynamic"), "{:?}", repetition.stages);
    assert_eq!(calls("dynamic"), count(&repetition, "class.dynamic.offered"));
    assert!(repetition.per_op.get("cpu_ns").unwrap().value().is_some());
}

#[test]
fn clients_open_another_connection_as_often_as_the_file_says() {
    let clients = json!({"connections": 4, "requests_per_connection": 5});
    let staged = service(&[class("front", "front", 100)], clients);
    let repetition = Cell::of(staged, 4).completes();
    // Four clients make 10 requests each in the warm-up and 100 in the phase.
    assert_eq!(count(&repetition, "connections_opened"), 4 * (10 + 100) / 5);
    let kept = Cell::of(front(4), 4).completes();
    assert_eq!(count(&kept, "connections_opened"), 4);
}

#[test]
fn requests_by_a_schedule_are_all_answered() {
    for arrival in
        [json!({"poisson": {"rate_per_s": 500}}), json!({"constant": {"rate_per_s": 500}})]
    {
        Cell { arrival, ..Cell::of(front(64), 64) }.completes();
    }
}

#[test]
fn more_due_requests_than_connections_wait_and_are_not_lost() {
    let staged = service(&[class("d", "dynamic", 100)], json!({"connections": 2}));
    let arrival = json!({"constant": {"rate_per_s": 100_000}});
    let repetition = Cell { arrival, ..Cell::of(staged, 2) }.completes();
    assert_eq!(count(&repetition, "connections_opened"), 2);
    // 400 pages of a millisecond, one after the other, all due at once.
    assert!(*repetition.latency.response.max_ns.value().unwrap() >= 400_000_000);
}

#[test]
fn a_relative_rate_is_a_share_of_what_the_warm_up_has_shown() {
    let arrival = json!({"relative": {"percent": 50}});
    let repetition = Cell { arrival, ..Cell::of(front(64), 64) }.completes();
    let (offered, capacity) =
        (extra(&repetition, "offered_per_s"), extra(&repetition, "capacity_per_s"));
    assert!((offered - capacity / 2.0).abs() <= 1.0, "{offered} of {capacity}");
}

#[test]
fn capacity_is_what_the_service_can_do_and_not_what_is_let_through() {
    let staged = service(&[class("d", "dynamic", 100)], json!({"connections": 64}));
    let cell = Cell {
        // One page a second, where a thousand can be made.
        stages: json!({"dynamic": {"admission": {"rate_per_s": 1}}}),
        arrival: json!({"relative": {"percent": 20}}),
        warmup_until: json!({"duration_ms": 500}),
        until: json!({"duration_ms": 1000}),
        ..Cell::of(staged, 64)
    };
    let repetition = cell.run();
    let capacity_per_s = extra(&repetition, "capacity_per_s");
    assert!((100.0..1_100.0).contains(&capacity_per_s), "{capacity_per_s} a second");
    assert!(repetition.ops.shed > repetition.ops.completed, "{:?}", repetition.ops);
}

#[test]
fn an_overload_that_the_clients_cannot_offer_is_dropped_counted_and_invalid() {
    let staged = service(&[class("d", "dynamic", 100)], json!({"connections": 2}));
    let arrival = json!({"relative": {"percent": 400}});
    let until = json!({"duration_ms": 500});
    let repetition = Cell { arrival, until, ..Cell::of(staged, 2) }.run();
    assert!(repetition.ops.dropped > 0, "{:?}", repetition.ops);
    assert_eq!(count(&repetition, "class.d.offered"), repetition.ops.offered);
    let told = repetition.invalid_reasons.join("\n");
    assert!(told.contains("overloaded generator: ") && told.contains("never made"), "{told}");
}

/// Three steps of pages of 20 ms, held to a target.
fn in_steps(target_ms: Option<u64>) -> Repetition {
    let mut staged = service(&[class("d", "dynamic", 100)], json!({"connections": 6}));
    staged["dynamic"]["service_us"] = json!(20_000);
    let arrival =
        json!({"steps": {"clients": [1, 6, 1], "step_ms": 1500, "think_time_ns": 5_000_000}});
    let until = json!({"duration_ms": 4500});
    Cell { arrival, until, target_ms, ..Cell::of(staged, 6) }.run_valid()
}

#[test]
fn steps_are_driven_and_each_tells_how_it_went() {
    // What cannot be reached is never settled, and counts as the whole step.
    let missed = in_steps(Some(1));
    for step in ["step.1", "step.2"] {
        assert_eq!(count(&missed, &format!("{step}.settle_ms")), 1_500);
        // 20 ms are 1,900 % above 1 ms.
        assert!(extra(&missed, &format!("{step}.overshoot_percent")) >= 1_900.0);
    }
    assert_eq!(count(&missed, "settle_ms"), 1_500);
    assert!(missed.extra["jain_index"].value.reason().unwrap().contains("do not ask alike"));
    // Nothing lies above what no reply can take: only a host that stands still for a window does.
    let held = in_steps(Some(60_000));
    assert!(held.ops.completed > 0);
    assert_eq!(count(&held, "overshoot_percent"), 0);
    assert!(count(&held, "step.2.settle_ms") <= 1_500);
}

#[test]
fn without_a_target_nothing_is_said_of_steps() {
    let repetition = in_steps(None);
    for what in ["settle_ms", "overshoot_percent"] {
        let reason = repetition.extra[what].value.reason().unwrap();
        assert!(reason.contains("no target_ms"), "{reason}");
    }
}

#[test]
fn a_client_that_is_refused_thinks_before_it_asks_again() {
    let staged = service(&[class("d", "dynamic", 100)], json!({"connections": 16}));
    let cell = Cell {
        stages: json!({"dynamic": {"admission": {"in_flight_max": 1}}}),
        arrival: json!({"closed": {"in_flight": 16, "think_time_ns": 100_000_000}}),
        until: json!({"duration_ms": 1000}),
        ..Cell::of(staged, 16)
    };
    let ops = cell.run_valid().ops;
    // Sixteen at once at the beginning, and each again a tenth of a second later at the earliest.
    assert!(ops.shed > 0 && ops.offered <= 16 * 10, "{ops:?}");
}

#[test]
fn what_takes_too_long_is_given_up_and_counted() {
    let mut staged = service(
        &[class("front", "front", 80), class("slow", "dynamic", 20)],
        json!({"connections": 8, "timeout_ms": 100}),
    );
    staged["dynamic"] = json!({"service_us": 3_000_000, "spread": "fixed"});
    staged["limits"] = json!({"request_ms": 2000});
    let repetition = Cell { until: json!({"requests": 100}), ..Cell::of(staged, 8) }.run_valid();
    let slow = count(&repetition, "class.slow.offered");
    assert_eq!((repetition.ops.timed_out, repetition.errors_by_kind["timed_out"]), (slow, slow));
    assert_eq!(count(&repetition, "class.slow.timed_out"), slow);
    assert_eq!(count(&repetition, "class.slow.completed"), 0);
    // A fifth was given up after 100 ms: the accepted ones are no quicker for it.
    assert_eq!(count(&repetition, "accepted"), 100);
    assert!(extra(&repetition, "accepted_p90_ns") >= 100e6);
    assert_eq!(count(&repetition, "class.front.completed"), 100 - slow);
}

#[test]
fn refusals_are_counted_by_reason_and_have_a_time_of_their_own() {
    let staged = service(&[class("d", "dynamic", 100)], json!({"connections": 16}));
    let stages = json!({"dynamic": {"admission": {"in_flight_max": 2}}});
    let repetition = Cell { stages, ..Cell::of(staged, 16) }.run_valid();
    let ops = &repetition.ops;
    assert!(ops.shed > 20 && ops.completed > 0, "{ops:?}");
    assert_eq!(count(&repetition, "class.d.rejected"), ops.shed);
    assert_eq!(count(&repetition, "accepted") + ops.shed, 400);
    let by_reason: u64 = repetition
        .extra
        .keys()
        .filter(|name| name.starts_with("rejected."))
        .map(|name| count(&repetition, name))
        .sum();
    assert_eq!(by_reason, ops.shed);
    assert!(extra(&repetition, "refusal_p50_ns") > 0.0);
}

/// A run in which each connection lies at its n-th chunk: which is its n-th reply, as pages are so
/// small that each comes in one with its head.
fn lying(planted: Value) -> Repetition {
    let clients = json!({"connections": 4, "timeout_ms": 300});
    let mut staged = service(&[class("d", "dynamic", 100)], clients);
    staged["dynamic"]["page_bytes"] = json!(256);
    staged["dynamic"]["degraded_bytes"] = json!(256);
    staged["planted"] = planted;
    Cell::of(staged, 4).run()
}

#[test]
fn a_wrong_byte_in_any_stretch_makes_the_run_invalid() {
    for (chunk, expected) in [
        (1, "4 wrong replies outside the measured window\nfirst wrong reply: client "),
        (50, "verification failed: 4 wrong replies\nfirst wrong reply: client "),
    ] {
        let repetition = lying(json!({"spoil_chunk": chunk}));
        let told = repetition.invalid_reasons.join("\n");
        assert!(told.contains(expected), "chunk {chunk}: {told}");
    }
}

#[test]
fn two_replies_to_one_request_make_the_run_invalid() {
    for chunk in [1, 50, 110] {
        let told = lying(json!({"repeat_chunk": chunk})).invalid_reasons.join("\n");
        assert!(told.contains("wrong replies"), "chunk {chunk}: {told}");
    }
}

#[test]
fn a_connection_that_is_cut_in_place_of_a_reply_makes_the_run_invalid() {
    let repetition = lying(json!({"close_at_chunk": 50}));
    let told = repetition.invalid_reasons.join("\n");
    assert!(told.contains("connections broke; first: connection "), "{told}");
    assert_eq!(repetition.errors_by_kind["connection"], repetition.ops.failed);
}

#[test]
fn a_reply_that_never_comes_is_given_up_and_never_waited_for() {
    let repetition = lying(json!({"withhold_chunk": 50}));
    let ops = &repetition.ops;
    // Each client's 50th reply on a connection is lost, and with it the connection: 110 replies in
    // all make two, of which each client sees both in the measured phase.
    assert_eq!((ops.timed_out, ops.completed), (8, 392), "{ops:?}");
}

/// The process that a process has started.
fn child_of(parent: u32) -> Option<Pid> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.into_iter().find_map(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        // Behind the name, which may hold anything: state, then parent.
        let (_, rest) = stat.rsplit_once(") ")?;
        let is_child = rest.split(' ').nth(1)?.parse() == Ok(parent);
        let pid = process.file_name().to_str()?.parse().ok().filter(|_| is_child)?;
        Pid::from_raw(pid)
    })
}

#[allow(clippy::disallowed_methods, reason = "the server runs in real time, in another process")]
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

#[test]
fn a_server_that_stands_still_for_a_second_shows_in_the_tail() {
    let cell = Cell {
        arrival: json!({"constant": {"rate_per_s": 200}}),
        until: json!({"duration_ms": 10_000}),
        ..Cell::of(front(1_000), 64)
    };
    let child = cell.start();
    let server = loop {
        if let Some(server) = child_of(child.id()) {
            break server;
        }
        pause(10);
    };
    // It starts, and is warm, long before; the phase lasts long after.
    pause(5_000);
    kill_process(server, Signal::STOP).unwrap();
    pause(1_000);
    kill_process(server, Signal::CONT).unwrap();
    let repetition = repetition(child);
    let p99_ns = *repetition.latency.response.p99_ns.value().unwrap();
    // 200 of 2,000 requests were due meanwhile: a tenth, evenly late by up to a second.
    assert!(p99_ns > 700_000_000, "{p99_ns} ns");
    assert!(repetition.ops.completed > 1_900, "{:?}", repetition.ops);
}

/// The names of the files of this workload.
fn shipped() -> Vec<String> {
    let there = std::fs::read_dir(workloads()).unwrap();
    let names = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with("staged") && name.ends_with(".json")).collect();
    names.sort();
    names
}

#[test]
fn every_shipped_file_runs_and_every_reply_is_checked() {
    let some = concat!(
        r#"matrix={"phases.overload.arrival.relative.percent":[50,400],"#,
        r#""stages.dynamic.conditioner":["none",{"inflight":{"target_us":100000}}]}"#
    );
    let one = "matrix={}";
    let files = [
        ("staged-classes.json", &["--set", one][..]),
        ("staged-fairness.json", &[]),
        ("staged-front.json", &[]),
        ("staged-memory.json", &[]),
        ("staged-overload.json", &["--set", some]),
        ("staged-spike.json", &["--set", one]),
        ("staged.json", &[]),
    ];
    assert_eq!(files.map(|(name, _)| name.to_owned())[..], shipped()[..]);
    for (name, more) in files {
        let (dump, _) = run_quick(name, &[&["--set", "peers=[]"], more].concat());
        assert!(!dump.cells.is_empty(), "{name}");
        for cell in &dump.cells {
            let wrong = cell.invalid_reasons.iter().find(|why| !is_of_the_host(why));
            assert_eq!(wrong, None, "{name}: {}", cell.id);
            let [repetition] = &cell.repetitions[..] else { panic!("{name}: {}", cell.id) };
            assert_eq!(repetition.ops.verified, repetition.ops.completed);
            assert!(repetition.ops.completed > 0, "{name}: {}", cell.id);
            reconcile_classes(repetition);
        }
    }
}

#[cfg(feature = "peers")]
#[test]
fn the_peer_serves_the_same_bytes_and_says_what_it_cannot() {
    let cell = Cell::of(
        service(
            &[class("front", "front", 50), class("file", "file", 50)],
            json!({"connections": 8}),
        ),
        8,
    );
    let repetition = Cell { peer: Some("tokio"), ..cell }.completes();
    assert_eq!(repetition.sockets.value().map(String::as_str), Some("tokio"));
    let dynamic = service(&[class("d", "dynamic", 100)], json!({"connections": 8}));
    let child = Cell { peer: Some("tokio"), ..Cell::of(dynamic, 8) }.start();
    let reply: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert!(reply["error"]["not_built"].is_string(), "{reply}");
}
