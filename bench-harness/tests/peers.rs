//! Goal: every peer answers every request it is built for, rightly, and counts it like ours.
//! Method: small fixed numbers of requests on the shipped data, through the same entry that a child
//! process uses; what is asserted are counts and checks, never times.
#![cfg(feature = "peers")]

use std::path::Path;

use bench_harness::dump::Repetition;
use bench_harness::subject::{self, CellError, CellSpec};
use bench_harness::workload_file::Peer;
use serde_json::{Value, json};

const CALLERS: [Peer; 3] = [Peer::TokioDirect, Peer::TokioDataloader, Peer::TokioBatchAintOne];

struct Cell {
    units: Value,
    arrival: Value,
    until: Value,
    shards: u32,
}

impl Cell {
    fn closed(units: Value, in_flight: u64, requests: u64) -> Self {
        let arrival = json!({"closed": {"in_flight": in_flight}});
        Self { units, arrival, until: json!({"requests": requests}), shards: 1 }
    }

    fn on(&self, peer: Peer) -> Result<Repetition, CellError> {
        let phase = |role: &str, arrival: &Value, until: &Value| json!({"name": "p", "role": role, "arrival": arrival, "until": until});
        let one_by_one = json!({"closed": {"in_flight": 1}});
        let spec: CellSpec = serde_json::from_value(json!({
            "cell_id": "p@peer",
            "base_dir": Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads"),
            "seed": 7,
            "repetition": 0,
            "peer": peer.name(),
            "engine": {"shards": self.shards},
            "workload": {"units": self.units},
            "stages": {},
            "warmups": [phase("warmup", &one_by_one, &json!({"requests": 10}))],
            "phase": phase("measure", &self.arrival, &self.until),
        }))
        .expect("the spec has the shape that a child reads");
        subject::run(&spec)
    }

    /// Runs and checks that each of `n` requests completed and was verified.
    fn completes(&self, peer: Peer, n: u64) -> Repetition {
        let repetition = self.on(peer).unwrap_or_else(|error| panic!("{}: {error}", peer.name()));
        let (ops, name) = (&repetition.ops, peer.name());
        assert_eq!(repetition.invalid_reasons, Vec::<String>::new(), "{name}");
        assert_eq!(
            (ops.offered, ops.started, ops.completed, ops.verified, ops.in_flight_at_end),
            (n, n, n, n, 0),
            "{name}: {:?}",
            repetition.errors_by_kind
        );
        repetition
    }
}

/// A cache directory of its own, kept for as long as the test runs.
fn cards_on_sqlite() -> (tempfile::TempDir, Value) {
    let cache = tempfile::tempdir().expect("a temporary directory can be made");
    let units = json!({
        "request": {"flight_card": {"departures": 3, "count_views": true}},
        "downstream": {"sqlite": {"cache_dir": cache.path()}},
    });
    (cache, units)
}

fn lookups() -> Value {
    json!({"request": {"lookup": {"keys": 100}}})
}

#[test]
fn flight_cards_from_sqlite_are_right_and_every_view_is_counted() {
    let (_cache, units) = cards_on_sqlite();
    for peer in CALLERS {
        Cell::closed(units.clone(), 32, 300).completes(peer, 300);
    }
}

#[test]
fn two_workers_lose_no_request() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let (_cache, units) = cards_on_sqlite();
    for peer in CALLERS {
        let shards = u32::try_from(cpus.min(2)).unwrap();
        Cell { shards, ..Cell::closed(units.clone(), 32, 301) }.completes(peer, 301);
        Cell { shards, ..Cell::closed(lookups(), 1_000, 20_001) }.completes(peer, 20_001);
    }
}

#[test]
fn flight_cards_from_postgres_are_right_and_every_view_is_counted() {
    let Ok(url) = std::env::var("FOREBAY_POSTGRES_URL") else {
        let required = std::env::var("FOREBAY_REQUIRE_SERVERS").is_ok_and(|set| set == "1");
        assert!(!required, "FOREBAY_POSTGRES_URL is not set, and FOREBAY_REQUIRE_SERVERS=1");
        eprintln!("skipped: FOREBAY_POSTGRES_URL is not set");
        return;
    };
    if !cfg!(feature = "postgres") {
        eprintln!("skipped: built without the feature `postgres`");
        return;
    }
    let units = json!({
        "request": {"flight_card": {"departures": 3, "count_views": true}},
        "downstream": {"postgres": {"url": url}},
    });
    for peer in CALLERS {
        Cell::closed(units.clone(), 32, 300).completes(peer, 300);
    }
}

#[test]
fn lookups_arrive_on_schedule_and_all_are_answered() {
    for peer in [Peer::Tokio].into_iter().chain(CALLERS) {
        for arrival in ["constant", "poisson"] {
            let arrival = json!({arrival: {"rate_per_s": 20_000}});
            let repetition =
                Cell { arrival, ..Cell::closed(lookups(), 0, 2_000) }.on(peer).unwrap();
            let ops = &repetition.ops;
            assert_eq!((ops.offered, ops.completed, ops.verified), (2_000, 2_000, 2_000));
            assert_eq!(repetition.latency.schedule_lag.count, 2_000);
        }
    }
}

#[test]
fn failures_of_the_downstream_are_failures_of_their_requests_alone() {
    let units = json!({
        "request": {"lookup": {"keys": 1_000_000}},
        "downstream": {"simulated":
            {"latency": {"fixed": {"latency_us": 100}}, "failures_per_million": 100_000}},
    });
    for peer in CALLERS {
        let ops = Cell::closed(units.clone(), 64, 2_000).on(peer).unwrap().ops;
        assert_eq!((ops.started, ops.completed + ops.failed), (2_000, 2_000), "{}", peer.name());
        // A tenth fails: five standard deviations either way.
        assert!((133..=267).contains(&ops.failed), "{}: {}", peer.name(), ops.failed);
    }
}

#[test]
fn cards_of_the_simulated_downstream_are_right() {
    let units = json!({
        "request": {"flight_card": {"departures": 2}},
        "downstream": {"simulated": {"latency": {"fixed": {"latency_us": 0}}}},
    });
    for peer in CALLERS {
        Cell::closed(units.clone(), 16, 500).completes(peer, 500);
    }
}

#[test]
fn every_request_of_a_tree_runs() {
    let units = json!({"request": {"tree": {"fan_out": 3, "layers_below_root": 3, "wait_us": 0}}});
    Cell::closed(units, 1, 5).completes(Peer::Tokio, 5);
}

#[test]
fn probes_report_how_long_a_runnable_task_waits() {
    let units = json!({"request": {"burner": {"keys": 10, "share_percent": 50, "burn_us": 40,
        "slice_us": 20, "probe_interval_us": 1}}});
    let repetition = Cell::closed(units, 8, 2_000).completes(Peer::Tokio, 2_000);
    assert!(repetition.extra.contains_key("runnable_to_running_p999_ns"));
}

#[test]
fn idling_reports_the_share_of_a_core() {
    let cell = Cell {
        units: json!({"request": "idle"}),
        arrival: json!("none"),
        until: json!({"duration_ms": 20}),
        shards: 1,
    };
    let spec = cell.on(Peer::Tokio).unwrap();
    assert_eq!(spec.ops.offered, 0);
    assert!(spec.extra["core_percent"].value.get().is_some());
    assert_eq!(spec.measured_ns, 20_000_000);
}

#[test]
fn a_peer_says_what_it_is_not_built_for() {
    let tree = json!({"request": {"tree": {"fan_out": 1, "layers_below_root": 1, "wait_us": 0}}});
    for (units, peer) in [
        (tree, Peer::TokioDataloader),
        (json!({"request": "idle"}), Peer::TokioDirect),
        (cards_on_sqlite().1, Peer::Tokio),
    ] {
        let error = Cell::closed(units, 1, 1).on(peer).unwrap_err();
        assert!(matches!(error, CellError::NotBuilt(_)), "{error}");
    }
}

#[test]
fn a_directory_without_data_is_a_setup_error() {
    let units = json!({
        "request": {"flight_card": {"data_dir": "nowhere"}},
        "downstream": {"sqlite": {}},
    });
    let error = Cell::closed(units, 1, 1).on(Peer::TokioDirect).unwrap_err();
    assert!(matches!(&error, CellError::Setup(why) if why.contains("airports.csv")), "{error}");
}
