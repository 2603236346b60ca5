//! Becomes another program that ends with its parent and keeps to some CPUs.
//!
//! What a child does between its start and its program would need unsafe code. So this very program
//! is started, sets for itself what a program inherits, and then becomes it: the same process, with
//! the same id.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::cpus;

/// Arguments of `held`.
#[derive(Debug, Args)]
pub(crate) struct HeldArgs {
    /// The process that it must not outlive.
    #[arg(long)]
    parent: u32,
    /// The CPUs that it may use.
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// The program.
    program: PathBuf,
    /// What it is told.
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Becomes the program; comes back only with the reason why it could not.
pub(crate) fn become_program(args: &HeldArgs) -> io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return error.into();
    }
    // A parent that was gone before that sends no signal any more.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if parent != Some(args.parent) {
        return io::Error::other("whoever started this has ended");
    }
    if let Err(why) = cpus::pin(&args.cpus) {
        return io::Error::other(why);
    }
    Command::new(&args.program).args(&args.args).exec()
}
