//! From a JSON tree to a type, with every mistake in shape and not only the first.
//!
//! serde stops at its first error. So a wrong part is noted, taken out of the tree, and the tree is
//! read again, until nothing is wrong or nothing is left. Errors that only follow from a part taken
//! out (its field is now missing) are not noted. The words serde uses are taken apart here, in one
//! place, to get at the name that is wrong and the names that would be right.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::position::{push_segment, segments};

/// Most mistakes that are noted; beyond it a file is something else.
const FAULTS_MAX: usize = 50;

/// Words that the contract knows and this version cannot do yet, and the start of the pointers
/// where it knows them: refused, never ignored.
const NOT_BUILT: &[(&str, &[&str])] = &[
    ("/workload", &["gateway", "sequence"]),
    ("/phases", &["bursty", "trace", "steady", "search", "overload"]),
    ("/stages", &["limits", "controllers"]),
    ("/engine", &["limits", "features"]),
    ("", &["record", "verify"]),
];

fn is_not_built(pointer: &str, name: &str) -> bool {
    NOT_BUILT.iter().any(|(place, names)| pointer.starts_with(place) && names.contains(&name))
}

/// One mistake, by JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: &'static str,
    /// The wrong value; when it stands in an object and `on_key`, its key is wrong.
    pub(super) pointer: String,
    pub(super) on_key: bool,
    pub(super) message: String,
    pub(super) help: Option<String>,
    pub(super) allowed: Vec<String>,
}

impl Fault {
    /// A mistake in a value.
    pub(super) fn new(code: &'static str, pointer: String, message: String) -> Self {
        Self { code, pointer, on_key: false, message, help: None, allowed: Vec::new() }
    }
}

/// Reads the type from the tree, or returns every mistake in its shape.
pub(super) fn read<T: DeserializeOwned>(tree: &Value) -> Result<T, Vec<Fault>> {
    if !tree.is_object() {
        let message = "must be an object: { … }".to_owned();
        return Err(vec![Fault::new(WRONG, String::new(), message)]);
    }
    let mut tree = tree.clone();
    let mut holes = Holes::default();
    let mut faults = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(&tree) {
            Ok(value) if faults.is_empty() => return Ok(value),
            Ok(_) => return Err(faults),
            Err(error) => error,
        };
        let fault = explain(&tree, &error);
        let cut = fault.pointer.clone();
        if !holes.explain(&tree, &fault) {
            holes.expect(&fault);
            faults.push(holes.original(fault));
        }
        if cut.is_empty() || faults.len() == FAULTS_MAX {
            return Err(faults);
        }
        holes.cut(&mut tree, &cut);
    }
}

const MISSING: &str = "W010";
const WRONG: &str = "W011";
const UNKNOWN_FIELD: &str = "W012";
const UNKNOWN_WORD: &str = "W013";
const NOT_BUILT_YET: &str = "W014";

/// Parts taken out of the tree so far, as pointers into the original tree.
#[derive(Default)]
struct Holes {
    /// Fields taken out, or not there because their name is probably the slip that was taken out.
    fields: Vec<String>,
    /// Per array the original indices taken out, sorted.
    items: BTreeMap<String, Vec<usize>>,
}

impl Holes {
    /// Takes the part at `pointer` out of the tree.
    fn cut(&mut self, tree: &mut Value, pointer: &str) {
        let Some((parent, last)) = pointer.rsplit_once('/') else { return };
        let original = self.original_pointer(pointer);
        let original_parent = self.original_pointer(parent);
        let last = last.replace("~1", "/").replace("~0", "~");
        match tree.pointer_mut(parent) {
            Some(Value::Object(fields)) => {
                fields.remove(&last);
                self.fields.push(original);
            }
            Some(Value::Array(items)) => {
                let Ok(item_idx) = last.parse::<usize>() else { return };
                if item_idx < items.len() {
                    items.remove(item_idx);
                    let taken = self.items.entry(original_parent).or_default();
                    taken.push(nth_left(taken, item_idx));
                    taken.sort_unstable();
                }
            }
            _ => {}
        }
    }

    /// Notes the field that a slip was probably meant to be: it will be missing.
    fn expect(&mut self, fault: &Fault) {
        let Some(meant) = fault.help.as_deref().and_then(quoted) else { return };
        if let Some((parent, _)) = fault.pointer.rsplit_once('/') {
            let mut field = self.original_pointer(parent);
            push_segment(&mut field, meant);
            self.fields.push(field);
        }
    }

    /// Whether a fault only follows from what was taken out: its field is missing, or all that an
    /// enum's object had is.
    fn explain(&self, tree: &Value, fault: &Fault) -> bool {
        let mut original = self.original_pointer(&fault.pointer);
        if fault.code == MISSING {
            push_segment(&mut original, quoted(&fault.message).unwrap_or_default());
            return self.fields.contains(&original);
        }
        let emptied = tree.pointer(&fault.pointer).and_then(Value::as_object);
        let inside = format!("{original}/");
        emptied.is_some_and(serde_json::Map::is_empty)
            && self.fields.iter().any(|field| field.starts_with(&inside))
    }

    fn original(&self, mut fault: Fault) -> Fault {
        fault.pointer = self.original_pointer(&fault.pointer);
        fault
    }

    /// Turns a pointer into the shrunken tree into one into the original tree.
    fn original_pointer(&self, pointer: &str) -> String {
        let mut original = String::new();
        for segment in segments(pointer) {
            let item_idx = segment.parse::<usize>().ok();
            let segment = match (self.items.get(&original), item_idx) {
                (Some(taken), Some(item_idx)) => nth_left(taken, item_idx).to_string(),
                _ => segment,
            };
            push_segment(&mut original, &segment);
        }
        original
    }
}

/// The `n`-th index that is not among the sorted `taken`.
fn nth_left(taken: &[usize], n: usize) -> usize {
    taken.iter().fold(n, |index, gone| if *gone <= index { index + 1 } else { index })
}

/// Finds lists that stand for objects, `"engine": [2]`: serde takes them as fields in order, but a
/// file so written would change its meaning whenever a field is added.
///
/// `resolved` is what was read, written again.
pub(super) fn lists_for_objects(tree: &Value, resolved: &Value) -> Vec<Fault> {
    fn walk(tree: &Value, resolved: &Value, pointer: &mut String, faults: &mut Vec<Fault>) {
        let length = pointer.len();
        match (tree, resolved) {
            (Value::Array(_), Value::Object(_)) => {
                let message = "must be an object with named fields, is a list".to_owned();
                faults.push(Fault::new(WRONG, pointer.clone(), message));
            }
            (Value::Array(items), Value::Array(resolved)) => {
                for (item_idx, (item, resolved)) in items.iter().zip(resolved).enumerate() {
                    push_segment(pointer, &item_idx.to_string());
                    walk(item, resolved, pointer, faults);
                    pointer.truncate(length);
                }
            }
            (Value::Object(fields), Value::Object(resolved)) => {
                for (name, field) in fields {
                    if let Some(resolved) = resolved.get(name) {
                        push_segment(pointer, name);
                        walk(field, resolved, pointer, faults);
                        pointer.truncate(length);
                    }
                }
            }
            _ => {}
        }
    }
    let mut faults = Vec::new();
    walk(tree, resolved, &mut String::new(), &mut faults);
    faults
}

/// Turns serde's error into a fault of the tree it was read from.
fn explain(tree: &Value, error: &serde_path_to_error::Error<serde_json::Error>) -> Fault {
    let mut pointer = String::new();
    for segment in error.path() {
        match segment {
            Segment::Seq { index } => push_segment(&mut pointer, &index.to_string()),
            Segment::Map { key } => push_segment(&mut pointer, key),
            Segment::Enum { variant } => push_segment(&mut pointer, variant),
            Segment::Unknown => {}
        }
    }
    // A variant without content stands as a plain string: the last segment is not in the tree.
    while tree.pointer(&pointer).is_none() && !pointer.is_empty() {
        pointer.truncate(pointer.rfind('/').unwrap_or(0));
    }
    let text = error.inner().to_string();
    match text.split_once('`').map(|(start, _)| start) {
        Some("unknown field ") => unknown(tree, pointer, &text, UNKNOWN_FIELD),
        Some("unknown variant ") => unknown(tree, pointer, &text, UNKNOWN_WORD),
        Some("missing field ") => Fault::new(MISSING, pointer, text),
        _ if text.ends_with("expected map with a single key") => Fault::new(
            WRONG,
            pointer,
            "must have exactly one field, which says its kind".to_owned(),
        ),
        _ => Fault::new(WRONG, pointer, text),
    }
}

fn unknown(tree: &Value, mut pointer: String, text: &str, code: &'static str) -> Fault {
    let name = quoted(text).unwrap_or_default().to_owned();
    // The name is a key of the object that the pointer means, or its last segment already.
    let mut with_name = pointer.clone();
    push_segment(&mut with_name, &name);
    let last = segments(&pointer).last();
    let on_key = if tree.pointer(&with_name).is_some() {
        pointer = with_name;
        true
    } else {
        last.is_some_and(|last| last == name)
            && tree.pointer(&pointer).and_then(Value::as_str) != Some(name.as_str())
    };
    let allowed = allowed(text);
    if is_not_built(&pointer, &name) {
        let message = format!("`{name}` is not built yet, so it is refused rather than ignored");
        return Fault { on_key, allowed, ..Fault::new(NOT_BUILT_YET, pointer, message) };
    }
    let what = if code == UNKNOWN_FIELD { "field" } else { "word" };
    let help = nearest(&name, &allowed).map(|near| format!("did you mean `{near}`?"));
    let message = format!("unknown {what} `{name}`");
    Fault { on_key, help, allowed, ..Fault::new(code, pointer, message) }
}

/// The first name between backticks.
fn quoted(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

/// The names that serde expected: all between backticks but the first.
fn allowed(text: &str) -> Vec<String> {
    text.split('`').skip(3).step_by(2).map(ToOwned::to_owned).collect()
}

/// The candidate that `name` is probably a slip of.
pub(super) fn nearest<'a>(name: &str, candidates: &'a [String]) -> Option<&'a String> {
    let slips_max = (name.chars().count() / 3).max(2);
    candidates
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(slips, _)| *slips <= slips_max)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is used")]
    struct Outer {
        size: u32,
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is used")]
    struct Item {
        name: String,
        kind: Kind,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case", deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is used")]
    enum Kind {
        Plain,
        Sized { bytes: u64 },
    }

    fn faults(tree: &Value) -> Vec<(String, bool, String)> {
        let faults = read::<Outer>(tree).unwrap_err();
        faults.into_iter().map(|f| (f.pointer, f.on_key, f.message)).collect()
    }

    #[test]
    fn every_mistake_is_found_and_has_its_place_in_the_original() {
        let tree = json!({
            "size": "big",
            "sise": 1,
            "items": [
                {"name": 1, "kind": "plain"},
                {"name": "a", "kind": {"sized": {"byte": 1}}},
                {"name": "b", "kind": "plane"},
                {"name": "c", "kind": {"sizd": {}}},
                {"name": "d", "kind": {"sized": {"bytes": -1}}},
                {"kind": "plain"}
            ]
        });
        let found = faults(&tree);
        let pointers: Vec<(&str, bool)> =
            found.iter().map(|(pointer, on_key, _)| (pointer.as_str(), *on_key)).collect();
        for expected in [
            ("/size", false),
            ("/sise", true),
            ("/items/0/name", false),
            ("/items/1/kind/sized/byte", true),
            ("/items/2/kind", false),
            ("/items/3/kind/sizd", true),
            ("/items/4/kind/sized/bytes", false),
            ("/items/5", false),
        ] {
            assert!(pointers.contains(&expected), "{expected:?} in {found:#?}");
        }
        assert_eq!(pointers.len(), 8, "{found:#?}");
    }

    #[test]
    fn a_slip_gets_a_suggestion_and_nonsense_does_not() {
        let names = ["rate_per_s".to_owned(), "window".to_owned()];
        assert_eq!(nearest("rate_pers", &names).unwrap(), "rate_per_s");
        assert_eq!(nearest("windwo", &names).unwrap(), "window");
        assert_eq!(nearest("colour", &names), None);
    }

    #[test]
    fn a_file_with_endless_mistakes_ends() {
        let items: Vec<Value> = (0..1_000).map(|i| json!({ "wrong": i })).collect();
        assert_eq!(faults(&json!({"size": 1, "items": items})).len(), FAULTS_MAX);
    }
}
