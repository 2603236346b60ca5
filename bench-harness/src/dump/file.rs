//! Dumps on disk: where they stand, how they are written so that a reader never sees half of one, and how
//! they are read so that an error names its place.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_path_to_error::Segment;

use super::{Dump, SCHEMA};

/// Environment variable that names the results directory.
pub const RESULTS_DIR_VARIABLE: &str = "BENCH_HARNESS_RESULTS_DIR";

/// Where dumps go when nobody says otherwise; ignored by git.
pub const RESULTS_DIR_DEFAULT: &str = "results/local";

/// Largest dump that is read. Ten repetitions of a hundred cells are some megabytes.
pub const DUMP_BYTES_MAX: u64 = 256 << 20;

/// Returns the results directory: the flag, else the environment's value, else the default.
pub fn results_dir(flag: Option<&Path>, variable: Option<&OsStr>) -> PathBuf {
    let from_environment = variable.filter(|value| !value.is_empty()).map(Path::new);
    flag.or(from_environment).unwrap_or(Path::new(RESULTS_DIR_DEFAULT)).to_path_buf()
}

/// Returns a path for a new dump, `<results dir>/<name>/<UTC time>-<git8>.json`, that is not taken yet.
///
/// # Errors
/// When the name is not a plain file name: it must not lead out of the results directory.
pub fn new_path(
    results_dir: &Path,
    name: &str,
    started_at: jiff::Timestamp,
    git_commit: Option<&str>,
) -> io::Result<PathBuf> {
    let mut components = Path::new(name).components();
    let plain =
        matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none();
    if !plain || name.ends_with('/') {
        let message = format!("`{name}` is not a plain file name");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let time = started_at.strftime("%Y%m%dT%H%M%SZ");
    let revision: String = git_commit.unwrap_or("nogit").chars().take(8).collect();
    let folder = results_dir.join(name);
    let candidates = (1_u32..).map(|attempt| match attempt {
        1 => folder.join(format!("{time}-{revision}.json")),
        // Two runs in one second.
        _ => folder.join(format!("{time}-{revision}-{attempt}.json")),
    });
    candidates
        .into_iter()
        .find(|path| !path.exists())
        .ok_or_else(|| io::Error::other("no free name for the dump"))
}

/// Writes the dump so that `path` holds, at every moment, a whole file or none.
///
/// # Errors
/// When a file cannot be made, written, synced or renamed; the old file then still stands.
pub fn write(dump: &Dump, path: &Path) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(dump).map_err(io::Error::other)?;
    text.push(b'\n');
    write_atomically(path, &text)
}

/// Writes `text` to a temporary file beside `path`, syncs it, renames it, and syncs the folder.
///
/// # Errors
/// As [`write()`].
pub fn write_atomically(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let file_name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut temporary_name = OsStr::new(".").to_os_string();
    temporary_name.push(file_name);
    temporary_name.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder.join(temporary_name);
    let written = write_synced(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to report; a temporary file left behind harms nobody.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

fn write_synced(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// Why a dump could not be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be read at all.
    Io(io::Error),
    /// The file is larger than [`DUMP_BYTES_MAX`].
    TooLarge {
        /// Its size, or the part that was read.
        bytes: u64,
    },
    /// The file is not JSON, or not a dump.
    Malformed {
        /// JSON pointer of the place; empty for the whole file.
        pointer: String,
        /// Line, from 1; 0 when unknown.
        line: usize,
        /// Column, from 1; 0 when unknown.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The file is a dump of a version that this tool does not read.
    Schema {
        /// The schema that it names.
        found: String,
    },
}

impl ReadError {
    /// Returns the exit code of the contract: 1 for input and output, 3 for an invalid file.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io(_) => 1,
            Self::TooLarge { .. } | Self::Malformed { .. } | Self::Schema { .. } => 3,
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(formatter),
            Self::TooLarge { bytes } => {
                write!(formatter, "{bytes} bytes are more than a dump may have ({DUMP_BYTES_MAX})")
            }
            Self::Malformed { pointer, line, column, message } => {
                write!(formatter, "{line}:{column}: {message}")?;
                if pointer.is_empty() { Ok(()) } else { write!(formatter, " at {pointer}") }
            }
            Self::Schema { found } => match major(found) {
                Some(version) => write!(
                    formatter,
                    "schema `{found}`: needs a bench-harness that reads version {version}; this one, \
                     {}, reads `{SCHEMA}`",
                    env!("CARGO_PKG_VERSION")
                ),
                None => write!(formatter, "schema `{found}` is not a dump's; expected `{SCHEMA}`"),
            },
        }
    }
}

impl std::error::Error for ReadError {}

/// Reads a dump. Fields that this version does not know are passed over. Only the shape is judged here;
/// the rules are [`check`](super::check())'s.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path) -> Result<Dump, ReadError> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(ReadError::Io)?;
    let bytes = file.take(DUMP_BYTES_MAX + 1).read_to_end(&mut text).map_err(ReadError::Io)?;
    let bytes = bytes as u64;
    if bytes > DUMP_BYTES_MAX {
        return Err(ReadError::TooLarge { bytes });
    }
    parse(&text)
}

/// Reads a dump from its text, as [`read`].
///
/// # Errors
/// See [`ReadError`].
pub fn parse(text: &[u8]) -> Result<Dump, ReadError> {
    /// The schema is looked at first: of another version, other errors would only mislead.
    #[derive(Deserialize)]
    struct Head {
        schema: String,
    }
    let head: Head = deserialize(text)?;
    if head.schema != SCHEMA {
        return Err(ReadError::Schema { found: head.schema });
    }
    deserialize(text)
}

fn deserialize<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, ReadError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = error.path().iter().map(segment_token).collect();
        malformed(pointer, error.inner())
    })?;
    deserializer.end().map_err(|error| malformed(String::new(), &error))?;
    Ok(value)
}

fn malformed(pointer: String, error: &serde_json::Error) -> ReadError {
    let position = format!(" at line {} column {}", error.line(), error.column());
    let message = error.to_string();
    let message = message.strip_suffix(&position).unwrap_or(&message).to_owned();
    ReadError::Malformed { pointer, line: error.line(), column: error.column(), message }
}

fn segment_token(segment: &Segment) -> String {
    match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", super::check::escaped(key)),
        Segment::Enum { variant } => format!("/{variant}"),
        Segment::Unknown => String::new(),
    }
}

/// Returns the version in `bench-harness.dump/<version>`.
fn major(schema: &str) -> Option<&str> {
    schema.strip_prefix("bench-harness.dump/").filter(|version| !version.is_empty())
}

/// Returns a command line whose paths are reduced to file names wherever they are absolute or lead
/// upward: a dump says what was asked for, not where somebody keeps it.
pub fn without_paths(argv: impl IntoIterator<Item = String>) -> Vec<String> {
    argv.into_iter()
        .map(|argument| match argument.split_once('=') {
            Some((name, value)) if name.starts_with('-') => format!("{name}={}", bare(value)),
            Some((name, value)) => format!("{}={}", bare(name), bare(value)),
            None => bare(&argument),
        })
        .collect()
}

fn bare(argument: &str) -> String {
    let leads_away = ["/", "../", "~"].iter().any(|start| argument.starts_with(start));
    if !leads_away {
        return argument.to_owned();
    }
    let name = Path::new(argument).file_name().and_then(OsStr::to_str);
    name.unwrap_or("…").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::{check, sample};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("bench-harness-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_flag_goes_before_the_environment_and_that_before_the_default() {
        let (flag, variable) = (Path::new("a"), OsStr::new("b"));
        assert_eq!(results_dir(Some(flag), Some(variable)), Path::new("a"));
        assert_eq!(results_dir(None, Some(variable)), Path::new("b"));
        assert_eq!(results_dir(None, Some(OsStr::new(""))), Path::new("results/local"));
        assert_eq!(results_dir(None, None), Path::new("results/local"));
    }

    #[test]
    fn a_new_path_has_time_and_revision_and_is_free() {
        let folder = Folder::new("new-path");
        let time = "2026-01-01T10:00:00Z".parse().unwrap();
        let path = new_path(&folder.0, "units", time, Some("3f2c9ab1d0")).unwrap();
        assert_eq!(path, folder.0.join("units/20260101T100000Z-3f2c9ab1.json"));
        write(&sample::dump(1), &path).unwrap();
        let second = new_path(&folder.0, "units", time, Some("3f2c9ab1d0")).unwrap();
        assert_eq!(second, folder.0.join("units/20260101T100000Z-3f2c9ab1-2.json"));
        assert!(
            new_path(&folder.0, "units", time, None)
                .unwrap()
                .ends_with("20260101T100000Z-nogit.json")
        );
        for name in ["", "..", "a/b", "/a", "a/"] {
            assert!(new_path(&folder.0, name, time, None).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_equal_and_leaves_no_temporary_file() {
        let folder = Folder::new("round-trip");
        let path = folder.0.join("units/dump.json");
        let dump = sample::dump(6);
        write(&sample::dump(1), &path).unwrap();
        write(&dump, &path).unwrap();
        assert_eq!(read(&path).unwrap(), dump);
        assert_eq!(check(&read(&path).unwrap()), []);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = Folder::new("failed-write");
        let path = folder.0.join("taken");
        fs::create_dir_all(path.join("inner")).unwrap();
        assert!(write(&sample::dump(1), &path).is_err());
        assert!(path.join("inner").is_dir());
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }

    fn text(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let mut tree = serde_json::to_value(sample::dump(1)).unwrap();
        change(&mut tree);
        serde_json::to_vec_pretty(&tree).unwrap()
    }

    #[test]
    fn what_a_newer_minor_version_added_is_passed_over() {
        let text = text(|tree| {
            tree["new"] = serde_json::json!({"a": [1]});
            tree["cells"][0]["new"] = serde_json::json!(null);
            tree["cells"][0]["repetitions"][0]["latency"]["response"]["p99999_ns"] = 1.into();
        });
        assert_eq!(parse(&text).unwrap(), sample::dump(1));
    }

    #[test]
    fn another_major_version_is_refused_with_what_is_needed() {
        let error = parse(&text(|tree| {
            tree["schema"] = "bench-harness.dump/2".into();
            tree["cells"] = "all different".into();
        }))
        .unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(
            error.to_string().contains("needs a bench-harness that reads version 2"),
            "{error}"
        );
        let error = parse(br#"{"schema": "bench-harness.workload/1"}"#).unwrap_err();
        assert!(error.to_string().contains("is not a dump's"), "{error}");
    }

    #[test]
    fn an_error_names_line_column_and_pointer() {
        let text = text(|tree| {
            tree["cells"][1]["repetitions"][0]["latency"]["service"]["p99_ns"] = "slow".into();
        });
        let ReadError::Malformed { pointer, line, column, message } = parse(&text).unwrap_err()
        else {
            panic!("not malformed");
        };
        assert_eq!(pointer, "/cells/1/repetitions/0/latency/service/p99_ns");
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().nth(line - 1).unwrap()[..column].ends_with("\"slow\""));
        assert_eq!(message, "invalid type: string \"slow\", expected u64");
    }

    #[test]
    fn files_that_are_no_dump_end_with_exit_3() {
        for text in ["", "[", "{}", "null", "{\"schema\": 1}", &"[".repeat(1 << 20)] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().exit_code(), 3);
        }
        assert_eq!(read(Path::new("does/not/exist")).unwrap_err().exit_code(), 1);
    }

    #[test]
    fn a_command_line_loses_the_paths_that_lead_away() {
        let argv = [
            "/home/user/bench-harness",
            "run",
            "../x/units.json",
            "workloads/units.json",
            "--output=/tmp/a.json",
            "--set",
            "engine.shards=2",
            "--set",
            "data.dir=/srv/data",
        ];
        assert_eq!(
            without_paths(argv.map(str::to_owned)),
            [
                "bench-harness",
                "run",
                "units.json",
                "workloads/units.json",
                "--output=a.json",
                "--set",
                "engine.shards=2",
                "--set",
                "data.dir=data"
            ]
        );
    }
}
