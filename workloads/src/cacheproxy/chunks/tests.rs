//! Goal: a value of any size is what some client wrote, whole, or a miss; and whoever asks cannot tell
//! this tier from a memcached with a larger limit.
//!
//! Method: `forms` damages, swaps and exchanges pieces and metadata at random, with no server.
//! `alike` does random operations here and at a memcached alone, and compares every outcome. `real`
//! has values beyond a server's limit, pieces that vanish, and servers that fail half-way. `racing`
//! has two processes on one key, and must find torn values where all writes are planted to have the
//! same token.

mod forms;
mod alike;
mod real;
mod racing;

use std::net::SocketAddr;
use std::time::Duration;

use forebay::net::Address;
use forebay::{Builder, Engine, RequestOptions, this_shard};

use super::*;
use crate::cacheproxy::downstream::{Config, ServerLimits};
use crate::cacheproxy::operation::{ExpTime, Set, SetMode};

/// Bytes of a piece in most tests: the fewest there may be, so that small values have many.
const PIECE_BYTES: u32 = 512;

fn key(text: &str) -> Key {
    Key::new(text.as_bytes()).unwrap()
}

fn get(text: &str) -> Operation {
    Operation { key: key(text), what: What::Get(Get::PLAIN) }
}

fn store(mode: SetMode, text: &str, value: impl Into<Bytes>) -> Operation {
    let set = Set::new(mode, 7, ExpTime(0), value.into());
    Operation { key: key(text), what: What::Set(set) }
}

fn set(text: &str, value: impl Into<Bytes>) -> Operation {
    store(SetMode::Set, text, value)
}

fn value(outcome: &Outcome) -> Option<&[u8]> {
    match outcome {
        Outcome::Hit(entry) => Some(&entry.value),
        _ => None,
    }
}

/// Bytes that differ wherever they are cut.
fn bytes(n_bytes: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(n_bytes).collect()
}

/// A process of one shard with servers downstream.
struct Process {
    engine: Engine,
    downstream: Downstream,
    /// Another server, of no part in the tier.
    beside: Downstream,
}

impl Process {
    fn start(addresses: &[SocketAddr]) -> Self {
        Self::start_beside(addresses, addresses[0])
    }

    fn start_beside(addresses: &[SocketAddr], beside: SocketAddr) -> Self {
        let limits = ServerLimits { open_ms: 50, pause_max_ms: 100, ..ServerLimits::default() };
        let mut builder = Builder::new();
        builder.quiet().shards(1);
        let mut declare = |tier, addresses: &[SocketAddr]| {
            let addresses: Vec<Address> = addresses.iter().copied().map(Address::from).collect();
            let config = Config { limits, ..Config::of(&addresses) };
            Downstream::declare(&mut builder, tier, &config, 1).unwrap()
        };
        let downstream = declare("chunks", addresses);
        let beside = declare("beside", &[beside]);
        Self { engine: builder.start().unwrap(), downstream, beside }
    }

    /// Runs a request on its shard to the end.
    fn run<F, T>(&self, request: impl FnOnce(Downstream) -> F + Send + 'static) -> T
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let downstream = self.downstream.clone();
        let start = move || request(downstream);
        let reply = self.engine.handle().submit(0, RequestOptions::default(), start).unwrap();
        reply.wait().unwrap()
    }

    /// Applies an operation to values in pieces of [`PIECE_BYTES`].
    fn apply(&self, operation: Operation) -> Outcome {
        self.run(|downstream| async move { chunked(downstream, 1).apply(operation).await })
    }

    /// Asks a server past the pieces.
    fn ask(&self, operation: Operation) -> Outcome {
        self.run(|downstream| async move { downstream.apply(operation).await })
    }

    fn stop(self) {
        assert!(self.engine.stop(Duration::from_secs(5)).drained);
    }
}

fn chunked(downstream: Downstream, seed: u64) -> Chunked {
    Chunked::new(downstream, small_pieces(), seed, this_shard())
}

fn small_pieces() -> ChunksConfig {
    ChunksConfig { piece_bytes: PIECE_BYTES, value_bytes_max: 4 << 20 }
}
