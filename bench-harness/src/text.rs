//! Text for people: quantities with readable units, columns that line up, colour where it is welcome.
//!
//! Colour never carries meaning alone: every verdict has a word and a sign.

use std::ffi::OsString;

/// Whether to write colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// No escape codes.
    Plain,
    /// ANSI colours.
    Ansi,
}

impl Paint {
    /// Decides for a stream: `NO_COLOR` forbids, `CLICOLOR_FORCE` asks, else a terminal that is not dumb
    /// gets colours. `variable` reads the environment.
    pub fn choose(is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let forced =
            variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        let dumb = variable("TERM").is_some_and(|value| value == "dumb");
        if !set("NO_COLOR") && (forced || (is_terminal && !dumb)) {
            Self::Ansi
        } else {
            Self::Plain
        }
    }

    fn wrap(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Head => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Doubt => "33",
            Tone::Bad => "31",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// What a piece of text is, from which its colour follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// A heading.
    Head,
    /// Of lesser weight.
    Faint,
    /// Good news.
    Good,
    /// Not to be told.
    Doubt,
    /// Bad news.
    Bad,
}

/// One field of a row.
#[derive(Debug, Clone)]
pub struct Field {
    text: String,
    tone: Tone,
}

impl Field {
    /// Returns a field of this tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Field {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// At the left: words.
    Left,
    /// At the right: numbers.
    Right,
}

/// Rows whose columns line up, two spaces apart.
#[derive(Debug, Clone)]
pub struct Grid {
    aligns: Vec<Align>,
    rows: Vec<Vec<Field>>,
}

impl Grid {
    /// Returns a grid with these columns and no rows.
    pub fn new(aligns: impl Into<Vec<Align>>) -> Self {
        Self { aligns: aligns.into(), rows: Vec::new() }
    }

    /// Adds a row; fields that it lacks stay empty.
    ///
    /// # Panics
    /// When it has more fields than the grid has columns.
    pub fn row(&mut self, fields: Vec<Field>) {
        assert!(fields.len() <= self.aligns.len(), "a row has more fields than the grid columns");
        self.rows.push(fields);
    }

    /// Returns the rows as text, indented by one space, without spaces at the ends of lines.
    pub fn render(&self, paint: Paint) -> String {
        let widths: Vec<usize> = (0..self.aligns.len())
            .map(|column| {
                let fields = self.rows.iter().filter_map(|row| row.get(column));
                fields.map(|field| field.text.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((field, align), width) in row.iter().zip(&self.aligns).zip(&widths) {
                // A column that nobody fills takes no room.
                if *width == 0 {
                    continue;
                }
                let gap = " ".repeat(width - field.text.chars().count());
                let shown = paint.wrap(field.tone, &field.text);
                line.push_str(if line.is_empty() { " " } else { "  " });
                match align {
                    Align::Left => line.extend([shown.as_str(), &gap]),
                    Align::Right => line.extend([gap.as_str(), &shown]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Writes a metric's value with the unit that its name ends in.
pub fn quantity(name: &str, value: f64) -> String {
    let name = name.strip_suffix("_per_op").unwrap_or(name);
    if name.ends_with("_ns") {
        duration(value)
    } else if name.ends_with("_us") {
        duration(value * 1e3)
    } else if name.ends_with("_ms") {
        duration(value * 1e6)
    } else if name.ends_with("_bytes") {
        bytes(value)
    } else if name.ends_with("_percent") {
        format!("{} %", significant(value))
    } else {
        significant(value)
    }
}

/// Writes nanoseconds with the unit that leaves one to three digits before the point.
pub fn duration(ns: f64) -> String {
    let (divisor, unit) = match ns.abs() {
        size if size < 1e3 => (1.0, "ns"),
        size if size < 1e6 => (1e3, "us"),
        size if size < 1e9 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    format!("{} {unit}", significant(ns / divisor))
}

fn bytes(count: f64) -> String {
    const KIBI: f64 = 1024.0;
    let (divisor, unit) = match count.abs() {
        size if size < KIBI => (1.0, "B"),
        size if size < KIBI * KIBI => (KIBI, "KiB"),
        size if size < KIBI * KIBI * KIBI => (KIBI * KIBI, "MiB"),
        _ => (KIBI * KIBI * KIBI, "GiB"),
    };
    format!("{} {unit}", significant(count / divisor))
}

/// Writes three significant digits; whole numbers beyond that get commas.
pub fn significant(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.001 => format!("{value:.1e}"),
        size if size < 9.995 => trimmed(format!("{value:.2}")),
        size if size < 99.95 => trimmed(format!("{value:.1}")),
        size if size < 1e15 => {
            let digits = format!("{:.0}", size);
            let grouped = digits.parse().map_or(digits, crate::dump::grouped);
            if value < 0.0 { format!("-{grouped}") } else { grouped }
        }
        _ => format!("{value:.2e}"),
    }
}

/// Removes `.00`: a count of 2 is no measurement to two places.
fn trimmed(number: String) -> String {
    match number.split_once('.') {
        Some((whole, decimals)) if decimals.chars().all(|digit| digit == '0') => whole.to_owned(),
        _ => number,
    }
}

/// Writes a relative change in percent, with its sign.
pub fn signed_percent(percent: f64) -> String {
    format!("{} %", signed(percent))
}

/// Writes a number with its sign and one decimal; what rounds to zero has no minus.
pub fn signed(number: f64) -> String {
    let text = format!("{number:+.1}");
    if text == "-0.0" { "+0.0".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        for (name, value, text) in [
            ("throughput_per_s", 20_001.4, "20,001"),
            ("throughput_per_s", 1_234_567.0, "1,234,567"),
            ("response_p50_ns", 84_480.0, "84.5 us"),
            ("response_p99_ns", 999.0, "999 ns"),
            ("response_p999_ns", 1_310_000.0, "1.31 ms"),
            ("cpu_ns_per_op", 2_390.0, "2.39 us"),
            ("allocs_per_op", 2.0, "2"),
            ("allocs_per_op", 1.05, "1.05"),
            ("extra.connection_bytes", 18_874_368.0, "18 MiB"),
            ("extra.refused_percent", 0.25, "0.25 %"),
            ("extra.settle_ms", 1_500.0, "1.50 s"),
            ("extra.jain_index", 0.000_2, "2.0e-4"),
        ] {
            assert_eq!(quantity(name, value), text, "{name}");
        }
    }

    #[test]
    fn what_rounds_to_zero_has_no_minus() {
        assert_eq!(signed_percent(-0.04), "+0.0 %");
        assert_eq!(signed_percent(-0.06), "-0.1 %");
    }

    #[test]
    fn columns_line_up_and_empty_ones_vanish() {
        let mut grid = Grid::new([Align::Left, Align::Right, Align::Right, Align::Left]);
        grid.row(vec!["a".into(), "1".into(), "".into(), "x".into()]);
        grid.row(vec!["bbb".into(), "100".into()]);
        assert_eq!(grid.render(Paint::Plain), " a      1  x\n bbb  100\n");
    }

    #[test]
    fn colour_does_not_move_columns_and_is_off_unless_welcome() {
        let mut grid = Grid::new([Align::Left, Align::Left]);
        grid.row(vec![Field::toned("a", Tone::Bad), "x".into()]);
        grid.row(vec!["bb".into(), "y".into()]);
        assert_eq!(grid.render(Paint::Ansi), " \x1b[31ma\x1b[0m   x\n bb  y\n");
        let choose = |is_terminal, set: &'static [(&str, &str)]| {
            Paint::choose(is_terminal, |name| {
                set.iter().find(|(set, _)| *set == name).map(|(_, value)| OsString::from(value))
            })
        };
        assert_eq!(choose(true, &[]), Paint::Ansi);
        assert_eq!(choose(false, &[]), Paint::Plain);
        assert_eq!(choose(true, &[("NO_COLOR", "1")]), Paint::Plain);
        assert_eq!(choose(true, &[("TERM", "dumb")]), Paint::Plain);
        assert_eq!(choose(false, &[("CLICOLOR_FORCE", "1")]), Paint::Ansi);
        assert_eq!(choose(false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), Paint::Plain);
    }
}
