//! `run`: workload files in, tables out, dumps on disk.

use std::io::{self, IsTerminal};

use super::output::{Sink, complain};
use super::{RunArgs, RunFormat};
use crate::dump::{Dump, results_dir};
use crate::exit::Exit;
use crate::run::{ChildCommand, FileRun, Progress, RunOptions, Stop, run_files};
use crate::text::Paint;
use crate::workload_file::LoadOptions;
use crate::{subject, table};

pub(super) fn run(args: &RunArgs) -> io::Result<Exit> {
    let options = RunOptions {
        load: LoadOptions {
            overrides: args.overrides.clone(),
            repetitions: args.repetitions,
            quick: args.quick,
        },
        label: args.label.clone(),
        filter: args.filter.clone(),
        results_dir: results_dir(args.results_dir.as_deref(), None),
        argv: std::env::args().collect(),
        child: ChildCommand::this_program()?,
        engine: subject::preflight(),
    };
    let stop = Stop::on_signals()?;
    let (runs, exit) = match run_files(&args.files, &options, &stop, &mut Progress::to_stderr()) {
        Ok(done) => done,
        Err(error) => {
            complain(&error.to_string());
            return Ok(error.exit());
        }
    };
    args.output.write(&render(&runs, args)?)?;
    for run in &runs {
        complain(&format!("wrote {}", run.path.display()));
    }
    Ok(exit)
}

fn render(runs: &[FileRun], args: &RunArgs) -> io::Result<String> {
    let dumps: Vec<&Dump> = runs.iter().map(|run| &run.dump).collect();
    match args.format {
        RunFormat::Json => Ok(match dumps.as_slice() {
            [dump] => serde_json::to_string_pretty(dump)?,
            dumps => serde_json::to_string_pretty(dumps)?,
        }),
        RunFormat::Table => {
            let to_terminal = args.output == Sink::Stdout && io::stdout().is_terminal();
            let paint = Paint::choose(to_terminal, |name| std::env::var_os(name));
            let tables: Vec<String> = dumps.iter().map(|dump| table::render(dump, paint)).collect();
            Ok(tables.join("\n"))
        }
    }
}
