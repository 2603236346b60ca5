//! `list`: the workload files there are and what they come to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::output::{Sink, complain};
use super::{ListArgs, TextFormat};
use crate::exit::Exit;
use crate::run::{Plan, PlannedCell, plan};
use crate::workload_file::{LoadOptions, load};

pub(super) fn list(args: &ListArgs) -> io::Result<Exit> {
    let mut plans = Vec::new();
    let mut exit = Exit::Ok;
    for path in files(&args.paths)? {
        match load(&path, &LoadOptions::default()) {
            Ok(workload) => plans.extend(plan(workload, None)),
            Err(report) => {
                complain(&report.to_string());
                exit = Exit::InvalidFile;
            }
        }
    }
    Sink::Stdout.write(&match args.format {
        TextFormat::Text => plans.iter().map(to_text).collect(),
        TextFormat::Json => format!("{:#}", json!(plans.iter().map(to_json).collect::<Vec<_>>())),
    })?;
    Ok(exit)
}

/// The files meant by paths, of which some may be directories, in the order of their names.
fn files(paths: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut inside = Vec::new();
            for entry in fs::read_dir(path)? {
                inside.push(entry?.path());
            }
            inside.retain(|path: &PathBuf| is_json(path));
            inside.sort();
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json") && path.is_file()
}

fn to_text(plan: &Plan) -> String {
    let file = &plan.workload.file;
    let mut text = format!(
        "{}  ({} cells x {} repetitions)\n    {}\n",
        file.name,
        plan.cells.len(),
        plan.repetitions,
        file.description
    );
    for diagnostic in plan.workload.warnings.diagnostics() {
        text.push_str(&format!("    note: {}\n", diagnostic.message));
    }
    text
}

fn to_json(plan: &Plan) -> serde_json::Value {
    let file = &plan.workload.file;
    json!({
        "name": file.name,
        "description": file.description,
        "workload": file.workload.tag(),
        "digest": plan.workload.digest,
        "repetitions": plan.repetitions,
        "cells": plan.cells.iter().map(PlannedCell::id).collect::<Vec<_>>(),
        "peers_left_out": plan.peers_left_out,
    })
}
