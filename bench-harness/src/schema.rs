//! JSON Schema of the files that others write or read, made from the types themselves.
//!
//! Checked in under `schema/`, so that editors can name it in `$schema`; a test fails on drift.

use schemars::{JsonSchema, generate::SchemaSettings};

use crate::workload_file::WorkloadFile;

/// Returns the schema of workload files.
#[must_use]
pub fn workload() -> String {
    of::<WorkloadFile>()
}

/// Returns the schema of dumps.
#[must_use]
pub fn dump() -> String {
    of::<crate::dump::Dump>()
}

fn of<T: JsonSchema>() -> String {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    format!("{:#}\n", schema.as_value())
}
