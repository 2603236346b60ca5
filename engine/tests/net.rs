//! Goal: a shard's connection carries bytes both ways whole, tells when there is no server, and one
//! that is left behind does not keep the engine.
//! Method: a plain echo server on an ordinary thread, real sockets on loopback.

#![allow(clippy::disallowed_methods, reason = "the server is an ordinary thread")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod ring;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use forebay::net::{ConnectOptions, Connection};
use forebay::spawn_background;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use ring::{Notes, Ring, shards};

const WITHIN: Duration = Duration::from_secs(5);

fn options() -> ConnectOptions {
    ConnectOptions { within: WITHIN, ..ConnectOptions::default() }
}

/// Serves one connection: whatever comes goes back.
fn echo_once() -> (SocketAddr, std::thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let (mut bytes, mut n_echoed) = ([0; 4_096], 0);
        loop {
            match socket.read(&mut bytes).unwrap() {
                0 => return n_echoed,
                n_read => {
                    socket.write_all(&bytes[..n_read]).unwrap();
                    n_echoed += n_read;
                }
            }
        }
    });
    (address, server)
}

#[test]
fn what_is_written_comes_back_whole() {
    let (address, server) = echo_once();
    let ring = Ring::start(shards(1));
    ring.run(0, move || async move {
        let mut connection = Connection::connect(&address.into(), options()).await.unwrap();
        for n_bytes in [1, 100, 50_000] {
            let sent: Vec<u8> = (0..n_bytes).map(|n: u32| n.to_le_bytes()[0]).collect();
            connection.write_all(&sent).await.unwrap();
            connection.flush().await.unwrap();
            let mut came = vec![0; sent.len()];
            connection.read_exact(&mut came).await.unwrap();
            assert_eq!(came, sent);
        }
        connection.close().await.unwrap();
    });
    assert!(server.join().unwrap() > 0);
    ring.stop();
}

#[test]
fn no_server_is_an_error_at_once() {
    // A port that was free a moment ago and that nobody listens on.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ring = Ring::start(shards(1));
    let refused = ring.run(0, move || async move {
        Connection::connect(&address.into(), options())
            .await
            .map(drop)
            .map_err(|error| error.kind())
    });
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
    ring.stop();
}

/// Notes that it was dropped, and on which thread.
struct Dropped(Notes<Option<String>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add(std::thread::current().name().map(ToOwned::to_owned));
    }
}

#[test]
fn a_connection_in_the_background_is_not_waited_for_and_closed_when_its_shard_ends() {
    let (address, server) = echo_once();
    let (drops, ring) = (Notes::default(), Ring::start(shards(1)));
    let dropped = Dropped(drops.clone());
    ring.run(0, move || async move {
        let connection = Connection::connect(&address.into(), options()).await.unwrap();
        spawn_background(async move {
            let _dropped = dropped;
            // The server has nothing to say: this waits for ever.
            let _came = connection.read().await;
        })
        .detach();
        spawn_background(async { panic!("planted: a background task that panics ends alone") })
            .detach();
        for _ in 0..10 {
            forebay::yield_now().await;
        }
    });
    assert_eq!(drops.all(), []);
    ring.stop();
    assert_eq!(drops.all(), [Some("forebay-0".to_owned())]);
    assert_eq!(server.join().unwrap(), 0, "the server has seen the end and no byte");
}

#[test]
fn background_work_ends_with_its_handle() {
    let (drops, ring) = (Notes::default(), Ring::start(shards(1)));
    let (dropped, noted) = (Dropped(drops.clone()), drops.clone());
    ring.run(0, move || async move {
        let held = spawn_background(async move {
            let _dropped = dropped;
            std::future::pending::<()>().await;
        });
        forebay::yield_now().await;
        assert_eq!(noted.all(), []);
        drop(held);
        forebay::yield_now().await;
        assert_eq!(noted.all().len(), 1);
    });
    ring.stop();
}

#[test]
fn attempts_to_connect_that_are_given_up_at_any_moment_leave_the_shard_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ring = Ring::start(shards(1));
    ring.run(0, move || async move {
        let address = address.into();
        for n in 0..100_u32 {
            let connecting = Connection::connect(&address, options());
            let given_up = async {
                // Before its first poll has left for the kernel, while it is there, and after.
                for _ in 0..n % 4 {
                    forebay::yield_now().await;
                }
                forebay::sleep(Duration::from_micros(u64::from(n % 3) * 40)).await;
            };
            futures_lite::future::or(async { drop(connecting.await) }, given_up).await;
        }
        drop(Connection::connect(&address, options()).await.unwrap());
    });
    drop(listener);
    ring.stop();
}

#[test]
fn a_server_that_does_not_answer_is_given_up_in_time() {
    // A queue of one that is full: the kernel drops further attempts, and the client waits.
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address: SocketAddr = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
    let _fill: Vec<_> = (0..4)
        .map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50)))
        .collect();
    let ring = Ring::start(shards(1));
    let kind = ring.run(0, move || async move {
        let options = ConnectOptions { within: Duration::from_millis(50), ..options() };
        Connection::connect(&address.into(), options).await.map(drop).map_err(|error| error.kind())
    });
    assert_eq!(kind, Err(ErrorKind::TimedOut));
    ring.stop();
}
