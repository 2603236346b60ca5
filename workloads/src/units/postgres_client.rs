//! The PostgreSQL connections of one shard: made when needed, kept, made again when lost.
//!
//! tokio-postgres runs on the shard itself, over the shard's own connection: no thread, no hop. A
//! batch has a connection for itself, so there are as many as batches in flight at once.
//!
//! ```text
//!   a batch ──▶ one that is idle ──────────▶ call ──▶ idle again
//!       └─ none ─▶ back-off over? connect ──▶  └─ lost: gone
//!                    │ fails: back-off doubles, up to BACKOFF_MAX
//! ```
//!
//! While the back-off lasts, calls fail at once: a server that is gone costs its callers an error
//! and not their time. The call on which a connection breaks fails too, and is not made again: a
//! write may have been done.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use forebay::net::{ConnectOptions, Connection, TokioIo};
use forebay::{Background, Time};
use futures_lite::future::or;
use tokio_postgres::NoTls;

use super::error::StoreError;
use super::postgres::Store;
use super::postgres_setup::{CONNECT_MAX, Server, no_connection};

/// Batches of one stage that a shard has in flight at most, unless the file says otherwise.
pub(super) const PERMITS: usize = 4;
/// Pause after the first failure to connect; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// The longest pause between two attempts to connect.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// One connection. Dropped, it is closed at once, whatever it was asked.
struct Link {
    store: Store,
    _driver: Background,
}

/// The connections of one shard to one server.
pub(super) struct Clients {
    server: Server,
    // Bounded by the batches in flight: a further one is made only when none is idle.
    idle: RefCell<Vec<Link>>,
    backoff: Cell<Duration>,
    retry_at: Cell<Time>,
}

impl Clients {
    pub(super) fn new(server: Server) -> Self {
        Self {
            server,
            idle: RefCell::default(),
            backoff: Cell::new(BACKOFF_MIN),
            retry_at: Cell::new(Time::ZERO),
        }
    }

    /// Makes one call, connecting first where no connection is idle. Dropped half-way, it gives its
    /// connection up.
    pub(super) async fn run<T>(
        &self,
        call: impl AsyncFnOnce(&Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = {
            let mut idle = self.idle.borrow_mut();
            // One that the server has closed meanwhile costs nobody a call.
            idle.retain(|link| !link.store.is_closed());
            idle.pop()
        };
        let link = match idle {
            Some(link) => link,
            None => self.connect().await?,
        };
        let answer = call(&link.store).await;
        if !answer.as_ref().err().is_some_and(StoreError::lost_connection) {
            self.idle.borrow_mut().push(link);
        }
        answer
    }

    async fn connect(&self) -> Result<Link, StoreError> {
        let wait = self.retry_at.get().since(forebay::now());
        if !wait.is_zero() {
            return Err(no_connection(format!("not tried again for {wait:?}")));
        }
        let silent = async {
            forebay::sleep(CONNECT_MAX).await;
            let place = self.server.target.place();
            Err(no_connection(format!("{place}: silent for {CONNECT_MAX:?}")))
        };
        let connected = or(self.shake_hands(), silent).await;
        match connected {
            Ok(_) => self.backoff.set(BACKOFF_MIN),
            // Attempts that began together count as one.
            Err(_) if forebay::now() >= self.retry_at.get() => {
                let backoff = self.backoff.get();
                self.retry_at.set(forebay::now().after(backoff));
                self.backoff.set((backoff * 2).min(BACKOFF_MAX));
            }
            Err(_) => {}
        }
        connected
    }

    async fn shake_hands(&self) -> Result<Link, StoreError> {
        let socket = self.open_socket().await?;
        let raw = self.server.target.config.connect_raw(socket, NoTls).await;
        let doing = "connecting";
        let (client, connection) = raw.map_err(|source| StoreError::Postgres { doing, source })?;
        let driver = forebay::spawn_background(async move {
            // Its end shows in the next call, with the reason.
            let _ended = connection.await;
        });
        let store = Store::prepare(client, &self.server.schema).await?;
        Ok(Link { store, _driver: driver })
    }

    async fn open_socket(&self) -> Result<TokioIo, StoreError> {
        let mut refused = "no address".to_owned();
        let n_addresses = u32::try_from(self.server.addresses.len()).unwrap_or(u32::MAX).max(1);
        // Half of the time for all of them, so that a handshake is left some.
        let within = CONNECT_MAX / n_addresses / 2;
        let options = ConnectOptions { within, ..ConnectOptions::default() };
        for address in &self.server.addresses {
            match Connection::connect(&(*address).into(), options).await {
                Ok(connection) => return Ok(TokioIo::new(connection)),
                Err(error) => refused = error.to_string(),
            }
        }
        Err(no_connection(format!("{}: {refused}", self.server.target.place())))
    }
}

#[cfg(test)]
mod tests {
    use forebay::{Builder, RequestOptions};

    use super::*;
    use crate::units::data::FlightId;
    use crate::units::fixture;
    use crate::units::postgres::Target;
    use crate::units::postgres_setup::{block_on, connect, prepare};

    /// Runs `test` as a request of a shard.
    fn on_shard<F: Future<Output = ()> + 'static>(
        server: Server,
        test: impl FnOnce(Clients) -> F + Send + 'static,
    ) {
        let mut builder = Builder::new();
        builder.quiet().shards(1);
        let engine = builder.start().unwrap();
        let running = move || test(Clients::new(server));
        let reply = engine.handle().submit(0, RequestOptions::default(), running).unwrap();
        reply.wait().unwrap();
        assert!(engine.stop(Duration::from_secs(1)).drained);
    }

    async fn count(clients: &Clients) -> Result<usize, StoreError> {
        let ids = [FlightId(1), FlightId(2)];
        clients.run(async |store| Ok(store.flights(&ids).await?.len())).await
    }

    /// Ends the one connection of this name.
    fn terminate(server: &Server, name: &str) -> Result<(), StoreError> {
        block_on(async {
            let client = connect(server).await?;
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE application_name = $1 AND pid <> pg_backend_pid()";
            assert_eq!(client.query(end, &[&name]).await.unwrap().len(), 1);
            Ok(())
        })
    }

    #[test]
    fn a_lost_connection_fails_one_call_and_the_next_has_a_new_one() {
        let Some(target) = fixture::postgres_target() else { return };
        let asker = prepare(&target, &fixture::tables()).unwrap();
        let name = format!("lost-{}", std::process::id());
        let mut server = asker.clone();
        server.target.config.application_name(&name);
        on_shard(server, move |clients| async move {
            assert_eq!(count(&clients).await.unwrap(), 2);
            assert_eq!(count(&clients).await.unwrap(), 2);
            // It blocks the shard, which has nothing else to do.
            let cut = async |store: &Store| {
                terminate(&asker, &name)?;
                Ok(store.flights(&[FlightId(1)]).await?.len())
            };
            assert!(clients.run(cut).await.unwrap_err().lost_connection());
            assert_eq!(count(&clients).await.unwrap(), 2);
            assert_eq!(clients.idle.borrow().len(), 1);
        });
    }

    #[test]
    fn while_the_back_off_lasts_calls_fail_without_trying() {
        // A port that was free a moment ago and that nobody listens on.
        let address = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let target = Target::parse(&format!("postgres://nobody@{address}/none"), None).unwrap();
        let server =
            Server { target, addresses: vec![address], schema: "none".to_owned(), views_before: 0 };
        on_shard(server, |clients| async move {
            // Long enough for the test not to outlast it.
            clients.backoff.set(Duration::from_secs(60));
            let refused = count(&clients).await.unwrap_err();
            assert!(
                refused.lost_connection() && refused.to_string().contains("127.0.0.1"),
                "{refused}"
            );
            let untried = count(&clients).await.unwrap_err().to_string();
            assert!(untried.contains("not tried again"), "{untried}");
            assert_eq!(clients.backoff.get(), BACKOFF_MAX);
        });
    }
}
