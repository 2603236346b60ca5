//! Goal: what the answers of one client take is bounded by pieces, and what it holds of values that are
//! nowhere else by a few of them, not by what it has asked for.
//! Method: the service in this process with an allocator that counts every byte; a client that asks
//! for many large values at once and reads slowly, and another that deletes them meanwhile. One test,
//! since others would be counted with it.

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

/// Values that are in memory at once, and are deleted while a client reads them.
const N_DELETED: usize = 48;
/// What a client may hold of those: two parts of 4 MiB, the answers, and what the tables of the store
/// have grown by. All of them are 48 MiB.
const HELD_BYTES_MAX: usize = (8 << 20) + ANSWERS_BYTES_MAX;

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

/// Sets `k0`, `k1` and so on; has a client ask for them and read none; deletes them; gives the bytes that
/// are live then beyond those before, and lets the client read to its end.
fn held_of_what_is_deleted(service: &Service, asked: &str, value: &str, n_ends: usize) -> usize {
    let [mut client, mut other] = [service.connect(), service.connect()];
    let mut part = vec![0; READ_BYTES];
    let before = live_bytes();
    for number in 0..N_DELETED {
        let set = format!("set k{number} 0 0 {VALUE_BYTES}\r\n{value}\r\n");
        other.write_all(set.as_bytes()).unwrap();
        other.read_exact(&mut part[..b"STORED\r\n".len()]).unwrap();
    }
    client.write_all(asked.as_bytes()).unwrap();
    // It has its first values when it has the first byte.
    client.read_exact(&mut part[..1]).unwrap();
    for number in 0..N_DELETED {
        other.write_all(format!("delete k{number}\r\n").as_bytes()).unwrap();
        other.read_exact(&mut part[..b"DELETED\r\n".len()]).unwrap();
    }
    let held = live_bytes().saturating_sub(before);
    let mut told: Vec<u8> = Vec::new();
    while told.windows(b"END\r\n".len()).filter(|end| end == b"END\r\n").count() < n_ends {
        let n_came = client.read(&mut part).unwrap();
        assert!(n_came > 0, "it ended");
        // The values are of one letter, and need not be kept.
        told.extend(part[..n_came].iter().filter(|byte| **byte != b'v'));
    }
    held
}

#[test]
fn a_slow_reader_of_many_large_values_holds_a_few_of_them_and_has_a_few_pieces_made() {
    let service = Service::start();
    let mut client = service.connect();
    let mut part = vec![0; READ_BYTES];

    let value = "v".repeat(VALUE_BYTES);
    // The first asks when nobody knows how large they are.
    let keys = (0..N_DELETED).map(|number| format!(" k{number}")).collect::<String>();
    let one_by_one = (0..N_DELETED).map(|number| format!("get k{number}\r\n")).collect::<String>();
    for (asked, n_ends) in
        [(format!("get{keys}\r\n"), 1), (format!("get{keys}\r\n"), 1), (one_by_one, N_DELETED)]
    {
        let held = held_of_what_is_deleted(&service, &asked, &value, n_ends);
        assert!(held < HELD_BYTES_MAX, "{held} bytes for {:?}", &asked[..8]);
    }

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
