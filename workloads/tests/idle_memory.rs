//! Goal: a connection of the cache that waits for its client takes little memory.
//! Method: the service in this process with an allocator that counts every byte; clients that have
//! asked something and are silent. One test, since others would be counted with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod counted;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use counted::{Service, live_bytes};

/// So many that tables which grow by doubling do not hide what each takes.
const N_IDLE: usize = 400;
/// Of memory that the allocator is asked for. All that a process takes for a connection is to stay
/// below 2 KiB; an eighth of that is for what the allocator itself adds.
const IDLE_BYTES_MAX: usize = 1_792;

/// Clients that have had an answer to everything that they asked.
fn idle_clients(service: &Service, n_clients: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let mut client = service.connect();
        client.write_all(b"set a 0 0 1\r\nx\r\nget a\r\n").unwrap();
        let mut told = [0; b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n".len()];
        client.read_exact(&mut told).unwrap();
        client
    };
    (0..n_clients).map(connect).collect()
}

#[test]
fn an_idle_connection_takes_less_than_two_kilobytes() {
    let service = Service::start();
    // What the first ones make grow stays for the others.
    drop(idle_clients(&service, N_IDLE / 4));
    let before = live_bytes();
    let clients = idle_clients(&service, N_IDLE);
    let each = live_bytes().saturating_sub(before) / N_IDLE;
    assert!(each < IDLE_BYTES_MAX, "{each} bytes for each");
    drop(clients);
    service.stop();
}
