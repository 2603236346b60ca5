//! Goal: the rules of the code base that a compiler and a linter cannot check are checked anyway.
//! Method: read every file of the tree as text, and compare with the tables below. Each rule is a
//! pure function from one file to its findings, and each is shown a file that breaks it.
//!
//! An exception stands in a table with its reason. One that nothing needs any more is a finding
//! too, so that the tables only say what is so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "tidy/code.rs"]
mod code;

use code::{code_of, idents, production_of};

/// The layers of the engine from the ground up. A module imports from rows above its own.
const LAYERS: &[&[&str]] = &[
    &["error", "limits"],
    &["runtime"],
    &["control"],
    &["metrics", "gate", "reply"],
    &["task", "stage", "mesh", "net", "fs"],
    &["shard"],
    &["engine", "sim"],
];

/// What a module may name though it stands above: where, what, why.
const UPWARD: &[(&str, &str, &str)] = &[
    ("error", "runtime", "an error names what it is about: shards, CPUs, what pre-flight found"),
    ("error", "task", "an error names what it is about: the keys of a closed circle of units"),
    ("metrics", "stage", "seals are counted by their reason"),
];

/// What two threads may touch lives in `runtime/shared`. Who else may name such a type: the start of
/// the path in `engine/src/`, which type, why.
const SHARING: &[(&str, &str, &str)] = &[
    ("runtime/signal.rs", "AtomicBool", "a signal's handler may read nothing but an atomic"),
    (
        "runtime/ring/buffers.rs",
        "AtomicU16",
        "the tail of a ring of buffers is shared with the kernel",
    ),
    (
        "runtime/ring/passed.rs",
        "OnceLock",
        "sockets are passed to the process: taken once, whichever shard asks first",
    ),
    ("runtime/", "Arc", "a shard holds the handles of what lives in runtime/shared"),
    ("shard/mod.rs", "Arc", "a shard is set up with handles of what lives in runtime/shared"),
    ("engine/", "Arc", "the outside of an engine is held by any thread"),
    ("sim.rs", "Arc", "a simulation holds what the outside of an engine would"),
    ("error.rs", "Arc", "one error goes to every item and waiter, on any shard"),
    ("stage/", "Arc", "one error goes to every item and waiter, on any shard"),
    ("task/unit.rs", "Arc", "one error goes to all that await the unit, on any shard"),
];

/// Who may name a path that looks like somebody's own: the start of the file's path, why.
const HOMES: &[(&str, &str)] =
    &[("bench-harness/src/dump/", "its tests show that no such path gets into a dump")];

/// Words of which one thing has a better one, and those are never the one: the word, instead.
const BANNED_WORDS: &[(&str, &str)] = &[
    ("autoscaler", "conditioner"),
    ("coalescer", "dedup"),
    ("fiber", "request task"),
    ("mailbox", "queue, or the shard's inbox"),
    ("singleflight", "dedup"),
    ("throttle", "admit and shed"),
    ("upstream", "downstream"),
];

/// File names that say nothing about what is inside.
const BANNED_FILES: &[&str] = &["common.rs", "helpers.rs", "misc.rs", "util.rs", "utils.rs"];

const CRATES: &[&str] = &["engine", "workloads", "bench-harness"];

/// One file of the tree, by its path from the root.
struct File {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    // Asked when run, not when built: the tree may have moved since.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for a test");
    Path::new(&manifest).parent().unwrap().to_path_buf()
}

/// Reads every text file that is part of the project, in order of path.
fn tree() -> Vec<File> {
    let root = root();
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let is_folder = entry.file_type().unwrap().is_dir();
            match is_folder {
                true if is_foreign(&path) => {}
                true => folders.push(entry.path()),
                // What a further worktree has in the place of git's folder.
                false if path == ".git" => {}
                // What is not text has no words to check.
                false => files
                    .extend(fs::read_to_string(entry.path()).ok().map(|text| File { path, text })),
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Folders in the tree that are not of it.
fn is_foreign(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    matches!(path, "results/local") || name == "target" || (name.starts_with('.') && name != ".ci")
}

fn rust_sources() -> impl Iterator<Item = File> {
    tree().into_iter().filter(|file| file.path.ends_with(".rs"))
}

fn expect_none(findings: Vec<String>) {
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

fn engine_source(path: &str) -> Option<&str> {
    path.strip_prefix("engine/src/")
}

// --- A file says what it is.

fn opening(path: &str, text: &str) -> Option<String> {
    // A script line and the like have no place in a source file: the very first line says it.
    let opens = text.lines().next().is_some_and(|line| line.len() > 4 && line.starts_with("//! "));
    (!opens).then(|| format!("{path}: does not open with `//!` and what it is for"))
}

fn file_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    BANNED_FILES.contains(&name).then(|| format!("{path}: name the file after what is in it"))
}

#[test]
fn every_source_file_says_what_it_is() {
    let findings = |file: File| [opening(&file.path, &file.text), file_name(&file.path)];
    expect_none(rust_sources().flat_map(findings).flatten().collect());
}

#[test]
fn a_file_that_does_not_say_what_it_is_is_found() {
    for text in ["", "use std::fmt;\n", "// What.\n", "\n//! What.\n", "//!\n"] {
        assert!(opening("a.rs", text).is_some(), "{text:?}");
    }
    assert_eq!(opening("a.rs", "//! What.\n"), None);
    assert!(file_name("engine/src/stage/utils.rs").is_some());
    assert_eq!(file_name("engine/src/stage/queue.rs"), None);
}

// --- Only the pinned half knows glommio.

fn glommio(path: &str, text: &str) -> Vec<String> {
    let inside = |folder: &str| path.starts_with(folder);
    if inside("engine/src/runtime/pinned")
        || inside("bench-harness/src/peers/")
        || !path.contains("/src/")
    {
        return vec![];
    }
    let mut findings = vec![];
    if idents(&code_of(text)).any(|ident| ident == "glommio") {
        findings.push(format!("{path}: uses glommio; only engine/src/runtime/pinned may"));
    }
    let named = engine_source(path).is_some() && text.to_lowercase().contains("glommio");
    if named && !inside("engine/src/runtime/") && !ABOUT_GLOMMIO.contains(&path) {
        findings.push(format!("{path}: names glommio; what is above runtime/ knows of none"));
    }
    findings
}

/// Files above `runtime/` that say in prose why a number is what it is.
const ABOUT_GLOMMIO: &[&str] = &["engine/src/limits.rs"];

#[test]
fn only_the_pinned_half_knows_glommio() {
    expect_none(rust_sources().flat_map(|file| glommio(&file.path, &file.text)).collect());
}

#[test]
fn glommio_outside_the_pinned_half_is_found() {
    let check = |path, text, n_findings| {
        assert_eq!(glommio(path, text).len(), n_findings, "{path}: {text}");
    };
    check("engine/src/stage/mod.rs", "use glommio::timer::Timer;", 2);
    check("engine/src/stage/mod.rs", "// As glommio does.", 1);
    check("engine/src/runtime/clock.rs", "let t = glommio :: executor();", 1);
    check("engine/src/runtime/clock.rs", "// As glommio does.", 0);
    check("engine/src/runtime/pinned/driver.rs", "use glommio::timer::Timer;", 0);
    check("workloads/src/echo/mod.rs", "glommio::spawn_local(run())", 1);
    check("bench-harness/src/peers/glommio_stream.rs", "use glommio::net;", 0);
    check("bench-harness/src/doctor.rs", "let name = \"glommio\";", 0);
}

// --- Shards share nothing.

fn is_sharing(ident: &str) -> bool {
    matches!(ident, "Arc" | "Mutex" | "RwLock" | "OnceLock" | "LazyLock" | "Condvar")
        || (ident.starts_with("Atomic") && ident.len() > "Atomic".len())
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn sharing(path: &str, text: &str) -> Vec<(String, String)> {
    let Some(inner) = engine_source(path) else { return vec![] };
    if inner.starts_with("runtime/shared") || is_test_file(path) {
        return vec![];
    }
    let code = code_of(production_of(text));
    let shared: BTreeSet<&str> = idents(&code).filter(|ident| is_sharing(ident)).collect();
    shared.into_iter().map(|ident| (inner.to_owned(), ident.to_owned())).collect()
}

#[test]
fn what_two_threads_touch_lives_in_runtime_shared() {
    let found: Vec<_> = rust_sources().flat_map(|file| sharing(&file.path, &file.text)).collect();
    let is_excepted = |(file, ident): &(String, String), row: &(&str, &str, &str)| {
        file.starts_with(row.0) && ident == row.1
    };
    let broken = found.iter().filter(|found| !SHARING.iter().any(|row| is_excepted(found, row)));
    let needless = SHARING.iter().filter(|row| !found.iter().any(|found| is_excepted(found, row)));
    let findings = broken
        .map(|(file, ident)| format!("engine/src/{file}: names {ident}; shards share nothing"))
        .chain(needless.map(|row| format!("SHARING: nothing needs {row:?}")));
    expect_none(findings.collect());
}

#[test]
fn sharing_outside_runtime_shared_is_found() {
    let check = |path, text, wanted: &[&str]| {
        let found: Vec<String> = sharing(path, text).into_iter().map(|(_, ident)| ident).collect();
        assert_eq!(found, wanted, "{path}: {text}");
    };
    check(
        "engine/src/stage/mod.rs",
        "let a: Arc<u8>; let n = AtomicU64::new(0);",
        &["Arc", "AtomicU64"],
    );
    check("engine/src/stage/mod.rs", "// An Arc is not needed: \"Mutex\" neither.", &[]);
    check("engine/src/stage/mod.rs", "let text = \"Arc\"; let arc = Rc::new(1);", &[]);
    check(
        "engine/src/stage/mod.rs",
        "fn a() {}\n#[cfg(test)]\nmod tests { use std::sync::Arc; }",
        &[],
    );
    check("engine/src/runtime/shared/inbox.rs", "let a: Arc<Mutex<u8>>;", &[]);
    check("workloads/src/echo.rs", "let a: Arc<u8>;", &[]);
}

// --- Layers.

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// The module that a file of the engine belongs to; none for the crate's own root.
fn module_of(inner: &str) -> Option<&str> {
    let first = inner.split('/').next()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(module, "lib" | "sim")).then_some(module)
}

/// How many modules deep a file of the engine stands: 1 for `mesh.rs` and for `stage/mod.rs`.
fn depth_of(path: &str) -> usize {
    let folders = engine_source(path).map_or(0, |inner| inner.split('/').count() - 1);
    if path.ends_with("/mod.rs") { folders } else { folders + 1 }
}

/// The modules of the crate that a text names, as `crate::a::…` or `crate::{a::…, b}`.
fn imports(code: &str) -> BTreeSet<&str> {
    let mut modules = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::` counts as well; `xcrate::` is another word.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let path = &code[at + "crate::".len()..];
        match path.strip_prefix('{') {
            None => modules.extend(idents(path).next().filter(|ident| path.starts_with(ident))),
            Some(group) => modules.extend(heads_of_group(group)),
        }
    }
    // `crate::Name` is a re-export at the root, and goes wherever the root goes.
    modules.retain(|name| name.starts_with(|c: char| c.is_lowercase()));
    modules
}

/// The first name of each path in a group, up to its closing brace.
fn heads_of_group(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut heads) = (0_u32, 0, vec![]);
    for (at, c) in group.char_indices() {
        if matches!(c, ',' | '}') && depth == 0 {
            heads.extend(idents(&group[start..at]).next());
            start = at + 1;
        }
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
    }
    heads
}

/// The imports of one file that go up or sideways, as pairs of modules.
fn upward(path: &str, text: &str) -> Vec<(String, String)> {
    let Some(module) = engine_source(path).and_then(module_of) else { return vec![] };
    // From a file, so many `super` lead to the crate's root.
    let to_root = "super::".repeat(depth_of(path));
    let code = code_of(production_of(text)).replace(&to_root, "crate::");
    let mut found = vec![];
    for import in imports(&code) {
        let (own, other) = (layer(module), layer(import));
        let is_down = own.zip(other).is_some_and(|(own, other)| other < own);
        if import != module && !is_down {
            found.push((module.to_owned(), import.to_owned()));
        }
    }
    found
}

#[test]
fn each_layer_imports_only_from_those_below() {
    let mut needless: BTreeSet<(&str, &str)> = UPWARD.iter().map(|&(m, i, _)| (m, i)).collect();
    let mut findings = vec![];
    for file in rust_sources() {
        let module = engine_source(&file.path).and_then(module_of);
        if let Some(module) = module.filter(|module| layer(module).is_none()) {
            findings.push(format!("{}: give `{module}` its place in LAYERS", file.path));
        }
        for (module, import) in upward(&file.path, &file.text) {
            if !UPWARD.iter().any(|&(m, i, _)| m == module && i == import) {
                findings.push(format!("{}: `{module}` may not import `{import}`", file.path));
            }
            needless.retain(|&(m, i)| (m, i) != (module.as_str(), import.as_str()));
        }
    }
    findings.extend(needless.into_iter().map(|row| format!("UPWARD: nothing needs {row:?}")));
    expect_none(findings);
}

#[test]
fn an_import_upwards_or_sideways_is_found() {
    let check = |path, text, wanted: &[&str]| {
        let found: Vec<String> = upward(path, text).into_iter().map(|(_, import)| import).collect();
        assert_eq!(found, wanted, "{path}: {text}");
    };
    check("engine/src/runtime/clock.rs", "use crate::stage::Batch;", &["stage"]);
    check("engine/src/stage/mod.rs", "use crate::task::spawn;", &["task"]);
    check(
        "engine/src/stage/mod.rs",
        "use crate::{task::{a, b}, runtime, mesh};",
        &["mesh", "task"],
    );
    check("engine/src/stage/mod.rs", "let x = crate::shard::now();", &["shard"]);
    check("engine/src/stage/mod.rs", "use crate::unheard_of::X;", &["unheard_of"]);
    check("engine/src/stage/mod.rs", "use crate::stage::X; use crate::{error, limits};", &[]);
    check("engine/src/stage/mod.rs", "// crate::shard has it.\nuse crate::runtime::Time;", &[]);
    check("engine/src/stage/mod.rs", "use crate::Engine;", &[]);
    check("engine/src/stage/mod.rs", "use super::task::X;", &["task"]);
    check("engine/src/stage/batch.rs", "use super::super::task::X; use super::queue;", &["task"]);
    check("engine/src/mesh.rs", "use crate::net::X;", &["net"]);
    check("engine/src/lib.rs", "pub use crate::shard::X;", &[]);
    check("engine/src/shard/mod.rs", "use crate::{mesh, net, stage, task};", &[]);
}

/// Which crates of ours a crate may not import.
fn crate_imports(path: &str, text: &str) -> Vec<String> {
    let forbidden: &[&str] = match path.split('/').next() {
        Some("engine") => &["forebay_workloads", "bench_harness"],
        Some("workloads") => &["bench_harness"],
        _ => &[],
    };
    let code = code_of(text);
    let named: BTreeSet<&str> = idents(&code).filter(|ident| forbidden.contains(ident)).collect();
    named.into_iter().map(|ident| format!("{path}: imports {ident}")).collect()
}

/// Workloads are independent of each other: `workloads/src/a/…` may not name `crate::b`.
fn workload_imports(path: &str, text: &str, workloads: &BTreeSet<String>) -> Vec<String> {
    let own = path.strip_prefix("workloads/src/").and_then(|inner| inner.split_once('/'));
    let Some((own, _)) = own else { return vec![] };
    let code = code_of(text);
    let others =
        imports(&code).into_iter().filter(|other| *other != own && workloads.contains(*other));
    others.map(|other| format!("{path}: imports the workload `{other}`")).collect()
}

#[test]
fn crates_and_workloads_import_only_what_they_may() {
    let folder =
        |path: &str| Some(path.strip_prefix("workloads/src/")?.split_once('/')?.0.to_owned());
    let workloads = rust_sources().filter_map(|file| folder(&file.path)).collect();
    let findings = |file: File| {
        let mut found = crate_imports(&file.path, &file.text);
        found.extend(workload_imports(&file.path, &file.text, &workloads));
        found
    };
    expect_none(rust_sources().flat_map(findings).collect());
}

#[test]
fn an_import_between_workloads_or_up_between_crates_is_found() {
    let workloads = ["units", "echo"].map(str::to_owned).into();
    let check = |path, text, n_findings| {
        let mut found = crate_imports(path, text);
        found.extend(workload_imports(path, text, &workloads));
        assert_eq!(found.len(), n_findings, "{path}: {text}");
    };
    check("engine/src/stage/mod.rs", "use forebay_workloads::units;", 1);
    check("workloads/src/units/mod.rs", "use bench_harness::dump;", 1);
    check("workloads/src/units/mod.rs", "use crate::echo::Codec;", 1);
    check("workloads/src/units/mod.rs", "use crate::units::card; use crate::codec;", 0);
    check("workloads/src/lib.rs", "use crate::{echo, units};", 0);
    check("bench-harness/src/main.rs", "use forebay_workloads::units; use forebay::Engine;", 0);
}

// --- Words.

fn words(path: &str, text: &str) -> Vec<String> {
    let ours = CRATES.iter().any(|name| path.starts_with(&format!("{name}/src/")));
    if !ours || path.starts_with("bench-harness/src/peers/") {
        return vec![];
    }
    let parts: BTreeSet<String> = idents(text).flat_map(parts_of).collect();
    let banned = BANNED_WORDS.iter().filter(|(word, _)| parts.contains(*word));
    banned.map(|(word, instead)| format!("{path}: says {word}; say {instead}")).collect()
}

/// The words of an identifier, in lowercase: of `MailboxFull` and `mailbox_full` alike.
fn parts_of(ident: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in ident.chars() {
        if c == '_' || c.is_uppercase() {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut()
            && c != '_'
        {
            part.extend(c.to_lowercase());
        }
    }
    parts
}

#[test]
fn one_thing_has_one_word() {
    expect_none(rust_sources().flat_map(|file| words(&file.path, &file.text)).collect());
}

#[test]
fn a_second_word_for_a_thing_is_found() {
    let check = |path, text, n_findings| {
        assert_eq!(words(path, text).len(), n_findings, "{path}: {text}");
    };
    check("engine/src/stage/mod.rs", "struct MailboxFull;", 1);
    check("engine/src/stage/mod.rs", "let mailbox_depth = 1; let upstream = 2;", 2);
    check("engine/src/stage/mod.rs", "// Put it into the mailbox.", 1);
    check("engine/src/stage/mod.rs", "let queue = 1; let mailboxes = 2;", 0);
    check("bench-harness/src/peers/tokio.rs", "let upstream = 2;", 0);
}

// --- Nothing names the machine that it was written on.

/// The places where machines keep people's files. Put together here, lest this file be found.
fn home_paths() -> [String; 5] {
    ["home", "root", "Users", "work", "tmp/forge"].map(|name| format!("/{name}/"))
}

fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let mut findings = vec![];
    for (idx, line) in text.lines().enumerate() {
        for place in home_paths() {
            // `a/work/b` and `https://host/work/` are not paths of a machine.
            let is_start = |at: usize| {
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/".contains(c))
            };
            if line.match_indices(&place).any(|(at, _)| is_start(at)) {
                findings.push(format!("{path}:{}: names {place}", idx + 1));
            }
        }
    }
    findings
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    let may = |file: &File| HOMES.iter().any(|(start, _)| file.path.starts_with(start));
    let files: Vec<File> = tree().into_iter().filter(|file| !may(file)).collect();
    expect_none(files.iter().flat_map(|file| machine_paths(&file.path, &file.text)).collect());
}

#[test]
fn a_path_of_a_machine_is_found() {
    for place in home_paths() {
        for line in [format!("see {place}x"), format!("\"{place}x\""), format!("a\n{place}b")] {
            assert_eq!(machine_paths("a.md", &line).len(), 1, "{line}");
        }
        let part = format!("src{place}x https://example.org{place}x");
        assert!(machine_paths("a.md", &part).is_empty(), "{part}");
    }
}

// --- The checker sees the tree.

#[test]
fn the_tree_is_read_at_all() {
    let paths: Vec<String> = tree().into_iter().map(|file| file.path).collect();
    for wanted in ["Cargo.toml", ".ci/run", "engine/src/lib.rs", "engine/tests/tidy.rs"] {
        assert!(paths.iter().any(|path| path == wanted), "{wanted} is not among {}", paths.len());
    }
    for foreign in ["target/", ".git/", "results/local/"] {
        assert!(!paths.iter().any(|path| path.starts_with(foreign)), "{foreign}");
    }
}
