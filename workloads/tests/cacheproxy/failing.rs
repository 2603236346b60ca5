//! Whatever becomes of the server behind, each command of a client gets one answer in bounded time:
//! the right one, or an error.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use forebay_workloads::cacheproxy::{Service, TierConfig};

use crate::carrier::{Carrier, Carries};
use crate::memcached::Memcached;
use crate::rig::{Client, Server, eventually, proxy, two_tiers};

/// Answers of a server are waited for so long.
const ANSWER: Duration = Duration::from_millis(200);
/// In which a command has to be answered: a wait for its turn behind a batch, its own batch with a
/// connection made for it, another for a copy that has to go; and a busy machine.
const BOUND: Duration = Duration::from_secs(4);
const VALUE_BYTES: usize = 3_000;
const KEYS: usize = 40;

/// The service with short times for its servers.
fn impatient(mut service: Service) -> Service {
    for tier in std::iter::once(&mut service.l1).chain(service.l2.as_mut()) {
        if let TierConfig::Memcached(config) = tier {
            config.limits.answer_ms = u32::try_from(ANSWER.as_millis()).unwrap();
            config.limits.connect_ms = 100;
            config.limits.open_ms = 50;
            config.limits.pause_max_ms = 50;
        }
    }
    service
}

fn value(n: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(n % 26).unwrap());
    format!("{n:04}{}", letter.to_string().repeat(VALUE_BYTES - 4))
}

fn set(n: usize) -> String {
    format!("set f{n} 0 0 {VALUE_BYTES}\r\n{}\r\n", value(n))
}

/// What a round of commands came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Told {
    n_right: usize,
    n_failed: usize,
}

/// The one answer to a get of this key.
fn told_of_get(client: &mut Client<TcpStream>, n: usize, told: &mut Told) {
    let line = client.line();
    if line.starts_with("SERVER_ERROR ") {
        told.n_failed += 1;
        return;
    }
    if line.starts_with("VALUE ") {
        assert_eq!(line, format!("VALUE f{n} 0 {VALUE_BYTES}\r\n"));
        client.hears(format!("{}\r\nEND\r\n", value(n)).as_bytes());
    } else {
        assert_eq!(line, "END\r\n", "neither hit, miss nor error");
    }
    told.n_right += 1;
}

/// Sets and gets many keys, all at once, and reads one answer to each command.
#[track_caller]
fn round(client: &mut Client<TcpStream>) -> Told {
    let mut told = Told::default();
    let begun = Instant::now();
    // What depends on something unanswered is asked after it: two rounds of waiting, not one for each key.
    let gets = (0..KEYS).map(|n| format!("get f{n}\r\n"));
    let asked: String = (0..KEYS).map(set).chain(gets).collect();
    client.send(asked.as_bytes());
    for _ in 0..KEYS {
        match client.line().as_str() {
            "STORED\r\n" => told.n_right += 1,
            line => {
                assert!(line.starts_with("SERVER_ERROR "), "{line}");
                told.n_failed += 1;
            }
        }
    }
    (0..KEYS).for_each(|n| told_of_get(client, n, &mut told));
    // One answer to each, and nothing behind them.
    client.asks(b"mn\r\n", b"MN\r\n");
    assert!(begun.elapsed() < BOUND * 2, "{told:?} in {:?}", begun.elapsed());
    told
}

const ALL_RIGHT: Told = Told { n_right: 2 * KEYS, n_failed: 0 };

fn settings(backend: SocketAddr) -> [Server; 2] {
    let servers = [backend];
    [proxy(&servers), two_tiers(&servers)].map(|service| Server::start(impatient(service), 2))
}

#[test]
fn a_server_that_is_killed_is_told_of_at_once_and_found_again() {
    let Some(mut backend) = Memcached::start() else { return };
    for server in settings(backend.address()) {
        let mut client = server.connect();
        assert_eq!(round(&mut client), ALL_RIGHT);
        backend.kill();
        let told = round(&mut client);
        assert!(told.n_failed >= KEYS, "all writes failed: {told:?}");
        backend.restart();
        let found = || {
            let mut client = server.connect();
            client.send(b"set again 0 0 1\r\n1\r\n");
            client.line() == "STORED\r\n"
        };
        eventually("it is found again", found);
        server.stop();
    }
}

#[test]
fn a_server_that_is_stopped_costs_a_client_no_more_than_the_deadline() {
    let Some(backend) = Memcached::start() else { return };
    for server in settings(backend.address()) {
        let mut client = server.connect();
        assert_eq!(round(&mut client), ALL_RIGHT);
        backend.stop();
        let begun = Instant::now();
        client.send(b"get f1000\r\n");
        assert!(client.line().starts_with("SERVER_ERROR "));
        assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
        let told = round(&mut client);
        assert!(told.n_failed >= KEYS, "all writes failed: {told:?}");
        backend.go_on();
        // What was asked of the old connections is no answer to what is asked now.
        eventually("it is found again", || round(&mut server.connect()) == ALL_RIGHT);
        server.stop();
    }
}

#[test]
fn a_slow_server_is_waited_for_and_one_that_is_too_slow_is_not() {
    let Some(backend) = Memcached::start() else { return };
    let slow = Carrier::start(backend.address(), Carries::Late(Duration::from_millis(5)));
    for server in settings(slow.address()) {
        assert_eq!(round(&mut server.connect()), ALL_RIGHT);
        server.stop();
    }
    let too_slow = Carrier::start(backend.address(), Carries::Late(ANSWER * 2));
    for server in settings(too_slow.address()) {
        let begun = Instant::now();
        let mut client = server.connect();
        client.send(b"get f0\r\nset f0 0 0 1\r\n1\r\n");
        for _ in 0..2 {
            assert!(client.line().starts_with("SERVER_ERROR "));
        }
        assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
        server.stop();
    }
}

#[test]
fn a_connection_that_is_cut_within_a_value_gives_no_wrong_one() {
    let Some(backend) = Memcached::start() else { return };
    // In a head, in a value, in the second value, in the line end behind a value.
    for n_bytes in [3, 500, VALUE_BYTES + 100, VALUE_BYTES + 30] {
        let carrier = Carrier::start(backend.address(), Carries::Upto(n_bytes));
        for server in settings(carrier.address()) {
            let clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
            let asking = clients.into_iter().map(|mut client| {
                thread::spawn(move || {
                    for _ in 0..2 {
                        round(&mut client);
                    }
                })
            });
            asking.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
            server.stop();
        }
    }
}
