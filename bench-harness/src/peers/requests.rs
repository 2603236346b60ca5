//! The requests themselves, as a service on tokio would write them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_workloads::units::check::Card;
use forebay_workloads::units::config;
use forebay_workloads::units::data::{BoardKey, FlightId, Tables};
use forebay_workloads::units::keys::Keys;
use futures_lite::future::{yield_now, zip};

use super::calls::{
    AddViews, Airports, CallError, Caller, Departures, Flights, Lookups, Method, View,
};
use super::drive::Service;
use super::tally::{Fault, Reply};
use crate::clock::Clock;

/// Flight cards: a flight, its two airports, and what else the file asks for.
pub(super) struct Cards<M: Method> {
    pub(super) tables: Arc<Tables>,
    pub(super) flights: M::Caller<Flights>,
    pub(super) airports: M::Caller<Airports>,
    pub(super) departures: Option<(M::Caller<Departures>, u32)>,
    pub(super) views: Option<M::Caller<AddViews>>,
    /// Numbers the views.
    pub(super) views_asked: AtomicU64,
    /// Views that were reported as counted.
    pub(super) views_counted: AtomicU64,
}

impl<M: Method> Cards<M> {
    async fn count_view(&self, flight: FlightId) -> Result<(), CallError> {
        let Some(views) = &self.views else { return Ok(()) };
        let no = self.views_asked.fetch_add(1, Ordering::Relaxed);
        views.call(View { flight, no }).await?;
        self.views_counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn list_departures(
        &self,
        key: BoardKey,
    ) -> Result<Arc<[forebay_workloads::units::data::Flight]>, CallError> {
        match &self.departures {
            Some((departures, _limit)) => departures.call(key).await,
            None => Ok(Arc::from([])),
        }
    }
}

impl<M: Method> Service for Cards<M> {
    async fn request(&self, keys: &mut Keys) -> Reply {
        let asked = keys.flight(&self.tables);
        let flight = self.flights.call(asked).await?;
        let after = BoardKey { origin: flight.origin, after: flight.departed_at };
        let airports =
            zip(self.airports.call(flight.origin), self.airports.call(flight.destination));
        let rest = zip(self.list_departures(after), self.count_view(asked));
        let ((origin, destination), (departures, viewed)) = zip(airports, rest).await;
        let (origin, destination, departures) = (origin?, destination?, departures?);
        viewed?;
        let card = Card {
            flight: &flight,
            origin: &origin,
            destination: &destination,
            departures: &departures,
        };
        let limit = self.departures.as_ref().map_or(0, |(_departures, limit)| *limit);
        let checked = card.verify(&self.tables, asked, limit);
        checked.map_err(|mismatch| Fault::Wrong(mismatch.to_string()))
    }
}

/// One call of one stage; the reply is twice the key.
pub(super) struct LookupRequests<M: Method> {
    pub(super) lookups: M::Caller<Lookups>,
    pub(super) n_keys: u64,
}

impl<M: Method> LookupRequests<M> {
    async fn look_up(&self, key: u64) -> Reply {
        let value = self.lookups.call(key).await?;
        if value == key * 2 {
            Ok(())
        } else {
            Err(Fault::Wrong(format!("twice {key} is not {value}")))
        }
    }
}

impl<M: Method> Service for LookupRequests<M> {
    async fn request(&self, keys: &mut Keys) -> Reply {
        let key = keys.draw(self.n_keys);
        self.look_up(key).await
    }
}

/// Lookups of which a share burns CPU, politely.
pub(super) struct BurnerRequests<M: Method> {
    pub(super) lookups: LookupRequests<M>,
    pub(super) config: config::Burner,
}

impl<M: Method> Service for BurnerRequests<M> {
    async fn request(&self, keys: &mut Keys) -> Reply {
        if keys.draw(100) < u64::from(self.config.share_percent) {
            self.burn().await;
        }
        self.lookups.request(keys).await
    }
}

impl<M: Method> BurnerRequests<M> {
    /// Burns slice by slice; time spent waiting for its turn does not count as burnt.
    async fn burn(&self) {
        let mut left_us = self.config.burn_us;
        while left_us > 0 {
            let slice_us = self.config.slice_us.min(left_us);
            let slice = Clock::start();
            while slice.now_ns() < slice_us * 1_000 {
                std::hint::spin_loop();
            }
            left_us -= slice_us;
            yield_now().await;
        }
    }
}

/// Whole trees of requests that wait for their dependencies.
pub(super) struct TreeRequests {
    config: config::Tree,
    expected: u64,
}

impl TreeRequests {
    pub(super) fn new(config: &config::Tree) -> Self {
        let expected = config.requests().expect("the file's check bounds the tree");
        Self { config: config.clone(), expected }
    }
}

impl Service for TreeRequests {
    async fn request(&self, _keys: &mut Keys) -> Reply {
        let wait = Duration::from_micros(self.config.wait_us);
        match node(self.config.fan_out, self.config.layers_below_root, wait).await {
            Some(seen) if seen == self.expected => Ok(()),
            Some(seen) => {
                Err(Fault::Wrong(format!("{seen} requests ran instead of {}", self.expected)))
            }
            None => Err(Fault::Failed("panic")),
        }
    }
}

/// Runs one request of the tree: all its dependencies as tasks, then its own wait. Returns how many
/// requests ran, `None` when one panicked.
fn node(
    fan_out: u32,
    layers_below: u32,
    wait: Duration,
) -> Pin<Box<dyn Future<Output = Option<u64>> + Send>> {
    Box::pin(async move {
        let mut seen = 1;
        if layers_below > 0 {
            let dependency = |_| tokio::spawn(node(fan_out, layers_below - 1, wait));
            let dependencies: Vec<_> = (0..fan_out).map(dependency).collect();
            for dependency in dependencies {
                seen += dependency.await.ok()??;
            }
        }
        tokio::time::sleep(wait).await;
        Some(seen)
    })
}

/// Asks nothing.
pub(super) struct NoRequests;

impl Service for NoRequests {
    async fn request(&self, _keys: &mut Keys) -> Reply {
        Ok(())
    }
}
