//! PostgreSQL clients on tokio sockets, each lent to one caller at a time.

use std::sync::Arc;

use deadpool::unmanaged::{Object, Pool};
use forebay_workloads::units::StoreError;
use forebay_workloads::units::data::Tables;
use forebay_workloads::units::postgres::{Store, Target, load, schema};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls};

use super::downstream::setup;
use super::runtime::POOL_CONNECTIONS;
use crate::subject::CellError;

/// Connected clients with their statements prepared.
pub(super) struct PostgresPool {
    stores: Pool<Arc<Store>>,
}

impl PostgresPool {
    /// Connects, and loads the tables where the server does not hold them yet.
    pub(super) async fn connect(url: &str, tables: &Tables) -> Result<Self, CellError> {
        let password = std::env::var("PGPASSWORD").ok();
        let target = Target::parse(url, password.as_deref()).map_err(setup)?;
        let mut loader = connect(&target).await?;
        load(&mut loader, tables).await.map_err(setup)?;
        let schema = schema(tables);
        let mut stores = Vec::with_capacity(POOL_CONNECTIONS);
        for _ in 0..POOL_CONNECTIONS {
            let client = connect(&target).await?;
            stores.push(Arc::new(Store::prepare(client, &schema).await.map_err(setup)?));
        }
        Ok(Self { stores: Pool::from(stores) })
    }

    /// Waits for a client of one's own; it goes back when it is dropped.
    pub(super) async fn lend(&self) -> Object<Arc<Store>> {
        self.stores.get().await.expect("the pool is open as long as a peer runs, without timeouts")
    }
}

async fn connect(target: &Target) -> Result<Client, CellError> {
    let place = format!("{}:{}", target.host, target.port);
    let socket = TcpStream::connect((&*target.host, target.port)).await;
    let socket = socket.map_err(|error| CellError::Setup(format!("{place}: {error}")))?;
    socket.set_nodelay(true).map_err(|error| CellError::Setup(format!("{place}: {error}")))?;
    let raw = target.config.connect_raw(socket, NoTls).await;
    let doing = "connecting";
    let (client, connection) =
        raw.map_err(|source| setup(StoreError::Postgres { doing, source }))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("warning: connection to {place} ended: {error}");
        }
    });
    Ok(client)
}
