//! Puts the echo service on an engine: a listener on every shard, all at one address.

use std::time::Duration;
use std::{fmt, io};

use forebay::net::{Address, Connection, ListenOptions, Listener};
use forebay::{Engine, RequestOptions};

use super::config::{Config, Protocol};
use super::service;

/// Why the service does not serve.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// This build is without the cargo feature that the service needs.
    LeftOut(&'static str),
    /// The address cannot be listened on.
    Listen(Address, io::Error),
    /// A shard does not answer.
    Shard(String),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeftOut(feature) => {
                write!(f, "this build is without the cargo feature `{feature}`")
            }
            Self::Listen(address, error) => {
                write!(f, "cannot listen on {address}: {error}")?;
                match address {
                    Address::Unix(path) if error.kind() == io::ErrorKind::AddrInUse => {
                        let path = path.display();
                        write!(f, "; if no server listens there any more, remove the file {path}")
                    }
                    _ => Ok(()),
                }
            }
            Self::Shard(why) => write!(f, "a shard does not answer: {why}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// Serves on every shard of the engine (on a path on the first alone) and tells the address, with
/// the port that the system chose where `address` has none. Returns when all shards accept.
///
/// # Errors
///
/// [`ServeError`]; nothing is undone, since the caller ends the engine.
pub fn serve(engine: &Engine, config: &Config, address: &Address) -> Result<Address, ServeError> {
    if let Some(feature) = config.left_out() {
        return Err(ServeError::LeftOut(feature));
    }
    let chosen = listen(engine, 0, config, address)?;
    let everywhere = match address {
        // The first shard's port is everybody's.
        Address::Tcp(_) => &chosen,
        Address::Passed(_) => address,
        // A path has no second listener.
        Address::Unix(_) => return Ok(chosen),
    };
    for shard_idx in 1..engine.handle().n_shards() {
        listen(engine, shard_idx, config, everywhere)?;
    }
    Ok(chosen)
}

fn listen(
    engine: &Engine,
    shard_idx: usize,
    config: &Config,
    address: &Address,
) -> Result<Address, ServeError> {
    let (protocol, busy_us) = (config.protocol, config.busy_us);
    let wanted = address.clone();
    let begin = move || async move {
        let listener = Listener::bind(&wanted, ListenOptions::default())?;
        let chosen = listener.address().clone();
        forebay::spawn_background(accept(listener, protocol)).detach();
        if let Some(busy_us) = busy_us {
            let busy = Duration::from_micros(busy_us.into());
            forebay::spawn_background(service::burn(busy)).detach();
        }
        Ok(chosen)
    };
    let reply = engine.handle().submit(shard_idx, RequestOptions::default(), begin);
    let reply = reply.map_err(|error| ServeError::Shard(error.to_string()))?;
    let bound: io::Result<Address> =
        reply.wait().map_err(|error| ServeError::Shard(error.to_string()))?;
    bound.map_err(|error| ServeError::Listen(address.clone(), error))
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
