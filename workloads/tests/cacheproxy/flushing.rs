//! `flush_all` of a client of items that servers have: refused as by a `memcached -F`, which was asked
//! for these bytes, or done by each server and in memory above.

use forebay_workloads::cacheproxy::downstream::FlushAll;
use forebay_workloads::cacheproxy::{ChunkedTier, Service, TierConfig};

use crate::corpus::packet;
use crate::memcached::Memcached;
use crate::rig::{Server, chunked, connect, proxy, two_tiers};

/// What a packet of these tests has for an opaque, which its answer repeats.
const OPAQUE: [u8; 4] = [1, 2, 3, 4];
const N_KEYS: usize = 40;
/// Beyond the bytes of a piece, where there are pieces.
const VALUE_BYTES: usize = 1_500;

/// The service, where clients may flush.
pub(crate) fn flushing(mut service: Service) -> Service {
    for tier in std::iter::once(&mut service.l1).chain(service.l2.as_mut()) {
        match tier {
            TierConfig::Memcached(config)
            | TierConfig::Chunked(ChunkedTier { memcached: config, .. }) => {
                config.flush_all = FlushAll::Forward;
            }
            TierConfig::Embedded(_) => {}
        }
    }
    service
}

fn sets() -> String {
    let value = "x".repeat(VALUE_BYTES);
    (0..N_KEYS).map(|n| format!("set f{n} 0 0 {VALUE_BYTES}\r\n{value}\r\n")).collect()
}

fn gets() -> String {
    (0..N_KEYS).map(|n| format!("get f{n}\r\n")).collect()
}

fn hits() -> String {
    let value = "x".repeat(VALUE_BYTES);
    (0..N_KEYS).map(|n| format!("VALUE f{n} 0 {VALUE_BYTES}\r\n{value}\r\nEND\r\n")).collect()
}

#[test]
fn a_flush_that_is_allowed_leaves_nothing_of_any_server_or_memory_for_any_client() {
    let backends = (Memcached::start(), Memcached::start());
    let (Some(one), Some(other)) = backends else { return };
    let servers = [one.address(), other.address()];
    for service in [proxy(&servers), two_tiers(&servers), chunked(&servers)] {
        let server = Server::start(flushing(service), 2);
        let mut clients = [server.connect(), server.connect()];
        clients[0].asks(sets().as_bytes(), "STORED\r\n".repeat(N_KEYS).as_bytes());
        clients[1].asks(gets().as_bytes(), hits().as_bytes());
        // Another minute's does nothing yet.
        clients[0].asks(b"flush_all 60\r\n", b"OK\r\n");
        clients[1].asks(gets().as_bytes(), hits().as_bytes());
        clients[0].asks(b"flush_all\r\n", b"OK\r\n");
        let nothing = "END\r\n".repeat(N_KEYS);
        for client in &mut clients {
            client.asks(gets().as_bytes(), nothing.as_bytes());
        }
        for backend in [&one, &other] {
            connect(backend.address()).asks(gets().as_bytes(), nothing.as_bytes());
        }
        let flush = packet(0x08, &[], "", &[], 0);
        let done = [&[0x81, 0x08][..], &[0; 10], &OPAQUE, &[0; 8]].concat();
        server.connect().asks(&flush, &done);
        assert_eq!(server.stat("cmd_flush"), 3);
        server.stop();
    }
}

#[test]
fn a_flush_is_refused_as_memcached_refuses_it_unless_the_file_allows_it() {
    let Some(backend) = Memcached::start() else { return };
    let servers = [backend.address()];
    for service in [proxy(&servers), two_tiers(&servers), chunked(&servers)] {
        let server = Server::start(service, 2);
        let mut client = server.connect();
        client.asks(sets().as_bytes(), "STORED\r\n".repeat(N_KEYS).as_bytes());
        let refused = b"CLIENT_ERROR flush_all not allowed\r\n";
        client.asks(b"flush_all\r\n", refused);
        client.asks(b"flush_all 10\r\n", refused);
        client.asks(b"flush_all noreply\r\nmn\r\n", b"MN\r\n");
        client.asks(gets().as_bytes(), hits().as_bytes());
        let mut binary = server.connect();
        for opcode in [0x08, 0x18] {
            let answer = [&[0x81, opcode][..], b"\0\0\0\0\0\x20\0\0\0\x0d"].concat();
            let answer = [&answer[..], &OPAQUE, &[0; 8], b"Auth failure."].concat();
            binary.asks(&packet(opcode, &[], "", &[], 0), &answer);
        }
        assert_eq!(server.stat("cmd_flush"), 0);
        client.send(b"stats settings\r\n");
        let settings = client.read_until(|came| came.ends_with(b"END\r\n"));
        let settings = String::from_utf8(settings).unwrap();
        assert!(settings.contains("STAT flush_enabled no\r\n"), "{settings}");
        server.stop();
    }
}

#[test]
fn a_server_that_is_gone_is_told_of_and_the_others_are_flushed() {
    let backends = (Memcached::start(), Memcached::start());
    let (Some(stays), Some(mut goes)) = backends else { return };
    let server = Server::start(flushing(proxy(&[stays.address(), goes.address()])), 1);
    let mut client = server.connect();
    connect(stays.address()).asks(b"set a 0 0 1\r\nx\r\n", b"STORED\r\n");
    goes.kill();
    client.asks(b"flush_all\r\n", b"SERVER_ERROR downstream did not answer\r\n");
    connect(stays.address()).asks(b"get a\r\n", b"END\r\n");
    let mut stays = stays;
    stays.kill();
    client.asks(b"flush_all\r\n", b"SERVER_ERROR downstream unavailable\r\n");
    server.stop();
}
