//! Where in the bytes of a JSON text each value stands.
//!
//! serde_json knows lines and columns of syntax errors only; a wrong value in a parsed tree has no
//! place any more. This scan walks the same text again and maps every JSON pointer to its bytes. It
//! runs on text that serde_json has accepted, so it may trust the syntax (and the depth, which
//! serde_json bounds at 128), and it also finds keys that stand twice, which serde_json merges.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of one value and, inside an object, of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The key with its quotes.
    pub key: Option<Range<usize>>,
    /// The value.
    pub value: Range<usize>,
}

/// Where every value of a text stands.
#[derive(Debug, Default)]
pub struct Positions {
    spans: BTreeMap<String, Span>,
    duplicates: Vec<Duplicate>,
}

/// A key that stands twice in one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Pointer of the value.
    pub pointer: String,
    /// The second key.
    pub key: Range<usize>,
}

impl Positions {
    /// Scans a text that serde_json has parsed.
    #[must_use]
    pub fn scan(text: &str) -> Self {
        let mut scanner = Scanner { bytes: text.as_bytes(), at: 0, positions: Self::default() };
        let mut pointer = String::new();
        scanner.value(&mut pointer, None);
        scanner.positions
    }

    /// Returns where the value of this pointer stands.
    #[must_use]
    pub fn get(&self, pointer: &str) -> Option<&Span> {
        self.spans.get(pointer)
    }

    /// Returns the keys that stand twice, in the order of the text.
    #[must_use]
    pub fn duplicates(&self) -> &[Duplicate] {
        &self.duplicates
    }
}

/// Adds one segment to a JSON pointer.
pub(super) fn push_segment(pointer: &mut String, segment: &str) {
    pointer.push('/');
    pointer.push_str(&segment.replace('~', "~0").replace('/', "~1"));
}

/// Splits a JSON pointer into its segments.
pub(super) fn segments(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~"))
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    positions: Positions,
}

impl Scanner<'_> {
    fn value(&mut self, pointer: &mut String, key: Option<Range<usize>>) {
        self.blank();
        let start = self.at;
        match self.peek() {
            Some(b'{') => self.object(pointer),
            Some(b'[') => self.array(pointer),
            Some(b'"') => self.string(),
            _ => self.word(),
        }
        let value = start..self.at;
        self.positions.spans.insert(pointer.clone(), Span { key, value });
    }

    fn object(&mut self, pointer: &mut String) {
        self.at += 1;
        loop {
            self.blank();
            match self.peek() {
                Some(b'"') => self.member(pointer),
                Some(b',') => self.at += 1,
                _ => break self.at += 1,
            }
        }
    }

    fn member(&mut self, pointer: &mut String) {
        let start = self.at;
        self.string();
        let key = start..self.at;
        self.blank();
        self.at += 1; // the colon
        let length = pointer.len();
        let name: String =
            serde_json::from_slice(&self.bytes[key.clone()]).expect("serde_json has accepted it");
        push_segment(pointer, &name);
        if self.positions.spans.contains_key(pointer.as_str()) {
            let duplicate = Duplicate { pointer: pointer.clone(), key: key.clone() };
            self.positions.duplicates.push(duplicate);
        }
        self.value(pointer, Some(key));
        pointer.truncate(length);
    }

    fn array(&mut self, pointer: &mut String) {
        self.at += 1;
        let mut item_idx = 0_usize;
        loop {
            self.blank();
            match self.peek() {
                Some(b']') | None => break self.at += 1,
                Some(b',') => self.at += 1,
                Some(_) => {
                    let length = pointer.len();
                    push_segment(pointer, &item_idx.to_string());
                    self.value(pointer, None);
                    pointer.truncate(length);
                    item_idx += 1;
                }
            }
        }
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
            self.at += 1;
        }
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_where_it_stands() {
        let text = r#" {"a": [1, {"b/c": "x\"]}"}, []], "d~": {} , "é": -1.5e3,"t":true}"#;
        let positions = Positions::scan(text);
        for (pointer, key, value) in [
            ("/a", Some(r#""a""#), r#"[1, {"b/c": "x\"]}"}, []]"#),
            ("/a/0", None, "1"),
            ("/a/1/b~1c", Some(r#""b/c""#), r#""x\"]}""#),
            ("/a/2", None, "[]"),
            ("/d~0", Some(r#""d~""#), "{}"),
            ("/é", Some("\"é\""), "-1.5e3"),
            ("/t", Some("\"t\""), "true"),
        ] {
            let span = positions.get(pointer).unwrap_or_else(|| panic!("no {pointer}"));
            assert_eq!(span.key.clone().map(|key| &text[key]), key, "{pointer}");
            assert_eq!(&text[span.value.clone()], value, "{pointer}");
        }
        assert_eq!(positions.get("").unwrap().value, 1..text.len());
        assert_eq!(positions.get("/a/3"), None);
    }

    #[test]
    fn a_key_that_stands_twice_is_found_also_when_it_is_escaped() {
        let text = r#"{"a": {"x": 1, "\u0078": 2}, "x": 3}"#;
        let positions = Positions::scan(text);
        assert_eq!(positions.duplicates().len(), 1);
        let duplicate = &positions.duplicates()[0];
        assert_eq!(duplicate.pointer, "/a/x");
        assert_eq!(&text[duplicate.key.clone()], r#""\u0078""#);
    }

    #[test]
    fn pointers_take_any_key() {
        let mut pointer = String::new();
        push_segment(&mut pointer, "a/b~c");
        push_segment(&mut pointer, "");
        assert_eq!(pointer, "/a~1b~0c/");
        assert_eq!(segments(&pointer).collect::<Vec<_>>(), ["a/b~c", ""]);
    }
}
