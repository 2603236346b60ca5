//! Values that may be a number or something else, read without `untagged`.
//!
//! An untagged enum would only say "did not match any variant"; these visitors say what was
//! expected and what was found, and keep the path of an error inside.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many shards: a number, or `"per_core"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardCount {
    /// This many.
    Fixed(u32),
    /// One for each CPU that the process may run on.
    PerCore,
}

const PER_CORE: &str = "per_core";

impl Serialize for ShardCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(shards) => serializer.serialize_u32(*shards),
            Self::PerCore => serializer.serialize_str(PER_CORE),
        }
    }
}

impl<'de> Deserialize<'de> for ShardCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShardCountVisitor)
    }
}

struct ShardCountVisitor;

impl Visitor<'_> for ShardCountVisitor {
    type Value = ShardCount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number of shards or \"{PER_CORE}\"")
    }

    fn visit_u64<E: Error>(self, shards: u64) -> Result<ShardCount, E> {
        u32::try_from(shards)
            .map(ShardCount::Fixed)
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(shards), &self))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<ShardCount, E> {
        if word == PER_CORE {
            Ok(ShardCount::PerCore)
        } else {
            Err(E::unknown_variant(word, &[PER_CORE]))
        }
    }
}

impl JsonSchema for ShardCount {
    fn schema_name() -> Cow<'static, str> {
        "ShardCount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How many shards, or one for each CPU that the process may run on.",
            "oneOf": [
                { "type": "integer", "minimum": 1, "maximum": u32::MAX },
                { "const": PER_CORE }
            ]
        })
    }
}

/// Batches in flight: a number, or bounds between which the stage finds its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permits {
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PermitBounds {
    min: u32,
    max: u32,
}

impl Serialize for Permits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { min, max } = *self;
        if min == max {
            serializer.serialize_u32(max)
        } else {
            PermitBounds { min, max }.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Permits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PermitsVisitor)
    }
}

struct PermitsVisitor;

impl<'de> Visitor<'de> for PermitsVisitor {
    type Value = Permits;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of permits or {\"min\": n, \"max\": n}")
    }

    fn visit_u64<E: Error>(self, permits: u64) -> Result<Permits, E> {
        u32::try_from(permits)
            .map(|permits| Permits { min: permits, max: permits })
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(permits), &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Permits, A::Error> {
        let PermitBounds { min, max } = PermitBounds::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Permits { min, max })
    }
}

impl JsonSchema for Permits {
    fn schema_name() -> Cow<'static, str> {
        "Permits".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let count = json_schema!({ "type": "integer", "minimum": 1, "maximum": u32::MAX });
        json_schema!({
            "description": "Batches in flight, or the bounds between which the stage finds its own.",
            "oneOf": [
                count,
                {
                    "type": "object",
                    "properties": { "min": count, "max": count },
                    "required": ["min", "max"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reads_as_it_was_written() {
        for text in ["2", "\"per_core\""] {
            let shards: ShardCount = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&shards).unwrap(), text);
        }
        for text in ["4", r#"{"min":1,"max":8}"#] {
            let permits: Permits = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&permits).unwrap(), text);
        }
    }

    #[test]
    fn an_error_says_what_was_expected() {
        let error = |text| serde_json::from_str::<ShardCount>(text).unwrap_err().to_string();
        assert!(error("true").contains("expected a number of shards or \"per_core\""));
        assert!(error("-1").contains("expected a number of shards"));
        assert!(error("\"per_cpu\"").contains("unknown variant `per_cpu`, expected `per_core`"));
        let error = |text| serde_json::from_str::<Permits>(text).unwrap_err().to_string();
        assert!(error("\"2\"").contains("expected a number of permits or {\"min\": n"));
        assert!(error(r#"{"min":1,"mx":2}"#).contains("unknown field `mx`"));
    }
}
