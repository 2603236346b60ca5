//! One thing that is wrong with a file, and how it is shown: file:line:column, the line, a caret.
//!
//! Drawn by hand in rustc's manner. The renderer of rustc itself would show a whole line, and the
//! line of a file without line breaks is the file; this one shows a window around the mistake.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// Characters of a long line that are shown before and after the mistake.
const WINDOW_CHARS: usize = 60;
/// Longest run of carets.
const CARETS_MAX: usize = 60;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether it keeps the file from being run.
    pub severity: Severity,
    /// Stable code, `W` and three digits.
    pub code: &'static str,
    /// The sentence.
    pub message: String,
    /// JSON pointer of the value, where there is one.
    pub pointer: Option<String>,
    /// Line, from 1; absent where the mistake has no place in the file.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// A nearby word that is right, or what to do.
    pub help: Option<String>,
    /// What would be accepted.
    pub allowed: Vec<String>,
    /// Where the value comes from when it does not stand in the file: `--set path=value`.
    pub origin: Option<String>,
    #[serde(skip)]
    span: Option<Range<usize>>,
}

/// Whether a mistake keeps a file from being run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

impl Diagnostic {
    /// Makes an error without a place.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            pointer: None,
            line: None,
            column: None,
            help: None,
            allowed: Vec::new(),
            origin: None,
            span: None,
        }
    }

    /// Makes a warning without a place.
    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Adds the JSON pointer of the value.
    #[must_use]
    pub fn at_pointer(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the bytes of `text` that are wrong.
    #[must_use]
    pub fn at_bytes(mut self, text: &str, bytes: Range<usize>) -> Self {
        let before = &text[..bytes.start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.line = Some(before.matches('\n').count() + 1);
        self.column = Some(before[line_start..].chars().count() + 1);
        self.span = Some(bytes);
        self
    }

    /// Adds where the value comes from when it does not stand in the file.
    #[must_use]
    pub fn from_origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }
}

/// All that is wrong with one file, with the text to show it in.
#[derive(Debug, Clone)]
pub struct Report {
    file: String,
    text: String,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Makes the report of `file`; `text` may be empty where the file could not be read.
    #[must_use]
    pub fn new(file: String, text: String, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|diagnostic| diagnostic.span.as_ref().map(|span| span.start));
        Self { file, text, diagnostics }
    }

    /// What was found, in the order of the file.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// The file, as the user named it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether anything keeps the file from being run.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, diagnostic: &Diagnostic) -> fmt::Result {
        let word = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{word}[{}]: {}", diagnostic.code, diagnostic.message)?;
        let snippet = diagnostic.span.clone().map(|span| Snippet::cut(&self.text, span));
        let line = diagnostic.line.map_or_else(String::new, |line| line.to_string());
        let margin = line.len().max(2);
        write!(f, "{:margin$}--> {}", "", self.file)?;
        if let (Some(line), Some(column)) = (diagnostic.line, diagnostic.column) {
            write!(f, ":{line}:{column}")?;
        }
        match diagnostic.pointer.as_deref() {
            Some("") => write!(f, "   at the whole file")?,
            Some(pointer) => write!(f, "   at {pointer}")?,
            None => {}
        }
        writeln!(f)?;
        if let Some(origin) = &diagnostic.origin {
            writeln!(f, "{:margin$} = said by {origin}", "")?;
        }
        let help = diagnostic.help.as_deref().unwrap_or_default();
        if let Some(snippet) = snippet {
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{line:>margin$} | {}", snippet.line)?;
            let carets = format!("{:1$}{2}", "", snippet.indent, "^".repeat(snippet.carets));
            writeln!(f, "{:margin$} | {}", "", format!("{carets} {help}").trim_end())?;
        } else if !help.is_empty() {
            writeln!(f, "{:margin$} = help: {help}", "")?;
        }
        if !diagnostic.allowed.is_empty() {
            writeln!(f, "{:margin$} = allowed: {}", "", diagnostic.allowed.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            self.show(f, diagnostic)?;
        }
        let plural = |count: usize, word: &str| {
            format!("{count} {word}{}", if count == 1 { "" } else { "s" })
        };
        let errors = plural(self.count(Severity::Error), "error");
        let warnings = plural(self.count(Severity::Warning), "warning");
        writeln!(f, "{}: {errors}, {warnings}", self.file)
    }
}

impl std::error::Error for Report {}

/// The part of a line around a mistake, with control characters made harmless.
struct Snippet {
    line: String,
    indent: usize,
    carets: usize,
}

impl Snippet {
    fn cut(text: &str, span: Range<usize>) -> Self {
        let line_start = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[span.start..].find('\n').map_or(text.len(), |n| span.start + n);
        let before: Vec<char> = text[line_start..span.start].chars().collect();
        let inside = text[span.start..span.end.min(line_end).max(span.start)].chars();
        let carets = inside.take(CARETS_MAX).count().max(1);
        let cut_before = before.len().saturating_sub(WINDOW_CHARS);
        let after: Vec<char> = text[span.start..line_end].chars().collect();
        let cut_after = after.len().min(carets + WINDOW_CHARS);
        let mut line = String::new();
        if cut_before > 0 {
            line.push('…');
        }
        line.extend(before[cut_before..].iter().chain(&after[..cut_after]).map(|c| visible(*c)));
        if cut_after < after.len() {
            line.push('…');
        }
        let indent = before.len() - cut_before + usize::from(cut_before > 0);
        Self { line, indent, carets }
    }
}

/// A tab would shift the caret and an escape could write to the terminal: both become a space.
fn visible(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, wrong: &str) -> String {
        let start = text.find(wrong).unwrap();
        let diagnostic = Diagnostic::error("W012", "unknown field `rat`")
            .at_pointer("/a")
            .with_help("did you mean `rate`?")
            .at_bytes(text, start..start + wrong.len());
        Report::new("f.json".into(), text.into(), vec![diagnostic]).to_string()
    }

    #[test]
    fn a_mistake_is_shown_with_its_line_and_a_caret() {
        let shown = show("{\n\t\"é\": {\"rat\": 1}\n}\n", "\"rat\"");
        let expected = concat!(
            "error[W012]: unknown field `rat`\n",
            "  --> f.json:2:8   at /a\n",
            "   |\n",
            " 2 |  \"é\": {\"rat\": 1}\n",
            "   |        ^^^^^ did you mean `rate`?\n",
            "f.json: 1 error, 0 warnings\n"
        );
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_very_long_line_is_cut_around_the_mistake() {
        let text = format!("[{}\"rat\"{}]", "1,".repeat(100_000), ",1".repeat(100_000));
        let shown = show(&text, "\"rat\"");
        assert!(shown.len() < 600, "{} bytes", shown.len());
        assert!(shown.contains(":1:200002"), "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[4].chars().position(|c| c == '^');
        assert_eq!(lines[3].chars().position(|c| c == '"'), caret);
    }
}
