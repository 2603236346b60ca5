//! Writes every key once, before anything is measured.

use std::net::SocketAddr;

use forebay::net::{Address, ConnectOptions, Connection};
use forebay_workloads::cacheproxy::operation::{Operation, Outcome};
use forebay_workloads::cacheproxy::wire::encode;

use super::client::Town;
use super::contents::{KeyIdx, Version};
use crate::subject::CellError;

/// Bytes of values that are sent before their replies are waited for: fewer than either side queues,
/// but for a single value that is longer.
const BATCH_BYTES: usize = 32 << 10;

/// Writes every key by a connection of its own, which is closed again.
pub(super) async fn run(town: &Town, address: SocketAddr) -> Result<(), CellError> {
    let failed = |why: String| CellError::Failed(format!("writing every key: {why}"));
    let connection = Connection::connect(&Address::Tcp(address), ConnectOptions::default())
        .await
        .map_err(|error| failed(error.to_string()))?;
    let mut keys = town.contents.all().peekable();
    while keys.peek().is_some() {
        let mut batch = Vec::new();
        let mut n_bytes = 0;
        while n_bytes < BATCH_BYTES
            && let Some(key) = keys.next()
        {
            let (version, operation) = town.set(key);
            n_bytes += town.contents.value(key, version).len();
            batch.push((key, version, operation));
        }
        write(town, &connection, &batch).await.map_err(failed)?;
    }
    Ok(())
}

/// Writes some keys and waits until all are acknowledged.
async fn write(
    town: &Town,
    connection: &Connection,
    batch: &[(KeyIdx, Version, Operation)],
) -> Result<(), String> {
    let mut out = Vec::new();
    let operations = batch.iter().map(|(_, _, operation)| operation);
    let mut replies = encode(town.dialect, operations, &mut out);
    connection.write(out).await.map_err(|error| error.to_string())?;
    while !replies.is_done() {
        let chunk = connection.read().await.map_err(|error| error.to_string())?;
        let chunk = chunk.ok_or("the server has closed the connection")?;
        let mut received = &chunk[..];
        while let Some((idx, outcome)) =
            replies.decode(&mut received).map_err(|wrong| wrong.to_string())?
        {
            let (key, version, operation) = &batch[idx];
            if !matches!(outcome, Outcome::Stored(_)) {
                return Err(format!("{outcome:?} to a set of {:?}", operation.key));
            }
            town.ledger.borrow_mut().acknowledge(*key, *version);
        }
    }
    Ok(())
}
