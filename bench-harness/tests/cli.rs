//! Goal: the command line keeps the contract: exit codes, and stdout for the asked format alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
//! Method: the binary itself, as a shell would start it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn harness(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench-harness"))
        .args(args)
        .current_dir(root())
        .env_remove("BENCH_HARNESS_RESULTS_DIR")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn help_names_the_commands_and_the_exit_codes() {
    let output = harness(&["--help"]);
    assert_eq!(code(&output), 0);
    for part in
        ["run", "compare", "validate", "list", "doctor", "schema", "9    run invalid", "143"]
    {
        assert!(stdout(&output).contains(part), "{part}");
    }
    assert!(!stdout(&output).contains("\n  cell"), "the child's side is nobody's business");
}

#[test]
fn a_wrong_command_line_exits_2() {
    for args in [
        &["frobnicate"][..],
        &["run"],
        &["run", "x.json", "--repetitions", "0"],
        &["run", "x.json", "--set", "no-equals-sign"],
        &["schema", "nothing"],
    ] {
        let output = harness(args);
        assert_eq!((code(&output), stdout(&output)), (2, ""), "{args:?}");
    }
}

#[test]
fn the_shipped_files_are_valid() {
    let output = harness(&["validate", "workloads/smoke.json", "workloads/units.json"]);
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    assert_eq!(stdout(&output), "workloads/smoke.json: ok\nworkloads/units.json: ok\n");
}

#[test]
fn wrong_files_exit_3_and_each_is_told() {
    let files = ["bench-harness/tests/bad/many.json", "workloads/smoke.json", "nowhere.json"];
    let output = harness(&["validate", files[0], files[1], files[2]]);
    assert_eq!(code(&output), 3);
    for part in ["many.json: 5 errors", "smoke.json: ok", "error[W001]: cannot be read"] {
        assert!(stdout(&output).contains(part), "{part} in {}", stdout(&output));
    }
    let output = harness(&["validate", "--format", "json", files[0], files[1]]);
    let told: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(told["files"][0]["diagnostics"][0]["line"], 6);
    assert_eq!(
        told["files"][0]["diagnostics"][0]["pointer"],
        "/workload/units/request/lookup/keys"
    );
    assert_eq!(told["files"][1]["valid"], true);
}

#[test]
fn running_a_wrong_file_exits_3_without_output_or_dump() {
    let results = tempfile::tempdir().unwrap();
    let dir = results.path().display().to_string();
    let bad = "bench-harness/tests/bad/unknown-field.json";
    let output = harness(&["run", "workloads/smoke.json", bad, "--results-dir", &dir]);
    assert_eq!((code(&output), stdout(&output)), (3, ""));
    let told = stderr(&output);
    assert!(
        told.contains("unknown-field.json:10:70   at /phases/1/arrival/poisson/rate_pers"),
        "{told}"
    );
    assert!(told.contains("did you mean `rate_per_s`?"), "{told}");
    assert_eq!(std::fs::read_dir(results.path()).unwrap().count(), 0);
}

#[test]
fn a_filter_without_a_match_exits_2_and_names_the_cells() {
    let output = harness(&["run", "workloads/units.json", "--filter", "nope"]);
    assert_eq!((code(&output), stdout(&output)), (2, ""));
    assert!(stderr(&output).contains("it has steady, saturate"), "{}", stderr(&output));
}

#[test]
fn schemas_and_lists_are_json_where_json_is_asked() {
    for of in ["workload", "dump"] {
        let output = harness(&["schema", of]);
        let schema: Value = serde_json::from_str(stdout(&output)).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
    let output = harness(&["list", "--format", "json"]);
    let list: Value = serde_json::from_str(stdout(&output)).unwrap();
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    for name in ["smoke", "units", "units-cross", "units-idle", "units-noop", "units-postgres"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let output = harness(&["doctor", "--format", "json"]);
    serde_json::from_str::<Value>(stdout(&output)).unwrap();
}

#[test]
fn a_broken_dump_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken.json");
    std::fs::write(&path, "{\"schema\": \"bench-harness.dump/1\",\n \"tool\": 3}").unwrap();
    let output = harness(&["validate", &path.display().to_string()]);
    assert_eq!(code(&output), 3);
    assert!(stdout(&output).contains("broken.json:2:"), "{}", stdout(&output));
    std::fs::write(&path, "{\"schema\": \"bench-harness.dump/7\"}").unwrap();
    let output = harness(&["validate", &path.display().to_string()]);
    assert_eq!(code(&output), 3);
    assert!(stdout(&output).contains("version 7"), "{}", stdout(&output));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let script = format!("{} schema dump | head -c 1", env!("CARGO_BIN_EXE_bench-harness"));
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", &script])
        .current_dir(root())
        .output()
        .unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}

#[test]
fn a_comparison_that_cannot_be_made_is_told_for_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken.json").display().to_string();
    std::fs::write(&path, "{\"schema\": \"bench-harness.dump/7\"}").unwrap();
    let output = harness(&["compare", &path, "nowhere.json"]);
    assert_eq!((code(&output), stdout(&output)), (1, ""), "a missing file is input and output");
    assert!(stderr(&output).contains("version 7"), "{}", stderr(&output));
    assert!(stderr(&output).contains("nowhere.json"), "{}", stderr(&output));
    let output = harness(&["compare", &path, &path]);
    assert_eq!(code(&output), 3);
    let output = harness(&["compare", &path, &path, "--allow", "everything"]);
    assert_eq!(code(&output), 2);
}
