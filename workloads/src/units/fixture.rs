//! The shipped data, for tests.

use std::path::Path;

use super::data::Tables;

/// Loads the CSV files that stand in the repository.
pub(crate) fn tables() -> Tables {
    Tables::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data")).unwrap()
}

/// Finds the database server that tests may use. None is fine on a laptop and a failure in CI.
#[cfg(feature = "postgres")]
pub(crate) fn postgres_target() -> Option<super::postgres::Target> {
    const URL: &str = "FOREBAY_POSTGRES_URL";
    match std::env::var(URL) {
        Ok(url) => {
            let password = std::env::var("PGPASSWORD").ok();
            Some(super::postgres::Target::parse(&url, password.as_deref()).unwrap())
        }
        Err(_) if std::env::var("FOREBAY_REQUIRE_SERVERS").is_ok_and(|set| set == "1") => {
            panic!("{URL} is not set, and FOREBAY_REQUIRE_SERVERS=1 asks for it")
        }
        Err(_) => {
            eprintln!("skipped: {URL} is not set");
            None
        }
    }
}
