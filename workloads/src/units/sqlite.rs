//! The embedded database: built once from the CSV files, then read in batches.
//!
//! The file is named by the digest of its sources, made under a temporary name and renamed, so a
//! file that is there is whole, and it never changes again. Everything here blocks; it runs on a
//! bridge's thread, one [`Store`] for each, and keeps its prepared statements warm.
//!
//! One statement serves every batch size: keys go in as one array or one JSON text.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row, params};

use super::data::{Airport, BoardKey, Flight, FlightId, Iata, LocalMinute, Tables};
use super::error::StoreError;

/// Version of the tables below; part of the file's name, so that a change builds a new file.
const SCHEMA_VERSION: u32 = 1;

const SCHEMA: &str = "
    CREATE TABLE airports (
        iata TEXT PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL, state TEXT NOT NULL,
        country TEXT NOT NULL, latitude REAL NOT NULL, longitude REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE flights (
        id INTEGER PRIMARY KEY,
        departed_min INTEGER NOT NULL, -- local minutes since 2000-01-01 00:00
        delay_min INTEGER NOT NULL, distance_mi INTEGER NOT NULL,
        origin TEXT NOT NULL REFERENCES airports, destination TEXT NOT NULL REFERENCES airports
    ) STRICT;
    -- Holds every column, so that a list of departures is read from neighbouring places.
    CREATE INDEX flights_by_departure
        ON flights (origin, departed_min, delay_min, distance_mi, destination);";

const SELECT_FLIGHTS: &str = "
    SELECT id, departed_min, delay_min, distance_mi, origin, destination
    FROM flights WHERE id IN rarray(?1)";

const SELECT_AIRPORTS: &str = "
    SELECT iata, name, city, state, country, latitude, longitude
    FROM airports WHERE iata IN rarray(?1)";

/// For each key a range of the index: from just after its time to the time of the row at the limit.
/// Several flights may leave in that last minute, so the caller cuts each list. (SQLite has no
/// lateral join. A subquery of `IN` that names the outer row reads the same, and costs 6 times more
/// for one key: it fills a table of its own for each.)
const SELECT_DEPARTURES: &str = "
    SELECT f.id, f.departed_min, f.delay_min, f.distance_mi, f.origin, f.destination, k.key
    FROM json_each(?1) AS k CROSS JOIN flights AS f
    WHERE f.origin = k.value ->> 0 AND f.departed_min > k.value ->> 1
    AND f.departed_min <= ifnull(
        (SELECT departed_min FROM flights
         WHERE origin = k.value ->> 0 AND departed_min > k.value ->> 1
         ORDER BY departed_min LIMIT 1 OFFSET ?2 - 1),
        ?3)";

/// Returns `forebay` in the user's cache directory, or in the temporary one where there is none.
#[must_use]
pub fn default_cache_dir() -> PathBuf {
    let from_env = |name| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let caches = from_env("XDG_CACHE_HOME").or_else(|| from_env("HOME").map(|h| h.join(".cache")));
    caches.unwrap_or_else(std::env::temp_dir).join("forebay")
}

/// Finds the database of these tables in `cache_dir`, and builds it if it is not there.
///
/// Any number of processes may do this at once: each builds a file of its own, and the last rename
/// wins over an equal one.
///
/// # Errors
/// A directory or file that cannot be written, and whatever SQLite refuses.
pub fn ensure(tables: &Tables, cache_dir: &Path) -> Result<PathBuf, StoreError> {
    let name = format!("units-v{SCHEMA_VERSION}-{}.sqlite", &tables.digest()[..16]);
    let path = cache_dir.join(name);
    if !path.exists() {
        build(tables, cache_dir, &path)?;
    }
    Ok(path)
}

/// Builds beside the final name, makes it durable, and only then gives it the name.
fn build(tables: &Tables, dir: &Path, path: &Path) -> Result<(), StoreError> {
    let in_file = |at: &Path| {
        let at = at.to_owned();
        move |source| StoreError::File { path: at, source }
    };
    std::fs::create_dir_all(dir).map_err(in_file(dir))?;
    let temporary = tempfile::Builder::new().prefix("units-").suffix(".building").tempfile_in(dir);
    let temporary = temporary.map_err(in_file(dir))?;
    fill(temporary.path(), tables)?;
    temporary.as_file().sync_all().map_err(in_file(temporary.path()))?;
    temporary.persist(path).map_err(|error| in_file(path)(error.error))?;
    let directory = std::fs::File::open(dir).map_err(in_file(dir))?;
    directory.sync_all().map_err(in_file(dir))
}

fn fill(path: &Path, tables: &Tables) -> Result<(), StoreError> {
    let doing = failed("building");
    let mut db = Connection::open(path).map_err(&doing)?;
    // Nobody else knows the file yet, so it needs no journal until it is full.
    db.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;").map_err(&doing)?;
    let transaction = db.transaction().map_err(&doing)?;
    transaction.execute_batch(SCHEMA).map_err(&doing)?;
    insert_airports(&transaction, tables).map_err(&doing)?;
    insert_flights(&transaction, tables).map_err(&doing)?;
    transaction.commit().map_err(&doing)?;
    db.execute_batch("ANALYZE; PRAGMA journal_mode = WAL;").map_err(&doing)?;
    db.close().map_err(|(_connection, source)| doing(source))
}

fn insert_airports(db: &Connection, tables: &Tables) -> rusqlite::Result<()> {
    let mut insert = db.prepare("INSERT INTO airports VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for row in tables.airports() {
        let Airport { iata, name, city, state, country, latitude, longitude } = &**row;
        insert.execute(params![iata.as_str(), name, city, state, country, latitude, longitude])?;
    }
    Ok(())
}

fn insert_flights(db: &Connection, tables: &Tables) -> rusqlite::Result<()> {
    let mut insert = db.prepare("INSERT INTO flights VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for row in tables.flights() {
        let Flight { id, departed_at, delay_min, distance_mi, origin, destination } = row;
        let (from, to) = (origin.as_str(), destination.as_str());
        insert.execute(params![id.0, departed_at.0, delay_min, distance_mi, from, to])?;
    }
    Ok(())
}

/// One connection to the database, for one thread.
#[derive(Debug)]
pub struct Store {
    db: Connection,
}

impl Store {
    /// Opens the file that [`ensure`] returned.
    ///
    /// # Errors
    /// A file that is missing or no database.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let doing = failed("opening");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        // The file never changes, so readers need neither locks nor looks at the file's version.
        let db = Connection::open_with_flags(immutable_uri(path), flags).map_err(&doing)?;
        rusqlite::vtab::array::load_module(&db).map_err(&doing)?;
        // The whole file is about 2 MB: mapped, a page costs no system call.
        db.pragma_update(None, "mmap_size", 64 << 20).map_err(&doing)?;
        let store = Self { db };
        // Opening reads nothing; this finds out that the file is a database of ours.
        store.db.prepare_cached(SELECT_FLIGHTS).map_err(&doing)?;
        Ok(store)
    }

    /// Reads flights, in any order. Unknown ids are left out, repeated ones answered once.
    ///
    /// # Errors
    /// Whatever SQLite reports; no row is returned then.
    pub fn flights(&mut self, ids: &[FlightId]) -> Result<Vec<Flight>, StoreError> {
        let keys = array(ids.iter().map(|id| Value::Integer(id.0.into())));
        self.rows("reading flights", SELECT_FLIGHTS, params![keys], flight)
    }

    /// Reads airports, in any order. Unknown codes are left out, repeated ones answered once.
    ///
    /// # Errors
    /// Whatever SQLite reports; no row is returned then.
    pub fn airports(&mut self, codes: &[Iata]) -> Result<Vec<Airport>, StoreError> {
        let keys = array(codes.iter().map(|code| Value::Text(code.as_str().to_owned())));
        self.rows("reading airports", SELECT_AIRPORTS, params![keys], airport)
    }

    /// Reads the next departures, at most `limit` for each key: one list for each key, in the order
    /// of `keys`, each ordered by time, then id.
    ///
    /// # Errors
    /// Whatever SQLite reports; no list is returned then.
    pub fn departures(
        &mut self,
        keys: &[BoardKey],
        limit: u32,
    ) -> Result<Vec<Vec<Flight>>, StoreError> {
        if limit == 0 {
            return Ok(vec![Vec::new(); keys.len()]);
        }
        let asked = params![json(keys), limit, u32::MAX];
        let with_key = |row: &Row<'_>| Ok((row.get::<_, usize>(6)?, flight(row)?));
        let doing = "reading departures";
        let rows = self.rows(doing, SELECT_DEPARTURES, asked, with_key)?;
        let mut boards = vec![Vec::new(); keys.len()];
        for (key_idx, departure) in rows {
            boards[key_idx].push(departure);
        }
        for board in &mut boards {
            board.sort_by_key(|flight: &Flight| (flight.departed_at, flight.id));
            board.truncate(limit as usize);
        }
        Ok(boards)
    }

    fn rows<T>(
        &self,
        doing: &'static str,
        sql: &str,
        params: &[&dyn rusqlite::ToSql],
        decode: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let read = || {
            let mut statement = self.db.prepare_cached(sql)?;
            statement.query_map(params, decode)?.collect::<Result<_, _>>()
        };
        read().map_err(failed(doing))
    }
}

/// Wraps what SQLite says with what was being done.
pub(super) fn failed(doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Sqlite { doing, source }
}

fn array(keys: impl Iterator<Item = Value>) -> Rc<Vec<Value>> {
    Rc::new(keys.collect())
}

/// Writes the keys as `[["DTW",528447],…]`; codes need no escapes.
fn json(keys: &[BoardKey]) -> String {
    let mut text = String::with_capacity(2 + keys.len() * 20);
    text.push('[');
    for (key_idx, key) in keys.iter().enumerate() {
        let comma = if key_idx == 0 { "" } else { "," };
        write!(text, "{comma}[\"{}\",{}]", key.origin, key.after.0)
            .expect("writing to a string cannot fail");
    }
    text.push(']');
    text
}

/// Writes the path as a URI, with what is special in one escaped.
fn immutable_uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(byte));
            }
            _ => write!(uri, "%{byte:02X}").expect("writing to a string cannot fail"),
        }
    }
    uri.push_str("?immutable=1");
    uri
}

fn flight(row: &Row<'_>) -> rusqlite::Result<Flight> {
    Ok(Flight {
        id: FlightId(row.get(0)?),
        departed_at: LocalMinute(row.get(1)?),
        delay_min: row.get(2)?,
        distance_mi: row.get(3)?,
        origin: code(row, 4)?,
        destination: code(row, 5)?,
    })
}

fn airport(row: &Row<'_>) -> rusqlite::Result<Airport> {
    Ok(Airport {
        iata: code(row, 0)?,
        name: row.get::<_, String>(1)?.into(),
        city: row.get::<_, String>(2)?.into(),
        state: row.get::<_, String>(3)?.into(),
        country: row.get::<_, String>(4)?.into(),
        latitude: row.get(5)?,
        longitude: row.get(6)?,
    })
}

fn code(row: &Row<'_>, column_idx: usize) -> rusqlite::Result<Iata> {
    let text = row.get_ref(column_idx)?.as_str()?;
    text.parse().map_err(|error| {
        let text_type = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column_idx, text_type, Box::new(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::fixture;

    /// A database of the shipped data in a directory of its own.
    fn built() -> (tempfile::TempDir, Tables, Store) {
        let dir = tempfile::tempdir().unwrap();
        let tables = fixture::tables();
        let store = Store::open(&ensure(&tables, dir.path()).unwrap()).unwrap();
        (dir, tables, store)
    }

    #[test]
    fn every_row_comes_back_as_it_stands_in_the_files() {
        let (_dir, tables, mut store) = built();
        let ids: Vec<_> = tables.flights().iter().map(|flight| flight.id).collect();
        let mut flights = store.flights(&ids).unwrap();
        flights.sort_by_key(|flight| flight.id);
        assert_eq!(flights, tables.flights());
        let codes: Vec<_> = tables.airports().map(|airport| airport.iata).collect();
        let mut airports = store.airports(&codes).unwrap();
        airports.sort_by_key(|airport| airport.iata);
        assert!(airports.iter().eq(tables.airports().map(|airport| &**airport)));
    }

    #[test]
    fn unknown_keys_are_left_out_and_repeated_ones_answered_once() {
        let (_dir, tables, mut store) = built();
        let ids = [FlightId(7), FlightId(0), FlightId(7), FlightId(20_001)];
        assert_eq!(store.flights(&ids).unwrap(), [*tables.flight(FlightId(7)).unwrap()]);
        let codes = ["LAS", "ZZZZ", "LAS"].map(|code| code.parse().unwrap());
        assert_eq!(store.airports(&codes).unwrap().len(), 1);
        assert_eq!(store.flights(&[]).unwrap(), []);
    }

    #[test]
    fn departures_are_the_truths_for_every_key_of_a_batch() {
        let (_dir, tables, mut store) = built();
        let mut keys: Vec<_> = tables
            .flights()
            .iter()
            .step_by(97)
            .map(|flight| BoardKey { origin: flight.origin, after: flight.departed_at })
            .collect();
        keys.push(keys[0]);
        keys.push(BoardKey { origin: "ZZZZ".parse().unwrap(), after: LocalMinute(0) });
        let boards = store.departures(&keys, 5).unwrap();
        assert_eq!(boards.len(), keys.len());
        for (key, board) in keys.iter().zip(&boards) {
            assert_eq!(board, tables.board(*key, 5), "{key:?}");
        }
        assert_eq!(store.departures(&keys, 0).unwrap(), vec![Vec::new(); keys.len()]);
        assert_eq!(store.departures(&[], 5).unwrap(), Vec::<Vec<Flight>>::new());
    }

    #[test]
    fn departures_touch_only_the_rows_they_return() {
        let (_dir, _tables, store) = built();
        let sql = format!("EXPLAIN QUERY PLAN {SELECT_DEPARTURES}");
        let mut explain = store.db.prepare(&sql).unwrap();
        let asked = params!["[[\"DTW\",0]]", 5, u32::MAX];
        let plan = explain.query_map(asked, |row| row.get::<_, String>(3)).unwrap();
        let plan = plan.collect::<Result<Vec<_>, _>>().unwrap().join("\n");
        let between = "flights_by_departure (origin=? AND departed_min>? AND departed_min<?)";
        assert!(plan.contains(&format!("SEARCH f USING COVERING INDEX {between}")), "{plan}");
        assert!(plan.contains("SEARCH flights USING COVERING INDEX"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }

    #[test]
    fn a_second_start_finds_the_file_and_leaves_it_alone() {
        let (dir, tables, store) = built();
        drop(store);
        let path = ensure(&tables, dir.path()).unwrap();
        let before = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(ensure(&tables, dir.path()).unwrap(), path);
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before);
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 1, "readers and builders leave nothing beside the database");
    }

    #[test]
    fn builders_that_race_all_find_a_whole_database() {
        let dir = tempfile::tempdir().unwrap();
        let tables = fixture::tables();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    let path = ensure(&tables, dir.path()).unwrap();
                    let flights = Store::open(&path).unwrap().flights(&[FlightId(20_000)]).unwrap();
                    assert_eq!(flights.len(), 1);
                });
            }
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a #file?.sqlite");
        assert!(matches!(Store::open(&path), Err(StoreError::Sqlite { .. })), "missing");
        std::fs::write(&path, "no database ".repeat(1_000)).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Sqlite { .. })), "garbage");
    }

    #[test]
    fn a_path_with_special_characters_opens() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("a #b?c%20ü");
        let path = ensure(&fixture::tables(), &odd).unwrap();
        assert_eq!(Store::open(&path).unwrap().flights(&[FlightId(1)]).unwrap().len(), 1);
    }
}
