//! `stats` counts what clients ask and get as memcached does, whatever stands behind the service.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use crate::alike::ends_with_opcode;
use crate::corpus::packet;
use crate::memcached::Memcached;
use crate::rig::{Client, Server, connect, embedded, proxy, two_tiers};

const NOOP: u8 = 0x0a;

/// What is counted of commands.
const NAMES: [&str; 20] = [
    "cmd_get",
    "cmd_set",
    "cmd_flush",
    "cmd_touch",
    "cmd_meta",
    "get_hits",
    "get_misses",
    "delete_misses",
    "delete_hits",
    "incr_misses",
    "incr_hits",
    "decr_misses",
    "decr_hits",
    "cas_misses",
    "cas_hits",
    "cas_badval",
    "touch_hits",
    "touch_misses",
    "store_too_large",
    "store_no_memory",
];

/// Each finds what those before it have left.
const LINES: &[&str] = &[
    "set a 0 0 1\r\n1\r\n",
    "set a 0 0 1 noreply\r\n1\r\n",
    "add a 0 0 1\r\n1\r\n",
    "replace gone 0 0 1\r\n1\r\n",
    "append gone 0 0 1\r\n1\r\n",
    "append a 0 0 1\r\n1\r\n",
    "cas gone 0 0 1 5\r\n1\r\n",
    "cas a 0 0 1 99999\r\n1\r\n",
    "set a 0 0 x\r\n",
    "set a 0 0 1\r\nxx\r\n",
    "set a 0 0 1\r\n1\r\n",
    "get a\r\n",
    "get a gone a\r\n",
    "gets a gone\r\n",
    "gat 0 a\r\n",
    "gats 0 a gone\r\n",
    "touch a 0\r\n",
    "touch gone 0\r\n",
    "incr a 1\r\n",
    "decr a 1\r\n",
    "incr gone 1\r\n",
    "decr gone 1\r\n",
    "set word 0 0 1\r\nx\r\n",
    "incr word 1\r\n",
    "delete gone\r\n",
    "delete word\r\n",
    "verbosity 1\r\n",
    "junk\r\n",
    "set late 0 -1 1\r\n1\r\n",
    "get late\r\n",
    "ms a 1\r\n1\r\n",
    "mg a v\r\n",
    "mg a\r\n",
    "mg gone v\r\n",
    "mg gone v q\r\n",
    "mg a T30 v\r\n",
    "mg gone T30 v\r\n",
    "mg made N30 v\r\n",
    "mg made2 N30 T60 v\r\n",
    "mg a R30 v\r\n",
    "ms a 1 C99999\r\n1\r\n",
    "ms gone 1 C5\r\n1\r\n",
    "ms a 1 MA\r\n1\r\n",
    "ms gone 1 MA\r\n1\r\n",
    "ms a 1 ME\r\n1\r\n",
    "ms gone 1 MR\r\n1\r\n",
    "ms a 1 MA C5\r\n1\r\n",
    "ms a 1\r\nxx\r\n",
    "ms a 1\r\n1\r\n",
    "ma a\r\n",
    "ma a MD\r\n",
    "ma gone\r\n",
    "ma gone MD\r\n",
    "ma begun N30 J5\r\n",
    "ma a C99999\r\n",
    "me a\r\n",
    "me gone\r\n",
    "md gone\r\n",
    "md a C99999\r\n",
    "md a I\r\n",
    "md a\r\n",
    "mg\r\n",
];

/// Names, opcodes, extras, keys, values, cas.
type Packet = (u8, &'static [u8], &'static str, &'static [u8], u64);

const NO_EXPIRY: &[u8] = &[0; 8];
const BY_ONE_FROM_FIVE: &[u8] = b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x05\0\0\0\0";
const BY_ONE: &[u8] = b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x05\xff\xff\xff\xff";

const PACKETS: &[Packet] = &[
    (0x00, b"", "gone", b"", 0),
    (0x01, NO_EXPIRY, "b", b"1", 0),
    (0x00, b"", "b", b"", 0),
    (0x09, b"", "gone", b"", 0),
    (0x0c, b"", "b", b"", 0),
    (0x0d, b"", "gone", b"", 0),
    (0x01, NO_EXPIRY, "b", b"1", 99_999),
    (0x01, NO_EXPIRY, "gone", b"1", 99_999),
    (0x02, NO_EXPIRY, "b", b"1", 0),
    (0x02, NO_EXPIRY, "b", b"1", 99_999),
    (0x03, NO_EXPIRY, "gone", b"1", 0),
    (0x03, NO_EXPIRY, "b", b"1", 99_999),
    (0x0e, b"", "b", b"1", 0),
    (0x0e, b"", "gone", b"1", 0),
    (0x0e, b"", "b", b"1", 99_999),
    (0x11, NO_EXPIRY, "b", b"1", 0),
    (0x1c, &[0; 4], "b", b"", 0),
    (0x1c, &[0; 4], "gone", b"", 0),
    (0x1d, &[0; 4], "b", b"", 0),
    (0x1d, &[0; 4], "gone", b"", 0),
    (0x05, BY_ONE_FROM_FIVE, "number", b"", 0),
    (0x05, BY_ONE_FROM_FIVE, "number", b"", 0),
    (0x05, BY_ONE, "gone", b"", 0),
    (0x06, BY_ONE, "number", b"", 0),
    (0x06, BY_ONE, "gone", b"", 0),
    (0x05, BY_ONE, "number", b"", 99_999),
    (0x04, b"", "gone", b"", 0),
    (0x04, b"", "b", b"", 99_999),
    (0x04, b"", "b", b"", 0),
    (0x55, b"", "", b"", 0),
];

type Counted = BTreeMap<&'static str, u64>;

/// The first number that has grown by more on one side than on the other.
fn difference(before: &[Counted; 2], after: &[Counted; 2]) -> Option<String> {
    let grown = |name: &str| [0, 1].map(|side| after[side][name] - before[side][name]);
    NAMES.iter().find_map(|name| match grown(name) {
        [ours, theirs] if ours == theirs => None,
        [ours, theirs] => Some(format!("{name}: {ours}, and memcached {theirs}")),
    })
}

#[test]
fn a_number_that_has_grown_by_more_is_found() {
    let none = || NAMES.map(|name| (name, 0)).into_iter().collect::<Counted>();
    let [same, mut more] = [(); 2].map(|()| [none(), none()]);
    assert_eq!(difference(&same, &more), None);
    *more[0].get_mut("store_no_memory").unwrap() += 1;
    let told = difference(&same, &more);
    assert_eq!(told.as_deref(), Some("store_no_memory: 1, and memcached 0"));
}

/// What a service, or a memcached, has counted.
fn counted(client: &mut Client<impl Read + Write>) -> Counted {
    client.send(b"stats\r\n");
    let told = String::from_utf8(client.read_until(|came| came.ends_with(b"END\r\n"))).unwrap();
    let number = |name: &&str| {
        let prefix = format!("STAT {name} ");
        let value = told.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {told}"))
    };
    NAMES.iter().map(|name| (*name, number(name))).collect()
}

/// Text clients and binary clients say the same to both sides; each command is counted alike.
fn counts_as_memcached_does(server: Server, oracle: &Memcached, lines: &[&str]) {
    let [mut text, mut stats] = [(); 2].map(|()| [server.connect(), connect(oracle.address())]);
    let mut binary = [server.connect(), connect(oracle.address())];
    let before = stats.each_mut().map(counted);
    let mut check = |asked: &str| {
        let difference = difference(&before, &stats.each_mut().map(counted));
        assert_eq!(difference, None, "after {asked:.60?}");
    };
    for line in lines {
        for client in &mut text {
            client.send([line.as_bytes(), b"mn\r\n"].concat().as_slice());
            client.read_until(|came| came.ends_with(b"MN\r\n"));
        }
        check(line);
    }
    for (opcode, extras, key, value, cas) in PACKETS {
        for client in &mut binary {
            let noop = packet(NOOP, &[], "", &[], 0);
            client.send(&[packet(*opcode, extras, key, value, *cas), noop].concat());
            client.read_until(|came| ends_with_opcode(came, NOOP));
        }
        check(&format!("{opcode:#x} of {key:?} with {cas}"));
    }
    server.stop();
}

/// A store that is refused for its size, before its value is read and after.
fn too_large() -> [String; 3] {
    let store = |head: &str, n_bytes: usize| format!("{head}{}\r\n", "x".repeat(n_bytes));
    [
        store("set large 0 0 1048576\r\n", 1 << 20),
        store("set large 0 0 2000000\r\n", 2_000_000),
        store("ms large 2000000\r\n", 2_000_000),
    ]
}

#[test]
fn what_is_in_memory_is_counted_as_memcached_counts_it() {
    let Some(oracle) = Memcached::start() else { return };
    let too_large = too_large();
    let flushes = ["flush_all\r\n", "flush_all 0 noreply\r\n"];
    let lines: Vec<_> =
        LINES.iter().copied().chain(too_large.iter().map(String::as_str)).chain(flushes).collect();
    counts_as_memcached_does(Server::start(embedded(), 2), &oracle, &lines);
}

#[test]
fn what_is_with_servers_is_counted_once_and_as_memcached_counts_it() {
    let too_large = too_large();
    let lines: Vec<_> = LINES.iter().copied().chain(too_large.iter().map(String::as_str)).collect();
    for service in [proxy, two_tiers] {
        let [Some(oracle), Some(backend)] = [(); 2].map(|()| Memcached::start()) else { return };
        counts_as_memcached_does(Server::start(service(&[backend.address()]), 2), &oracle, &lines);
    }
}

#[test]
fn settings_and_connections_are_told_as_they_are() {
    let mut service = embedded();
    service.limits.connections_max = 700;
    let server = Server::start(service, 2);
    let mut clients = [server.connect(), server.connect()];
    clients.iter_mut().for_each(|client| client.asks(b"mn\r\n", b"MN\r\n"));
    let [client, other] = &mut clients;
    let mut told = |asked: &[u8]| {
        client.send(asked);
        String::from_utf8(client.read_until(|came| came.ends_with(b"END\r\n"))).unwrap()
    };
    let settings = told(b"stats settings\r\n");
    assert!(settings.contains("STAT maxconns 1400\r\n"), "{settings}");
    assert!(settings.contains("STAT item_size_max 1048576\r\n"), "{settings}");
    assert!(settings.contains("STAT flush_enabled yes\r\n"), "{settings}");
    let conns = told(b"stats conns\r\n");
    let names = [":addr tcp:127.0.0.1:", ":listen_addr tcp:127.0.0.1:", ":secs_since_last_cmd 0"];
    for name in names {
        assert_eq!(conns.matches(name).count(), 2, "{conns}");
    }
    assert_eq!(conns.matches(":state conn_parse_cmd").count(), 1, "the one who asks: {conns}");
    assert_eq!(conns.matches(":state conn_read").count(), 1, "{conns}");
    let theirs = other.0.local_addr().unwrap();
    assert!(conns.contains(&format!(":addr tcp:{theirs}\r\n")), "{conns}");
    server.stop();
}
