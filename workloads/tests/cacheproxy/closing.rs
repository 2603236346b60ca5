//! Whose connection we close, and when: nobody's who waits for us, and everybody has heard all that
//! it was told.

use std::io::Read as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::rig::{Server, embedded, proxy, tail};

/// Bytes behind the last command, of which the service has not read the most when it closes.
const JUNK_BYTES: usize = 256 << 10;

#[test]
fn a_close_on_bytes_that_nobody_reads_is_no_reset() {
    const VALUE_BYTES: usize = 1_000_000;
    let server = Server::start(embedded(), 2);
    let value = "v".repeat(VALUE_BYTES);
    let mut client = server.connect();
    client.asks(format!("set k 0 0 {VALUE_BYTES}\r\n{value}\r\n").as_bytes(), b"STORED\r\n");
    let answer = format!("VALUE k 0 {VALUE_BYTES}\r\n{value}\r\nEND\r\n");
    let too_long = "x".repeat(JUNK_BYTES);
    // A client that ends it, and one whose connection ends for what it has said.
    for last in ["quit\r\n", &too_long] {
        let mut client = server.connect();
        client.send(["get k\r\n", last, &"j".repeat(JUNK_BYTES)].concat().as_bytes());
        let mut came = Vec::new();
        client.0.read_to_end(&mut came).expect("a proper end");
        assert!(came.starts_with(answer.as_bytes()), "{}", tail(&came));
        assert_eq!(came.len() > answer.len(), last == too_long, "{}", tail(&came));
    }
    server.stop();
}

#[test]
fn nobody_is_idle_who_waits_for_a_server_behind_us() {
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut service = proxy(&[silent.local_addr().unwrap()]);
    service.limits.idle_ms = 50;
    let idle = Duration::from_millis(service.limits.idle_ms.into());
    let server = Server::start(service, 1);
    let mut client = server.connect();
    let asked_at = Instant::now();
    client.send(b"get k\r\n");
    let line = client.line();
    assert!(asked_at.elapsed() > 2 * idle, "the server has to be slower than that");
    assert!(line.starts_with("SERVER_ERROR") || line == "END\r\n", "{line:?}");
    client.is_ended();
    server.stop();
}
