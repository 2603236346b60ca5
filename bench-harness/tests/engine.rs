//! Goal: every request of the units workload runs on the engine, is answered rightly and counted
//! exactly; a run that went wrong cannot pass for a result.
//! Method: small fixed numbers of requests on the shipped data, through the entry that a child
//! process uses and through the binary. What is asserted are counts and checks, never times.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod binary;

use bench_harness::dump::Repetition;
use bench_harness::subject::{self, CellError, CellSpec};
use serde_json::{Value, json};
use tempfile::TempDir;

use binary::{run_file, said, workloads};

struct Cell {
    units: Value,
    stages: Value,
    arrival: Value,
    until: Value,
    shards: u32,
}

impl Cell {
    fn closed(units: Value, in_flight: u64, requests: u64) -> Self {
        Self {
            units,
            stages: json!({}),
            arrival: json!({"closed": {"in_flight": in_flight}}),
            until: json!({"requests": requests}),
            shards: 2,
        }
    }

    fn run(&self) -> Result<Repetition, CellError> {
        let phase = |name: &str, role: &str, until: &Value| json!({"name": name, "role": role, "arrival": self.arrival, "until": until});
        let warmups = match self.arrival.as_str() {
            Some("none") => json!([]),
            _ => json!([phase("warmup", "warmup", &json!({"requests": 10}))]),
        };
        let spec: CellSpec = serde_json::from_value(json!({
            "cell_id": "measured",
            "base_dir": workloads(),
            "seed": 7,
            "repetition": 0,
            "peer": null,
            "engine": {"shards": self.shards},
            "workload": {"units": self.units},
            "stages": self.stages,
            "warmups": warmups,
            "phase": phase("measured", "measure", &self.until),
        }))
        .unwrap();
        subject::run(&spec)
    }

    /// Runs, and checks that each of `n` requests completed and was verified.
    fn completes(&self, n: u64) -> Repetition {
        let repetition = self.run().unwrap_or_else(|error| panic!("{error}"));
        let ops = &repetition.ops;
        assert_eq!(repetition.invalid_reasons, Vec::<String>::new());
        assert_eq!(
            (ops.offered, ops.started, ops.completed, ops.verified, ops.in_flight_at_end),
            (n, n, n, n, 0),
            "{:?}",
            repetition.errors_by_kind
        );
        let on_shards: u64 = repetition.shards.iter().map(|shard| shard.ops).sum();
        assert_eq!(on_shards, n);
        repetition
    }
}

fn lookups() -> Value {
    json!({"request": {"lookup": {"keys": 100}}})
}

/// How many calls a stage had, and how many of them were items.
fn calls(repetition: &Repetition, stage: &str) -> (u64, u64) {
    let stage = &repetition.stages[stage];
    assert_eq!(stage.items + stage.deduplicated, stage.calls);
    let sealed = &stage.sealed;
    assert_eq!(sealed.full + sealed.idle + sealed.lingered + sealed.closing, stage.batches);
    (stage.calls, stage.items)
}

#[test]
fn flight_cards_from_sqlite_are_right_and_every_view_is_counted() {
    let cache = tempfile::tempdir().unwrap();
    let units = json!({
        "request": {"flight_card": {"departures": 3, "count_views": true}},
        "downstream": {"sqlite": {"cache_dir": cache.path()}},
    });
    let repetition = Cell::closed(units, 32, 600).completes(600);
    assert_eq!(calls(&repetition, "flights").0, 600);
    assert_eq!(calls(&repetition, "airports").0, 1_200);
    assert_eq!(calls(&repetition, "departures").0, 600);
    // A write is never merged by the engine.
    assert_eq!(calls(&repetition, "views"), (600, 600));
    assert!(repetition.stages["flights"].batches < 600, "nothing was batched");
}

#[test]
fn flight_cards_from_the_model_are_right_for_both_kinds_of_arrival() {
    let units = json!({
        "request": {"flight_card": {"departures": 5}},
        "downstream": {"simulated": {"latency": {"uniform": {"min_us": 10, "max_us": 300}}}},
    });
    Cell::closed(units.clone(), 64, 1_000).completes(1_000);
    let open =
        Cell { arrival: json!({"poisson": {"rate_per_s": 5_000}}), ..Cell::closed(units, 1, 500) };
    open.completes(500);
}

#[test]
fn lookups_complete_on_every_policy_of_their_stage() {
    for stage in [
        json!({"window": "idle", "permits": 4}),
        json!({"window": {"linger_us": 200}, "items_max": 7}),
        json!({"placement": "owner", "dedup": "queued"}),
        json!({"placement": {"gather": 1}, "dedup": "in_flight"}),
    ] {
        let cell = Cell { stages: json!({"lookup": stage}), ..Cell::closed(lookups(), 50, 2_000) };
        let repetition = cell.completes(2_000);
        assert_eq!(calls(&repetition, "lookup").0, 2_000, "{}", cell.stages);
    }
}

#[test]
fn every_lookup_of_foreign_keys_crosses() {
    let units = json!({"request": {"lookup": {"keys": 10_000, "owned_by": "other_shard"}}});
    let stages = json!({"lookup": {"placement": "owner"}});
    let cell = Cell { stages, ..Cell::closed(units, 20, 1_000) };
    let repetition = cell.completes(1_000);
    let crossed = repetition.per_op.get("cross_shard_messages").unwrap().value().unwrap();
    assert!(crossed.value.get() > 0.0);
    let alone = Cell { shards: 1, ..cell };
    let error = alone.run().unwrap_err().to_string();
    assert!(error.contains("at least 2 shards"), "{error}");
}

#[test]
fn a_burning_share_is_answered_and_the_probes_see_waits() {
    let units = json!({"request": {"burner": {
        "keys": 100, "share_percent": 10, "burn_us": 50, "slice_us": 10, "probe_interval_us": 100,
    }}});
    let repetition = Cell::closed(units, 10, 3_000).completes(3_000);
    assert!(repetition.extra.contains_key("runnable_to_running_p99_ns"));
    assert!(repetition.extra.contains_key("host_stalls_left_out"));
}

#[test]
fn a_tree_runs_all_its_requests_wherever_they_are() {
    for spread in ["local", "shards"] {
        let units = json!({"request": {"tree": {
            "fan_out": 3, "layers_below_root": 3, "wait_us": 10, "spread": spread,
        }}});
        Cell::closed(units, 2, 20).completes(20);
    }
}

#[test]
fn a_service_without_requests_says_what_being_there_costs() {
    let units = json!({"request": "idle"});
    let idle = Cell {
        arrival: json!("none"),
        until: json!({"duration_ms": 50}),
        ..Cell::closed(units, 1, 1)
    };
    let repetition = idle.completes(0);
    assert!(repetition.extra["core_percent"].value.get().is_some());
    assert_eq!(repetition.measured_ns, 50_000_000);
}

#[test]
fn a_queue_that_is_full_sheds_and_the_books_balance() {
    let units = json!({
        "request": {"lookup": {"keys": 1_000_000}},
        "downstream": {"simulated": {"latency": {"fixed": {"latency_us": 200}}}},
    });
    let stages = json!({"lookup": {"queue_max": 5, "items_max": 5}});
    let cell = Cell { stages, ..Cell::closed(units, 100, 2_000) };
    let repetition = cell.run().unwrap();
    let ops = &repetition.ops;
    assert!(ops.shed > 0, "{ops:?}");
    assert_eq!(ops.completed + ops.shed, 2_000, "{:?}", repetition.errors_by_kind);
    assert_eq!(repetition.stages["lookup"].shed, ops.shed);
}

#[cfg(feature = "postgres")]
#[test]
fn flight_cards_from_postgres_are_right_and_every_view_is_counted() {
    let Ok(url) = std::env::var("FOREBAY_POSTGRES_URL") else {
        let needed = std::env::var("FOREBAY_REQUIRE_SERVERS").is_ok_and(|set| set == "1");
        assert!(!needed, "FOREBAY_POSTGRES_URL is not set");
        eprintln!("skipped: FOREBAY_POSTGRES_URL is not set");
        return;
    };
    let units = json!({
        "request": {"flight_card": {"departures": 3}},
        "downstream": {"postgres": {"url": url}},
    });
    Cell::closed(units, 64, 600).completes(600);
}

#[test]
fn the_smoke_file_runs_and_its_dump_is_valid() {
    let (dump, output) = run_file(&workloads().join("smoke.json"), &[]);
    let reasons: Vec<&String> = dump.cells.iter().flat_map(|cell| &cell.invalid_reasons).collect();
    // A host too busy for 2,000 requests a second is not what this test is about.
    let busy = |reason: &&&String| reason.contains("overloaded");
    assert!(reasons.iter().all(|reason| busy(&reason)), "{reasons:?}");
    if reasons.is_empty() {
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    let closed = dump.cells.iter().find(|cell| cell.id == "closed").unwrap();
    assert!(closed.valid);
    for repetition in &closed.repetitions {
        assert_eq!((repetition.ops.completed, repetition.ops.verified), (500, 500));
        assert!(repetition.per_op.get("allocs").unwrap().value().is_some());
    }
}

#[test]
fn a_downstream_that_fails_every_item_makes_the_run_invalid() {
    let fails = "workload.units.downstream.simulated.failures_per_million=1000000";
    let smoke = workloads().join("smoke.json");
    let (dump, output) =
        run_file(&smoke, &["--filter", "closed", "--repetitions", "1", "--set", fails]);
    assert_eq!(output.status.code(), Some(9), "{}", said(&output));
    let [cell] = &dump.cells[..] else { panic!("one cell: {:?}", dump.cells) };
    assert!(!cell.valid);
    assert_eq!(cell.repetitions[0].errors_by_kind["item"], 500);
    assert!(cell.invalid_reasons[0].contains("no operation completed"));
}

#[test]
fn a_wrong_reply_makes_the_run_invalid() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::copy(workloads().join("data/airports.csv"), data.join("airports.csv")).unwrap();
    // Every hundredth flight claims a distance of one mile, which its airports contradict.
    let flights = std::fs::read_to_string(workloads().join("data/flights.csv")).unwrap();
    let header = flights.lines().next().unwrap();
    let column = header.split(',').position(|name| name == "distance_mi").unwrap();
    let damaged: Vec<String> = flights
        .lines()
        .enumerate()
        .map(|(line_idx, line)| {
            let mut fields: Vec<&str> = line.split(',').collect();
            if line_idx > 0 && line_idx % 100 == 0 {
                fields[column] = "1";
            }
            fields.join(",")
        })
        .collect();
    std::fs::write(data.join("flights.csv"), damaged.join("\n") + "\n").unwrap();
    let smoke = std::fs::read_to_string(workloads().join("smoke.json")).unwrap();
    let file = dir.path().join("smoke.json");
    std::fs::write(&file, smoke).unwrap();

    let (dump, output) = run_file(&file, &["--filter", "closed", "--repetitions", "1"]);
    assert_eq!(output.status.code(), Some(9), "{}", said(&output));
    let [cell] = &dump.cells[..] else { panic!("one cell: {:?}", dump.cells) };
    assert!(!cell.valid);
    assert!(cell.invalid_reasons[0].contains("verification failed"), "{:?}", cell.invalid_reasons);
    let ops = &cell.repetitions[0].ops;
    assert_eq!(cell.repetitions[0].errors_by_kind["wrong"], ops.failed);
    assert!(ops.failed > 0 && ops.completed + ops.failed == 500, "{ops:?}");
}
