//! The cache in this process, with an allocator that counts every byte. A test with it stands alone in
//! its program, since others would be counted too.

use std::alloc::System;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use forebay::net::Address;
use forebay::{Builder, Engine};
use forebay_workloads::cacheproxy::{Cacheproxy, Config};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Long enough for any machine: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that are allocated now.
pub(crate) fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// A service with its items in memory, on one shard.
pub(crate) struct Service {
    engine: Engine,
    address: SocketAddr,
}

impl Service {
    pub(crate) fn start() -> Self {
        let config: Config =
            serde_json::from_str(r#"{"load": {"connections": 1, "keys": 1}}"#).unwrap();
        let mut builder = Builder::new();
        builder.quiet().shards(1);
        let cacheproxy = Cacheproxy::declare(&mut builder, &config, &[]).unwrap();
        let engine = builder.start().unwrap();
        let any_port = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let Address::Tcp(address) = cacheproxy.serve(&engine, &any_port).unwrap() else {
            panic!("asked for TCP")
        };
        Self { engine, address }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// Ends it when its clients have gone.
    pub(crate) fn stop(self) {
        assert!(self.engine.stop(PATIENCE).drained);
    }
}
