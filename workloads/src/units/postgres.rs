//! The database server: the same rows and the same batched calls, over any `tokio_postgres::Client`.
//!
//! Nothing here opens a socket or needs a runtime: whoever calls hands in a client that is
//! connected (`Config::connect_raw` over a shard's stream, or over tokio's), and drives its
//! connection. Methods take `&self`, so one client may have many batches in flight; the protocol
//! pipelines them.

use tokio_postgres::config::Host;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row, Statement};

use super::data::{Airport, BoardKey, Flight, FlightId, Iata, LocalMinute, Tables};
use super::error::StoreError;
use super::views::merged;

/// Version of the tables below; part of the schema's name.
const SCHEMA_VERSION: u32 = 1;
/// Key of the advisory lock that loaders take in turn; any number that nobody else uses.
const LOAD_LOCK: i64 = 0x666f_7265_6261_7901;

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// For `connect_raw`.
    pub config: Config,
    /// Name or address of the server.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

impl Target {
    /// Reads a `postgres://` URL; the password is handed in apart.
    ///
    /// # Errors
    /// Text that is no such URL, or names no TCP host.
    pub fn parse(url: &str, password: Option<&str>) -> Result<Self, StoreError> {
        let mut config: Config = url.parse().map_err(failed("reading its URL"))?;
        if let Some(password) = password {
            config.password(password);
        }
        let host = config.get_hosts().iter().find_map(|host| match host {
            Host::Tcp(name) => Some(name.clone()),
            Host::Unix(_) => None,
        });
        let port = config.get_ports().first().copied().unwrap_or(5_432);
        let no_host = || StoreError::Decode { doing: "reading its URL", value: url.to_owned() };
        Ok(Self { host: host.ok_or_else(no_host)?, port, config })
    }
}

impl Target {
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Names the schema that holds these tables: by digest, so that different data never mix.
#[must_use]
pub fn schema(tables: &Tables) -> String {
    format!("forebay_units_v{SCHEMA_VERSION}_{}", &tables.digest()[..16])
}

/// Creates and fills the schema of these tables, unless it is there already. All of it is one
/// transaction under a lock, so that the schema is either whole or absent.
///
/// # Errors
/// Whatever the server reports; nothing was created then.
pub async fn load(client: &mut Client, tables: &Tables) -> Result<(), StoreError> {
    let schema = schema(tables);
    let doing = failed("loading");
    let transaction = client.transaction().await.map_err(&doing)?;
    let lock = "SELECT pg_advisory_xact_lock($1)";
    transaction.execute(lock, &[&LOAD_LOCK]).await.map_err(&doing)?;
    let find = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
    if transaction.query_opt(find, &[&schema]).await.map_err(&doing)?.is_none() {
        transaction.batch_execute(&create(&schema)).await.map_err(&doing)?;
        insert_airports(&transaction, &schema, tables).await.map_err(&doing)?;
        insert_flights(&transaction, &schema, tables).await.map_err(&doing)?;
        let analyze = format!("ANALYZE {schema}.airports, {schema}.flights");
        transaction.batch_execute(&analyze).await.map_err(&doing)?;
    }
    transaction.commit().await.map_err(&doing)
}

fn create(schema: &str) -> String {
    format!(
        "CREATE SCHEMA {schema};
         CREATE TABLE {schema}.airports (
            iata TEXT PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL, state TEXT NOT NULL,
            country TEXT NOT NULL, latitude FLOAT8 NOT NULL, longitude FLOAT8 NOT NULL);
         CREATE TABLE {schema}.flights (
            id BIGINT PRIMARY KEY,
            departed_min BIGINT NOT NULL, -- local minutes since 2000-01-01 00:00
            delay_min INTEGER NOT NULL, distance_mi BIGINT NOT NULL,
            origin TEXT NOT NULL REFERENCES {schema}.airports,
            destination TEXT NOT NULL REFERENCES {schema}.airports);
         CREATE INDEX ON {schema}.flights (origin, departed_min, id);
         CREATE TABLE {schema}.views (flight_id BIGINT PRIMARY KEY, n BIGINT NOT NULL);"
    )
}

type Written = Result<u64, tokio_postgres::Error>;

async fn insert_airports(
    client: &tokio_postgres::Transaction<'_>,
    schema: &str,
    tables: &Tables,
) -> Written {
    let text = |field: fn(&Airport) -> &str| -> Vec<&str> {
        tables.airports().map(|airport| field(airport)).collect()
    };
    let degrees = |field: fn(&Airport) -> f64| -> Vec<f64> {
        tables.airports().map(|airport| field(airport)).collect()
    };
    let insert = format!(
        "INSERT INTO {schema}.airports SELECT * FROM UNNEST($1::TEXT[], $2::TEXT[], $3::TEXT[],
         $4::TEXT[], $5::TEXT[], $6::FLOAT8[], $7::FLOAT8[])"
    );
    let columns: [&(dyn ToSql + Sync); 7] = [
        &text(|airport| airport.iata.as_str()),
        &text(|airport| &airport.name),
        &text(|airport| &airport.city),
        &text(|airport| &airport.state),
        &text(|airport| &airport.country),
        &degrees(|airport| airport.latitude),
        &degrees(|airport| airport.longitude),
    ];
    client.execute(&insert, &columns).await
}

async fn insert_flights(
    client: &tokio_postgres::Transaction<'_>,
    schema: &str,
    tables: &Tables,
) -> Written {
    let number =
        |field: fn(&Flight) -> i64| -> Vec<i64> { tables.flights().iter().map(field).collect() };
    let delays: Vec<i32> = tables.flights().iter().map(|flight| flight.delay_min).collect();
    let code = |field: fn(&Flight) -> &Iata| -> Vec<&str> {
        tables.flights().iter().map(|flight| field(flight).as_str()).collect()
    };
    let insert = format!(
        "INSERT INTO {schema}.flights SELECT * FROM UNNEST($1::BIGINT[], $2::BIGINT[],
         $3::INTEGER[], $4::BIGINT[], $5::TEXT[], $6::TEXT[])"
    );
    let columns: [&(dyn ToSql + Sync); 6] = [
        &number(|flight| flight.id.0.into()),
        &number(|flight| flight.departed_at.0.into()),
        &delays,
        &number(|flight| flight.distance_mi.into()),
        &code(|flight| &flight.origin),
        &code(|flight| &flight.destination),
    ];
    client.execute(&insert, &columns).await
}

/// A connected client with its statements prepared.
#[expect(missing_debug_implementations, reason = "neither client nor statements have any")]
pub struct Store {
    client: Client,
    flights: Statement,
    airports: Statement,
    departures: Statement,
    add_views: Statement,
    views_total: Statement,
}

impl Store {
    /// Prepares the calls on a client whose server holds the schema that [`load`] made.
    ///
    /// # Errors
    /// A schema that is not there, or a lost connection.
    pub async fn prepare(client: Client, schema: &str) -> Result<Self, StoreError> {
        let doing = failed("preparing");
        let flight = "id, departed_min, delay_min, distance_mi, origin, destination";
        let flights = format!("SELECT {flight} FROM {schema}.flights WHERE id = ANY($1)");
        let airports = format!(
            "SELECT iata, name, city, state, country, latitude, longitude
             FROM {schema}.airports WHERE iata = ANY($1)"
        );
        let departures = format!(
            "SELECT f.*, k.key_no
             FROM UNNEST($1::TEXT[], $2::BIGINT[]) WITH ORDINALITY AS k (origin, after, key_no)
             CROSS JOIN LATERAL (
                SELECT {flight} FROM {schema}.flights AS f
                WHERE f.origin = k.origin AND f.departed_min > k.after
                ORDER BY departed_min, id LIMIT $3) AS f"
        );
        let add_views = format!(
            "INSERT INTO {schema}.views AS v SELECT * FROM UNNEST($1::BIGINT[], $2::BIGINT[])
             ON CONFLICT (flight_id) DO UPDATE SET n = v.n + excluded.n"
        );
        let total = format!("SELECT coalesce(sum(n), 0)::BIGINT FROM {schema}.views");
        Ok(Self {
            flights: client.prepare(&flights).await.map_err(&doing)?,
            airports: client.prepare(&airports).await.map_err(&doing)?,
            departures: client.prepare(&departures).await.map_err(&doing)?,
            add_views: client.prepare(&add_views).await.map_err(&doing)?,
            views_total: client.prepare(&total).await.map_err(&doing)?,
            client,
        })
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Reads flights, in any order. Unknown ids are left out, repeated ones answered once.
    ///
    /// # Errors
    /// Whatever the server reports, or a lost connection; see [`StoreError::lost_connection`].
    pub async fn flights(&self, ids: &[FlightId]) -> Result<Vec<Flight>, StoreError> {
        let doing = "reading flights";
        let ids: Vec<i64> = ids.iter().map(|id| id.0.into()).collect();
        let rows = self.client.query(&self.flights, &[&ids]).await.map_err(failed(doing))?;
        rows.iter().map(|row| flight(row, doing)).collect()
    }

    /// Reads airports, in any order. Unknown codes are left out, repeated ones answered once.
    ///
    /// # Errors
    /// As [`Store::flights`].
    pub async fn airports(&self, codes: &[Iata]) -> Result<Vec<Airport>, StoreError> {
        let doing = "reading airports";
        let codes: Vec<&str> = codes.iter().map(Iata::as_str).collect();
        let rows = self.client.query(&self.airports, &[&codes]).await.map_err(failed(doing))?;
        rows.iter().map(|row| airport(row, doing)).collect()
    }

    /// Reads the next departures, at most `limit` for each key: one list for each key, in the order
    /// of `keys`, each ordered by time, then id.
    ///
    /// # Errors
    /// As [`Store::flights`].
    pub async fn departures(
        &self,
        keys: &[BoardKey],
        limit: u32,
    ) -> Result<Vec<Vec<Flight>>, StoreError> {
        let doing = "reading departures";
        let origins: Vec<&str> = keys.iter().map(|key| key.origin.as_str()).collect();
        let after: Vec<i64> = keys.iter().map(|key| key.after.0.into()).collect();
        let params: [&(dyn ToSql + Sync); 3] = [&origins, &after, &i64::from(limit)];
        let rows = self.client.query(&self.departures, &params).await.map_err(failed(doing))?;
        let mut boards = vec![Vec::new(); keys.len()];
        for row in &rows {
            let key_no: i64 = row.try_get(6).map_err(failed(doing))?;
            let board = usize::try_from(key_no - 1).ok().and_then(|idx| boards.get_mut(idx));
            let foreign = || StoreError::Decode { doing, value: key_no.to_string() };
            board.ok_or_else(foreign)?.push(flight(row, doing)?);
        }
        for board in &mut boards {
            // The server promises no order across the join, though it keeps the inner one.
            board.sort_by_key(|flight: &Flight| (flight.departed_at, flight.id));
        }
        Ok(boards)
    }

    /// Adds views in one statement, durable when it returns. A flight may stand in it repeatedly.
    ///
    /// # Errors
    /// As [`Store::flights`]. After a lost connection it is unknown whether they were added.
    pub async fn add_views(&self, views: &[(FlightId, u64)]) -> Result<(), StoreError> {
        let doing = "adding views";
        let mut columns = (Vec::new(), Vec::new());
        for (flight, n) in merged(views) {
            let too_many = |_| StoreError::Decode { doing, value: n.to_string() };
            columns.0.push(i64::from(flight.0));
            columns.1.push(i64::try_from(n).map_err(too_many)?);
        }
        let params: [&(dyn ToSql + Sync); 2] = [&columns.0, &columns.1];
        let added = self.client.execute(&self.add_views, &params).await;
        added.map(|_rows| ()).map_err(failed(doing))
    }

    /// Sums all counters.
    ///
    /// # Errors
    /// As [`Store::flights`].
    pub async fn views_total(&self) -> Result<u64, StoreError> {
        let doing = "summing views";
        let row = self.client.query_one(&self.views_total, &[]).await.map_err(failed(doing))?;
        unsigned(&row, 0, doing)
    }
}

fn failed(doing: &'static str) -> impl Fn(tokio_postgres::Error) -> StoreError {
    move |source| StoreError::Postgres { doing, source }
}

fn flight(row: &Row, doing: &'static str) -> Result<Flight, StoreError> {
    Ok(Flight {
        id: FlightId(unsigned(row, 0, doing)?),
        departed_at: LocalMinute(unsigned(row, 1, doing)?),
        delay_min: row.try_get(2).map_err(failed(doing))?,
        distance_mi: unsigned(row, 3, doing)?,
        origin: code(row, 4, doing)?,
        destination: code(row, 5, doing)?,
    })
}

fn airport(row: &Row, doing: &'static str) -> Result<Airport, StoreError> {
    let text = |column_idx: usize| -> Result<Box<str>, StoreError> {
        Ok(row.try_get::<_, &str>(column_idx).map_err(failed(doing))?.into())
    };
    Ok(Airport {
        iata: code(row, 0, doing)?,
        name: text(1)?,
        city: text(2)?,
        state: text(3)?,
        country: text(4)?,
        latitude: row.try_get(5).map_err(failed(doing))?,
        longitude: row.try_get(6).map_err(failed(doing))?,
    })
}

fn code(row: &Row, column_idx: usize, doing: &'static str) -> Result<Iata, StoreError> {
    let text: &str = row.try_get(column_idx).map_err(failed(doing))?;
    text.parse().map_err(|_no_code| StoreError::Decode { doing, value: text.to_owned() })
}

fn unsigned<N: TryFrom<i64>>(
    row: &Row,
    column_idx: usize,
    doing: &'static str,
) -> Result<N, StoreError> {
    let value: i64 = row.try_get(column_idx).map_err(failed(doing))?;
    N::try_from(value).map_err(|_outside| StoreError::Decode { doing, value: value.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::fixture;

    async fn connect(target: &Target) -> Client {
        let socket = tokio::net::TcpStream::connect((&*target.host, target.port)).await.unwrap();
        let raw = target.config.connect_raw(socket, tokio_postgres::NoTls).await;
        let (client, connection) = raw.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Runs `test` with a loaded store, or says that it was skipped.
    fn with_store<F: Future<Output = ()>>(test: impl FnOnce(Target, Tables, Store) -> F) {
        let Some(target) = fixture::postgres_target() else { return };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let tables = fixture::tables();
            let mut client = connect(&target).await;
            load(&mut client, &tables).await.unwrap();
            let store = Store::prepare(client, &schema(&tables)).await.unwrap();
            test(target, tables, store).await;
        });
    }

    #[test]
    fn every_row_comes_back_as_it_stands_in_the_files() {
        with_store(async |_target, tables, store| {
            let mut ids: Vec<_> = tables.flights().iter().map(|flight| flight.id).collect();
            ids.extend([FlightId(0), FlightId(1)]);
            let mut flights = store.flights(&ids).await.unwrap();
            flights.sort_by_key(|flight| flight.id);
            assert_eq!(flights, tables.flights());
            let codes: Vec<_> = tables.airports().map(|airport| airport.iata).collect();
            let mut airports = store.airports(&codes).await.unwrap();
            airports.sort_by_key(|airport| airport.iata);
            assert!(airports.iter().eq(tables.airports().map(|airport| &**airport)));
        });
    }

    #[test]
    fn departures_are_the_truths_for_every_key_of_a_batch() {
        with_store(async |_target, tables, store| {
            let of =
                |flight: &Flight| BoardKey { origin: flight.origin, after: flight.departed_at };
            let mut keys: Vec<_> = tables.flights().iter().step_by(97).map(of).collect();
            keys.push(keys[0]);
            keys.push(BoardKey { origin: "ZZZZ".parse().unwrap(), after: LocalMinute(0) });
            let boards = store.departures(&keys, 5).await.unwrap();
            assert_eq!(boards.len(), keys.len());
            for (key, board) in keys.iter().zip(&boards) {
                assert_eq!(board, tables.board(*key, 5), "{key:?}");
            }
        });
    }

    #[test]
    fn loading_twice_changes_nothing_and_views_add_up() {
        with_store(async |target, tables, store| {
            // Its own client, since the store has taken the other.
            load(&mut connect(&target).await, &tables).await.unwrap();
            let before = store.views_total().await.unwrap();
            store.add_views(&[(FlightId(3), 1), (FlightId(1), 2), (FlightId(3), 1)]).await.unwrap();
            store.add_views(&[(FlightId(3), 5)]).await.unwrap();
            assert_eq!(store.views_total().await.unwrap() - before, 9);
        });
    }

    #[test]
    fn a_cut_connection_is_told_from_a_refused_statement() {
        with_store(async |target, _tables, store| {
            let missing = Store::prepare(connect(&target).await, "no_such_schema").await;
            let refused = missing.err().unwrap();
            assert!(!refused.lost_connection(), "{refused}");
            assert!(refused.to_string().contains("no_such_schema"), "{refused}");
            let pid = store.client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap();
            let cut = "SELECT pg_terminate_backend($1)";
            let other = connect(&target).await;
            other.execute(cut, &[&pid.get::<_, i32>(0)]).await.unwrap();
            let lost = store.flights(&[FlightId(1)]).await.unwrap_err();
            assert!(lost.lost_connection(), "{lost}");
        });
    }

    #[test]
    fn a_target_needs_a_tcp_host() {
        let target = Target::parse("postgres://me@db.example:5433/units", Some("secret")).unwrap();
        assert_eq!((target.host.as_str(), target.port), ("db.example", 5_433));
        assert_eq!(Target::parse("postgres://me@[::1]/units", None).unwrap().port, 5_432);
        assert!(Target::parse("postgres:///units", None).is_err());
        assert!(Target::parse("postgres://me@host:port/units", None).is_err());
    }
}
