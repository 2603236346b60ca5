//! A client that asks much and reads nothing is bounded and cut off, and the others do not notice.

use std::thread;
use std::time::{Duration, Instant};

use crate::rig::{Server, embedded, eventually};

const VALUE_BYTES: usize = 500_000;
const GETS: usize = 400;

fn filled(write_ms: u32) -> Server {
    let mut service = embedded();
    service.limits.write_ms = write_ms;
    let server = Server::start(service, 1);
    let head = format!("set large 0 0 {VALUE_BYTES}\r\n");
    let asked = [head.as_bytes(), &vec![b'x'; VALUE_BYTES], b"\r\n"].concat();
    server.connect().asks(&asked, b"STORED\r\n");
    server
}

/// More than the buffers of the kernel and of the service together hold.
fn ask_much(server: &Server) -> crate::rig::Client<std::net::TcpStream> {
    let mut client = server.connect();
    client.send("get large\r\n".repeat(GETS).as_bytes());
    client
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let server = filled(300);
    let begun = Instant::now();
    let mut silent = ask_much(&server);
    eventually("only this connection is left", || server.stat("curr_connections") == 1);
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    let came = silent.read_until(|_| false);
    assert!(came.len() < GETS * VALUE_BYTES, "{} bytes came", came.len());
    server.stop();
}

#[test]
fn one_that_reads_later_gets_everything_and_the_others_are_served_meanwhile() {
    let server = filled(30_000);
    let mut late = ask_much(&server);
    // The service holds some values, the kernel some megabytes.
    eventually("the service waits for its client", || {
        let before = server.n_sent_bytes();
        thread::sleep(Duration::from_millis(50));
        before > 0 && server.n_sent_bytes() == before
    });
    assert!(server.n_sent_bytes() < (GETS * VALUE_BYTES / 2) as u64, "nothing is bounded");
    server.serves_on();
    let head = format!("VALUE large 0 {VALUE_BYTES}\r\n");
    let answer = [head.as_bytes(), &vec![b'x'; VALUE_BYTES], b"\r\nEND\r\n"].concat();
    let came = late.read_until(|came| came.len() >= GETS * answer.len());
    assert!(came.chunks(answer.len()).all(|part| part == answer), "one answer is torn");
    assert_eq!(came.len(), GETS * answer.len());
    server.stop();
}
