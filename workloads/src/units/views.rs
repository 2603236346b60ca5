//! Durable view counters: the one write of the units workload.
//!
//! They stand in a file of their own, so that the read-only database stays as it was built. SQLite
//! has one writer at a time: give this one connection, behind a stage that gathers all shards. A
//! batch is one transaction, committed to disk before any caller is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::data::FlightId;
use super::error::StoreError;
use super::sqlite::failed;

/// How long a writer waits for another process that holds the file.
const BUSY_MAX: Duration = Duration::from_secs(5);

const ADD: &str = "
    INSERT INTO views (flight_id, n) VALUES (?1, ?2)
    ON CONFLICT (flight_id) DO UPDATE SET n = n + excluded.n";

/// The counters.
#[derive(Debug)]
pub struct Views {
    db: Connection,
}

impl Views {
    /// Opens the counters in `path`, at zero where there is no such file.
    ///
    /// # Errors
    /// A file that cannot be made or is no database.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let doing = failed("opening view counters");
        let db = Connection::open(path).map_err(&doing)?;
        db.busy_timeout(BUSY_MAX).map_err(&doing)?;
        db.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL; -- a reported view survives the loss of power
             CREATE TABLE IF NOT EXISTS views (
                flight_id INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT;",
        )
        .map_err(&doing)?;
        Ok(Self { db })
    }

    /// Adds views in one transaction. A flight may stand in it more than once.
    ///
    /// # Errors
    /// Whatever SQLite reports; nothing was added then.
    pub fn add(&mut self, views: &[(FlightId, u64)]) -> Result<(), StoreError> {
        let mut write = || {
            let transaction = self.db.transaction()?;
            {
                let mut add = transaction.prepare_cached(ADD)?;
                for (flight, n) in merged(views) {
                    add.execute(params![flight.0, n])?;
                }
            }
            transaction.commit()
        };
        write().map_err(failed("adding views"))
    }

    /// Sums all counters.
    ///
    /// # Errors
    /// Whatever SQLite reports.
    pub fn total(&self) -> Result<u64, StoreError> {
        let sum = "SELECT coalesce(sum(n), 0) FROM views";
        self.db.query_one(sum, [], |row| row.get(0)).map_err(failed("summing views"))
    }
}

/// Merges equal flights, ordered by id: neighbours share a page, and no two writers can wait for
/// each other.
pub(super) fn merged(views: &[(FlightId, u64)]) -> BTreeMap<FlightId, u64> {
    let mut by_flight = BTreeMap::new();
    for &(flight, n) in views {
        *by_flight.entry(flight).or_insert(0) += n;
    }
    by_flight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_flights_of_a_batch_and_of_batches_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("views.sqlite");
        let mut views = Views::open(&path).unwrap();
        assert_eq!(views.total().unwrap(), 0);
        views.add(&[(FlightId(3), 1), (FlightId(1), 2), (FlightId(3), 1)]).unwrap();
        views.add(&[(FlightId(3), 5)]).unwrap();
        assert_eq!(views.total().unwrap(), 9);
        let of_three = "SELECT n FROM views WHERE flight_id = 3";
        assert_eq!(views.db.query_one(of_three, [], |row| row.get::<_, u64>(0)).unwrap(), 7);
        drop(views);
        assert_eq!(Views::open(&path).unwrap().total().unwrap(), 9, "views outlive the process");
    }

    #[test]
    fn two_writers_lose_no_view() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("views.sqlite");
        let mut opened = [Views::open(&path).unwrap(), Views::open(&path).unwrap()];
        std::thread::scope(|threads| {
            for views in &mut opened {
                threads.spawn(move || {
                    for _ in 0..25 {
                        views.add(&[(FlightId(1), 1), (FlightId(2), 1)]).unwrap();
                    }
                });
            }
        });
        assert_eq!(opened[0].total().unwrap(), 100);
    }

    #[test]
    fn merging_orders_by_flight() {
        let views = [(FlightId(9), 1), (FlightId(2), 1), (FlightId(9), 2)];
        let merged: Vec<_> = merged(&views).into_iter().collect();
        assert_eq!(merged, [(FlightId(2), 1), (FlightId(9), 3)]);
    }
}
