//! The calls of a request, and the three ways in which peers make them.
//!
//! An [`Op`] is what one call asks and how a batch of such calls is answered; a [`Method`] is the
//! library that brings calls together. Requests are written once, over both.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use forebay_workloads::units::data::{Airport, BoardKey, Flight, FlightId, Iata};

use super::downstream::{Downstream, Failure};
use super::tally::Fault;
use crate::workload_file::Stage;

/// Items of a batch where the file does not say; the most that ours take by default.
pub(super) const ITEMS_MAX: usize = 128;

/// One kind of call: its key, its value, and the batch function.
pub(super) trait Op: Clone + Send + Sync + 'static {
    type Key: Copy + Eq + Hash + Debug + Send + Sync + 'static;
    type Value: Clone + Send + Sync + 'static;

    /// Answers a batch: one value for each key, in order; `None` where there is none.
    fn answer(
        &self,
        keys: &[Self::Key],
    ) -> impl Future<Output = Result<Vec<Option<Self::Value>>, Failure>> + Send;
}

/// Makes calls of one kind.
pub(super) trait Caller<O: Op>: Send + Sync + 'static {
    fn call(&self, key: O::Key) -> impl Future<Output = Result<O::Value, CallError>> + Send;
}

/// A way to make calls.
pub(super) trait Method: Send + Sync + 'static {
    type Caller<O: Op>: Caller<O>;

    /// Makes the caller of one kind of call. Runs inside the runtime.
    fn caller<O: Op>(op: O, settings: &Stage) -> Self::Caller<O>;
}

/// Why a call has no value.
#[derive(Debug, Clone)]
pub(super) enum CallError {
    /// The downstream failed.
    Store(Failure),
    /// It answered, but not for this key.
    Missing,
    /// The library refused the call because its queue was full.
    Shed,
    /// The library failed otherwise.
    Library(&'static str),
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Store(_) => Self::Failed("store"),
            CallError::Missing => Self::Failed("missing"),
            CallError::Shed => Self::Shed,
            CallError::Library(kind) => Self::Failed(kind),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(failure) => write!(f, "{failure}"),
            Self::Missing => f.write_str("no value for the key"),
            Self::Shed => f.write_str("queue full"),
            Self::Library(kind) => f.write_str(kind),
        }
    }
}

/// Twice the key.
#[derive(Clone)]
pub(super) struct Lookups(pub(super) Downstream);

impl Op for Lookups {
    type Key = u64;
    type Value = u64;

    async fn answer(&self, keys: &[u64]) -> Result<Vec<Option<u64>>, Failure> {
        if let Downstream::None = self.0 {
            // The no-op downstream is the whole cost of a request: no detour through a map.
            return Ok(keys.iter().map(|key| Some(key * 2)).collect());
        }
        Ok(in_order(keys, self.0.lookups(keys).await?))
    }
}

/// Flights by id.
#[derive(Clone)]
pub(super) struct Flights(pub(super) Downstream);

impl Op for Flights {
    type Key = FlightId;
    type Value = Flight;

    async fn answer(&self, keys: &[FlightId]) -> Result<Vec<Option<Flight>>, Failure> {
        let rows = self.0.flights(keys).await?;
        Ok(in_order(keys, rows.into_iter().map(|flight| (flight.id, flight))))
    }
}

/// Airports by code.
#[derive(Clone)]
pub(super) struct Airports(pub(super) Downstream);

impl Op for Airports {
    type Key = Iata;
    type Value = Arc<Airport>;

    async fn answer(&self, keys: &[Iata]) -> Result<Vec<Option<Arc<Airport>>>, Failure> {
        let rows = self.0.airports(keys).await?;
        Ok(in_order(keys, rows.into_iter().map(|airport| (airport.iata, airport))))
    }
}

/// Next departures of an airport, at most so many.
#[derive(Clone)]
pub(super) struct Departures(pub(super) Downstream, pub(super) u32);

impl Op for Departures {
    type Key = BoardKey;
    type Value = Arc<[Flight]>;

    async fn answer(&self, keys: &[BoardKey]) -> Result<Vec<Option<Arc<[Flight]>>>, Failure> {
        Ok(in_order(keys, self.0.departures(keys, self.1).await?))
    }
}

/// Durable views of flights.
#[derive(Clone)]
pub(super) struct AddViews(pub(super) Downstream);

/// One view. Numbered, because a library that joins equal keys would lose all but one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct View {
    pub(super) flight: FlightId,
    pub(super) no: u64,
}

impl Op for AddViews {
    type Key = View;
    type Value = ();

    async fn answer(&self, keys: &[View]) -> Result<Vec<Option<()>>, Failure> {
        let flights: Vec<_> = keys.iter().map(|view| view.flight).collect();
        self.0.add_views(&flights).await?;
        Ok(vec![Some(()); keys.len()])
    }
}

/// Puts rows in the order of their keys, which may repeat.
fn in_order<K: Copy + Ord, V: Clone>(
    keys: &[K],
    rows: impl IntoIterator<Item = (K, V)>,
) -> Vec<Option<V>> {
    if let [key] = keys {
        let mut rows = rows.into_iter();
        return vec![rows.find_map(|(of, value)| (of == *key).then_some(value))];
    }
    let by_key: BTreeMap<K, V> = rows.into_iter().collect();
    keys.iter().map(|key| by_key.get(key).cloned()).collect()
}

/// No batching: every call goes to the pool by itself.
pub(super) struct Direct;

/// Makes each call by itself.
pub(super) struct DirectCaller<O>(O);

impl Method for Direct {
    type Caller<O: Op> = DirectCaller<O>;

    fn caller<O: Op>(op: O, _settings: &Stage) -> DirectCaller<O> {
        DirectCaller(op)
    }
}

impl<O: Op> Caller<O> for DirectCaller<O> {
    async fn call(&self, key: O::Key) -> Result<O::Value, CallError> {
        let mut values = self.0.answer(&[key]).await.map_err(CallError::Store)?;
        values.pop().flatten().ok_or(CallError::Missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_put_in_the_order_of_their_keys() {
        assert_eq!(
            in_order(&[3, 1, 3, 9], [(1, 'a'), (3, 'c')]),
            [Some('c'), Some('a'), Some('c'), None]
        );
        assert_eq!(in_order(&[3], [(1, 'a'), (3, 'c')]), [Some('c')]);
        assert_eq!(in_order(&[3], [(1, 'a')]), [None]);
    }
}
