//! Goal: whoever serves the cache, every value is held against its key and against what was written;
//! a wrong, an old or a lost reply cannot pass; what is started is stopped, whatever happens.
//! Method: small fixed numbers of requests through the binary, as the parent starts its children,
//! against the real memcached and nutcracker as peers; where this host has none a test says so and
//! ends. What is asserted are counts and checks, never times.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test that does nothing says so")]

mod binary;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output};

use bench_harness::dump::{self, Repetition};
use bench_harness::process::now_ns;
use bench_harness::programs::Program;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use binary::{BINARY, is_of_the_host, said, start_cell, workloads};

/// Whether this host has a program; says so where it does not, and fails where it must.
fn has(program: Program) -> bool {
    let found = program.find().is_some();
    if !found {
        let required = std::env::var("FOREBAY_REQUIRE_SERVERS").is_ok_and(|set| set == "1");
        assert!(!required, "FOREBAY_REQUIRE_SERVERS=1, and {}", program.remedy());
        eprintln!("skipped: {}", program.remedy());
    }
    found
}

/// One repetition, as the parent asks a child for it.
struct Cell {
    cache: Value,
    peer: Option<&'static str>,
    arrival: Value,
    until: Value,
}

impl Cell {
    /// 400 requests to a memcached, one in flight on each connection.
    fn of(cache: Value) -> Self {
        let arrival = json!({"each_connection": {"in_flight": 1}});
        Self { cache, peer: Some("memcached"), arrival, until: json!({"requests": 400}) }
    }

    fn start(&self) -> Child {
        let phase = |role: &str, until: &Value| json!({"name": role, "role": role, "arrival": self.arrival, "until": until});
        let spec = json!({
            "cell_id": "measure",
            "base_dir": workloads(),
            "seed": 7,
            "repetition": 0,
            "peer": self.peer,
            "engine": {"shards": 1},
            "workload": {"cacheproxy": self.cache},
            "stages": {},
            "warmups": [phase("warmup", &json!({"requests": 40}))],
            "phase": phase("measure", &self.until),
        });
        start_cell(&spec)
    }

    fn reply(&self) -> Value {
        binary::reply(self.start())
    }

    fn repetition(&self) -> Repetition {
        binary::repetition(self.reply())
    }

    /// Runs, and checks that every request completed and was verified.
    fn completes(&self) -> Repetition {
        let repetition = self.repetition();
        let wrong = repetition.invalid_reasons.iter().find(|why| !is_of_the_host(why));
        assert_eq!(wrong, None);
        let ops = &repetition.ops;
        assert_eq!(
            (ops.offered, ops.completed, ops.verified, ops.in_flight_at_end),
            (400, 400, 400, 0),
            "{:?}",
            repetition.errors_by_kind
        );
        repetition
    }

    /// Runs, and gives why the repetition is invalid.
    fn is_invalid(&self) -> String {
        let why = self.repetition().invalid_reasons.join("\n");
        assert!(!why.is_empty(), "nothing was found");
        why
    }
}

fn extra(repetition: &Repetition, name: &str) -> f64 {
    let value = &repetition.extra[name].value;
    value.get().unwrap_or_else(|| panic!("{name}: {:?}", value.reason()))
}

/// Every kind of request.
fn everything() -> Value {
    json!({"get_percent": 40, "multi_get_percent": 20, "multi_get_keys": 7, "set_percent": 30,
        "delete_percent": 10})
}

#[test]
fn memcached_answers_right_in_every_dialect() {
    if !has(Program::Memcached) {
        return;
    }
    for protocol in ["text", "meta", "binary"] {
        let load = json!({"connections": 10, "keys": 100, "protocol": protocol});
        let repetition = Cell::of(json!({"load": load})).completes();
        assert_eq!(repetition.sockets.value().map(String::as_str), Some("memcached"));
        assert!(repetition.per_op.get("cpu_ns").unwrap().value().is_some());
        assert!(repetition.memory.max_rss_bytes.value().is_some());
        assert_eq!(extra(&repetition, "hit_percent"), 100.0);
        assert_eq!(extra(&repetition, "value_bytes_per_get"), 100.0);
        assert!(!repetition.extra.contains_key("backend_cpu_ns_per_op"));
    }
}

#[test]
fn every_kind_of_request_is_answered_right_with_several_in_flight() {
    if !has(Program::Memcached) {
        return;
    }
    for protocol in ["text", "meta", "binary"] {
        let load = json!({"connections": 5, "pipelined_max": 8, "keys": 20, "protocol": protocol,
            "key_bytes": {"uniform": {"least": 2, "most": 40}},
            "value_bytes": {"weighted": [{"bytes": 8, "weight": 1}, {"bytes": 500, "weight": 3}]},
            "popularity": {"zipf_percent": 100}, "mix": everything(), "misses": "expected"});
        let arrival = json!({"each_connection": {"in_flight": 8}});
        let repetition = Cell { arrival, ..Cell::of(json!({"load": load})) }.completes();
        let found = extra(&repetition, "hit_percent");
        assert!((1.0..100.0).contains(&found), "{found} % of keys that are deleted, too");
        assert!(extra(&repetition, "keys_per_get") > 1.0);
    }
}

#[test]
fn long_values_and_keys_come_back() {
    if !has(Program::Memcached) {
        return;
    }
    let load = json!({"connections": 3, "keys": 10, "key_bytes": {"fixed": 250},
        "value_bytes": {"fixed": 1_000_000}});
    Cell::of(json!({"load": load})).completes();
}

#[test]
fn requests_by_a_schedule_and_in_one_loop_are_all_answered() {
    if !has(Program::Memcached) {
        return;
    }
    for arrival in [
        json!({"poisson": {"rate_per_s": 2_000}}),
        json!({"constant": {"rate_per_s": 2_000}}),
        json!({"closed": {"in_flight": 7}}),
    ] {
        let load = json!({"connections": 10, "keys": 100});
        Cell { arrival, ..Cell::of(json!({"load": load})) }.completes();
    }
}

#[test]
fn a_hundred_connections_tell_their_memory() {
    if !has(Program::Memcached) {
        return;
    }
    let load = json!({"connections": 200, "keys": 100});
    let repetition = Cell::of(json!({"load": load})).completes();
    assert!(extra(&repetition, "connection_resident_bytes") > 0.0);
}

#[test]
fn a_proxy_spreads_keys_over_memcacheds_that_are_told_apart() {
    if !has(Program::Memcached) || !has(Program::Nutcracker) {
        return;
    }
    let mix = json!({"get_percent": 50, "multi_get_percent": 30, "multi_get_keys": 5,
        "set_percent": 20});
    let load = json!({"connections": 10, "keys": 100, "mix": mix});
    let cell = Cell { peer: Some("nutcracker"), ..Cell::of(json!({"backends": 3, "load": load})) };
    let repetition = cell.completes();
    let (behind, in_all) = (
        extra(&repetition, "backend_cpu_ns_per_op"),
        extra(&repetition, "server_and_backend_cpu_ns_per_op"),
    );
    assert!(0.0 < behind && behind < in_all, "{behind} of {in_all}");
    // It merges nothing: every key that a client asks for is asked of a memcached.
    let asked = extra(&repetition, "backend_gets_per_op");
    let (sets, keys) =
        (extra(&repetition, "backend_sets_per_op"), extra(&repetition, "keys_per_get"));
    assert!((asked - keys * (1.0 - sets)).abs() < 0.01, "{asked} of {keys} a get, {sets} sets");
}

#[test]
fn a_memcached_that_is_driven_directly_costs_what_a_backend_does_without_a_proxy() {
    if !has(Program::Memcached) {
        return;
    }
    let load = json!({"connections": 10, "keys": 100});
    let repetition = Cell::of(json!({"backends": 1, "load": load})).completes();
    let own = repetition.per_op.get("cpu_ns").unwrap().value().unwrap().value.get();
    for name in ["backend_cpu_ns_per_op", "server_and_backend_cpu_ns_per_op"] {
        assert_eq!(extra(&repetition, name), own, "{name}");
    }
    let asked = repetition.extra["backend_gets_per_op"].value.reason().unwrap();
    assert!(asked.contains("by the clients themselves"), "{asked}");
}

#[test]
fn a_miss_where_all_was_written_makes_the_run_invalid() {
    if !has(Program::Memcached) {
        return;
    }
    // What the file's check refuses shows here that the check of replies is awake.
    let load = json!({"connections": 2, "keys": 10, "preload": "nothing"});
    let why = Cell::of(json!({"load": load})).is_invalid();
    assert!(why.contains("nothing, and it was written"), "{why}");
}

/// One connection with one request in flight, and what is done to its replies.
fn planted(planted: &Value, load: Value) -> Cell {
    let mut whole = json!({"connections": 1});
    whole.as_object_mut().unwrap().extend(load.as_object().unwrap().clone());
    Cell::of(json!({"load": whole, "planted": planted}))
}

#[test]
fn an_old_value_makes_the_run_invalid() {
    if !has(Program::Memcached) {
        return;
    }
    // In binary an old reply to a set may come instead, which says nothing that is looked at.
    for protocol in ["text", "meta"] {
        let mix = json!({"get_percent": 50, "set_percent": 50});
        let load = json!({"keys": 1, "protocol": protocol, "mix": mix});
        let why = planted(&json!({"old_chunk": 100}), load).is_invalid();
        assert!(why.contains("replaced before the get was sent"), "{protocol}: {why}");
    }
}

#[test]
fn a_spoiled_a_foreign_and_a_repeated_reply_make_the_run_invalid() {
    if !has(Program::Memcached) {
        return;
    }
    // The last byte of a binary reply to a get is one of its value, and nothing in it tells its key.
    for fault in [
        json!({"spoil_chunk": 5}),
        json!({"spoil_chunk": 100}),
        json!({"old_chunk": 100}),
        json!({"repeat_chunk": 100}),
    ] {
        let load = json!({"keys": 50, "protocol": "binary", "mix": {"get_percent": 100}});
        let why = planted(&fault, load).is_invalid();
        assert!(why.contains("verification failed"), "{fault}: {why}");
    }
    let why = planted(&json!({"close_at_chunk": 60}), json!({"keys": 1})).is_invalid();
    assert!(why.contains("1 of 1 connections broke"), "{why}");
}

#[test]
fn a_lost_reply_ends_the_run_long_before_its_time() {
    if !has(Program::Memcached) {
        return;
    }
    let reply = planted(&json!({"withhold_chunk": 100}), json!({"keys": 1})).reply();
    let why = reply["error"]["failed"].as_str().unwrap_or_default();
    assert!(why.contains("no reply came within"), "{reply}");
}

#[test]
fn what_cannot_serve_is_named() {
    let cache = json!({"load": {"connections": 1, "keys": 1}});
    let unknown = Cell { peer: Some("tokio"), ..Cell::of(cache) }.reply();
    let why = unknown["error"]["not_built"].as_str().unwrap_or_default();
    assert!(why.contains("tokio"), "{unknown}");
}

/// Runs a shipped file as small as it gets, peers alone, and gives its dump.
fn run_peers(name: &str, path: Option<&str>) -> (dump::Dump, Output) {
    let results = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command.args(["run", "--quick", "--repetitions", "1", "--results-dir"]).arg(results.path());
    command.arg(workloads().join(name));
    command.args(["--set", r#"matrix={"workload.cacheproxy.load.connections":[10]}"#]);
    match path {
        Some(path) => command.env("PATH", path),
        None => command.args(["--filter", "@"]),
    };
    let output = command.output().unwrap();
    let stem = Path::new(name).file_stem().unwrap();
    let mut dumps = fs::read_dir(results.path().join(stem)).unwrap();
    (dump::read(&dumps.next().unwrap().unwrap().path()).unwrap(), output)
}

#[test]
fn the_peers_of_a_shipped_file_run_and_every_reply_is_checked() {
    if !has(Program::Memcached) || !has(Program::Nutcracker) {
        return;
    }
    let (dump, output) = run_peers("cacheproxy-proxy.json", None);
    let peers: Vec<_> = dump.cells.iter().map(|cell| cell.peer.as_deref().unwrap()).collect();
    assert_eq!(peers, ["memcached", "nutcracker"]);
    for cell in &dump.cells {
        let wrong = cell.invalid_reasons.iter().find(|why| !is_of_the_host(why));
        assert_eq!(wrong, None, "{}", said(&output));
        let ops = &cell.repetitions[0].ops;
        assert!(ops.completed > 0 && ops.verified == ops.completed, "{}", said(&output));
    }
}

#[test]
fn peers_that_this_host_lacks_are_left_out_with_their_remedy() {
    let (dump, output) = run_peers("cacheproxy-proxy.json", Some("/nowhere"));
    assert!(dump.cells.iter().all(|cell| cell.peer.is_none()));
    for name in ["memcached", "nutcracker"] {
        let remedy = format!("`{name}` is not on PATH: install it");
        let warned = dump.warnings.iter().any(|warning| warning.message.contains(&remedy));
        assert!(warned && said(&output).contains(&remedy), "{}", said(&output));
    }
}

/// The processes that a process has started, itself left out.
fn children(pid: u32) -> Vec<i32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    listed.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process may use one CPU only.
fn is_pinned(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    allowed.is_some_and(|allowed| allowed.trim().parse::<u32>().is_ok())
}

fn is_running(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

/// Looks until something is so; gives up after a time that no host needs.
fn comes_to(what: &str, is_so: impl Fn() -> bool) {
    let deadline_ns = now_ns() + 20_000_000_000;
    while !is_so() {
        assert!(now_ns() < deadline_ns, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn programs_keep_to_the_servers_cpu_and_end_with_whoever_started_them() {
    if !has(Program::Memcached) || !has(Program::Nutcracker) {
        return;
    }
    let load = json!({"connections": 2, "keys": 10});
    let mut cell = Cell {
        peer: Some("nutcracker"),
        until: json!({"duration_ms": 60_000}),
        ..Cell::of(json!({"backends": 2, "load": load}))
    }
    .start();
    let pid = cell.id();
    comes_to("two memcacheds and a nutcracker", || children(pid).len() == 3);
    let started = children(pid);
    comes_to("each on one CPU", || started.iter().all(|pid| is_pinned(*pid)));
    let raw = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(raw, Signal::KILL).unwrap();
    cell.wait().unwrap();
    comes_to("all have ended", || !started.iter().any(|pid| is_running(*pid)));
}
