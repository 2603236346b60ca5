//! One address, a listener on every shard: what every service of this crate that listens does.
//!
//! The kernel spreads connections over the shards' listeners. The first shard's port is everybody's,
//! and so is a socket that was passed; the path of a Unix socket has no second listener, so one shard
//! serves it.

use std::{fmt, io};

use forebay::net::{Address, ListenOptions, Listener};
use forebay::{Engine, RequestOptions};

/// Why a service does not serve.
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

/// Listens on every shard of the engine (on a path on the first alone), has `begin` called
/// there with the listener, and tells the address, with the port that the system chose where
/// `address` has none. Returns when all shards listen.
///
/// # Errors
///
/// [`ServeError`]; nothing is undone, since the caller ends the engine.
pub fn on_every_shard(
    engine: &Engine,
    address: &Address,
    options: ListenOptions,
    begin: impl Fn(Listener) + Clone + Send + 'static,
) -> Result<Address, ServeError> {
    let chosen = on_shard(engine, 0, address, options, begin.clone())?;
    let everywhere = match address {
        Address::Tcp(_) => &chosen,
        Address::Passed(_) => address,
        Address::Unix(_) => return Ok(chosen),
    };
    for shard_idx in 1..engine.handle().n_shards() {
        on_shard(engine, shard_idx, everywhere, options, begin.clone())?;
    }
    Ok(chosen)
}

fn on_shard(
    engine: &Engine,
    shard_idx: usize,
    address: &Address,
    options: ListenOptions,
    begin: impl Fn(Listener) + Send + 'static,
) -> Result<Address, ServeError> {
    let wanted = address.clone();
    let listen = move || async move {
        let listener = Listener::bind(&wanted, options)?;
        let chosen = listener.address().clone();
        begin(listener);
        Ok(chosen)
    };
    let reply = engine.handle().submit(shard_idx, RequestOptions::default(), listen);
    let reply = reply.map_err(|error| ServeError::Shard(error.to_string()))?;
    let bound: io::Result<Address> =
        reply.wait().map_err(|error| ServeError::Shard(error.to_string()))?;
    bound.map_err(|error| ServeError::Listen(address.clone(), error))
}
