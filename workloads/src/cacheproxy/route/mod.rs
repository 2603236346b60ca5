//! Which downstream server a key belongs to: the same one for everybody who is told the same servers.
//!
//! Rendezvous hashing is the default: it follows the weights exactly, needs one hash of the key and
//! one multiplication for each server, and moves no key between servers that stay. Ketama is there
//! for caches that are already filled, or also reached, by clients that use it: it places keys as
//! libmemcached and twemproxy do, to the byte.

mod ketama;
mod rendezvous;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How keys are spread over servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// The server that scores highest for the key.
    #[default]
    Rendezvous,
    /// The first of 160 points a server on a ring of MD5 hashes, as twemproxy has it with
    /// `hash: md5`, `distribution: ketama`.
    Ketama,
}

/// A server, as a route tells it from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighted {
    /// What its keys are found by: as long as it stays, they stay.
    pub name: String,
    /// Its part of the keys, relative to the others.
    pub weight: NonZeroU32,
}

/// One of the servers of a route, by its place in the list that the route was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerIdx(pub usize);

/// Key → server. Pure, and the same on every machine and in every version.
#[derive(Debug, Clone)]
pub struct Route(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// The only one.
    One,
    Rendezvous(rendezvous::Rendezvous),
    Ketama(ketama::Ketama),
}

impl Route {
    /// A route over these servers.
    ///
    /// # Panics
    ///
    /// If there are none.
    #[must_use]
    pub fn new(servers: &[Weighted], kind: RouteKind) -> Self {
        assert!(!servers.is_empty(), "a route leads to at least one server");
        Self(match kind {
            _ if servers.len() == 1 => Kind::One,
            RouteKind::Rendezvous => Kind::Rendezvous(rendezvous::Rendezvous::new(servers)),
            RouteKind::Ketama => Kind::Ketama(ketama::Ketama::new(servers)),
        })
    }

    /// The server of a key.
    #[must_use]
    pub fn server(&self, key: &[u8]) -> ServerIdx {
        match &self.0 {
            Kind::One => ServerIdx(0),
            Kind::Rendezvous(rendezvous) => rendezvous.server(key),
            Kind::Ketama(ketama) => ketama.server(key),
        }
    }
}
