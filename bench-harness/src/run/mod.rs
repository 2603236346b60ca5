//! The parent: what runs when, in which process, and what is written down.
//!
//! ```text
//! plan: phases x matrix x peers ─► for each repetition, for each cell in turn:
//!       canary ─► fresh child (spec on stdin, repetition on stdout) ─► canary ─► dump rewritten
//! ```
//!
//! Cells and peers take turns within each repetition, so that a drift of the host falls on all of
//! them alike. A child that dies, hangs or says that it could not run ends its own cell; the others
//! go on, and the dump says what is missing.

mod plan;
mod child;
mod stop;
mod record;
mod slo;
mod progress;

use std::path::{Path, PathBuf};

use crate::canary::Canary;
use crate::dump::{Dump, RunStatus};
use crate::environment::{EngineFinding, HostFiles};
use crate::exit::Exit;
use crate::subject::CellError;
use crate::workload_file::{LoadOptions, LoadedWorkload, load};

pub use child::{ChildCommand, ChildError, ChildReply, serve_cell};
pub use plan::{Plan, PlannedCell, plan};
pub use progress::Progress;
pub use stop::{Stop, StopSignal};

use record::Record;

/// What the command line asks of a run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// What it changes in every file.
    pub load: LoadOptions,
    /// The caller's word for the run.
    pub label: Option<String>,
    /// Runs only cells whose id contains this.
    pub filter: Option<String>,
    /// Where dumps go.
    pub results_dir: PathBuf,
    /// The command line, for the dump.
    pub argv: Vec<String>,
    /// How a child is started.
    pub child: ChildCommand,
    /// What the engine's pre-flight has found on this host.
    pub engine: EngineFinding,
}

/// What became of one file.
#[derive(Debug)]
pub struct FileRun {
    /// The dump, as it was last written.
    pub dump: Dump,
    /// Where it stands.
    pub path: PathBuf,
}

/// Why nothing was run at all.
#[derive(Debug)]
pub enum RunError {
    /// Files are wrong; each has its report.
    Invalid(Vec<crate::workload_file::Report>),
    /// The command line asks for what is not there.
    Usage(String),
    /// This host cannot run the engine.
    HostUnfit {
        /// What was refused.
        error: String,
        /// What to do about it.
        remedy: String,
    },
    /// The dump could not be written.
    Io(PathBuf, std::io::Error),
}

impl RunError {
    /// How the program ends.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Invalid(_) => Exit::InvalidFile,
            Self::Usage(_) => Exit::Usage,
            Self::HostUnfit { .. } => Exit::HostUnfit,
            Self::Io(..) => Exit::Internal,
        }
    }
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(reports) => reports.iter().try_for_each(|report| report.fmt(f)),
            Self::Usage(message) => writeln!(f, "error: {message}"),
            Self::HostUnfit { error, remedy } => {
                writeln!(f, "error: this host cannot run the engine: {error}\n  = help: {remedy}")
            }
            Self::Io(path, error) => {
                writeln!(f, "error: {} cannot be written: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for RunError {}

/// Runs files one after the other, all of them checked before the first.
///
/// # Errors
/// When a file is wrong, nothing matches the filter, this host cannot run the engine, or a dump
/// cannot be written. Whatever else goes wrong stands in the dump and in the exit code.
pub fn run_files(
    files: &[PathBuf],
    options: &RunOptions,
    stop: &Stop,
    progress: &mut Progress,
) -> Result<(Vec<FileRun>, Exit), RunError> {
    let plans = load_all(files, options)?;
    if let EngineFinding::Refused { error, remedy } = &options.engine {
        return Err(RunError::HostUnfit { error: error.clone(), remedy: remedy.clone() });
    }
    let mut exit = Exit::Ok;
    let mut runs = Vec::new();
    for plan in plans {
        let (run, file_exit) = run_plan(plan, options, stop, progress)?;
        exit = exit.max(file_exit);
        runs.push(run);
        if stop.signal().is_some() {
            break;
        }
    }
    Ok((runs, exit))
}

fn load_all(files: &[PathBuf], options: &RunOptions) -> Result<Vec<Plan>, RunError> {
    let mut workloads: Vec<LoadedWorkload> = Vec::new();
    let mut wrong = Vec::new();
    for file in files {
        match load(Path::new(file), &options.load) {
            Ok(workload) => workloads.push(workload),
            Err(report) => wrong.push(*report),
        }
    }
    if !wrong.is_empty() {
        return Err(RunError::Invalid(wrong));
    }
    workloads
        .into_iter()
        .map(|workload| plan(workload, options.filter.as_deref()).map_err(RunError::Usage))
        .collect()
}

/// Runs one file to its end, a signal, or a failure that no cell survives.
fn run_plan(
    plan: Plan,
    options: &RunOptions,
    stop: &Stop,
    progress: &mut Progress,
) -> Result<(FileRun, Exit), RunError> {
    let host = HostFiles::real();
    let canary = Canary::new(host.clone());
    let mut record = Record::begin(&plan, options, &host)?;
    progress.begin(&plan);
    let mut before = canary.time();
    let (n_cells, repetitions) = (plan.cells.len(), plan.repetitions);
    let turns = (0..repetitions).flat_map(|repetition| {
        // Each repetition begins with another cell: no cell always follows the same one.
        (0..n_cells).map(move |turn| (repetition, (turn + repetition as usize) % n_cells))
    });
    for (repetition, cell_idx) in turns {
        if stop.signal().is_some() {
            break;
        }
        if record.has_given_up(cell_idx) {
            progress.skip();
            continue;
        }
        let planned = &plan.cells[cell_idx];
        progress.start(planned, repetition);
        let started_offset_ns = record.offset_ns();
        let result = options.child.run(&planned.spec(repetition), stop);
        let after = canary.time();
        match result {
            Ok(mut done) => {
                done.index = repetition;
                done.started_offset_ns = started_offset_ns;
                done.canary = before.until(&after);
                progress.done(planned, &done);
                record.add(cell_idx, done);
            }
            Err(ChildError::Stopped) => break,
            Err(error) => {
                progress.failed(planned, &error);
                record.give_up(cell_idx, repetition, &error);
            }
        }
        before = after;
        record.write(RunStatus::Interrupted)?;
        if record.host_is_unfit() {
            break;
        }
    }
    finish(record, &plan, stop, progress)
}

fn finish(
    mut record: Record,
    plan: &Plan,
    stop: &Stop,
    progress: &mut Progress,
) -> Result<(FileRun, Exit), RunError> {
    let status = match stop.signal() {
        Some(_) => RunStatus::Interrupted,
        None if record.is_whole() => RunStatus::Complete,
        None => RunStatus::Failed,
    };
    record.judge(&plan.workload.file.slo);
    record.write(status)?;
    progress.end();
    let exit = match (stop.signal(), status) {
        (Some(signal), _) => signal.exit(),
        (None, _) => record.exit(),
    };
    let (dump, path) = record.into_parts();
    Ok((FileRun { dump, path }, exit))
}

/// How the program ends when a repetition could not be run.
fn exit_of(error: &ChildError) -> Exit {
    match error {
        ChildError::Cell(CellError::HostUnfit(_)) => Exit::HostUnfit,
        _ => Exit::Internal,
    }
}
