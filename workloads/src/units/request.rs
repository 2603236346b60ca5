//! What clients ask: each request as straight-line async code over the stages.
//!
//! Every request checks its own reply. Nothing here knows of batches, shards or other requests:
//! a call is awaited like any function, and the engine brings equal moments together.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use forebay::{CallError, RequestError, StageRef, join, try_join};

use super::check::{Card, Mismatch};
use super::config::{self, OwnedBy};
use super::data::{BoardKey, Flight, FlightId, Tables};
use super::error::StoreError;
use super::keys::Keys;
use super::stages::{Airports, Departures, Flights, Lookup, NextDepartures, Views};
use crate::burning::burn;

/// A service on one shard: each shard has its own copy.
pub trait Service: Clone + Send + 'static {
    /// Makes one request, drawn from `keys`, and checks its reply.
    fn request(&self, keys: &mut Keys) -> impl Future<Output = Result<(), Fault>>;

    /// Views that were acknowledged to requests of this shard.
    fn views_counted(&self) -> u64 {
        0
    }
}

/// Why a request has no right reply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The reply is wrong, in words.
    Wrong(String),
    /// A call or a part of the request failed; the kind of failure.
    Failed(&'static str),
    /// The deadline passed.
    TimedOut,
    /// A stage on the way was full.
    Shed,
}

impl From<CallError<StoreError>> for Fault {
    fn from(error: CallError<StoreError>) -> Self {
        match error {
            CallError::Item(_) => Self::Failed("item"),
            CallError::Batch(_) => Self::Failed("batch"),
            CallError::Missing => Self::Failed("missing"),
            CallError::Expired(_) => Self::TimedOut,
            CallError::Shed(_) => Self::Shed,
            CallError::Panicked => Self::Failed("panicked"),
            CallError::PeerGone(_) => Self::Failed("peer_gone"),
            CallError::Cycle { .. } => Self::Failed("cycle"),
            CallError::Closed(_) => Self::Failed("closed"),
            _ => Self::Failed("other"),
        }
    }
}

impl From<RequestError> for Fault {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Expired => Self::TimedOut,
            RequestError::Shed => Self::Shed,
            RequestError::Panicked => Self::Failed("panicked"),
            RequestError::Cancelled => Self::Failed("cancelled"),
            RequestError::PeerGone => Self::Failed("peer_gone"),
            RequestError::Closed => Self::Failed("closed"),
            _ => Self::Failed("other"),
        }
    }
}

impl From<Mismatch> for Fault {
    fn from(mismatch: Mismatch) -> Self {
        Self::Wrong(mismatch.to_string())
    }
}

/// Flight cards: a flight, its two airports, and what the file asks for besides.
#[derive(Clone)]
pub struct Cards {
    pub(super) tables: Arc<Tables>,
    pub(super) flights: StageRef<Flights>,
    pub(super) airports: StageRef<Airports>,
    pub(super) departures: Option<StageRef<Departures>>,
    /// How many departures a card lists.
    pub(super) limit: u32,
    pub(super) views: Option<StageRef<Views>>,
    pub(super) views_counted: Cell<u64>,
}

impl fmt::Debug for Cards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cards({} departures, views: {})", self.limit, self.views.is_some())
    }
}

impl Service for Cards {
    async fn request(&self, keys: &mut Keys) -> Result<(), Fault> {
        let asked = keys.flight(&self.tables);
        let flight = self.flights.call(asked).await?;

        let airports =
            try_join(self.airports.call(flight.origin), self.airports.call(flight.destination));
        let (airports, departures, counted) =
            join3(airports, self.list_departures(&flight), self.count_view(asked)).await;
        let ((origin, destination), departures) = (airports?, departures?);
        counted?;

        let card = Card {
            flight: &flight,
            origin: &origin,
            destination: &destination,
            departures: &departures,
        };
        card.verify(&self.tables, asked, self.limit)?;
        Ok(())
    }

    fn views_counted(&self) -> u64 {
        self.views_counted.get()
    }
}

impl Cards {
    /// The next flights out of the same airport, where the card lists them.
    async fn list_departures(&self, flight: &Flight) -> Result<Arc<[Flight]>, Fault> {
        let Some(departures) = self.departures else { return Ok(Arc::from([])) };
        let after = BoardKey { origin: flight.origin, after: flight.departed_at };
        Ok(departures.call(NextDepartures { after, limit: self.limit }).await?)
    }

    /// One more durable view of this flight, where views are counted.
    async fn count_view(&self, asked: FlightId) -> Result<(), Fault> {
        let Some(views) = self.views else { return Ok(()) };
        views.call(asked).await?;
        self.views_counted.set(self.views_counted.get() + 1);
        Ok(())
    }
}

async fn join3<A, B, C>(
    a: impl Future<Output = A>,
    b: impl Future<Output = B>,
    c: impl Future<Output = C>,
) -> (A, B, C) {
    let (a, (b, c)) = join(a, join(b, c)).await;
    (a, b, c)
}

/// One call of one stage; the reply is twice the key.
#[derive(Clone, Debug)]
pub struct Lookups {
    pub(super) lookup: StageRef<Lookup>,
    pub(super) n_keys: u64,
    pub(super) owned_by: OwnedBy,
    /// Keys that other shards own, found when this shard first draws.
    pub(super) others: OnceCell<Box<[u64]>>,
}

impl Service for Lookups {
    async fn request(&self, keys: &mut Keys) -> Result<(), Fault> {
        let key = self.draw(keys);
        let value = self.lookup.call(key).await?;
        if value == key * 2 {
            Ok(())
        } else {
            Err(Fault::Wrong(format!("twice {key} is not {value}")))
        }
    }
}

impl Lookups {
    fn draw(&self, keys: &mut Keys) -> u64 {
        match self.owned_by {
            OwnedBy::Any => keys.draw(self.n_keys),
            OwnedBy::OtherShard => {
                // `Units::declare` has seen that there is another shard, and keys enough for it.
                let others = self.others.get_or_init(|| self.keys_of_others());
                let n_others = u64::try_from(others.len()).expect("a length fits 64 bits");
                others[usize::try_from(keys.draw(n_others)).expect("an index below a length")]
            }
        }
    }

    fn keys_of_others(&self) -> Box<[u64]> {
        let here = forebay::this_shard();
        (0..self.n_keys).filter(|key| self.lookup.owner(key) != here).collect()
    }
}

/// Lookups of which a share burns CPU first, politely.
#[derive(Clone, Debug)]
pub struct Burners {
    pub(super) lookups: Lookups,
    pub(super) config: config::Burner,
}

impl Service for Burners {
    async fn request(&self, keys: &mut Keys) -> Result<(), Fault> {
        if keys.draw(100) < u64::from(self.config.share_percent) {
            let us = Duration::from_micros;
            burn(us(self.config.burn_us), us(self.config.slice_us)).await;
        }
        self.lookups.request(keys).await
    }
}

/// Asks nothing.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Service for Nothing {
    async fn request(&self, _: &mut Keys) -> Result<(), Fault> {
        Ok(())
    }
}
