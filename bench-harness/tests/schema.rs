//! Goal: the schemas under `schema/` are those of the types, and say what the program says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
//! Method: compare with what the types give; then let an independent validator judge the shipped
//! files, the wrong ones, and a dump. On drift: `FOREBAY_BLESS=1 cargo test -p bench-harness --test schema`.

use std::path::{Path, PathBuf};

use bench_harness::dump::{self, LoopKind};
use bench_harness::load::Recorder;
use bench_harness::schema;
use boon::{Compiler, Schemas};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn check_drift(file: &str, made: &str) {
    let path = root().join("schema").join(file);
    if std::env::var_os("FOREBAY_BLESS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == made, "schema/{file} is not what the types say; see the head of this file");
}

fn accepts(schema: &str, value: &Value) -> Result<(), String> {
    let mut schemas = Schemas::new();
    let mut compiler = Compiler::new();
    compiler.add_resource("schema.json", serde_json::from_str(schema).unwrap()).unwrap();
    let index = compiler.compile("schema.json", &mut schemas).unwrap_or_else(|e| panic!("{e}"));
    schemas.validate(value, index).map_err(|error| format!("{error:#}"))
}

fn json_files(dir: PathBuf) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

#[test]
fn the_checked_in_schemas_are_those_of_the_types() {
    check_drift("workload-1.json", &schema::workload());
    check_drift("dump-1.json", &schema::dump());
}

#[test]
fn every_shipped_workload_file_fits_the_schema() {
    let schema = schema::workload();
    for path in json_files(root().join("../workloads")) {
        let value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        accepts(&schema, &value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn what_has_the_wrong_shape_does_not_fit_the_schema() {
    let schema = schema::workload();
    for name in [
        "unknown-field",
        "unknown-top-level",
        "missing-field",
        "wrong-type",
        "negative",
        "fraction",
        "shards-word",
        "permits-shape",
        "two-arrivals",
        "not-built-workload",
        "not-built-arrival",
        "not-built-stage-field",
        "unknown-peer",
        "not-an-object",
        "list-for-object",
    ] {
        let path = root().join("tests/bad").join(name).with_extension("json");
        let value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(accepts(&schema, &value).is_err(), "{name} fits");
    }
}

#[test]
fn a_repetition_fits_its_part_of_the_dump_schema_and_a_damaged_one_does_not() {
    let mut schema: Value = serde_json::from_str(&schema::dump()).unwrap();
    schema["$ref"] = Value::from("#/$defs/Repetition");
    for field in ["properties", "required", "type"] {
        schema.as_object_mut().unwrap().remove(field);
    }
    let schema = schema.to_string();
    let mut recorder = Recorder::new(LoopKind::Open, None, 0);
    recorder.close(1);
    let mut value = serde_json::to_value(recorder.repetition()).unwrap();
    accepts(&schema, &value).unwrap_or_else(|error| panic!("{error}"));
    value["throughput_per_s"] = Value::from("fast");
    assert!(accepts(&schema, &value).is_err());
}

#[test]
fn every_committed_dump_is_valid_and_fits_the_schema() {
    let schema = schema::dump();
    let results = root().join("../results");
    let Ok(names) = std::fs::read_dir(results) else { return };
    for dir in names.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        if dir.ends_with("local") {
            continue;
        }
        for path in json_files(dir) {
            let text = std::fs::read(&path).unwrap();
            let value = serde_json::from_slice(&text).unwrap();
            accepts(&schema, &value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let problems = dump::check(&dump::parse(&text).unwrap());
            assert!(problems.is_empty(), "{}: {problems:?}", path.display());
        }
    }
}
