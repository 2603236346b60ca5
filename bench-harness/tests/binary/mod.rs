//! The binary under test: as a shell starts it, and as it starts itself for one repetition.
//!
//! Shared by the tests of all workloads, so that what is a whole reply, and what is the fault of a busy
//! host, is the same in each.

#![allow(dead_code, reason = "each file of tests uses its part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use bench_harness::dump::{self, Dump, Repetition};
use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_bench-harness");

/// Where the shipped files are.
pub(crate) fn workloads() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads")
}

/// A host too busy, or with too few CPUs for clients of their own.
pub(crate) fn is_of_the_host(why: &str) -> bool {
    why.contains("overloaded") || why.contains("the clients share CPU ")
}

/// Starts one repetition, as the parent asks a child for it.
pub(crate) fn start_cell(spec: &Value) -> Child {
    let mut child = Command::new(BINARY)
        .arg("cell")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(spec.to_string().as_bytes()).unwrap();
    child
}

/// What a child has replied.
pub(crate) fn reply(child: Child) -> Value {
    serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap()
}

/// The repetition in a child's reply.
#[track_caller]
pub(crate) fn repetition(mut reply: Value) -> Repetition {
    let repetition = reply["repetition"].take();
    assert!(repetition.is_object(), "{reply}");
    serde_json::from_value(repetition).unwrap()
}

/// Runs the binary to its end.
pub(crate) fn harness(args: &[&str]) -> Output {
    Command::new(BINARY).args(args).output().unwrap()
}

/// All that it has said, for a message.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{:?}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Runs a file, reads its dump back, and has the binary validate it.
#[track_caller]
pub(crate) fn run_file(file: &Path, more: &[&str]) -> (Dump, Output) {
    let results = tempfile::tempdir().unwrap();
    let (dir, file_name) = (results.path().to_str().unwrap(), file.to_str().unwrap());
    let output = harness(&[&["run", file_name, "--results-dir", dir], more].concat());
    let there = std::fs::read_dir(results.path().join(file.file_stem().unwrap()));
    let mut there = there.unwrap_or_else(|error| panic!("{file_name}: {error}\n{}", said(&output)));
    let dump = there.next().unwrap().unwrap().path();
    assert!(there.next().is_none(), "one run writes one dump");
    let validated = harness(&["validate", dump.to_str().unwrap()]);
    assert!(validated.status.success(), "{}", said(&validated));
    (dump::read(&dump).unwrap(), output)
}

/// Runs a shipped file as small as it gets.
#[track_caller]
pub(crate) fn run_quick(name: &str, more: &[&str]) -> (Dump, Output) {
    run_file(&workloads().join(name), &[&["--quick", "--repetitions", "1"], more].concat())
}
