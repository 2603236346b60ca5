//! Numbers that are finite, or absent with a reason.
//!
//! A dump may hold no NaN, no infinity and no unexplained null. [`Finite`] cannot be made from anything
//! else, and [`Measured`] is a value or the sentence that says why there is none. On disk an absent `x`
//! is two keys, `"x": null` and `"x_reason": "…"`. serde's `flatten` would write them but loses the path
//! of errors and accepts anything; the [`record!`] macro writes the two keys by hand instead.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The reason given for a value that the dump's file does not hold at all (an older writer).
pub(crate) const NOT_IN_DUMP: &str = "not in this dump";

const REASON_SUFFIX: &str = "_reason";

/// A floating-point number that is neither NaN nor infinite.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Finite(f64);

impl Finite {
    /// Wraps `number`, or returns `None` when it is NaN or infinite.
    pub fn new(number: f64) -> Option<Self> {
        number.is_finite().then_some(Self(number))
    }

    /// Returns the number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Finite {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl<'de> Deserialize<'de> for Finite {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| de::Error::custom("a number in a dump must be finite"))
    }
}

/// A value, or the reason why there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured<T> {
    /// What was measured.
    Value(T),
    /// Why nothing was measured; a sentence for a reader, never empty in a valid dump.
    Absent(String),
}

impl<T> Measured<T> {
    /// Returns an absence with its reason.
    pub fn absent(reason: impl Into<String>) -> Self {
        Self::Absent(reason.into())
    }

    /// Wraps `value`, or gives `reason` for its absence.
    pub fn from_option(value: Option<T>, reason: impl Into<String>) -> Self {
        value.map_or_else(|| Self::Absent(reason.into()), Self::Value)
    }

    /// Returns the value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent(_) => None,
        }
    }

    /// Returns the reason of an absence.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Value(_) => None,
            Self::Absent(reason) => Some(reason),
        }
    }
}

impl Measured<Finite> {
    /// Wraps `number`; a NaN or an infinity becomes an absence that says so.
    pub fn number(number: f64) -> Self {
        Self::from_option(Finite::new(number), format!("the computation gave {number}"))
    }

    /// Divides, or gives `reason` when the divisor is zero.
    pub fn ratio(dividend: f64, divisor: f64, reason: impl Into<String>) -> Self {
        if divisor == 0.0 { Self::absent(reason) } else { Self::number(dividend / divisor) }
    }

    /// Returns the number as a plain float, if there is one.
    pub fn get(&self) -> Option<f64> {
        self.value().map(|number| number.get())
    }
}

impl<T> From<T> for Measured<T> {
    fn from(value: T) -> Self {
        Self::Value(value)
    }
}

/// Joins what a file said about one measured field; the empty reason is left for `check` to report, so
/// that one file can be told all its faults at once.
pub(crate) fn join<T>(value: Option<Option<T>>, reason: Option<String>) -> Measured<T> {
    match (value, reason) {
        (Some(Some(value)), _) => Measured::Value(value),
        (Some(None), reason) => Measured::Absent(reason.unwrap_or_default()),
        (None, reason) => Measured::Absent(reason.unwrap_or_else(|| NOT_IN_DUMP.to_owned())),
    }
}

/// Measured values under names that the workload chooses: `"allocs": {…}` or `"allocs": null` with
/// `"allocs_reason"`.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredMap<T>(BTreeMap<String, Measured<T>>);

impl<T> Default for MeasuredMap<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> MeasuredMap<T> {
    /// Adds or replaces a value.
    ///
    /// # Panics
    /// When the name ends in `_reason`, which is how a file marks the reason of another name.
    pub fn insert(&mut self, name: impl Into<String>, value: Measured<T>) {
        let name = name.into();
        assert!(
            !name.ends_with(REASON_SUFFIX),
            "{name} would be read as the reason of another name"
        );
        self.0.insert(name, value);
    }

    /// Returns the entry of this name.
    pub fn get(&self, name: &str) -> Option<&Measured<T>> {
        self.0.get(name)
    }

    /// Returns the entries in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Measured<T>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl<T: Serialize> Serialize for MeasuredMap<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, &value.value())?;
            if let Some(reason) = value.reason() {
                map.serialize_entry(&format!("{name}{REASON_SUFFIX}"), reason)?;
            }
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for MeasuredMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MeasuredMapVisitor(std::marker::PhantomData))
    }
}

struct MeasuredMapVisitor<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for MeasuredMapVisitor<T> {
    type Value = MeasuredMap<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map of measured values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        let mut reasons = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if let Some(name) = name.strip_suffix(REASON_SUFFIX) {
                reasons.insert(name.to_owned(), map.next_value::<String>()?);
            } else {
                values.insert(name, map.next_value::<Option<T>>()?);
            }
        }
        let joined = values.into_iter().map(|(name, value)| {
            let reason = reasons.remove(&name);
            (name, join(Some(value), reason))
        });
        Ok(MeasuredMap(joined.collect()))
    }
}

impl<T: JsonSchema> JsonSchema for MeasuredMap<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("MeasuredMapOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Values by name; a null `x` has its `x_reason`.",
            "patternProperties": { "_reason$": { "type": "string" } },
            "additionalProperties": or_null(&generator.subschema_for::<T>()),
        })
    }
}

/// The schema of a record: plain fields are there, a measured one is a value or null, and then its
/// reason stands beside it.
pub(crate) fn record_schema(plain: &[(&str, Schema)], measured: &[(&str, Schema)]) -> Schema {
    let mut properties = serde_json::Map::new();
    for (name, schema) in plain {
        properties.insert((*name).to_owned(), schema.as_value().clone());
    }
    for (name, schema) in measured {
        properties.insert((*name).to_owned(), or_null(schema).to_value());
        properties.insert(
            format!("{name}{REASON_SUFFIX}"),
            json_schema!({ "type": "string" }).to_value(),
        );
    }
    // As a reader has it: a dump from before a measured field was added fits.
    let required: Vec<&str> = plain.iter().map(|(name, _)| *name).collect();
    json_schema!({ "type": "object", "properties": properties, "required": required })
}

fn or_null(schema: &Schema) -> Schema {
    json_schema!({ "anyOf": [schema, { "type": "null" }] })
}

/// Reads one value and drops it: a field that a newer writer added.
pub(crate) fn skip_value<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

/// Defines a struct whose `measured` fields are written as `"x"` and, when absent, `"x_reason"`.
///
/// Plain fields must be there when a file is read, measured ones may be missing, unknown ones are
/// passed over.
macro_rules! record {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$plain_meta:meta])* pub $plain:ident: $plain_type:ty,)*
        } measured {
            $($(#[$measured_meta:meta])* pub $measured:ident: $measured_type:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $($(#[$plain_meta])* pub $plain: $plain_type,)*
            $($(#[$measured_meta])* pub $measured: $crate::dump::Measured<$measured_type>,)*
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                $(map.serialize_entry(stringify!($plain), &self.$plain)?;)*
                $(
                    map.serialize_entry(stringify!($measured), &self.$measured.value())?;
                    if let Some(reason) = self.$measured.reason() {
                        map.serialize_entry(concat!(stringify!($measured), "_reason"), reason)?;
                    }
                )*
                map.end()
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let plain: &[(&str, schemars::Schema)] =
                    &[$((stringify!($plain), generator.subschema_for::<$plain_type>()),)*];
                let measured: &[(&str, schemars::Schema)] =
                    &[$((stringify!($measured), generator.subschema_for::<$measured_type>()),)*];
                $crate::dump::record_schema(plain, measured)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct RecordVisitor;

                impl<'de> serde::de::Visitor<'de> for RecordVisitor {
                    type Value = $name;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        formatter.write_str(concat!("the object ", stringify!($name)))
                    }

                    // `$plain` and `$measured` name locals here: the value read, then its reason.
                    #[allow(unused_mut, reason = "a record may have no field of one of the two sorts")]
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        $(let mut $plain: Option<$plain_type> = None;)*
                        $(let mut $measured: (Option<Option<$measured_type>>, Option<String>) = (None, None);)*
                        while let Some(key) = map.next_key::<String>()? {
                            match key.as_str() {
                                $(stringify!($plain) => $plain = Some(map.next_value()?),)*
                                $(stringify!($measured) => $measured.0 = Some(map.next_value()?),)*
                                $(concat!(stringify!($measured), "_reason") => $measured.1 = Some(map.next_value()?),)*
                                _ => $crate::dump::skip_value(&mut map)?,
                            }
                        }
                        Ok($name {
                            $($plain: $plain.ok_or_else(|| serde::de::Error::missing_field(stringify!($plain)))?,)*
                            $($measured: $crate::dump::join($measured.0, $measured.1),)*
                        })
                    }
                }

                deserializer.deserialize_map(RecordVisitor)
            }
        }
    };
}
pub(crate) use record;

#[cfg(test)]
mod tests {
    use super::*;

    record! {
        /// A record of the test.
        struct Sample {
            /// Plain.
            pub count: u64,
        } measured {
            /// Measured.
            pub p99_ns: u64,
            /// Measured.
            pub rate_per_s: Finite,
        }
    }

    fn read(text: &str) -> Result<Sample, String> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| format!("{}: {}", error.path(), error.inner()))
    }

    #[test]
    fn an_absent_number_is_written_as_null_with_its_reason_beside_it() {
        let sample = Sample {
            count: 3,
            p99_ns: Measured::absent("needs 1,000; have 3"),
            rate_per_s: Measured::number(1.5),
        };
        let text = serde_json::to_string(&sample).unwrap();
        assert_eq!(
            text,
            r#"{"count":3,"p99_ns":null,"p99_ns_reason":"needs 1,000; have 3","rate_per_s":1.5}"#
        );
        assert_eq!(read(&text).unwrap(), sample);
    }

    #[test]
    fn no_number_that_is_not_finite_can_be_made() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Finite::new(number), None);
            assert!(Measured::number(number).reason().is_some());
        }
        assert!(Measured::ratio(0.0, 0.0, "nothing ran").reason().unwrap().contains("nothing ran"));
        assert!(read(r#"{"count":1,"rate_per_s":1e999}"#).is_err());
    }

    #[test]
    fn a_null_without_reason_is_read_as_an_empty_reason_for_check_to_report() {
        let sample = read(r#"{"count":1,"p99_ns":null}"#).unwrap();
        assert_eq!(sample.p99_ns, Measured::absent(""));
        assert_eq!(sample.rate_per_s, Measured::absent(NOT_IN_DUMP));
    }

    #[test]
    fn errors_name_the_field_and_where_it_stands() {
        let error = read("{\"count\":1,\n\"p99_ns\":\"slow\"}").unwrap_err();
        assert!(error.starts_with("p99_ns: invalid type: string \"slow\""), "{error}");
        assert!(error.contains("line 2"), "{error}");
        assert!(read("{}").unwrap_err().contains("missing field `count`"));
    }

    #[test]
    fn unknown_fields_of_a_newer_writer_are_passed_over() {
        assert_eq!(read(r#"{"count":7,"new":{"deep":[1]}}"#).unwrap().count, 7);
    }

    #[test]
    fn a_map_keeps_reasons_beside_names() {
        let mut map = MeasuredMap::default();
        map.insert("allocs", Measured::Value(2_u64));
        map.insert("cycles", Measured::absent("no PMU"));
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(text, r#"{"allocs":2,"cycles":null,"cycles_reason":"no PMU"}"#);
        assert_eq!(serde_json::from_str::<MeasuredMap<u64>>(&text).unwrap(), map);
    }
}
