//! A stop answers what was asked before it, and never cuts an answer.

use std::thread;
use std::time::{Duration, Instant};

use crate::memcached::Memcached;
use crate::rig::{Client, PATIENCE, Server, embedded, proxy, two_tiers};

const CLIENTS: usize = 8;
/// Commands that a client sends at once.
const COMMANDS: usize = 50;

/// What a client has seen when its connection has ended.
struct Seen {
    n_batches: usize,
    /// When it sent the batch that was not answered whole.
    last_sent: Instant,
    rest: Vec<u8>,
    answers: Vec<u8>,
}

/// Sends batch after batch, each after the answers of the one before, until the connection ends.
fn ask_until_closed(mut client: Client<std::net::TcpStream>, name: usize) -> Seen {
    let value = "v".repeat(1_000);
    let mut n_batches = 0;
    loop {
        let pair = |n: usize| {
            let key = format!("drain{name}-{n}");
            let asked = format!("set {key} 0 0 1000\r\n{value}\r\nget {key}\r\n");
            (asked, format!("STORED\r\nVALUE {key} 0 1000\r\n{value}\r\nEND\r\n"))
        };
        let (asked, answers): (String, String) = (0..COMMANDS).map(pair).unzip();
        let last_sent = Instant::now();
        client.send(asked.as_bytes());
        let rest = client.read_until(|came| came.len() >= answers.len());
        if rest != answers.as_bytes() {
            return Seen { n_batches, last_sent, rest, answers: answers.into_bytes() };
        }
        n_batches += 1;
    }
}

/// Whether these bytes end where an answer does.
fn is_whole(answers: &[u8]) -> bool {
    answers.is_empty() || answers.ends_with(b"STORED\r\n") || answers.ends_with(b"END\r\n")
}

fn stops_between_answers(server: Server) {
    let asking: Vec<_> = (0..CLIENTS)
        .map(|name| {
            let client = server.connect();
            thread::spawn(move || ask_until_closed(client, name))
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    server.stop();
    for client in asking {
        let Seen { n_batches, last_sent, rest, answers } = client.join().unwrap();
        assert!(n_batches > 0, "the stop came before the load");
        assert!(last_sent >= begun, "sent {:?} before the stop", begun - last_sent);
        assert!(answers.starts_with(&rest), "other answers: {}", crate::rig::tail(&rest));
        assert!(is_whole(&rest), "torn: {}", crate::rig::tail(&rest));
    }
}

#[test]
fn a_stop_under_load_ends_connections_between_answers() {
    for n_shards in [1, 2] {
        stops_between_answers(Server::start(embedded(), n_shards));
    }
}

#[test]
fn so_does_one_of_a_proxy() {
    let Some(backend) = Memcached::start() else { return };
    stops_between_answers(Server::start(proxy(&[backend.address()]), 2));
    stops_between_answers(Server::start(two_tiers(&[backend.address()]), 2));
}

#[test]
fn idle_connections_do_not_hold_a_stop_up() {
    let server = Server::start(embedded(), 2);
    let mut idle: Vec<_> = (0..20).map(|_| server.connect()).collect();
    idle.iter_mut().for_each(|client| client.asks(b"mn\r\n", b"MN\r\n"));
    let begun = Instant::now();
    server.stop();
    // A last word of 100 ms, and time for a busy machine; not for ever.
    assert!(begun.elapsed() < PATIENCE / 3, "{:?}", begun.elapsed());
    idle.iter_mut().for_each(Client::is_ended);
}
