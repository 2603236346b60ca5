//! Dotted paths into a workload file: `--set engine.shards=2` and the keys of `matrix`.
//!
//! They work on the JSON tree before it gets its types, so that an override is checked by the same
//! rules as the file. An element of a list is named by its index or by its `name`:
//! `phases.steady.until.duration_ms`.

use serde_json::{Map, Value};

use super::position::push_segment;

/// Sets the value at a dotted path and returns its JSON pointer.
///
/// Objects on the way are made where there are none; whether such a field exists is for the types
/// to say.
///
/// # Errors
/// What stands in the way: an element that does not exist, a value that has no fields.
pub(super) fn set(tree: &mut Value, path: &str, value: Value) -> Result<String, String> {
    let mut pointer = String::new();
    let mut at = tree;
    for name in path.split('.') {
        if name.is_empty() {
            return Err(format!("`{path}` has an empty part"));
        }
        at = match at {
            Value::Object(fields) => {
                push_segment(&mut pointer, name);
                fields.entry(name).or_insert_with(|| Value::Object(Map::new()))
            }
            Value::Array(items) => {
                let item_idx = item_idx(items, name)
                    .ok_or_else(|| format!("`{path}`: no element `{name}` at `{pointer}`"))?;
                push_segment(&mut pointer, &item_idx.to_string());
                &mut items[item_idx]
            }
            _ => return Err(format!("`{path}`: `{pointer}` has no fields")),
        };
    }
    *at = value;
    Ok(pointer)
}

fn item_idx(items: &[Value], name: &str) -> Option<usize> {
    let by_name = items.iter().position(|item| item.get("name").is_some_and(|n| n == name));
    by_name.or_else(|| name.parse().ok().filter(|item_idx| *item_idx < items.len()))
}

/// One `--set path=value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// Dotted path.
    pub path: String,
    /// JSON, or a plain word that is taken as a string.
    pub value: Value,
}

impl std::str::FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, value) =
            text.split_once('=').ok_or_else(|| format!("`{text}` is not path=value"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        Ok(Self { path: path.trim().to_owned(), value })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_reaches_fields_and_elements_by_index_or_name() {
        let mut tree = json!({"engine": {"shards": 1}, "phases": [{"name": "a"}, {"name": "b"}]});
        for (path, pointer) in [
            ("engine.shards", "/engine/shards"),
            ("phases.b.until.requests", "/phases/1/until/requests"),
            ("phases.0.until.requests", "/phases/0/until/requests"),
            ("stages.flights.items_max", "/stages/flights/items_max"),
        ] {
            assert_eq!(set(&mut tree, path, json!(7)).unwrap(), pointer);
            assert_eq!(tree.pointer(pointer), Some(&json!(7)));
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_says_where_it_ends() {
        let mut tree = json!({"seed": 1, "phases": []});
        for (path, part) in [
            ("seed.low", "`/seed` has no fields"),
            ("phases.a", "no element `a`"),
            ("a..b", "empty"),
        ] {
            let error = set(&mut tree, path, json!(1)).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_value_is_json_or_else_a_word() {
        let parse = |text: &str| text.parse::<Override>().unwrap().value;
        assert_eq!(parse("a=2"), json!(2));
        assert_eq!(parse("a=per_core"), json!("per_core"));
        assert_eq!(parse(r#"a={"spin_us":5}"#), json!({"spin_us": 5}));
        assert!("a".parse::<Override>().is_err());
    }
}
