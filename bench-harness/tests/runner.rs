//! Goal: whatever a child does, the dump is whole, true to the contract, and the exit code fits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
//! Method: the runner of the binary, with a shell script in place of the child; a good reply is a
//! repetition made by the recorder. No engine, no network.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bench_harness::dump::{self, Dump, LoopKind, Repetition, RunStatus};
use bench_harness::environment::EngineFinding;
use bench_harness::exit::Exit;
use bench_harness::load::{Outcome, Recorder};
use bench_harness::run::{
    ChildCommand, ChildReply, FileRun, Progress, RunError, RunOptions, Stop, StopSignal, run_files,
};
use bench_harness::subject::CellError;
use bench_harness::workload_file::{LoadOptions, Override};
use tempfile::TempDir;

fn workload(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads").join(name).with_extension("json")
}

/// A repetition of a closed loop in which `outcome` befalls every request.
fn repetition(outcome: Outcome) -> Repetition {
    let mut recorder = Recorder::new(LoopKind::Closed, None, 0);
    for i in 0..2_000 {
        let ticket = recorder.start(i * 1_000, i * 1_000);
        recorder.finish(ticket, i * 1_000 + 700, outcome);
    }
    recorder.close(2_000_000);
    let mut repetition = recorder.repetition();
    repetition.shards = vec![];
    repetition
}

fn reply(repetition: Repetition) -> String {
    serde_json::to_string(&ChildReply::Repetition(Box::new(repetition))).unwrap()
}

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Options whose child is this shell script; `$REPLY` is a file with `reply` in it.
    fn options(&self, script: &str, reply: &str) -> RunOptions {
        let reply_file = self.dir.path().join("reply.json");
        std::fs::write(&reply_file, reply).unwrap();
        let script = script.replace("$REPLY", &reply_file.display().to_string());
        RunOptions {
            load: LoadOptions { repetitions: Some(2), ..LoadOptions::default() },
            label: Some("test".to_owned()),
            filter: None,
            results_dir: self.dir.path().join("results"),
            argv: vec!["bench-harness".to_owned(), "run".to_owned()],
            child: ChildCommand {
                program: "/bin/sh".into(),
                args: vec!["-c".to_owned(), script],
                limit: None,
            },
            engine: EngineFinding::NotProbed,
        }
    }

    fn dumps(&self) -> Vec<PathBuf> {
        let pattern = self.dir.path().join("results");
        let Ok(names) = std::fs::read_dir(pattern) else { return Vec::new() };
        names
            .flat_map(|name| std::fs::read_dir(name.unwrap().path()).unwrap())
            .map(|file| file.unwrap().path())
            .collect()
    }
}

fn run(options: &RunOptions, files: &[&str]) -> Result<(Vec<FileRun>, Exit), RunError> {
    let files: Vec<PathBuf> = files.iter().map(|name| workload(name)).collect();
    run_files(&files, options, &Stop::default(), &mut Progress::quiet())
}

/// Runs one file and reads its dump back from the disk.
fn run_one(options: &RunOptions, file: &str) -> (Dump, Exit) {
    let (mut runs, exit) = run(options, &[file]).unwrap_or_else(|error| panic!("{error}"));
    let FileRun { dump, path } = runs.remove(0);
    let read = dump::read(&path).unwrap();
    assert_eq!(read, dump);
    (dump, exit)
}

const GOOD: &str = "cat >/dev/null; cat $REPLY";

#[test]
fn a_whole_run_gives_a_complete_dump_that_keeps_the_rules() {
    let bench = Bench::new();
    let options = bench.options(GOOD, &reply(repetition(Outcome::Completed)));
    let (dump, exit) = run_one(&options, "units-cross");
    assert_eq!((exit, dump.run.status), (Exit::Ok, RunStatus::Complete));
    assert_eq!(dump.cells.len(), 2);
    for cell in &dump.cells {
        let indices: Vec<u32> = cell.repetitions.iter().map(|r| r.index).collect();
        assert_eq!((indices, cell.valid), (vec![0, 1], true), "{}", cell.id);
        assert!(cell.repetitions.iter().all(|r| r.canary.drift_percent.get().is_some()));
        assert_eq!(cell.summary["throughput_per_s"].median.get(), Some(1_000_000.0));
    }
    // The script gives no shards, which only peers may leave out; nothing else may be wrong.
    let problems: Vec<String> = dump::check(&dump)
        .into_iter()
        .map(|problem| problem.pointer)
        .filter(|pointer| !pointer.ends_with("/shards"))
        .collect();
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(dump.run.label.as_deref(), Some("test"));
    assert!(dump.workload.resolved["phases"].is_array());
}

#[test]
fn cells_take_turns_within_each_repetition() {
    let bench = Bench::new();
    let log = bench.dir.path().join("log");
    let script = format!("cat >>{}; echo >>{0}; cat $REPLY", log.display());
    let options = bench.options(&script, &reply(repetition(Outcome::Completed)));
    run_one(&options, "units");
    let text = std::fs::read_to_string(log).unwrap();
    let order: Vec<(String, u64)> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|spec| {
            let cell = spec["cell_id"].as_str().unwrap().to_owned();
            (cell, spec["repetition"].as_u64().unwrap())
        })
        .collect();
    let expected = [("steady", 0), ("saturate", 0), ("saturate", 1), ("steady", 1)];
    assert_eq!(order, expected.map(|(cell, n)| (cell.to_owned(), n)));
}

#[test]
fn a_run_in_which_every_operation_failed_exits_9() {
    let bench = Bench::new();
    let options = bench.options(GOOD, &reply(repetition(Outcome::Failed)));
    let (dump, exit) = run_one(&options, "units");
    assert_eq!((exit.code(), dump.run.status), (9, RunStatus::Complete));
    assert!(dump.cells.iter().all(|cell| !cell.valid));
    assert!(dump.cells[0].invalid_reasons[0].starts_with("repetition 0: no operation completed"));
}

#[test]
fn a_child_that_dies_is_named_and_the_other_cells_go_on() {
    let bench = Bench::new();
    let script = "grep -q '\"cell_id\":\"steady\"' && exit 7; cat $REPLY";
    let options = bench.options(script, &reply(repetition(Outcome::Completed)));
    let (dump, exit) = run_one(&options, "units");
    assert_eq!((exit.code(), dump.run.status), (1, RunStatus::Failed));
    let (steady, saturate) = (&dump.cells[0], &dump.cells[1]);
    assert_eq!((steady.repetitions.len(), steady.valid), (0, false));
    let reason = &steady.invalid_reasons[0];
    assert!(reason.contains("repetition 0 could not be run: the child died"), "{reason}");
    assert!(reason.contains("exit status: 7"), "{reason}");
    assert_eq!((saturate.repetitions.len(), saturate.valid), (2, true));
}

#[test]
fn a_child_that_hangs_is_killed_at_its_bound() {
    let bench = Bench::new();
    // It ignores the request to end, and so does what it has started.
    let mut options = bench.options("trap '' TERM; sleep 1000; sleep 1000", "");
    options.child.limit = Some(Duration::from_millis(100));
    options.load.overrides = vec!["matrix={}".parse::<Override>().unwrap()];
    let (dump, exit) = run_one(&options, "units-cross");
    assert_eq!((exit.code(), dump.run.status), (1, RunStatus::Failed));
    assert!(dump.cells[0].invalid_reasons[0].contains("did not end within 100ms"));
}

#[test]
fn a_reply_that_is_no_repetition_is_an_internal_error() {
    let bench = Bench::new();
    let options = bench.options(GOOD, "hello");
    let (dump, exit) = run_one(&options, "units-idle");
    assert_eq!(exit.code(), 1);
    assert!(dump.cells[0].invalid_reasons[0].contains("reply cannot be read"));
}

#[test]
fn a_host_that_cannot_run_the_engine_exits_10_at_once() {
    let bench = Bench::new();
    let error = CellError::HostUnfit("io_uring is blocked; allow it".to_owned());
    let options = bench.options(GOOD, &serde_json::to_string(&ChildReply::Error(error)).unwrap());
    let (dump, exit) = run_one(&options, "units");
    assert_eq!((exit.code(), dump.run.status), (10, RunStatus::Failed));
    assert!(dump.cells[0].invalid_reasons[0].contains("io_uring is blocked; allow it"));
    assert_eq!(dump.cells[1].invalid_reasons, Vec::<String>::new(), "it was not even tried");
}

#[test]
fn a_host_that_the_engine_refuses_beforehand_starts_nothing_and_says_the_remedy() {
    let bench = Bench::new();
    let mut options = bench.options(GOOD, &reply(repetition(Outcome::Completed)));
    let (error, remedy) = ("io_uring is blocked".to_owned(), "allow it".to_owned());
    options.engine = EngineFinding::Refused { error, remedy };
    let error = run(&options, &["units"]).unwrap_err();
    assert_eq!(error.exit().code(), 10);
    assert!(error.to_string().contains("io_uring is blocked\n  = help: allow it"), "{error}");
    assert_eq!(bench.dumps(), Vec::<PathBuf>::new());
}

#[test]
fn a_signal_leaves_a_partial_dump_and_its_own_exit_code() {
    for (signal, code) in [(StopSignal::Interrupt, 130), (StopSignal::Terminate, 143)] {
        let bench = Bench::new();
        let stop = Stop::default();
        // The first child answers, the second hangs; the signal comes while it does.
        let mark = bench.dir.path().join("first");
        let script = format!(
            "cat >/dev/null; if mkdir {0} 2>/dev/null; then cat $REPLY; else touch {0}/2; sleep 1000; fi",
            mark.display()
        );
        let options = bench.options(&script, &reply(repetition(Outcome::Completed)));
        let (runs, exit) = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !mark.join("2").exists() {
                    std::thread::yield_now();
                }
                stop.ask(signal);
            });
            run_files(&[workload("units")], &options, &stop, &mut Progress::quiet()).unwrap()
        });
        assert_eq!(exit.code(), code);
        let dump = dump::read(&runs[0].path).unwrap();
        assert_eq!(dump.run.status, RunStatus::Interrupted);
        let done: Vec<usize> = dump.cells.iter().map(|cell| cell.repetitions.len()).collect();
        assert_eq!(done, [1, 0]);
        assert!(dump.cells[0].valid);
    }
}

#[test]
fn limits_are_judged_on_the_median_and_decide_exit_4() {
    let bench = Bench::new();
    let mut options = bench.options(GOOD, &reply(repetition(Outcome::Completed)));
    for (slo, passes) in [
        (r#"{"phase":"cross","metric":"response_p99_ns","at_most":1000}"#, true),
        (r#"{"phase":"cross","metric":"response_p99_ns","at_most":600}"#, false),
        (r#"{"phase":"cross","metric":"throughput_per_s","at_least":999999}"#, true),
        // The script measures no goodput: a limit on nothing fails.
        (r#"{"phase":"cross","metric":"goodput_per_s","at_least":1}"#, false),
        (r#"{"phase":"cross","metric":"extra.nothing","at_most":1}"#, false),
    ] {
        options.load.overrides = vec![format!("slo=[{slo}]").parse::<Override>().unwrap()];
        let (dump, exit) = run_one(&options, "units-cross");
        assert_eq!(dump.slo.len(), 2, "one for each cell");
        assert!(dump.slo.iter().all(|result| result.pass == passes), "{slo}");
        assert_eq!(exit, if passes { Exit::Ok } else { Exit::SloFailed }, "{slo}");
    }
}

#[test]
fn all_files_are_checked_before_the_first_runs_and_wrong_ones_leave_no_dump() {
    let bench = Bench::new();
    let options = bench.options(GOOD, &reply(repetition(Outcome::Completed)));
    let error = run(&options, &["units-idle", "no-such-file"]).unwrap_err();
    assert_eq!(error.exit().code(), 3);
    assert!(error.to_string().contains("cannot be read"), "{error}");
    assert_eq!(bench.dumps(), Vec::<PathBuf>::new());
}

#[test]
fn a_filter_that_matches_no_cell_is_a_usage_error() {
    let bench = Bench::new();
    let mut options = bench.options(GOOD, &reply(repetition(Outcome::Completed)));
    options.filter = Some("nope".to_owned());
    let error = run(&options, &["units"]).unwrap_err();
    assert_eq!(error.exit().code(), 2);
    assert_eq!(bench.dumps(), Vec::<PathBuf>::new());
}

#[test]
fn of_several_files_the_gravest_exit_code_wins() {
    let bench = Bench::new();
    let script = "grep -q '\"cell_id\":\"idle\"' && exit 7; cat $REPLY";
    let options = bench.options(script, &reply(repetition(Outcome::Completed)));
    let (runs, exit) = run(&options, &["units-idle", "units"]).unwrap();
    assert_eq!(exit, Exit::Internal);
    let statuses: Vec<RunStatus> = runs.iter().map(|run| run.dump.run.status).collect();
    assert_eq!(statuses, [RunStatus::Failed, RunStatus::Complete]);
    assert_eq!(bench.dumps().len(), 2);
}
