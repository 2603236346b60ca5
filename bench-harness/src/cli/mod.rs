//! The command line: what can be asked, and who answers.
//!
//! stdout carries the asked format and nothing else; progress, warnings and paths go to stderr.
//! `ab`, `report`, `completions` and `man` stand in the contract and are not built yet.

mod output;
mod run;
mod compare;
mod validate;
mod list;
mod serve;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::compare::Axis;
use crate::dump::RESULTS_DIR_VARIABLE;
use crate::environment::{HostFiles, capture};
use crate::exit::Exit;
use crate::programs::{HeldArgs, become_program};
use crate::run::serve_cell;
use crate::workload_file::Override;
use crate::{doctor, schema, server, subject};

use output::Sink;

const AFTER_HELP: &str = "Exit codes:
  0    all as asked
  1    internal error, or input and output
  2    usage
  3    invalid workload file or dump
  4    a limit (slo) was not kept
  5    regressed
  6    incomparable
  7    inconclusive (with --strict)
  8    noisy host refused
  9    run invalid: overloaded generator, wrong replies, or all operations failed
  10   this host cannot run the engine
  130  interrupted (143: terminated), after a valid partial dump";

/// Runs Forebay's workload files, writes JSON dumps and compares them.
#[derive(Debug, Parser)]
#[command(name = "bench-harness", version, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs workload files; prints one table each, writes one dump each.
    Run(RunArgs),
    /// Compares two dumps: a verdict for each cell and metric.
    Compare(CompareArgs),
    /// Starts the service of a workload file alone, until SIGTERM or SIGINT.
    ///
    /// Prints `ready HOST:PORT` or `ready unix:PATH` on stdout once it accepts connections.
    Serve(ServeArgs),
    /// Tells everything that is wrong with workload files or dumps.
    Validate(ValidateArgs),
    /// Lists workload files and what they come to.
    List(ListArgs),
    /// Tells whether this host can run the engine and is fit for measuring.
    Doctor(DoctorArgs),
    /// Prints the JSON Schema of workload files or dumps.
    Schema {
        /// Of what.
        of: SchemaOf,
    },
    /// Runs one repetition; the parent's hand in a fresh process.
    #[command(hide = true)]
    Cell,
    /// Serves the clients of one repetition; their hand in a process of its own.
    #[command(hide = true)]
    Server,
    /// Becomes another program, which then ends with its parent and keeps to some CPUs.
    #[command(hide = true)]
    Held(HeldArgs),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Workload files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A word for the run, kept in the dump.
    #[arg(long)]
    label: Option<String>,
    /// Runs each cell this often instead of what the file says.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: Option<u32>,
    /// At most 3 repetitions of shorter phases: for a look, not for a comparison.
    #[arg(long)]
    quick: bool,
    /// Sets any field of the file by its path, such as engine.shards=2.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    overrides: Vec<Override>,
    /// Runs only the cells whose id contains this.
    #[arg(long, value_name = "CELL")]
    filter: Option<String>,
    /// What is printed in the end.
    #[arg(long, value_enum, default_value_t)]
    format: RunFormat,
    /// Where it is printed; - is stdout.
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: Sink,
    /// Where dumps are written [default: results/local].
    #[arg(long, value_name = "DIR", env = RESULTS_DIR_VARIABLE)]
    results_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum RunFormat {
    /// For people.
    #[default]
    Table,
    /// The dump; a list of them for several files.
    Json,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// The dump to compare with.
    base: PathBuf,
    /// The dump to judge.
    new: PathBuf,
    /// What is printed.
    #[arg(long, value_enum, default_value_t)]
    format: CompareFormat,
    /// Exits 7 when nothing can be said.
    #[arg(long)]
    strict: bool,
    /// Does not fail when the new dump lacks cells.
    #[arg(long)]
    allow_missing: bool,
    /// Compares in spite of a difference of this kind; then nothing decides the exit code.
    #[arg(long, value_name = "AXIS")]
    allow: Vec<Axis>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum CompareFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For a pull request.
    Markdown,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// A workload file whose workload is a service.
    file: PathBuf,
    /// Where it listens: HOST:PORT, unix:PATH, or passed:N or passed:NAME for a socket that a service
    /// manager passed [default: a free port of 127.0.0.1].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where its admin pages listen, for a service that has some [default: a free port of 127.0.0.1].
    /// They change something only on loopback, or for whoever sends the token that stands in
    /// FOREBAY_ADMIN_TOKEN, and then only for those.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Sets any field of the file by its path, such as engine.shards=2.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    overrides: Vec<Override>,
}

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// Workload files or dumps.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What is printed.
    #[arg(long, value_enum, default_value_t)]
    format: TextFormat,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Workload files, or directories of them.
    #[arg(default_value = "workloads")]
    paths: Vec<PathBuf>,
    /// What is printed.
    #[arg(long, value_enum, default_value_t)]
    format: TextFormat,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
struct DoctorArgs {
    /// What is printed.
    #[arg(long, value_enum, default_value_t)]
    format: TextFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum TextFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SchemaOf {
    /// Workload files.
    Workload,
    /// Dumps.
    Dump,
}

/// Does what the command line asks.
#[must_use]
pub fn main() -> Exit {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Serve(args) => serve::serve(&args),
        Command::Validate(args) => validate::validate(&args),
        Command::List(args) => list::list(&args),
        Command::Doctor(args) => doctor(&args),
        Command::Schema { of } => print_schema(of),
        Command::Cell => {
            serve_cell(std::io::stdin().lock(), std::io::stdout().lock()).map(|()| Exit::Ok)
        }
        Command::Server => server::serve_client(std::io::stdin().lock(), std::io::stdout().lock())
            .map(|()| Exit::Ok),
        Command::Held(args) => Err(become_program(&args)),
    };
    done.unwrap_or_else(|error| {
        output::complain(&format!("error: {error}"));
        Exit::Internal
    })
}

fn doctor(args: &DoctorArgs) -> std::io::Result<Exit> {
    let finding = subject::preflight();
    // The idle policy belongs to a workload file; here there is none.
    let environment = capture(&HostFiles::real(), &finding, "none");
    let report = doctor::examine(&environment, &finding, server::can_count_calls());
    let text = match args.format {
        TextFormat::Text => report.to_text(),
        TextFormat::Json => report.to_json(),
    };
    Sink::Stdout.write(&text)?;
    Ok(Exit::from_code(report.exit_code()).unwrap_or(Exit::Internal))
}

fn print_schema(of: SchemaOf) -> std::io::Result<Exit> {
    let schema = match of {
        SchemaOf::Workload => schema::workload(),
        SchemaOf::Dump => schema::dump(),
    };
    Sink::Stdout.write(&schema)?;
    Ok(Exit::Ok)
}
