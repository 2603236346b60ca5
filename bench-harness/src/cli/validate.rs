//! `validate`: everything that is wrong with workload files and dumps, each with its place.
//!
//! Which of the two a file is, its first bytes say. What is printed is the answer asked for, so it
//! goes to stdout.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde_json::json;

use super::output::Sink;
use super::{TextFormat, ValidateArgs};
use crate::dump::{self, Dump, ReadError};
use crate::exit::Exit;
use crate::workload_file::{Diagnostic, LoadOptions, Positions, Report, load};

/// Bytes in which a dump names its schema; it is the first field that the writer writes.
const HEAD_BYTES: u64 = 4096;

pub(super) fn validate(args: &ValidateArgs) -> io::Result<Exit> {
    let mut exit = Exit::Ok;
    let mut reports = Vec::new();
    for path in &args.files {
        let (report, file_exit) = examine(path);
        exit = exit.max(file_exit);
        reports.push(report);
    }
    Sink::Stdout.write(&match args.format {
        TextFormat::Text => reports.iter().map(to_text).collect(),
        TextFormat::Json => {
            let files: Vec<_> = reports
                .iter()
                .map(|report| {
                    json!({
                        "file": report.file(),
                        "valid": !report.has_errors(),
                        "diagnostics": report.diagnostics(),
                    })
                })
                .collect();
            format!("{:#}", json!({ "schema": "bench-harness.validation/1", "files": files }))
        }
    })?;
    Ok(exit)
}

fn to_text(report: &Report) -> String {
    if report.diagnostics().is_empty() {
        format!("{}: ok\n", report.file())
    } else {
        report.to_string()
    }
}

fn examine(path: &Path) -> (Report, Exit) {
    if is_dump(path) {
        return match read_dump(path) {
            Ok(_) => (Report::new(path.display().to_string(), String::new(), Vec::new()), Exit::Ok),
            Err(failure) => (failure.report, failure.exit),
        };
    }
    match load(path, &LoadOptions::default()) {
        Ok(workload) => (workload.warnings, Exit::Ok),
        Err(report) => (*report, Exit::InvalidFile),
    }
}

fn is_dump(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    read.is_ok() && String::from_utf8_lossy(&head).contains("\"bench-harness.dump/")
}

/// A dump that cannot be used.
pub(super) struct Failure {
    pub(super) report: Report,
    pub(super) exit: Exit,
}

/// Reads a dump whose shape and rules are right.
pub(super) fn read_dump(path: &Path) -> Result<Dump, Failure> {
    let file = path.display().to_string();
    let dump = dump::read(path).map_err(|error| {
        let exit = Exit::from_code(error.exit_code()).unwrap_or(Exit::Internal);
        Failure { report: malformed(&file, path, &error), exit }
    })?;
    let problems = dump::check(&dump);
    if problems.is_empty() {
        return Ok(dump);
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    // The file may have been replaced meanwhile; the scan needs what serde_json accepts.
    let valid = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
    let positions = if valid { Positions::scan(&text) } else { Positions::default() };
    let diagnostics = problems
        .into_iter()
        .map(|problem| {
            let diagnostic =
                Diagnostic::error("D010", problem.message).at_pointer(&problem.pointer);
            match positions.get(&problem.pointer) {
                Some(span) => diagnostic.at_bytes(&text, span.value.clone()),
                None => diagnostic,
            }
        })
        .collect();
    Err(Failure { report: Report::new(file, text, diagnostics), exit: Exit::InvalidFile })
}

fn malformed(file: &str, path: &Path, error: &ReadError) -> Report {
    let ReadError::Malformed { pointer, line, column, message } = error else {
        let diagnostic = Diagnostic::error("D001", error.to_string());
        return Report::new(file.to_owned(), String::new(), vec![diagnostic]);
    };
    let diagnostic = Diagnostic::error("D002", message.clone()).at_pointer(pointer);
    let text = fs::read_to_string(path).unwrap_or_default();
    let line_start: usize =
        text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut at = (line_start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let diagnostic = diagnostic.at_bytes(&text, at..at);
    Report::new(file.to_owned(), text, vec![diagnostic])
}
