//! Puts the echo service on an engine: a listener on every shard, all at one address.

use std::time::Duration;

use forebay::Engine;
use forebay::net::{Address, Connection, ListenOptions, Listener};

use super::config::{Config, Protocol};
use super::service;
use crate::listening::{self, ServeError};

/// Serves on every shard of the engine (on a path on the first alone) and tells the address,
/// with the port that the system chose where `address` has none. Returns when all shards accept.
///
/// # Errors
///
/// [`ServeError`]; nothing is undone, since the caller ends the engine.
pub fn serve(engine: &Engine, config: &Config, address: &Address) -> Result<Address, ServeError> {
    if let Some(feature) = config.left_out() {
        return Err(ServeError::LeftOut(feature));
    }
    let (protocol, busy_us) = (config.protocol, config.busy_us);
    listening::on_every_shard(engine, address, ListenOptions::default(), move |listener| {
        forebay::spawn_background(accept(listener, protocol)).detach();
        if let Some(busy_us) = busy_us {
            let busy = Duration::from_micros(busy_us.into());
            forebay::spawn_background(service::burn_for_ever(busy)).detach();
        }
    })
}

/// Gives every connection a task of its own, until the engine stops.
async fn accept(listener: Listener, protocol: Protocol) {
    while let Ok(connection) = listener.accept().await {
        match protocol {
            Protocol::Bytes(bytes) if bytes.is_faulty() => {
                start(connection, |connection| service::echo_wrongly(connection, bytes));
            }
            Protocol::Bytes(_) => start(connection, service::echo),
            #[cfg(feature = "http")]
            Protocol::Http => start(connection, super::http::page),
            #[cfg(not(feature = "http"))]
            Protocol::Http => unreachable!("refused before the first listener was bound"),
        }
    }
}

fn start<F>(connection: Connection, serve: impl FnOnce(Connection) -> F)
where
    F: Future<Output = ()> + 'static,
{
    forebay::spawn_background(serve(connection)).detach();
}
