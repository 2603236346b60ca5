//! Goal: keys are spread by weight, stay where they are when servers come and go, and stand where a
//! twemproxy puts them.
//!
//! Method: 20,000 keys through routes that differ by one server; and a real twemproxy with `ketama`
//! in front of real memcacheds, each of which is then asked which keys it was given.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use super::*;
use crate::cacheproxy::memcached::{Memcached, Process, await_listening, free_address};

const N_KEYS: usize = 20_000;

fn server(name: impl ToString, weight: u32) -> Weighted {
    Weighted { name: name.to_string(), weight: NonZeroU32::new(weight).unwrap() }
}

fn servers(n_servers: usize) -> Vec<Weighted> {
    (0..n_servers).map(|idx| server(format!("10.0.0.{idx}:11211"), 1)).collect()
}

/// The name of each key's server.
fn placed(servers: &[Weighted], kind: RouteKind) -> Vec<String> {
    let route = Route::new(servers, kind);
    let place = |idx| servers[route.server(format!("key-{idx}").as_bytes()).0].name.clone();
    (0..N_KEYS).map(place).collect()
}

#[test]
fn one_server_of_n_that_goes_moves_its_own_keys_and_no_others() {
    for kind in [RouteKind::Rendezvous, RouteKind::Ketama] {
        let n_servers = 10;
        let all = servers(n_servers);
        let before = placed(&all, kind);
        let (gone, stay) = (&all[3], [&all[..3], &all[4..]].concat());
        let after = placed(&stay, kind);
        let mut n_moved = 0;
        for (before, after) in before.iter().zip(&after) {
            if *before == gone.name {
                n_moved += 1;
            } else {
                assert_eq!(before, after, "{kind:?} moved a key of a server that stayed");
            }
        }
        // Ketama's 160 points spread a server's part by about a twelfth of it.
        let fair = N_KEYS / n_servers;
        assert!((fair * 7 / 10..fair * 13 / 10).contains(&n_moved), "{kind:?} moved {n_moved}");
    }
}

#[test]
fn keys_follow_the_weights() {
    for (kind, within_percent) in [(RouteKind::Rendezvous, 4), (RouteKind::Ketama, 25)] {
        let weighted = [server("a", 1), server("b", 2), server("c", 5)];
        let placed = placed(&weighted, kind);
        for server in &weighted {
            let n_keys = placed.iter().filter(|name| **name == server.name).count();
            let fair = N_KEYS * server.weight.get() as usize / 8;
            let off = n_keys.abs_diff(fair) * 100 / fair;
            assert!(off <= within_percent, "{kind:?}: {} has {n_keys} of {fair}", server.name);
        }
    }
}

#[test]
fn the_order_of_the_servers_decides_nothing() {
    for kind in [RouteKind::Rendezvous, RouteKind::Ketama] {
        let mut turned = servers(7);
        let before = placed(&turned, kind);
        turned.rotate_left(3);
        assert_eq!(before, placed(&turned, kind), "{kind:?}");
    }
}

/// Starts a twemproxy there.
fn start_twemproxy(
    address: SocketAddr,
    servers: &[(SocketAddr, u32)],
    folder: &std::path::Path,
) -> Option<Process> {
    let mut config =
        format!("pool:\n  listen: {address}\n  hash: md5\n  distribution: ketama\n  servers:\n");
    for (server, weight) in servers {
        config += &format!("   - {server}:{weight}\n");
    }
    let file = folder.join("nutcracker.yml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("nutcracker");
    let stats = free_address().port().to_string();
    command.arg("-c").arg(file).args(["-a", "127.0.0.1", "-s", &stats]);
    let twemproxy = Process::start(command)?;
    await_listening(address);
    Some(twemproxy)
}

fn say(stream: &mut TcpStream, line: &str) -> String {
    stream.write_all(line.as_bytes()).unwrap();
    let mut told = String::new();
    BufReader::new(stream).read_line(&mut told).unwrap();
    told
}

#[test]
fn a_real_twemproxy_puts_every_key_on_the_same_server() {
    let weights = [1, 3, 2];
    let Some(memcacheds) = weights.iter().map(|_| Memcached::start()).collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let addresses: Vec<_> = memcacheds.iter().map(Memcached::address).zip(weights).collect();
    let address = free_address();
    let Some(_twemproxy) = start_twemproxy(address, &addresses, folder.path()) else { return };

    let keys: Vec<String> = (0..500).map(|idx| format!("some:key:{idx}")).collect();
    let mut proxy = TcpStream::connect(address).unwrap();
    for key in &keys {
        assert_eq!(say(&mut proxy, &format!("set {key} 0 0 1\r\nx\r\n")), "STORED\r\n");
    }
    let named: Vec<_> =
        addresses.iter().map(|(address, weight)| server(address, *weight)).collect();
    let route = Route::new(&named, RouteKind::Ketama);
    let mut n_on = [0; 3];
    for (idx, memcached) in memcacheds.iter().enumerate() {
        let mut stream = TcpStream::connect(memcached.address()).unwrap();
        for key in &keys {
            let is_there = say(&mut stream, &format!("touch {key} 0\r\n")) == "TOUCHED\r\n";
            assert_eq!(is_there, route.server(key.as_bytes()) == ServerIdx(idx), "{key}");
            n_on[idx] += usize::from(is_there);
        }
    }
    assert!(n_on.iter().all(|n_keys| *n_keys > 0), "{n_on:?}");
}
