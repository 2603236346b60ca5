//! Goal: what the answers of one client take is bounded by pieces, not by what it has asked for.
//! Method: the service in this process with an allocator that counts every byte; a client that asks
//! for many large values at once and reads slowly. One test, since others would be counted with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod counted;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use counted::{Service, live_bytes};

const N_KEYS: usize = 64;
/// The largest value beside its key and what an item takes beside them.
const VALUE_BYTES: usize = (1 << 20) - 200;
/// What the client reads at once.
const READ_BYTES: usize = 64 << 10;
/// What the answers may take: pieces that are queued and made, the commands, and what everything else
/// in the process does meanwhile. All of them at once are 64 MiB.
const ANSWERS_BYTES_MAX: usize = 1 << 20;

/// The most bytes that are live, beyond those before, while so many are read.
fn most_while_read(
    client: &mut TcpStream,
    n_bytes: usize,
    before: usize,
    part: &mut [u8],
) -> usize {
    let (mut n_read, mut most) = (0, 0);
    while n_read < n_bytes {
        let n_wanted = (n_bytes - n_read).min(part.len());
        let n_came = client.read(&mut part[..n_wanted]).unwrap();
        assert!(n_came > 0, "it ended after {n_read} bytes");
        n_read += n_came;
        most = most.max(live_bytes().saturating_sub(before));
    }
    most
}

#[test]
fn a_slow_reader_of_many_large_values_has_a_few_pieces_of_them_made() {
    let service = Service::start();
    let mut client = service.connect();
    let mut part = vec![0; READ_BYTES];

    let value = "v".repeat(VALUE_BYTES);
    client.write_all(format!("set k 0 0 {VALUE_BYTES}\r\n{value}\r\n").as_bytes()).unwrap();
    client.read_exact(&mut part[..b"STORED\r\n".len()]).unwrap();
    let answer_bytes = format!("VALUE k 0 {VALUE_BYTES}\r\n{value}\r\n").len();

    // One get of several keys, and as many commands with an answer of their own: text, then meta.
    let text = ["get".to_owned(), " k".repeat(N_KEYS), "\r\n".to_owned()].concat();
    let meta_answer_bytes = format!("VA {VALUE_BYTES}\r\n{value}\r\n").len();
    for (asked, n_bytes) in [
        (text, N_KEYS * answer_bytes + b"END\r\n".len()),
        ("get k\r\n".repeat(N_KEYS), N_KEYS * (answer_bytes + b"END\r\n".len())),
        ("mg k v\r\n".repeat(N_KEYS), N_KEYS * meta_answer_bytes),
    ] {
        let before = live_bytes();
        client.write_all(asked.as_bytes()).unwrap();
        let most = most_while_read(&mut client, n_bytes, before, &mut part);
        assert!(most < ANSWERS_BYTES_MAX, "{most} bytes for {:?}", &asked[..8]);
    }
    drop(client);
    service.stop();
}
