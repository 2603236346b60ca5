//! Tells the program which source and which compiler it was made from, so that every dump can say so.
//! Without git, or outside a checkout, the facts are left out and the dump says that they are unknown.

use std::env;
use std::process::Command;

fn main() {
    let git_dir = output("git", &["rev-parse", "--git-dir"]);
    // A new commit moves HEAD or its branch, `git add` moves the index: each can change what is said.
    for file in ["HEAD", "index", "logs/HEAD"] {
        if let Some(git_dir) = &git_dir {
            println!("cargo::rerun-if-changed={git_dir}/{file}");
        }
    }
    // Edits make the source differ from its revision.
    for watched in ["build.rs", "src", "../engine", "../workloads", "../Cargo.toml"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    set("GIT_COMMIT", output("git", &["rev-parse", "HEAD"]));
    let status = output("git", &["status", "--porcelain", "--untracked-files=no", "--", ":/"]);
    set("GIT_DIRTY", status.map(|changes| (!changes.is_empty()).to_string()));
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    set("RUSTC", output(&rustc, &["--version"]));
    set("TARGET", env::var("TARGET").ok());
    set("PROFILE", env::var("PROFILE").ok());
    set("FEATURES", Some(features()));
}

/// Returns the enabled features of this crate, sorted, with commas between.
fn features() -> String {
    let mut features: Vec<String> = env::vars()
        .filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(str::to_lowercase))
        .filter(|name| name != "default")
        .collect();
    features.sort();
    features.join(",")
}

fn set(name: &str, value: Option<String>) {
    if let Some(value) = value {
        println!("cargo::rustc-env=BENCH_HARNESS_{name}={value}");
    }
}

/// Returns what a program printed, or nothing when it is missing or failed.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
