//! The dump of a run while it grows: what each repetition adds, what is judged, what is written.

use std::path::PathBuf;

use super::{ChildError, Plan, RunError, RunOptions, exit_of, progress, slo};
use crate::dump::{
    self, Cell, Dump, Measured, Measurement, Repetition, Run, RunStatus, SCHEMA, Tool, Warning,
    WorkloadRecord, summarise,
};
use crate::environment::{HostFiles, capture};
use crate::exit::Exit;
use crate::load::LatencyHistogram;
use crate::process::now_ns;
use crate::workload_file::{Idle, Slo};

/// A growing dump.
pub(super) struct Record {
    dump: Dump,
    path: PathBuf,
    began_ns: u64,
    repetitions: u32,
    /// Cells that are not run any more.
    given_up: Vec<bool>,
    /// The gravest of what kept repetitions from running.
    exit: Exit,
}

impl Record {
    /// Makes the dump without repetitions; nothing is written yet.
    pub(super) fn begin(
        plan: &Plan,
        options: &RunOptions,
        host: &HostFiles,
    ) -> Result<Self, RunError> {
        let file = &plan.workload.file;
        let now = jiff::Timestamp::now();
        let idle = match file.engine.idle {
            Idle::Park => "park".to_owned(),
            Idle::SpinUs(us) => format!("spin {us} us"),
        };
        let environment = capture(host, &options.engine, &idle);
        let commit = environment.build.git_commit.value().cloned();
        let path = dump::new_path(&options.results_dir, &file.name, now, commit.as_deref())
            .map_err(|error| RunError::Io(options.results_dir.clone(), error))?;
        let id = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let dump = Dump {
            schema: SCHEMA.to_owned(),
            tool: Tool {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            run: Run {
                id: id.unwrap_or_default(),
                started_at: now.to_string(),
                finished_at: now.to_string(),
                argv: dump::without_paths(options.argv.iter().cloned()),
                label: options.label.clone(),
                status: RunStatus::Interrupted,
                quick: options.load.quick,
                interleaved_with: None,
            },
            workload: WorkloadRecord {
                name: file.name.clone(),
                digest: plan.workload.digest.clone(),
                resolved: plan.workload.resolved.clone(),
            },
            environment,
            measurement: measurement(),
            cells: plan.cells.iter().map(empty_cell).collect(),
            slo: Vec::new(),
            warnings: warnings(plan, options),
        };
        let given_up = vec![false; dump.cells.len()];
        let repetitions = plan.repetitions;
        Ok(Self { dump, path, began_ns: now_ns(), repetitions, given_up, exit: Exit::Ok })
    }

    /// Time since the run began.
    pub(super) fn offset_ns(&self) -> u64 {
        now_ns().saturating_sub(self.began_ns)
    }

    /// Adds a repetition and what it says about its cell.
    pub(super) fn add(&mut self, cell_idx: usize, repetition: Repetition) {
        let cell = &mut self.dump.cells[cell_idx];
        for reason in &repetition.invalid_reasons {
            let reason = format!("repetition {}: {reason}", repetition.index);
            cell.invalid_reasons.push(reason);
        }
        cell.valid = cell.invalid_reasons.is_empty();
        cell.repetitions.push(repetition);
        cell.summary = summarise(&cell.repetitions);
    }

    /// Notes that a repetition could not be run; its cell is not tried again.
    pub(super) fn give_up(&mut self, cell_idx: usize, repetition: u32, error: &ChildError) {
        let cell = &mut self.dump.cells[cell_idx];
        cell.invalid_reasons.push(format!("repetition {repetition} could not be run: {error}"));
        cell.valid = false;
        self.given_up[cell_idx] = true;
        self.exit = self.exit.max(exit_of(error));
    }

    pub(super) fn has_given_up(&self, cell_idx: usize) -> bool {
        self.given_up[cell_idx]
    }

    /// Whether a child has said that this host cannot run the engine: then no cell of ours can.
    pub(super) fn host_is_unfit(&self) -> bool {
        self.exit == Exit::HostUnfit
    }

    /// Whether every repetition of every cell is there.
    pub(super) fn is_whole(&self) -> bool {
        let all = self.repetitions as usize;
        self.dump.cells.iter().all(|cell| cell.repetitions.len() == all)
    }

    /// Judges the limits of the workload file.
    pub(super) fn judge(&mut self, limits: &[Slo]) {
        self.dump.slo = slo::judge(limits, &self.dump.cells);
    }

    /// How the program ends, signals aside.
    pub(super) fn exit(&self) -> Exit {
        let mut exit = self.exit;
        let measured_wrong =
            |cell: &Cell| cell.repetitions.iter().any(|r| !r.invalid_reasons.is_empty());
        if self.dump.cells.iter().any(measured_wrong) {
            exit = exit.max(Exit::InvalidRun);
        }
        if self.dump.slo.iter().any(|slo| !slo.pass) {
            exit = exit.max(Exit::SloFailed);
        }
        exit
    }

    /// Writes the dump: whole, or not at all.
    pub(super) fn write(&mut self, status: RunStatus) -> Result<(), RunError> {
        self.dump.run.status = status;
        self.dump.run.finished_at = jiff::Timestamp::now().to_string();
        dump::write(&self.dump, &self.path).map_err(|error| RunError::Io(self.path.clone(), error))
    }

    pub(super) fn into_parts(self) -> (Dump, PathBuf) {
        (self.dump, self.path)
    }
}

fn empty_cell(planned: &super::PlannedCell) -> Cell {
    Cell {
        id: planned.id().to_owned(),
        phase: planned.phase().name.clone(),
        peer: planned.peer().map(|peer| peer.name().to_owned()),
        arrival: serde_json::to_value(&planned.phase().arrival).unwrap_or_default(),
        parameters: planned.parameters.clone(),
        loop_kind: planned.loop_kind(),
        valid: true,
        invalid_reasons: Vec::new(),
        repetitions: Vec::new(),
        summary: summarise(&[]),
    }
}

fn warnings(plan: &Plan, options: &RunOptions) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |code: &str, message: String| {
        warnings.push(Warning { code: code.to_owned(), message });
    };
    if options.load.quick {
        warn("N001", "quick: not for comparison".to_owned());
    }
    for line in progress::left_out(&plan.peers_left_out) {
        warn("N002", line);
    }
    for diagnostic in plan.workload.warnings.diagnostics() {
        warn("N003", diagnostic.message.clone());
    }
    warnings
}

/// Times what measuring itself costs.
fn measurement() -> Measurement {
    const ROUNDS: u64 = 20_000;
    let each = |total_ns: u64| Measured::number(dump::to_f64(total_ns) / dump::to_f64(ROUNDS));
    let start = now_ns();
    for _ in 0..ROUNDS {
        std::hint::black_box(now_ns());
    }
    let clock_read_ns = each(now_ns() - start);
    let mut histogram = LatencyHistogram::new();
    let start = now_ns();
    for round in 0..ROUNDS {
        // Spread over the range of a real phase, not one hot bucket.
        histogram.record(std::hint::black_box(1_000 + (round * 7_919) % 1_000_000));
    }
    let histogram_record_ns = each(now_ns() - start);
    std::hint::black_box(&histogram);
    Measurement {
        significant_digits: u32::from(LatencyHistogram::DIGITS),
        verify: "every_reply".to_owned(),
        clock_read_ns,
        histogram_record_ns,
    }
}
