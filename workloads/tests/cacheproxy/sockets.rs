//! What clients do with a connection beyond saying commands one by one.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use forebay::net::Address;

use crate::alike::ends_with_opcode;
use crate::corpus::packet;
use crate::memcached::Memcached;
use crate::rig::{Client, Limits, PATIENCE, Server, connect, embedded, eventually};

const NOOP: u8 = 0x0a;

/// A connection to the service and one to a real memcached, where there is one: what is expected of
/// the one is what the other does.
fn both(server: &Server) -> Vec<Client<TcpStream>> {
    ORACLE.with(|oracle| {
        let theirs = oracle.as_ref().map(|oracle| connect(oracle.address()));
        std::iter::once(server.connect()).chain(theirs).collect()
    })
}

thread_local! {
    /// Of the thread of one test, and so as empty as its service.
    static ORACLE: Option<Memcached> = Memcached::start();
}

fn small_limits(change: impl FnOnce(&mut Limits)) -> Server {
    let mut service = embedded();
    change(&mut service.limits);
    Server::start(service, 1)
}

#[test]
fn noreply_is_silent_whatever_comes_of_it() {
    let server = Server::start(embedded(), 2);
    for mut client in both(&server) {
        client.asks(
            b"set n 0 0 1 noreply\r\n1\r\nadd n 0 0 1 noreply\r\n2\r\nincr n 5 noreply\r\n\
          incr gone 5 noreply\r\ndelete gone noreply\r\ntouch n 0 noreply\r\nget n\r\n",
            b"VALUE n 0 1\r\n6\r\nEND\r\n",
        );
        client.asks(b"set n 0 0 x noreply\r\nmn\r\n", b"MN\r\n");
    }
    server.stop();
}

#[test]
fn quiet_commands_tell_only_what_is_not_expected() {
    let server = Server::start(embedded(), 2);
    const GETQ: u8 = 0x09;
    for mut client in both(&server) {
        client.asks(
            b"ms q 1 q\r\n1\r\nmg q v q\r\nmg gone v q\r\nmd gone q\r\nms q 1 ME q\r\n2\r\nmn\r\n",
            b"VA 1\r\n1\r\nNF\r\nNS\r\nMN\r\n",
        );
    }
    for mut client in both(&server) {
        let asked = [
            packet(GETQ, &[], "gone", &[], 0),
            packet(GETQ, &[], "q", &[], 0),
            packet(NOOP, &[], "", &[], 0),
        ];
        client.send(&asked.concat());
        let answers = client.read_until(|came| ends_with_opcode(came, NOOP));
        assert_eq!((answers.len(), answers[1]), (24 + 4 + 1 + 24, GETQ), "a hit and the end");
    }
    server.stop();
}

#[test]
fn thousands_of_commands_in_one_write_are_answered_in_order() {
    const COMMANDS: usize = 5_000;
    let server = Server::start(embedded(), 2);
    let mut client = server.connect();
    let sets = (0..COMMANDS).map(|n| format!("set p{} 0 0 5\r\n{n:05}\r\n", n % 700));
    let reads = (0..COMMANDS).map(|n| format!("get p{}\r\n", n % 700));
    let asked: String = sets.zip(reads).flat_map(|(set, read)| [set, read]).collect();
    let expected: String = (0..COMMANDS)
        .map(|n| format!("STORED\r\nVALUE p{} 0 5\r\n{n:05}\r\nEND\r\n", n % 700))
        .collect();
    let mut writer = Client(client.0.try_clone().unwrap());
    let writing = thread::spawn(move || writer.send(asked.as_bytes()));
    client.hears(expected.as_bytes());
    writing.join().unwrap();
    server.stop();
}

#[test]
fn values_up_to_the_bound_are_kept_and_larger_ones_refused_in_step() {
    // The largest value beside a short key and what an item takes beside them.
    const LARGEST: usize = (1 << 20) - 200;
    let server = Server::start(embedded(), 2);
    let mut client = server.connect();
    for n_bytes in [0, 1, 16_384, 65_536, 500_000, LARGEST] {
        let value: Vec<u8> = (0..n_bytes).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect();
        let head = format!("set large 0 0 {n_bytes}\r\n");
        client.asks(&[head.as_bytes(), &value, b"\r\n"].concat(), b"STORED\r\n");
        let head = format!("VALUE large 0 {n_bytes}\r\n");
        client.asks(b"get large\r\n", &[head.as_bytes(), &value, b"\r\nEND\r\n"].concat());
    }
    for n_bytes in [(1 << 20) + 1, 3 << 20] {
        let head = format!("set large 0 0 {n_bytes}\r\n");
        let asked = [head.as_bytes(), &vec![b'x'; n_bytes], b"\r\nget large\r\n"].concat();
        client.asks(&asked, b"SERVER_ERROR object too large for cache\r\nEND\r\n");
    }
    server.stop();
}

#[test]
fn garbage_costs_its_connection_at_most() {
    let server = Server::start(embedded(), 1);
    let mut rng = fastrand::Rng::with_seed(5);
    for round in 0..200 {
        let n_bytes = rng.usize(1..3_000);
        let mut bytes: Vec<u8> = (0..n_bytes).map(|_| rng.u8(..)).collect();
        // Every other one begins as a binary command.
        if round % 2 == 0 {
            bytes[0] = 0x80;
        }
        let mut client = server.connect();
        client.send(&bytes);
        // It may have been closed already.
        let _closed = client.0.shutdown(std::net::Shutdown::Write);
        client.read_until(|_| false);
    }
    server.serves_on();
    server.stop();
}

#[test]
fn half_a_command_and_then_silence_is_cut_off_at_the_idle_limit() {
    let server = small_limits(|limits| limits.idle_ms = 150);
    let halves: [&[u8]; 4] = [b"get k", b"set k 0 0 10\r\nhalf", b"\x80\x00\x00", b""];
    for half in halves {
        let mut client = server.connect();
        client.send(half);
        client.is_ended();
    }
    server.serves_on();
    server.stop();
}

#[test]
fn commands_that_come_byte_by_byte_are_answered() {
    const BETWEEN: Duration = Duration::from_millis(2);
    let server = small_limits(|limits| limits.idle_ms = 1_000);
    let text = b"set b 3 0 4\r\nbyte\r\nget b\r\nmg b v f\r\n".to_vec();
    let told = b"STORED\r\nVALUE b 3 4\r\nbyte\r\nEND\r\nVA 4 f3\r\nbyte\r\n";
    let mut client = server.connect();
    for byte in text {
        client.send(&[byte]);
        thread::sleep(BETWEEN);
    }
    client.hears(told);
    let mut binary = server.connect();
    for byte in packet(0, &[], "b", &[], 0) {
        binary.send(&[byte]);
        thread::sleep(BETWEEN);
    }
    let answer = binary.read_until(|came| ends_with_opcode(came, 0));
    assert!(answer.ends_with(b"byte"), "{}", answer.escape_ascii());
    server.stop();
}

#[test]
fn a_path_is_served_as_a_port_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let server = Server::start_at(embedded(), 2, &Address::Unix(path.clone()));
    let socket = UnixStream::connect(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client(socket);
    // Keys of both shards.
    for n in 0..50 {
        let key = format!("u{n}");
        client.asks(
            format!("set {key} 0 0 2\r\nhi\r\nget {key}\r\n").as_bytes(),
            format!("STORED\r\nVALUE {key} 0 2\r\nhi\r\nEND\r\n").as_bytes(),
        );
    }
    server.stop();
}

#[test]
fn every_connection_sees_the_keys_of_both_shards() {
    const CLIENTS: usize = 8;
    let server = Server::start(embedded(), 2);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for round in 0..100 {
        let key = format!("shared{round}");
        let set = format!("set {key} 0 0 4\r\n{round:04}\r\n");
        clients[round % CLIENTS].asks(set.as_bytes(), b"STORED\r\n");
        let expected = format!("VALUE {key} 0 4\r\n{round:04}\r\nEND\r\n");
        for client in &mut clients {
            client.asks(format!("get {key}\r\n").as_bytes(), expected.as_bytes());
        }
    }
    server.stop();
}

#[test]
fn a_connection_beyond_the_bound_waits_until_another_closes() {
    const BOUND: u32 = 3;
    let server = small_limits(|limits| limits.connections_max = BOUND);
    let mut inside: Vec<_> = (0..BOUND).map(|_| server.connect()).collect();
    inside.iter_mut().for_each(|client| client.asks(b"mn\r\n", b"MN\r\n"));
    let mut waiting = server.connect();
    waiting.send(b"mn\r\n");
    thread::sleep(Duration::from_millis(100));
    assert_eq!(server.n_accepted(), u64::from(BOUND));
    drop(inside.pop());
    waiting.hears(b"MN\r\n");
    server.stop();
}

#[test]
fn two_thousand_connections_come_and_go() {
    const CONNECTIONS: usize = 2_000;
    const AT_ONCE: usize = 250;
    let server = Server::start(embedded(), 2);
    for round in 0..CONNECTIONS / AT_ONCE {
        let mut clients: Vec<_> = (0..AT_ONCE).map(|_| connect(server.address())).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(format!("set c{n} 0 0 4\r\n{round:04}\r\nget c{n}\r\n").as_bytes());
        }
        for (n, client) in clients.iter_mut().enumerate() {
            let expected = format!("STORED\r\nVALUE c{n} 0 4\r\n{round:04}\r\nEND\r\n");
            client.hears(expected.as_bytes());
        }
    }
    eventually("all are closed", || server.stat("curr_connections") == 1);
    assert!(server.stat("total_connections") > CONNECTIONS as u64);
    server.stop();
}

#[test]
fn stats_tell_what_was_done() {
    let server = Server::start(embedded(), 2);
    let mut client = server.connect();
    client.asks(
        b"set a 0 0 1\r\n1\r\nset b 0 0 1\r\n2\r\nget a\r\nget gone\r\ndelete b\r\n",
        b"STORED\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nEND\r\nDELETED\r\n",
    );
    let told = ["cmd_set", "get_hits", "get_misses", "delete_hits", "curr_items", "threads"]
        .map(|name| server.stat(name));
    assert_eq!(told, [2, 1, 1, 1, 1, 2]);
    assert_eq!(server.stat("limit_maxbytes"), 64 << 20);
    let bytes = server.stat("bytes");
    assert!(bytes > 0 && bytes < 2 << 20, "{bytes} of one small item and two empty tables");
    server.stop();
}
