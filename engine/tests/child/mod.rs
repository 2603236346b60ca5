//! Runs part of a test in a process of its own.
//!
//! Limits, filters, masks and signals belong to a process and mostly cannot be taken back, so a
//! test that sets one re-runs itself: the same test binary, this one test, and a variable that
//! says which of the two it is. What the child's body returns comes back as text.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

const IS_CHILD: &str = "FOREBAY_TEST_CHILD";
const SAID: &str = "the child said: ";

/// How a child ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its body returned this.
    Said(String),
    /// A signal ended it.
    Killed(i32),
}

/// Runs `body`, a closure written in the calling test itself, in a child process.
///
/// The closure's type names the test to re-run, as in `preflight::a_test::{{closure}}`.
#[allow(dead_code, reason = "each test binary uses its part")]
pub(crate) fn in_child<F: FnOnce() -> String>(body: F) -> Ended {
    said_by(output_of_child(body))
}

#[allow(dead_code, reason = "each test binary uses its part")]
/// Runs `body` like [`in_child`]; `command` is what becomes the child: the test binary and its
/// arguments are put behind its own.
pub(crate) fn in_child_through<F: FnOnce() -> String>(mut command: Command, body: F) -> Ended {
    command.arg(std::env::current_exe().unwrap());
    said_by(output_through(command, body))
}

fn said_by(output: Output) -> Ended {
    if let Some(signal) = output.status.signal() {
        return Ended::Killed(signal);
    }
    let stdout = String::from_utf8(output.stdout).unwrap();
    let said = stdout.lines().find_map(|line| line.split_once(SAID));
    let Some((_, said)) = said else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        panic!("the child ended with {} and said nothing\n{stdout}{stderr}", output.status);
    };
    Ended::Said(said.to_owned())
}

#[allow(dead_code, reason = "each test binary uses its part")]
/// Runs `body` like [`in_child`] and gives what it wrote to standard error.
pub(crate) fn stderr_of_child<F: FnOnce() -> String>(body: F) -> String {
    String::from_utf8(output_of_child(body).stderr).unwrap()
}

fn output_of_child<F: FnOnce() -> String>(body: F) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.stdin(Stdio::null());
    output_through(command, body)
}

fn output_through<F: FnOnce() -> String>(mut command: Command, body: F) -> Output {
    if std::env::var_os(IS_CHILD).is_some() {
        say(&body());
    }
    let name = std::any::type_name::<F>().strip_suffix("::{{closure}}").unwrap();
    // The first part names the binary; what is left is the test, with the module it stands in.
    let (_binary, test) = name.split_once("::").unwrap();
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(IS_CHILD, "1")
        .output()
        .unwrap()
}

#[allow(clippy::print_stdout, reason = "standard output is how the child answers")]
fn say(words: &str) -> ! {
    println!("{SAID}{words}");
    std::process::exit(0);
}
