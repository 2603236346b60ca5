//! The downstream calls of a flight card, and the one of a lookup, each made in batches.
//!
//! Every batch function is the same three steps: which keys are asked, one call for all of them,
//! every row to whoever asked for it. What a downstream has no row for, the engine settles as
//! `Missing`. The data never changes while a run lasts, so reads may also share what is in flight.

use std::rc::Rc;
use std::sync::Arc;

use forebay::{Batch, Kind, Stage};

use super::data::{Airport, BoardKey, Flight, FlightId, Iata};
use super::downstream::Downstream;
use super::error::StoreError;

/// Flights by id.
#[derive(Debug)]
pub struct Flights {
    pub(super) downstream: Rc<Downstream>,
}

impl Stage for Flights {
    type Item = FlightId;
    type Key = FlightId;
    type Class = ();
    type Value = Flight;
    type Error = StoreError;
    const KIND: Kind = Kind::TouchedRead;

    fn key(id: &FlightId) -> FlightId {
        *id
    }

    fn class(_: &FlightId) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), StoreError> {
        let by_key = batch.by_key();
        let ids = by_key.keys().copied().collect();
        for (id, flight) in self.downstream.flights(ids).await? {
            by_key.settle(&id, flight);
        }
        Ok(())
    }
}

/// Airports by code.
#[derive(Debug)]
pub struct Airports {
    pub(super) downstream: Rc<Downstream>,
}

impl Stage for Airports {
    type Item = Iata;
    type Key = Iata;
    type Class = ();
    type Value = Arc<Airport>;
    type Error = StoreError;
    const KIND: Kind = Kind::TouchedRead;

    fn key(code: &Iata) -> Iata {
        *code
    }

    fn class(_: &Iata) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), StoreError> {
        let by_key = batch.by_key();
        let codes = by_key.keys().copied().collect();
        for (code, airport) in self.downstream.airports(codes).await? {
            by_key.settle(&code, airport);
        }
        Ok(())
    }
}

/// The next departures of an airport. How many is the class: one statement asks for all keys of
/// a batch, and it has one limit.
#[derive(Debug)]
pub struct Departures {
    pub(super) downstream: Rc<Downstream>,
}

/// What one call of [`Departures`] asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextDepartures {
    /// From where and after when.
    pub after: BoardKey,
    /// How many at most.
    pub limit: u32,
}

impl Stage for Departures {
    type Item = NextDepartures;
    type Key = NextDepartures;
    type Class = u32;
    type Value = Arc<[Flight]>;
    type Error = StoreError;
    const KIND: Kind = Kind::TouchedRead;

    fn key(asked: &NextDepartures) -> NextDepartures {
        *asked
    }

    fn class(asked: &NextDepartures) -> u32 {
        asked.limit
    }

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), StoreError> {
        let limit = *batch.class();
        let by_key = batch.by_key();
        let keys = by_key.keys().map(|asked| asked.after).collect();
        for (after, flights) in self.downstream.departures(keys, limit).await? {
            by_key.settle(&NextDepartures { after, limit }, flights);
        }
        Ok(())
    }
}

/// Durable view counters: the one write. Every view is an item; equal flights become one row.
#[derive(Debug)]
pub struct Views {
    pub(super) downstream: Rc<Downstream>,
}

impl Stage for Views {
    type Item = FlightId;
    type Key = FlightId;
    type Class = ();
    type Value = ();
    type Error = StoreError;

    fn key(id: &FlightId) -> FlightId {
        *id
    }

    fn class(_: &FlightId) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), StoreError> {
        let viewed = batch.items().map(|item| (*item.item(), 1)).collect();
        let failed = self.downstream.add_views(viewed).await?;
        for (item_idx, item) in batch.items().enumerate() {
            let lost = failed.binary_search(&item_idx).is_ok();
            item.settle(if lost { Err(StoreError::Simulated) } else { Ok(()) });
        }
        Ok(())
    }
}

/// Twice the key: a call whose cost is the engine's own.
#[derive(Debug)]
pub struct Lookup {
    pub(super) downstream: Rc<Downstream>,
}

impl Stage for Lookup {
    type Item = u64;
    type Key = u64;
    type Class = ();
    type Value = u64;
    type Error = StoreError;
    const KIND: Kind = Kind::TouchedRead;

    fn key(key: &u64) -> u64 {
        *key
    }

    fn class(_: &u64) {}

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), StoreError> {
        let failed = self.downstream.pass(batch.len()).await?;
        for (item_idx, item) in batch.items().enumerate() {
            let lost = failed.binary_search(&item_idx).is_ok();
            item.settle(if lost { Err(StoreError::Simulated) } else { Ok(item.item() * 2) });
        }
        Ok(())
    }
}
