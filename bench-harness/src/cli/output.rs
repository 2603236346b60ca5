//! Where text goes.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::str::FromStr;

use crate::dump::write_atomically;

/// Where the asked format goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sink {
    /// To stdout.
    Stdout,
    /// To a file, whole or not at all.
    File(PathBuf),
}

impl FromStr for Sink {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Self::Stdout } else { Self::File(text.into()) })
    }
}

impl Sink {
    /// Writes the whole text, ended by a line break.
    pub(super) fn write(&self, text: &str) -> io::Result<()> {
        let line_break = if text.ends_with('\n') { "" } else { "\n" };
        let text = format!("{text}{line_break}");
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
                    // `bench-harness list | head -1` is no error.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                    done => done,
                }
            }
            Self::File(path) => write_atomically(path, text.as_bytes()),
        }
    }
}

/// Writes a line for people; a stderr that is gone changes nothing.
pub(super) fn complain(line: &str) {
    writeln!(io::stderr().lock(), "{}", line.trim_end()).ok();
}
