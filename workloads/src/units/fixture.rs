//! The shipped data, for tests.

use std::path::Path;

use super::data::Tables;

/// Loads the CSV files that stand in the repository.
pub(crate) fn tables() -> Tables {
    Tables::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data")).unwrap()
}
