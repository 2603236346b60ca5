//! What people see of a run while it goes on: one line that is redrawn on a terminal, one plain
//! line for each repetition elsewhere. Always on stderr, always from the parent.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::{ChildError, Plan, PlannedCell};
use crate::dump::{Repetition, grouped};
use crate::process::now_ns;
use crate::workload_file::Peer;

/// Where progress goes and how.
#[derive(Debug)]
pub struct Progress {
    mode: Mode,
    total: usize,
    done: usize,
    began_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Redrawn in place.
    Line,
    /// One line for each repetition.
    Plain,
    /// Nothing but what went wrong.
    Quiet,
}

impl Progress {
    /// Draws on a terminal that can, else writes plain lines.
    #[must_use]
    pub fn to_stderr() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let mode = if std::io::stderr().is_terminal() && !dumb { Mode::Line } else { Mode::Plain };
        Self::new(mode)
    }

    /// Says nothing but what goes wrong.
    #[must_use]
    pub fn quiet() -> Self {
        Self::new(Mode::Quiet)
    }

    fn new(mode: Mode) -> Self {
        Self { mode, total: 0, done: 0, began_ns: 0 }
    }

    pub(super) fn begin(&mut self, plan: &Plan) {
        self.total = plan.cells.len() * plan.repetitions as usize;
        self.done = 0;
        self.began_ns = now_ns();
        if self.mode != Mode::Quiet {
            let (name, cells) = (&plan.workload.file.name, plan.cells.len());
            say(&format!("{name}: {cells} cells x {} repetitions", plan.repetitions));
            left_out(&plan.peers_left_out).iter().for_each(|line| say(line));
        }
    }

    pub(super) fn start(&self, cell: &PlannedCell, repetition: u32) {
        if self.mode == Mode::Line {
            let (done, total) = (self.done, self.total);
            let eta = self.eta().map_or_else(String::new, |eta| format!("  {eta} left"));
            redraw(&format!("{done}/{total}  repetition {} of {}{eta}", repetition + 1, cell.id()));
        }
    }

    pub(super) fn done(&mut self, cell: &PlannedCell, repetition: &Repetition) {
        self.done += 1;
        if self.mode == Mode::Plain {
            let (done, total) = (self.done, self.total);
            say(&format!("{done}/{total}  {}  {}", cell.id(), figures(repetition)));
        }
    }

    pub(super) fn skip(&mut self) {
        self.done += 1;
    }

    pub(super) fn failed(&mut self, cell: &PlannedCell, error: &ChildError) {
        self.done += 1;
        self.clear();
        say(&format!("error: {}: {error}", cell.id()));
    }

    pub(super) fn end(&self) {
        self.clear();
    }

    fn clear(&self) {
        if self.mode == Mode::Line {
            redraw("");
        }
    }

    /// Time left if the rest is as slow as what is done.
    fn eta(&self) -> Option<String> {
        let done = u64::try_from(self.done).ok().filter(|done| *done > 0)?;
        let left = u64::try_from(self.total - self.done).ok()?;
        let left_ns = (now_ns() - self.began_ns) / done * left;
        Some(format!("{:?}", Duration::from_secs(left_ns / 1_000_000_000)))
    }
}

/// What is said of peers that this build or this host is without: how to get them.
pub(super) fn left_out(peers: &[Peer]) -> Vec<String> {
    let (programs, built): (Vec<Peer>, Vec<Peer>) =
        peers.iter().partition(|peer| peer.program().is_some());
    let mut lines = Vec::new();
    if !built.is_empty() {
        let names: Vec<&str> = built.iter().map(|peer| peer.name()).collect();
        lines.push(format!(
            "peers left out: {}; build with `--features peers` to run them beside ours",
            names.join(", ")
        ));
    }
    let remedies = programs.iter().filter_map(|peer| peer.program());
    lines.extend(remedies.map(|program| format!("peer left out: {}", program.remedy())));
    lines
}

fn figures(repetition: &Repetition) -> String {
    let ops = grouped(repetition.ops.completed);
    let p99 = repetition.latency.response.p99_ns.value();
    let p99 = p99.map_or_else(String::new, |ns| format!("  p99 {:?}", Duration::from_nanos(*ns)));
    match repetition.throughput_per_s.get() {
        Some(per_s) => format!("{ops} completed, {per_s:.0}/s{p99}"),
        None => format!("{ops} completed{p99}"),
    }
}

/// A terminal that is gone must not end the run: what cannot be said is not said.
fn say(line: &str) {
    writeln!(std::io::stderr().lock(), "{line}").ok();
}

fn redraw(line: &str) {
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "\r\u{1b}[2K{line}").and_then(|()| stderr.flush()).ok();
}
