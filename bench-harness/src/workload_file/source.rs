//! From a path to a JSON tree: the mistakes that come before any field is looked at.
//!
//! The size is bounded before anything is parsed, so that 100 MB of `[` costs one look at the
//! file's metadata; what is left is deep at most as serde_json allows (128).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::diagnostic::{Diagnostic, Report};
use super::position::Positions;

/// Largest workload file. The shipped ones are about 1 KiB; a matrix of 256 cells fits with room.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A text that is JSON, with the place of every value.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: String,
    pub(super) text: String,
    pub(super) tree: Value,
    pub(super) positions: Positions,
}

/// Reads and parses a file.
pub(super) fn read(path: &Path) -> Result<Source, Box<Report>> {
    let file = path.display().to_string();
    let report =
        |text: &str, diagnostics| Box::new(Report::new(file.clone(), text.to_owned(), diagnostics));
    let bytes = read_bytes(path).map_err(|diagnostic| report("", vec![*diagnostic]))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        let diagnostic = Diagnostic::error("W003", format!("not UTF-8 from byte {valid} on"))
            .at_bytes(&text, valid..valid);
        report(&text, vec![diagnostic])
    })?;
    let tree: Value = serde_json::from_str(&text)
        .map_err(|error| report(&text, vec![explain_syntax(&text, &error)]))?;
    let positions = Positions::scan(&text);
    let twice: Vec<Diagnostic> = positions
        .duplicates()
        .iter()
        .map(|duplicate| {
            Diagnostic::error("W005", format!("{} stands twice", &text[duplicate.key.clone()]))
                .at_pointer(&duplicate.pointer)
                .at_bytes(&text, duplicate.key.clone())
        })
        .collect();
    if !twice.is_empty() {
        return Err(report(&text, twice));
    }
    Ok(Source { file, text, tree, positions })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Box<Diagnostic>> {
    let unreadable =
        |why: String| Box::new(Diagnostic::error("W001", format!("cannot be read: {why}")));
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "it is a directory" } else { "it is not a plain file" };
        return Err(unreadable(what.to_owned()));
    }
    let too_large = |bytes: u64| {
        let message = format!("has {bytes} bytes, more than the {FILE_BYTES_MAX} allowed");
        Box::new(Diagnostic::error("W002", message))
    };
    if metadata.len() > FILE_BYTES_MAX {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    // It may grow meanwhile: the bound holds for what is read, too.
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(error.to_string()))?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= FILE_BYTES_MAX => Ok(bytes),
        _ => Err(too_large(FILE_BYTES_MAX + 1)),
    }
}

fn explain_syntax(text: &str, error: &serde_json::Error) -> Diagnostic {
    if text.trim().is_empty() {
        return Diagnostic::error("W004", "the file is empty".to_owned());
    }
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    let at = byte_of(text, error.line(), error.column());
    let rest = &text[at..];
    let help = if text.starts_with('\u{feff}') {
        Some("the file begins with a byte order mark; JSON has none")
    } else if ["NaN", "Infinity", "-Infinity", "-NaN"].iter().any(|word| rest.starts_with(word)) {
        Some("JSON has only finite numbers")
    } else if rest.starts_with("//") || rest.starts_with("/*") || rest.starts_with('#') {
        Some("JSON has no comments; use `description` or `notes`")
    } else if rest.starts_with('\'') {
        Some("JSON strings stand in double quotes")
    } else {
        None
    };
    let end = rest.chars().next().map_or(at, |c| at + c.len_utf8());
    let diagnostic =
        Diagnostic::error("W004", format!("not JSON: {message}")).at_bytes(text, at..end);
    match help {
        Some(help) => diagnostic.with_help(help),
        None => diagnostic,
    }
}

/// Turns serde_json's line and byte column, both from 1, into a byte of the text. It counts the
/// last byte that it has read, which may be inside a character.
fn byte_of(text: &str, line: usize, column: usize) -> usize {
    let line_start: usize =
        text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut at = (line_start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
