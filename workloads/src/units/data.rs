//! Flights and airports as typed rows, and both tables in memory as the truth to check against.
//!
//! Codes, ids and times are small `Copy` newtypes: they are keys of stages, travel between shards
//! and are compared millions of times a second. Loading checks everything a query could trip over
//! later (order of ids, unknown airports), and every complaint names file and line.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

use super::error::DataError;

/// Number of a flight: its row in `flights.csv`, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct FlightId(pub u32);

impl fmt::Display for FlightId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flight {}", self.0)
    }
}

/// Code of an airport: three or four of `A`–`Z` and `0`–`9`, padded with zero bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iata([u8; 4]);

impl Iata {
    /// Returns the code as text.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "only ASCII can be made into a code")]
    pub fn as_str(&self) -> &str {
        let len = if self.0[3] == 0 { 3 } else { 4 };
        std::str::from_utf8(&self.0[..len]).expect("a code is checked to be ASCII when it is made")
    }
}

impl FromStr for Iata {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let bytes = text.as_bytes();
        let plain = bytes.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if !plain || !(3..=4).contains(&bytes.len()) {
            return Err(DataError::Code(text.to_owned()));
        }
        let mut code = [0; 4];
        code[..bytes.len()].copy_from_slice(bytes);
        Ok(Self(code))
    }
}

impl fmt::Display for Iata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Iata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Iata {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Local time of a departure, in minutes since 2000-01-01 00:00 of the same clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalMinute(pub u32);

impl FromStr for LocalMinute {
    type Err = DataError;

    /// Reads `2001-01-01 00:47`.
    fn from_str(text: &str) -> Result<Self, DataError> {
        const EPOCH: jiff::civil::DateTime = jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0);
        let at: jiff::civil::DateTime =
            text.parse().map_err(|_unreadable| DataError::Time(text.to_owned()))?;
        let minutes = at.duration_since(EPOCH).as_mins();
        u32::try_from(minutes).map(Self).map_err(|_before| DataError::Time(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for LocalMinute {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flight {
    /// Its number.
    pub id: FlightId,
    /// When it left, on the origin's clock.
    pub departed_at: LocalMinute,
    /// How late it was; negative when early.
    pub delay_min: i32,
    /// Distance as the airline reported it, in statute miles: the independent check.
    pub distance_mi: u32,
    /// Where it left from.
    pub origin: Iata,
    /// Where it went.
    pub destination: Iata,
}

/// One airport.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Airport {
    /// Its code.
    pub iata: Iata,
    /// Its name.
    pub name: Box<str>,
    /// The city it serves.
    pub city: Box<str>,
    /// State, as two letters.
    pub state: Box<str>,
    /// Country.
    pub country: Box<str>,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// What the departures stage is asked: the next flights out of `origin` later than `after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoardKey {
    /// The airport.
    pub origin: Iata,
    /// Only departures strictly later than this.
    pub after: LocalMinute,
}

/// Both tables in memory: what databases are filled from and answers are checked against.
#[derive(Debug)]
pub struct Tables {
    flights: Vec<Flight>,
    airports: BTreeMap<Iata, Arc<Airport>>,
    /// Per origin, its flights ordered by departure, then id.
    boards: BTreeMap<Iata, Vec<Flight>>,
    digest: String,
}

impl Tables {
    /// Reads `airports.csv` and `flights.csv` from a directory.
    ///
    /// # Errors
    /// A file that cannot be read, and any row that is malformed, out of order or names an unknown
    /// airport, with its file and line.
    pub fn load(dir: &Path) -> Result<Self, DataError> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|source| DataError::Read { path, source })
        };
        Self::parse(&read(AIRPORTS)?, &read(FLIGHTS)?)
    }

    /// Reads both tables from memory.
    ///
    /// # Errors
    /// The same as [`Tables::load`], files aside.
    pub fn parse(airports_csv: &[u8], flights_csv: &[u8]) -> Result<Self, DataError> {
        let airports = airports_by_code(airports_csv)?;
        let flights = flights_in_order(flights_csv, &airports)?;
        let mut boards: BTreeMap<Iata, Vec<Flight>> = BTreeMap::new();
        for flight in &flights {
            boards.entry(flight.origin).or_default().push(*flight);
        }
        for board in boards.values_mut() {
            board.sort_by_key(|flight| (flight.departed_at, flight.id));
        }
        Ok(Self { flights, airports, boards, digest: digest(&[airports_csv, flights_csv]) })
    }

    /// All flights, ordered by id.
    #[must_use]
    pub fn flights(&self) -> &[Flight] {
        &self.flights
    }

    /// All airports, ordered by code.
    pub fn airports(&self) -> impl ExactSizeIterator<Item = &Arc<Airport>> {
        self.airports.values()
    }

    /// Finds a flight.
    #[must_use]
    pub fn flight(&self, id: FlightId) -> Option<&Flight> {
        let found = self.flights.binary_search_by_key(&id, |flight| flight.id);
        found.ok().map(|row_idx| &self.flights[row_idx])
    }

    /// Finds an airport.
    #[must_use]
    pub fn airport(&self, code: Iata) -> Option<&Arc<Airport>> {
        self.airports.get(&code)
    }

    /// Lists at most `limit` departures, ordered by time, then id.
    #[must_use]
    pub fn board(&self, key: BoardKey, limit: u32) -> &[Flight] {
        let all = self.boards.get(&key.origin).map_or(&[][..], Vec::as_slice);
        let later = &all[all.partition_point(|flight| flight.departed_at <= key.after)..];
        &later[..later.len().min(limit as usize)]
    }

    /// SHA-256 of both files, as hexadecimal: the same data, the same digest.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

const AIRPORTS: &str = "airports.csv";
const FLIGHTS: &str = "flights.csv";

fn airports_by_code(csv: &[u8]) -> Result<BTreeMap<Iata, Arc<Airport>>, DataError> {
    let mut by_code = BTreeMap::new();
    for row in rows::<Airport>(AIRPORTS, csv) {
        let (line, airport) = row?;
        let on_earth = airport.latitude.abs() <= 90.0 && airport.longitude.abs() <= 180.0;
        if !on_earth {
            return Err(row_error(AIRPORTS, line, format!("{} is nowhere on earth", airport.iata)));
        }
        let code = airport.iata;
        if by_code.insert(code, Arc::new(airport)).is_some() {
            return Err(row_error(AIRPORTS, line, format!("{code} was listed before")));
        }
    }
    Ok(by_code)
}

fn flights_in_order(
    csv: &[u8],
    airports: &BTreeMap<Iata, Arc<Airport>>,
) -> Result<Vec<Flight>, DataError> {
    let mut flights: Vec<Flight> = Vec::new();
    for row in rows::<Flight>(FLIGHTS, csv) {
        let (line, flight) = row?;
        if flights.last().is_some_and(|last| last.id >= flight.id) {
            let why = format!("{} does not follow the row before it", flight.id);
            return Err(row_error(FLIGHTS, line, why));
        }
        if let Some(unknown) =
            [flight.origin, flight.destination].iter().find(|code| !airports.contains_key(code))
        {
            return Err(row_error(FLIGHTS, line, format!("no airport {unknown}")));
        }
        flights.push(flight);
    }
    Ok(flights)
}

/// Reads every row with the line it starts on.
fn rows<Row: DeserializeOwned>(
    file: &'static str,
    csv: &[u8],
) -> impl Iterator<Item = Result<(u64, Row), DataError>> {
    let mut reader = csv::Reader::from_reader(csv);
    let headers = reader.headers().cloned();
    reader.into_records().map(move |record| {
        let headers = headers.as_ref().map_err(|error| csv_error(file, 1, error))?;
        let record = record.map_err(|error| csv_error(file, 1, &error))?;
        let line = record.position().map_or(1, csv::Position::line);
        let row = record.deserialize(Some(headers)).map_err(|e| csv_error(file, line, &e))?;
        Ok((line, row))
    })
}

fn csv_error(file: &'static str, line: u64, error: &csv::Error) -> DataError {
    let line = error.position().map_or(line, csv::Position::line);
    match error.kind() {
        // The reader's own text for this repeats the place.
        csv::ErrorKind::Deserialize { err, .. } => row_error(file, line, err.to_string()),
        _ => row_error(file, line, error.to_string()),
    }
}

fn row_error(file: &'static str, line: u64, why: String) -> DataError {
    DataError::Row { file, line, why }
}

fn digest(files: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        // The length first, so that moving a row from one file to the other changes the digest.
        hash.update(u64::try_from(file.len()).expect("a length fits 64 bits").to_le_bytes());
        hash.update(file);
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::fixture;

    const HEADER_AIRPORTS: &str = "iata,name,city,state,country,latitude,longitude\n";
    const HEADER_FLIGHTS: &str = "id,departed_at,delay_min,distance_mi,origin,destination\n";

    fn complaint(airports: &str, flights: &str) -> String {
        let airports = format!("{HEADER_AIRPORTS}{airports}");
        let flights = format!("{HEADER_FLIGHTS}{flights}");
        Tables::parse(airports.as_bytes(), flights.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn loads_every_row_of_the_shipped_data() {
        let tables = fixture::tables();
        assert_eq!(tables.flights().len(), 20_000);
        assert_eq!(tables.airports().len(), 3_376);
        assert_eq!(tables.digest().len(), 64);
        let first = tables.flight(FlightId(1)).unwrap();
        assert_eq!((first.origin.as_str(), first.destination.as_str()), ("DTW", "LAS"));
        assert_eq!((first.delay_min, first.distance_mi), (66, 1_750));
        assert_eq!(tables.flight(FlightId(20_001)), None);
    }

    #[test]
    fn boards_list_only_later_departures_in_order() {
        let tables = fixture::tables();
        let first = *tables.flight(FlightId(1)).unwrap();
        let key = BoardKey { origin: first.origin, after: first.departed_at };
        let board = tables.board(key, 50);
        assert_eq!(board.len(), 50);
        assert!(board.iter().all(|f| f.origin == first.origin && f.departed_at > key.after));
        assert!(board.is_sorted_by_key(|f| (f.departed_at, f.id)));
        let nowhere = BoardKey { origin: "0000".parse().unwrap(), after: key.after };
        assert_eq!(tables.board(nowhere, 50), &[]);
    }

    #[test]
    fn codes_keep_their_text() {
        for text in ["DTW", "35A", "00AK"] {
            assert_eq!(text.parse::<Iata>().unwrap().as_str(), text);
        }
        for text in ["", "AB", "ABCDE", "dtw", "D W", "ÅBC"] {
            assert!(text.parse::<Iata>().is_err(), "{text}");
        }
    }

    #[test]
    fn minutes_count_from_the_year_2000() {
        assert_eq!("2000-01-01 00:00".parse::<LocalMinute>().unwrap(), LocalMinute(0));
        assert_eq!("2000-03-01 00:01".parse::<LocalMinute>().unwrap(), LocalMinute(60 * 1440 + 1));
        for text in ["1999-12-31 23:59", "2001-02-29 00:00", "soon"] {
            assert!(text.parse::<LocalMinute>().is_err(), "{text}");
        }
    }

    #[test]
    fn complaints_name_file_and_line() {
        let dtw = "DTW,Detroit,Detroit,MI,USA,42.2,-83.3\n";
        let fine = "1,2001-01-01 00:47,66,0,DTW,DTW\n";
        for (airports, flights, expected) in [
            ("DTW,Detroit,Detroit,MI,USA,142.2,-83.3\n", "", "airports.csv:2: DTW is nowhere"),
            ("DTW,Detroit,Detroit\n", "", "airports.csv:2: "),
            (dtw, "1,2001-01-01 00:47,66,0,DTW,LAS\n", "flights.csv:2: no airport LAS"),
            (dtw, "1,yesterday,66,0,DTW,DTW\n", "flights.csv:2: "),
            (dtw, "1,2001-01-01 00:47,late,0,DTW,DTW\n", "flights.csv:2: "),
        ] {
            let text = complaint(airports, flights);
            assert!(text.starts_with(expected), "{text}");
        }
        let text = complaint(&dtw.repeat(2), "");
        assert!(text.starts_with("airports.csv:3: DTW was listed"), "{text}");
        let text = complaint(dtw, &fine.repeat(2));
        assert!(text.starts_with("flights.csv:3: flight 1 does not follow"), "{text}");
    }

    #[test]
    fn a_row_that_moves_changes_the_digest() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_eq!(digest(&[b"ab", b"c"]), digest(&[b"ab", b"c"]));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Tables::load(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/airports.csv"), "{error}");
    }
}
