//! Goal: a connection of the cache that waits for its client takes little memory.
//! Method: the service in this process with an allocator that counts every byte; clients that have
//! asked something and are silent. One test, since others would be counted with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use forebay::Builder;
use forebay::net::Address;
use forebay_workloads::cacheproxy::{Cacheproxy, Config};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PATIENCE: Duration = Duration::from_secs(30);
/// So many that tables which grow by doubling do not hide what each takes.
const N_IDLE: usize = 400;
/// Of memory that the allocator is asked for. All that a process takes for a connection is to stay
/// below 2 KiB; an eighth of that is for what the allocator itself adds.
const IDLE_BYTES_MAX: usize = 1_792;

fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// Clients that have had an answer to everything that they asked.
fn idle_clients(address: SocketAddr, n_clients: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"set a 0 0 1\r\nx\r\nget a\r\n").unwrap();
        let mut told = [0; b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n".len()];
        client.read_exact(&mut told).unwrap();
        client
    };
    (0..n_clients).map(connect).collect()
}

#[test]
fn an_idle_connection_takes_less_than_two_kilobytes() {
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
    // What the first ones make grow stays for the others.
    drop(idle_clients(address, N_IDLE / 4));
    let before = live_bytes();
    let clients = idle_clients(address, N_IDLE);
    let each = live_bytes().saturating_sub(before) / N_IDLE;
    assert!(each < IDLE_BYTES_MAX, "{each} bytes for each");
    drop(clients);
    assert!(engine.stop(PATIENCE).drained);
}
