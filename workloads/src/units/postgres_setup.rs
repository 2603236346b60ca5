//! PostgreSQL before and after a run, on an ordinary thread: finding the server, loading the tables,
//! reading the counters back. It blocks, on a small tokio runtime of its own.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::data::Tables;
use super::error::StoreError;
use super::postgres::{self, Store, Target};

/// How long connecting may take.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(2);

/// A server that has the tables, for shards to connect to.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) target: Target,
    /// Looked up once: a shard must not block on a name server.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) schema: String,
    /// Views that earlier runs have left there.
    pub(super) views_before: u64,
}

/// Finds the server, and loads the tables into it where it does not hold them yet.
pub(super) fn prepare(target: &Target, tables: &Tables) -> Result<Server, StoreError> {
    let place = target.place();
    let found = (&*target.host, target.port).to_socket_addrs();
    let addresses = found.map_err(|error| no_connection(format!("{place}: {error}")))?.collect();
    let (target, schema) = (target.clone(), postgres::schema(tables));
    let mut server = Server { target, addresses, schema, views_before: 0 };
    block_on(async { postgres::load(&mut connect(&server).await?, tables).await })?;
    server.views_before = views_added(&server)?;
    Ok(server)
}

/// Sums the views that were added since the server was prepared.
pub(super) fn views_added(server: &Server) -> Result<u64, StoreError> {
    let total = block_on(async {
        let client = connect(server).await?;
        Store::prepare(client, &server.schema).await?.views_total().await
    });
    Ok(total?.saturating_sub(server.views_before))
}

pub(super) fn block_on<T>(
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| no_connection(format!("tokio runtime: {error}")))?.block_on(work)
}

/// Connects on the current tokio runtime, which drives the connection from then on.
pub(super) async fn connect(server: &Server) -> Result<Client, StoreError> {
    let place = server.target.place();
    let at_place = |error: std::io::Error| no_connection(format!("{place}: {error}"));
    let socket = open_socket(&server.addresses).map_err(at_place)?;
    let socket = tokio::net::TcpStream::from_std(socket).map_err(at_place)?;
    let handshake = server.target.config.connect_raw(socket, NoTls);
    let Ok(connected) = tokio::time::timeout(CONNECT_MAX, handshake).await else {
        return Err(no_connection(format!("{place}: silent for {CONNECT_MAX:?}")));
    };
    let doing = "connecting";
    let (client, connection) =
        connected.map_err(|source| StoreError::Postgres { doing, source })?;
    // Its end shows in the next call, with the reason.
    tokio::spawn(connection);
    Ok(client)
}

fn open_socket(addresses: &[SocketAddr]) -> std::io::Result<TcpStream> {
    let mut opened = Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no address"));
    for address in addresses {
        opened = TcpStream::connect_timeout(address, CONNECT_MAX);
        if opened.is_ok() {
            break;
        }
    }
    let socket = opened?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

pub(super) fn no_connection(why: String) -> StoreError {
    StoreError::NoConnection { why }
}
