//! The digest of a workload: equal exactly when two files measure the same thing.

use serde_json::Value;

use crate::environment::sha256;

/// Fields that change nothing of what one repetition measures.
const LEFT_OUT: [&str; 7] =
    ["$schema", "name", "description", "notes", "slo", "compare", "repetitions"];

/// SHA-256 of the canonical JSON (sorted keys, no blanks) of a resolved file without its prose,
/// limits and count, as `sha256:` and hex digits.
#[must_use]
pub fn digest(resolved: &Value) -> String {
    let mut measured = resolved.clone();
    if let Value::Object(fields) = &mut measured {
        LEFT_OUT.iter().for_each(|name| {
            fields.remove(*name);
        });
    }
    let mut canonical = String::new();
    write_canonical(&measured, &mut canonical);
    sha256(canonical.as_bytes())
}

/// Sorts keys itself: whether serde_json keeps the order of a file depends on a cargo feature that
/// any dependency may switch on.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            out.push('{');
            for (n, name) in names.into_iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_canonical(&fields[name], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prose_limits_and_order_do_not_change_the_digest_and_the_rest_does() {
        let base = digest(&json!({"name": "a", "seed": 1, "engine": {"x": 1, "y": [1, 2]}}));
        let prose = json!({"engine": {"y": [1, 2], "x": 1}, "seed": 1, "name": "b", "slo": [1],
            "description": "d", "notes": "n", "compare": {}, "repetitions": 3});
        assert_eq!(digest(&prose), base);
        assert_ne!(digest(&json!({"seed": 1, "engine": {"x": 1, "y": [2, 1]}})), base);
        assert!(base.starts_with("sha256:") && base.len() == 7 + 64);
    }

    #[test]
    fn the_digest_does_not_change_from_version_to_version() {
        let expected = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(digest(&json!({"name": "only prose"})), expected);
    }
}
