//! A PostgreSQL connection for a bridge's thread: connects when needed, and again when it is lost.
//!
//! tokio-postgres is async, a bridge's thread blocks: each thread has a current-thread tokio
//! runtime and turns it for as long as one call takes. When shards have sockets of their own the
//! client moves onto the shard and this file goes.
//!
//! ```text
//!   Down ── a call, back-off over ──▶ connect ──▶ Up ── connection lost ──▶ Down
//!    ▲                                  │ fails: back-off doubles, up to BACKOFF_MAX
//!    └──────────────────────────────────┘
//! ```
//!
//! While the back-off lasts, calls fail at once: a server that is gone costs its callers an error
//! and not their time. The call on which a connection breaks fails too, and is not made again: a
//! write may have been done.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use super::error::StoreError;
use super::postgres::{Store, Target};

/// Connections, and threads, of each shard: so many batches it has in flight at most.
pub(super) const CONNECTIONS: usize = 4;
/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long one call may take; the connection is given up then.
const CALL_MAX: Duration = Duration::from_secs(5);
/// Pause after the first failure to connect; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// The longest pause between two attempts to connect.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// One connection to the server, or the wish for one.
pub(super) struct PostgresClient {
    target: Target,
    schema: String,
    // Dropped before the runtime that drives its connection.
    store: Option<Store>,
    runtime: Runtime,
    backoff: Duration,
    retry_at: Option<Instant>,
}

impl PostgresClient {
    pub(super) fn new(target: &Target, schema: &str) -> Result<Self, StoreError> {
        let (target, schema) = (target.clone(), schema.to_owned());
        let runtime = runtime()?;
        Ok(Self { target, schema, store: None, runtime, backoff: BACKOFF_MIN, retry_at: None })
    }

    /// Makes one call, connecting first where there is no connection.
    pub(super) fn run<T>(
        &mut self,
        call: impl AsyncFnOnce(&Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let store = match self.store.take() {
            Some(store) => store,
            None => self.connect()?,
        };
        let answer = self.runtime.block_on(async {
            let timed = tokio::time::timeout(CALL_MAX, call(&store)).await;
            timed.unwrap_or_else(|_elapsed| Err(no_connection(format!("silent for {CALL_MAX:?}"))))
        });
        let lost = answer.as_ref().err().is_some_and(StoreError::lost_connection);
        if !lost {
            self.store = Some(store);
        }
        answer
    }

    fn connect(&mut self) -> Result<Store, StoreError> {
        let wait = self.retry_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now()));
        if !wait.is_zero() {
            return Err(no_connection(format!("not tried again for {wait:?}")));
        }
        let connected = self.runtime.block_on(async {
            let client = connect(&self.target).await?;
            Store::prepare(client, &self.schema).await
        });
        match connected {
            Ok(_) => {
                self.backoff = BACKOFF_MIN;
                self.retry_at = None;
            }
            Err(_) => {
                self.retry_at = Some(now() + self.backoff);
                self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
            }
        }
        connected
    }
}

/// Loads the tables into the server where it does not hold them yet, and gives their schema.
pub(super) fn prepare(target: &Target, tables: &super::data::Tables) -> Result<String, StoreError> {
    runtime()?.block_on(async {
        let mut client = connect(target).await?;
        super::postgres::load(&mut client, tables).await?;
        Ok(super::postgres::schema(tables))
    })
}

/// Sums the view counters, on a connection of its own.
pub(super) fn views_total(target: &Target, schema: &str) -> Result<u64, StoreError> {
    PostgresClient::new(target, schema)?.run(async |store| store.views_total().await)
}

fn runtime() -> Result<Runtime, StoreError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| no_connection(format!("tokio runtime: {error}")))
}

/// Connects on the current tokio runtime, which drives the connection from then on.
async fn connect(target: &Target) -> Result<Client, StoreError> {
    let place = format!("{}:{}", target.host, target.port);
    let at_place = |error: std::io::Error| no_connection(format!("{place}: {error}"));
    let socket = open_socket(target).map_err(at_place)?;
    let socket = tokio::net::TcpStream::from_std(socket).map_err(at_place)?;
    let handshake = tokio::time::timeout(CONNECT_MAX, target.config.connect_raw(socket, NoTls));
    let Ok(connected) = handshake.await else {
        return Err(no_connection(format!("{place}: silent for {CONNECT_MAX:?}")));
    };
    let doing = "connecting";
    let (client, connection) =
        connected.map_err(|source| StoreError::Postgres { doing, source })?;
    // Its end shows in the next call, with the reason.
    tokio::spawn(connection);
    Ok(client)
}

fn open_socket(target: &Target) -> std::io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = (&*target.host, target.port).to_socket_addrs()?.collect();
    let no_address = std::io::Error::new(std::io::ErrorKind::NotFound, "no address");
    let mut opened = Err(no_address);
    for address in addresses {
        opened = TcpStream::connect_timeout(&address, CONNECT_MAX);
        if opened.is_ok() {
            break;
        }
    }
    let socket = opened?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn no_connection(why: String) -> StoreError {
    StoreError::NoConnection { why }
}

#[expect(clippy::disallowed_methods, reason = "a bridge's thread is no shard and has its own time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::data::FlightId;
    use crate::units::fixture;

    /// Ends every connection of this name but the one that asks.
    fn terminate(target: &Target, name: &str) {
        runtime().unwrap().block_on(async {
            let client = connect(target).await.unwrap();
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE application_name = $1 AND pid <> pg_backend_pid()";
            let ended = client.query(end, &[&name]).await.unwrap();
            assert_eq!(ended.len(), 1);
        });
    }

    fn count(client: &mut PostgresClient) -> Result<usize, StoreError> {
        let ids = [FlightId(1), FlightId(2)];
        client.run(async |store| Ok(store.flights(&ids).await?.len()))
    }

    #[test]
    fn a_lost_connection_fails_one_call_and_the_next_has_a_new_one() {
        let Some(mut target) = fixture::postgres_target() else { return };
        let schema = prepare(&target, &fixture::tables()).unwrap();
        let name = format!("lost-{}", std::process::id());
        let asker = target.clone();
        target.config.application_name(&name);
        let mut client = PostgresClient::new(&target, &schema).unwrap();
        assert_eq!(count(&mut client).unwrap(), 2);
        terminate(&asker, &name);
        assert!(count(&mut client).unwrap_err().lost_connection());
        assert_eq!(count(&mut client).unwrap(), 2);
    }

    #[test]
    fn while_the_back_off_lasts_calls_fail_without_trying() {
        // A port that was free a moment ago and that nobody listens on.
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let url = format!("postgres://nobody@127.0.0.1:{port}/none");
        let target = Target::parse(&url, None).unwrap();
        let mut client = PostgresClient::new(&target, "none").unwrap();
        // Long enough for the test not to outlast it.
        client.backoff = Duration::from_secs(60);
        let refused = count(&mut client).unwrap_err();
        assert!(
            refused.lost_connection() && refused.to_string().contains("127.0.0.1"),
            "{refused}"
        );
        let untried = count(&mut client).unwrap_err().to_string();
        assert!(untried.contains("not tried again"), "{untried}");
        assert_eq!(client.backoff, BACKOFF_MAX);
    }
}
