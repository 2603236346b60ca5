//! Goal: every way in which a workload file can be wrong is told with its place, all at once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
//! Method: one wrong file each under `tests/bad/`, and the table of what must be said of it; files
//! too large or too odd to commit are made here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bench_harness::workload_file::{FILE_BYTES_MAX, LoadOptions, Override, Report, load};
use serde_json::json;

/// File, and for each mistake `code:line:column pointer`; 0:0 and `-` where there is none.
const TABLE: &[(&str, &[&str])] = &[
    ("blank", &["W004:0:0 -"]),
    ("bom", &["W004:1:1 -"]),
    ("cache-field", &["W012:6:73 /workload/cacheproxy/load/value_byte"]),
    ("cache-peer", &["W021:10:26 /peers/1", "W021:10:40 /peers/2"]),
    ("cache-peer-protocol", &["W021:10:26 /peers/1"]),
    (
        "cache-stages",
        &[
            "W021:9:29 /stages/cache/placement",
            "W021:11:33 /stages/l2-writes-0/permits",
            "W021:11:55 /stages/l2-writes-0/newest_first_us",
            "W021:12:5 /stages/l2-writes-1",
        ],
    ),
    (
        "cache-values",
        &[
            "W021:8:19 /workload/cacheproxy/backends",
            "W021:9:7 /workload/cacheproxy/load/misses",
            "W021:10:24 /workload/cacheproxy/load/connections",
            "W021:12:33 /workload/cacheproxy/load/key_bytes/fixed",
            "W021:13:48 /workload/cacheproxy/load/value_bytes/uniform/least",
            "W021:13:59 /workload/cacheproxy/load/value_bytes/uniform/most",
            "W021:14:16 /workload/cacheproxy/load/mix",
            "W021:15:41 /workload/cacheproxy/load/popularity/zipf_percent",
            "W021:20:91 /phases/0/arrival/each_connection/in_flight",
        ],
    ),
    ("comment", &["W004:4:3 -"]),
    ("deep", &["W004:1:128 -"]),
    ("duplicate-key", &["W005:5:3 /seed", "W005:8:45 /stages/lookup/items_max"]),
    ("duplicate-phase", &["W021:10:15 /phases/1/name"]),
    ("echo-field", &["W012:6:70 /workload/echo/protocol/bytes/mesage_bytes"]),
    ("echo-peer", &["W021:10:13 /peers/0"]),
    ("echo-peer-faults", &["W021:10:13 /peers/0", "W021:10:22 /peers/1"]),
    ("echo-peer-shards", &["W021:10:13 /peers/0", "W021:10:22 /peers/1"]),
    ("echo-pipeline", &["W021:8:91 /phases/0/arrival/each_connection/in_flight"]),
    ("echo-planted", &["W021:6:101 /workload/echo/protocol/bytes/planted/close_at_chunk"]),
    (
        "echo-think-time",
        &[
            "W021:8:82 /phases/0/arrival/closed/in_flight",
            "W021:8:106 /phases/0/arrival/closed/think_time_ns",
        ],
    ),
    (
        "echo-values",
        &[
            "W021:6:42 /workload/echo/connections",
            "W021:6:87 /workload/echo/protocol/bytes/message_bytes",
            "W021:6:106 /workload/echo/busy_us",
        ],
    ),
    ("empty", &["W004:0:0 -"]),
    ("floor-negative", &["W021:16:56 /compare/floors_percent/throughput_per_s"]),
    ("fraction", &["W011:7:40 /stages/lookup/items_max"]),
    ("gather-shard", &["W021:7:52 /stages/lookup/placement/gather"]),
    ("idle-arrival", &["W021:10:55 /phases/1/arrival"]),
    ("infinite", &["W004:15:76 -"]),
    ("list-for-object", &["W011:5:13 /engine"]),
    (
        "many-shapes",
        &[
            "W011:4:11 /seed",
            "W012:7:27 /stages/lookup/items",
            "W013:9:33 /phases/0/role",
            "W010:10:68 /phases/1/arrival/poisson",
            "W012:10:70 /phases/1/arrival/poisson/rate",
            "W013:13:22 /peers/1",
            "W013:13:31 /peers/2",
        ],
    ),
    (
        "many",
        &[
            "W021:6:61 /workload/units/request/lookup/keys",
            "W021:7:40 /stages/lookup/items_max",
            "W021:10:84 /phases/1/arrival/poisson/rate_per_s",
            "W021:14:18 /repetitions",
            "W021:15:42 /slo/0/metric",
        ],
    ),
    ("matrix-empty", &["W021:12:32 /matrix/engine.shards"]),
    ("matrix-huge", &["W021:12:13 /matrix"]),
    ("matrix-path", &["W012:12:33 /matrix/engine.shrads/0"]),
    ("matrix-root", &["W021:12:15 /matrix/name"]),
    ("matrix-value", &["W021:12:36 /matrix/engine.shards/1"]),
    ("missing-field", &["W010:1:1 "]),
    ("name-differs", &["W021:3:11 /name"]),
    ("nan", &["W004:15:72 -"]),
    ("negative", &["W011:7:40 /stages/lookup/items_max"]),
    ("no-connections", &["W021:10:55 /phases/1/arrival"]),
    ("no-phases", &["W021:8:13 /phases", "W021:12:22 /slo/0/phase"]),
    ("not-an-object", &["W011:1:1 "]),
    ("not-built-arrival", &["W014:10:57 /phases/1/arrival/bursty"]),
    ("not-built-stage-field", &["W014:7:27 /stages/lookup/controllers"]),
    ("not-built-workload", &["W014:6:17 /workload/gateway"]),
    ("not-utf8", &["W003:2:12 -"]),
    ("only-warmup", &["W021:10:33 /phases/1/role", "W021:15:22 /slo/0/phase"]),
    ("peer-twice", &["W021:13:22 /peers/1"]),
    ("permits-order", &["W021:7:56 /stages/lookup/permits"]),
    ("permits-shape", &["W012:7:68 /stages/lookup/permits/mx"]),
    ("phase-name", &["W021:9:15 /phases/0/name"]),
    ("pin-cpus", &["W021:5:40 /engine/pin_cpus", "W021:5:44 /engine/pin_cpus/1"]),
    ("schema-version", &["W021:2:13 /schema"]),
    ("shards-word", &["W013:5:25 /engine/shards"]),
    ("slo-limits", &["W021:15:11 /slo/0"]),
    ("slo-metric", &["W021:15:42 /slo/0/metric"]),
    ("slo-phase", &["W021:15:22 /slo/0/phase"]),
    ("sockets-word", &["W013:5:39 /engine/sockets"]),
    (
        "stage-controllers",
        &[
            "W021:9:22 /stages/lookup/conditioner",
            "W021:10:20 /stages/lookup/admission",
            "W021:11:26 /stages/lookup/rate/per_s",
            "W021:12:21 /stages/lookup/rate_per_s",
            "W021:14:18 /stages/lookup/scaling",
            "W021:15:31 /stages/lookup/batch/budget_us",
            "W021:16:22 /stages/lookup/weights/1",
            "W021:17:34 /stages/lookup/retry/attempts_max",
            "W021:17:56 /stages/lookup/retry/budget_percent",
            "W021:18:40 /stages/lookup/breaker/failures_percent",
        ],
    ),
    (
        "staged-arrivals",
        &[
            "W021:8:64 /phases/0/arrival/relative",
            "W021:9:50 /phases/1/arrival",
            "W021:10:78 /phases/2/arrival/steps/clients/1",
            "W021:10:111 /phases/2/until",
            "W021:11:51 /phases/3/target_ms",
            "W021:12:52 /phases/4/target_ms",
            "W021:12:93 /phases/4/arrival/relative/percent",
        ],
    ),
    (
        "staged-peer",
        &[
            "W021:6:163 /workload/staged/planted/spoil_chunk",
            "W021:10:13 /peers/0",
            "W021:10:22 /peers/1",
        ],
    ),
    ("steps-without-clients", &["W021:9:54 /phases/1/arrival", "W021:10:57 /phases/2/arrival"]),
    ("trailing-garbage", &["W004:18:1 -"]),
    ("truncated", &["W004:6:71 -"]),
    ("two-arrivals", &["W011:10:55 /phases/1/arrival"]),
    ("unknown-field", &["W012:10:70 /phases/1/arrival/poisson/rate_pers"]),
    ("unknown-peer", &["W013:13:13 /peers/0"]),
    ("unknown-stage", &["W021:7:15 /stages/lokup"]),
    ("unknown-top-level", &["W012:14:3 /repetition"]),
    ("workload-value", &["W021:6:61 /workload/units/request/lookup/keys"]),
    ("wrong-type", &["W011:4:11 /seed", "W011:7:40 /stages/lookup/items_max"]),
    ("zero-rate", &["W021:10:84 /phases/1/arrival/poisson/rate_per_s"]),
];

fn bad(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad").join(name).with_extension("json")
}

fn refuse(path: &Path) -> Report {
    *load(path, &LoadOptions::default()).expect_err("the file is wrong")
}

fn places(report: &Report) -> Vec<String> {
    let place = |d: &bench_harness::workload_file::Diagnostic| {
        let (line, column) = (d.line.unwrap_or(0), d.column.unwrap_or(0));
        format!("{}:{line}:{column} {}", d.code, d.pointer.as_deref().unwrap_or("-"))
    };
    report.diagnostics().iter().map(place).collect()
}

#[test]
fn every_bad_file_is_told_all_its_mistakes_with_their_places() {
    for (name, expected) in TABLE {
        assert_eq!(places(&refuse(&bad(name))), *expected, "{name}");
    }
}

#[test]
fn every_bad_file_stands_in_the_table() {
    let listed: BTreeSet<PathBuf> = TABLE.iter().map(|(name, _)| bad(name)).collect();
    let there: BTreeSet<PathBuf> = std::fs::read_dir(bad("x").parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(there, listed);
}

#[test]
fn a_mistake_is_drawn_with_caret_suggestion_and_what_is_allowed() {
    let shown = refuse(&bad("unknown-stage")).to_string();
    let (head, rest) = shown.split_once('\n').unwrap();
    assert_eq!(head, "error[W021]: this units workload has no stage `lokup`");
    let (place, rest) = rest.split_once('\n').unwrap();
    assert!(place.ends_with("unknown-stage.json:7:15   at /stages/lokup"), "{place}");
    let expected = concat!(
        "   |\n",
        " 7 |   \"stages\": { \"lokup\": { \"items_max\": 128, \"permits\": { \"min\": 1, \"max\": 4 } } },\n",
        "   |               ^^^^^^^ did you mean `lookup`?\n",
        "   = allowed: lookup\n"
    );
    assert!(rest.starts_with(expected), "{rest}");
    assert!(rest.ends_with("1 error, 0 warnings\n"), "{rest}");
}

#[test]
fn suggestions_and_reasons_are_given() {
    for (name, part) in [
        ("unknown-field", "did you mean `rate_per_s`?"),
        ("unknown-peer", "did you mean `tokio_dataloader`?"),
        ("unknown-top-level", "did you mean `repetitions`?"),
        ("matrix-path", "did you mean `shards`?"),
        ("nan", "only finite numbers"),
        ("comment", "no comments"),
        ("bom", "byte order mark"),
        ("deep", "recursion limit"),
        ("empty", "the file is empty"),
        ("blank", "the file is empty"),
        ("not-built-arrival", "not built yet, so it is refused rather than ignored"),
        ("shards-word", "allowed: per_core"),
    ] {
        let shown = refuse(&bad(name)).to_string();
        assert!(shown.contains(part), "{name}: {shown}");
    }
}

#[test]
fn a_hundred_megabytes_of_brackets_are_refused_by_their_size_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge.json");
    // A sparse file: its size is what matters, and it must not be read.
    std::fs::File::create(&path).unwrap().set_len(100 << 20).unwrap();
    let report = refuse(&path);
    assert_eq!(places(&report), ["W002:0:0 -"]);
    assert!(report.to_string().contains("has 104857600 bytes, more than the 1048576 allowed"));

    let brackets = vec![b'['; usize::try_from(FILE_BYTES_MAX).unwrap()];
    std::fs::write(&path, brackets).unwrap();
    assert_eq!(places(&refuse(&path)), ["W004:1:128 -"]);
}

#[test]
fn what_is_not_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = refuse(&dir.path().join("missing.json")).to_string();
    assert!(missing.contains("error[W001]: cannot be read: No such file"), "{missing}");
    let directory = refuse(dir.path()).to_string();
    assert!(directory.contains("it is a directory"), "{directory}");
    let device = refuse(Path::new("/dev/zero")).to_string();
    assert!(device.contains("it is not a plain file"), "{device}");
}

#[test]
fn a_wrong_override_is_told_by_its_own_words() {
    let workloads = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads");
    for (path, value, part) in [
        ("engine.shards", json!(0), "said by --set engine.shards=0"),
        ("engine.shrads", json!(2), "did you mean `shards`?"),
        ("seed.low", json!(1), "`/seed` has no fields"),
        ("phases.nope.deadline_ms", json!(1), "no element `nope`"),
    ] {
        let set = Override { path: path.to_owned(), value };
        let options = LoadOptions { overrides: vec![set], ..LoadOptions::default() };
        let shown = load(&workloads.join("smoke.json"), &options).unwrap_err().to_string();
        assert!(shown.contains(part), "{path}: {shown}");
    }
}

#[test]
fn every_shipped_file_is_right_and_survives_being_resolved() {
    let workloads = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads");
    let mut files = 0;
    for entry in std::fs::read_dir(workloads).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        files += 1;
        let workload = load(&path, &LoadOptions::default()).unwrap_or_else(|r| panic!("{r}"));
        // What a dump keeps is a workload file of the same meaning.
        let dir = tempfile::tempdir().unwrap();
        let again = dir.path().join(path.file_name().unwrap());
        std::fs::write(&again, workload.resolved.to_string()).unwrap();
        let again = load(&again, &LoadOptions::default()).unwrap_or_else(|r| panic!("{r}"));
        assert_eq!(again.resolved, workload.resolved);
        assert_eq!(again.digest, workload.digest);
    }
    assert!(files >= 14, "{files} files");
}

#[test]
fn a_matrix_gives_one_variant_for_each_combination() {
    let noop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/units-noop.json");
    let workload = load(&noop, &LoadOptions::default()).unwrap();
    assert_eq!(workload.variants.len(), 8);
    let ids: BTreeSet<String> =
        workload.variants.iter().map(|variant| format!("{:?}", variant.parameters)).collect();
    assert_eq!(ids.len(), 8);
}

#[test]
fn a_quick_load_is_shorter_and_has_another_digest() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/units.json");
    let full = load(&units, &LoadOptions::default()).unwrap();
    let quick = load(&units, &LoadOptions { quick: true, ..LoadOptions::default() }).unwrap();
    assert_eq!(quick.file.repetitions, 3);
    assert_ne!(quick.digest, full.digest);
}
