//! Goal: sockets hold under what real peers do: many at once, churn, slow ones, silent ones, ones
//! that break off; and a service can be started again where it was.
//! Method: an echo service on a real shard, plain blocking sockets on ordinary threads.

#![allow(clippy::disallowed_methods, reason = "the peers are ordinary threads")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod child;
mod ring;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use child::{Ended, in_child};
use forebay::net::{
    Address, ConnectOptions, Connection, ConnectionOptions, ListenOptions, Listener,
};
use forebay::spawn_background;
use ring::{PATIENCE, Ring, shards};
use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Serves whatever connects: what comes goes back.
async fn echo(listener: Listener) {
    while let Ok(connection) = listener.accept().await {
        spawn_background(async move {
            while let Ok(Some(chunk)) = connection.read().await {
                if connection.write(chunk).await.is_err() {
                    return;
                }
            }
        })
        .detach();
    }
}

/// Starts an echo service on the first shard; gives its address.
fn serve(ring: &Ring, options: ListenOptions) -> SocketAddr {
    ring.run(0, move || async move {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), options).unwrap();
        let Address::Tcp(address) = listener.address().clone() else { panic!("not TCP") };
        spawn_background(echo(listener)).detach();
        address
    })
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Again while the host interrupts it: a read or write that has a timeout is not restarted by the
/// kernel when the process is stopped and continued.
fn uninterrupted(mut io: impl FnMut() -> std::io::Result<usize>) -> std::io::Result<usize> {
    loop {
        match io() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn round_trip(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut came = vec![0; bytes.len()];
    stream.read_exact(&mut came).unwrap();
    assert!(came == bytes, "{} bytes came back changed", bytes.len());
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until `done`; only a test that fails waits long.
#[track_caller]
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

const CONNECTIONS: usize = 10_000;
const SERVER: &str = "FOREBAY_TEST_SERVER";

#[test]
fn ten_thousand_connections_are_served_at_once_and_close_in_any_order() {
    let ended = in_child(|| {
        let ring = Ring::start(shards(1));
        let address = serve(&ring, ListenOptions::default());
        let idle = open_descriptors();
        // The other ends are another process's: together they are more than one may open.
        let clients = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["the_other_ends_of_ten_thousand_connections", "--exact", "--ignored"])
            .env(SERVER, address.to_string())
            .output()
            .unwrap();
        assert!(clients.status.success(), "{}", String::from_utf8_lossy(&clients.stdout));
        eventually("all descriptors are given back", || open_descriptors() == idle);
        let served = ring.shard(0).net.accepted;
        ring.stop();
        format!("{served} served")
    });
    assert_eq!(ended, Ended::Said(format!("{CONNECTIONS} served")));
}

#[test]
#[ignore = "a part of the test above, which starts it"]
fn the_other_ends_of_ten_thousand_connections() {
    let address = std::env::var(SERVER).unwrap().parse().unwrap();
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(address)).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&n.to_le_bytes()).unwrap();
    }
    for (n, stream) in streams.iter_mut().enumerate() {
        let mut came = [0; 8];
        stream.read_exact(&mut came).unwrap();
        assert_eq!(usize::from_le_bytes(came), n);
    }
    fastrand::Rng::with_seed(1).shuffle(&mut streams);
}

#[test]
fn churn_leaves_no_descriptor_behind() {
    let ended = in_child(|| {
        let ring = Ring::start(shards(1));
        let address = serve(&ring, ListenOptions::default());
        let before = open_descriptors();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for n in 0..500 {
                        let mut stream = connect(address);
                        match (thread + n) % 4 {
                            0 => drop(stream),
                            1 => round_trip(&mut stream, b"one"),
                            // Gone with an answer on its way.
                            2 => stream.write_all(&[7; 3_000]).unwrap(),
                            _ => abort(&stream),
                        }
                    }
                });
            }
        });
        eventually("all descriptors are given back", || open_descriptors() == before);
        ring.stop();
        "clean".to_owned()
    });
    assert_eq!(ended, Ended::Said("clean".to_owned()));
}

/// Makes the close of a socket a reset.
fn abort(stream: &TcpStream) {
    sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_peer_that_sends_a_byte_at_a_time_delays_nobody_and_is_served() {
    let ring = Ring::start(shards(1));
    let address = serve(&ring, ListenOptions::default());
    let slow = std::thread::spawn(move || {
        let mut stream = connect(address);
        for n in 0..5 {
            std::thread::sleep(Duration::from_secs(1));
            round_trip(&mut stream, &[n]);
        }
    });
    let mut quick = connect(address);
    let mut n_trips = 0;
    while !slow.is_finished() {
        round_trip(&mut quick, &[3; 64]);
        n_trips += 1;
    }
    slow.join().unwrap();
    assert!(n_trips > 1_000, "{n_trips} round trips in five seconds");
    ring.stop();
}

#[test]
fn a_peer_that_never_reads_stops_being_read_and_is_cut_in_the_end() {
    const BOUND: usize = 64 << 10;
    let ring = Ring::start(shards(1));
    let mut options = ListenOptions::default();
    options.connection.read_bytes_max = BOUND;
    options.connection.write_bytes_max = BOUND;
    options.connection.write_within = Duration::from_secs(1);
    let address = serve(&ring, options);
    let mut stream = connect(address);
    let mut n_sent = 0_u64;
    let cut = loop {
        match uninterrupted(|| stream.write(&[1; 8_192])) {
            Ok(n_bytes) => n_sent += n_bytes as u64,
            Err(error) => break error.kind(),
        }
    };
    // Its own send buffer fills first; then the service gives it up.
    assert!(matches!(cut, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{cut:?}");
    eventually("it is cut", || ring.shard(0).net.timed_out == 1);
    let net = ring.shard(0).net.clone();
    assert!(net.received_bytes < n_sent, "of {n_sent} bytes {} were taken", net.received_bytes);
    let held = net.received_bytes - net.sent_bytes;
    // Unread, unsent, under way, and one delivery of the kernel's beyond the bound.
    assert!(held <= 5 * BOUND as u64, "{held} bytes were held for it");
    round_trip(&mut connect(address), b"others are served");
    ring.stop();
}

#[test]
fn a_reset_in_the_middle_of_a_value_ends_that_connection_alone() {
    let ring = Ring::start(shards(1));
    let address = serve(&ring, ListenOptions::default());
    let mut other = connect(address);
    for _ in 0..50 {
        let mut stream = connect(address);
        stream.write_all(&[5; 50_000]).unwrap();
        abort(&stream);
        drop(stream);
        round_trip(&mut other, &[9; 1_000]);
    }
    drop(other);
    eventually("all are closed", || ring.shard(0).net.closed == 51);
    ring.stop();
}

#[test]
fn sixty_four_megabytes_pass_a_bound_of_sixty_four_kilobytes_whole() {
    const BYTES: usize = 64 << 20;
    let ring = Ring::start(shards(1));
    let mut options = ListenOptions::default();
    options.connection.read_bytes_max = 64 << 10;
    options.connection.write_bytes_max = 64 << 10;
    let address = serve(&ring, options);
    let mut stream = connect(address);
    let mut sending = stream.try_clone().unwrap();
    let byte = |n: usize| u8::try_from(n % 251).unwrap();
    let sender = std::thread::spawn(move || {
        let mut n_sent = 0;
        while n_sent < BYTES {
            let n_bytes = (BYTES - n_sent).min(100_003);
            let piece: Vec<u8> = (n_sent..n_sent + n_bytes).map(byte).collect();
            sending.write_all(&piece).unwrap();
            n_sent += n_bytes;
        }
        sending.shutdown(Shutdown::Write).unwrap();
    });
    let (mut n_came, mut piece) = (0, vec![0; 77_777]);
    loop {
        let n_bytes = uninterrupted(|| stream.read(&mut piece)).unwrap();
        if n_bytes == 0 {
            break;
        }
        let right = piece[..n_bytes].iter().zip(n_came..).all(|(came, n)| *came == byte(n));
        assert!(right, "wrong bytes between {n_came} and {}", n_came + n_bytes);
        n_came += n_bytes;
    }
    sender.join().unwrap();
    assert_eq!(n_came, BYTES);
    ring.stop();
}

#[test]
fn a_service_starts_again_on_its_port_twenty_times() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    for _ in 0..20 {
        let ring = Ring::start(shards(1));
        ring.run(0, move || async move {
            let listener = Listener::bind(&address.into(), ListenOptions::default()).unwrap();
            spawn_background(echo(listener)).detach();
        });
        // One that stays open until after the stop, so that the service is the first to close.
        let mut stream = connect(address);
        round_trip(&mut stream, b"again");
        ring.stop();
        let ended = uninterrupted(|| stream.read(&mut [0; 8]));
        let is_ended = match &ended {
            Ok(n_bytes) => *n_bytes == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        assert!(is_ended, "{ended:?}");
        // Nothing listens any more once the stop has been reported.
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

/// Opens files until `n_left` descriptors are left.
fn take_all_descriptors_but(n_left: usize) -> Vec<std::fs::File> {
    let null = || std::fs::File::open("/dev/null").ok();
    let mut taken: Vec<_> = std::iter::from_fn(null).collect();
    taken.truncate(taken.len() - n_left);
    taken
}

#[test]
fn descriptors_that_run_out_pause_accepting_and_it_goes_on() {
    let ended = in_child(|| {
        let ring = Ring::start(shards(1));
        // Before the accept is armed: it keeps to the limit that it has found.
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(100), ..limit }).unwrap();
        let address = serve(&ring, ListenOptions::default());
        let mut held: Vec<TcpStream> = (0..10).map(|_| connect(address)).collect();
        held.iter_mut().for_each(|stream| round_trip(stream, b"in"));
        // The next connection's own end fits, the service's does not.
        let taken = take_all_descriptors_but(1);
        let mut late = connect(address);
        eventually("accepting pauses", || ring.shard(0).net.accept_pauses >= 2);
        let pauses = ring.shard(0).net.accept_pauses;
        assert!(pauses < 100, "{pauses} pauses: it spins");
        round_trip(&mut held[0], b"others are served");
        drop(taken);
        round_trip(&mut late, b"late");
        ring.stop();
        "recovered".to_owned()
    });
    assert_eq!(ended, Ended::Said("recovered".to_owned()));
}

#[test]
fn a_unix_socket_serves_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let address = Address::Unix(dir.path().join("echo.sock"));
    let ring = Ring::start(shards(1));
    let came = ring.run(0, move || async move {
        let listener = Listener::bind(&address, ListenOptions::default()).unwrap();
        assert_eq!(listener.address(), &address);
        spawn_background(echo(listener)).detach();
        let connection = Connection::connect(&address, ConnectOptions::default()).await.unwrap();
        assert_eq!(connection.peer().unwrap(), address);
        connection.write("through a path").await.unwrap();
        connection.finish().await.unwrap();
        let mut came = Vec::new();
        while let Some(chunk) = connection.read().await.unwrap() {
            came.extend_from_slice(&chunk);
        }
        came
    });
    assert_eq!(came, b"through a path");
    ring.stop();
}

#[test]
fn a_listener_that_was_passed_on_is_adopted_by_every_shard() {
    let n_shards = if ring::two_cpus() { 2 } else { 1 };
    let passed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = passed.local_addr().unwrap();
    let ring = Ring::start(shards(n_shards));
    for shard in 0..n_shards {
        let descriptor = passed.try_clone().unwrap().into();
        ring.run(shard, move || async move {
            let listener = Listener::adopt(descriptor, ListenOptions::default()).unwrap();
            spawn_background(echo(listener)).detach();
        });
    }
    let mut streams: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
    streams.iter_mut().for_each(|stream| round_trip(stream, b"passed"));
    let refused = ring.run(0, || async {
        let datagram = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Listener::adopt(datagram.into(), ListenOptions::default()).map(drop)
    });
    assert!(refused.is_err());
    ring.stop();
}

#[test]
fn every_shard_listens_on_the_same_address() {
    if !ring::two_cpus() {
        return;
    }
    let ring = Ring::start(shards(2));
    let address = serve(&ring, ListenOptions::default());
    ring.run(1, move || async move {
        let listener = Listener::bind(&address.into(), ListenOptions::default()).unwrap();
        spawn_background(echo(listener)).detach();
    });
    let mut streams: Vec<TcpStream> = (0..64).map(|_| connect(address)).collect();
    streams.iter_mut().for_each(|stream| round_trip(stream, b"spread"));
    eventually("both have served", || (0..2).all(|shard| ring.shard(shard).net.accepted > 0));
    ring.stop();
}

#[test]
fn a_busy_shard_serves_its_sockets_all_the_same() {
    let ring = Ring::start(shards(1));
    let address = serve(&ring, ListenOptions::default());
    ring.run(0, || async {
        spawn_background(async {
            loop {
                forebay::yield_now().await;
            }
        })
        .detach();
    });
    let mut stream = connect(address);
    for _ in 0..1_000 {
        round_trip(&mut stream, &[1; 64]);
    }
    ring.stop();
}

#[test]
fn what_was_written_before_a_drop_arrives() {
    let ring = Ring::start(shards(1));
    let address = ring.run(0, || async {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), ListenOptions::default());
        let listener = listener.unwrap();
        let Address::Tcp(address) = listener.address().clone() else { panic!("not TCP") };
        spawn_background(async move {
            let connection = listener.accept().await.unwrap();
            connection.write(vec![4; 60_000]).await.unwrap();
        })
        .detach();
        address
    });
    let mut came = Vec::new();
    connect(address).read_to_end(&mut came).unwrap();
    assert!(came == vec![4; 60_000], "{} bytes came", came.len());
    ring.stop();
}

#[test]
fn a_connection_that_says_nothing_is_closed_at_its_time() {
    let ring = Ring::start(shards(1));
    // Long beside any stall of a loaded host.
    let idle = Some(Duration::from_secs(3));
    let connection = ConnectionOptions { idle, ..ConnectionOptions::default() };
    let address = serve(&ring, ListenOptions { connection, ..ListenOptions::default() });
    let mut stream = connect(address);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(20));
        round_trip(&mut stream, b"still here");
    }
    let ended = uninterrupted(|| stream.read(&mut [0; 8]));
    assert_eq!(ended.unwrap(), 0, "closed by the service");
    ring.stop();
}

#[test]
fn a_stop_that_drains_sends_what_was_written() {
    const BYTES: usize = 4 << 20;
    let ring = Ring::start(shards(1));
    let address = ring.run(0, || async {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), ListenOptions::default());
        let listener = listener.unwrap();
        let Address::Tcp(address) = listener.address().clone() else { panic!("not TCP") };
        spawn_background(async move {
            let connection = listener.accept().await.unwrap();
            connection.write(vec![6; BYTES]).await.unwrap();
        })
        .detach();
        address
    });
    let mut stream = connect(address);
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    // Longer under way than sockets hold: the stop begins with most of it unsent.
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        let mut came = Vec::new();
        stream.read_to_end(&mut came).map(|n_bytes| n_bytes + 1)
    });
    ring.stop();
    assert_eq!(reader.join().unwrap().unwrap(), BYTES);
}
