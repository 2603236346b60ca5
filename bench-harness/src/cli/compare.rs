//! `compare`: two dumps in, verdicts out.

use std::io::{self, IsTerminal};
use std::path::Path;

use super::output::{Sink, complain};
use super::{CompareArgs, CompareFormat, validate};
use crate::compare::{self, Options};
use crate::dump::Dump;
use crate::exit::Exit;
use crate::text::Paint;

pub(super) fn compare(args: &CompareArgs) -> io::Result<Exit> {
    let options = Options {
        allow: args.allow.iter().copied().collect(),
        allow_missing: args.allow_missing,
        strict: args.strict,
    };
    let (base, new) = match (read(&args.base), read(&args.new)) {
        (Ok(base), Ok(new)) => (base, new),
        (base, new) => {
            // Both sides are told before the graver of the two decides.
            return Ok(base.err().unwrap_or(Exit::Ok).max(new.err().unwrap_or(Exit::Ok)));
        }
    };
    let comparison = compare::compare(&base, &new, &options);
    let paint = Paint::choose(io::stdout().is_terminal(), |name| std::env::var_os(name));
    Sink::Stdout.write(&match args.format {
        CompareFormat::Table => compare::to_table(&comparison, paint),
        CompareFormat::Json => compare::to_json(&comparison),
        CompareFormat::Markdown => compare::to_markdown(&comparison),
    })?;
    Ok(Exit::from_code(comparison.exit_code).unwrap_or(Exit::Internal))
}

/// Reads a dump whose own rules hold, or tells what is wrong with it.
fn read(path: &Path) -> Result<Dump, Exit> {
    validate::read_dump(path).map_err(|failure| {
        complain(&failure.report.to_string());
        failure.exit
    })
}
