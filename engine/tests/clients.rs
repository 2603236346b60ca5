//! Goal: client crates work over a shard's connections without knowing it: through tokio's traits
//! (redis, which asks for a stream that is `Send`) and through futures-io (memcache-async).
//! Method: the real servers, each told by a variable (`FOREBAY_REDIS_URL`,
//! `FOREBAY_MEMCACHED_ADDRESS`). None is fine on a laptop and a failure where
//! `FOREBAY_REQUIRE_SERVERS=1`. PostgreSQL is shown by `forebay-workloads`, which uses it.

#![allow(clippy::disallowed_methods, reason = "a strayed connection needs a thread to stray to")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod ring;

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use forebay::net::{ConnectOptions, Connection, TokioIo};
use forebay::{Background, spawn_background};
use memcache_async::ascii::Protocol;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo};
use ring::{Ring, all, shards, spawn};

/// Where a server is that tests may use; says so when there is none.
fn server(variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(place) => Some(place),
        Err(_) if std::env::var("FOREBAY_REQUIRE_SERVERS").is_ok_and(|set| set == "1") => {
            panic!("{variable} is not set, and FOREBAY_REQUIRE_SERVERS=1 asks for it")
        }
        Err(_) => {
            eprintln!("skipped: {variable} is not set");
            None
        }
    }
}

fn redis_server() -> Option<SocketAddr> {
    let url = server("FOREBAY_REDIS_URL")?;
    match url.as_str().into_connection_info().unwrap().addr() {
        ConnectionAddr::Tcp(host, port) => {
            Some((host.as_str(), *port).to_socket_addrs().unwrap().next().unwrap())
        }
        other => panic!("{other} is no plain TCP address"),
    }
}

async fn connect(address: SocketAddr) -> Connection {
    Connection::connect(&address.into(), ConnectOptions::default()).await.unwrap()
}

/// A client, and what drives it.
async fn redis_client(address: SocketAddr) -> (MultiplexedConnection, Background) {
    let stream = TokioIo::new(connect(address).await).into_send();
    // Its timeouts would need a runtime of tokio's.
    let untimed =
        AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    let info = redis::RedisConnectionInfo::default();
    let (client, driver) =
        MultiplexedConnection::new_with_config(&info, stream, untimed).await.unwrap();
    (client, spawn_background(driver))
}

/// A key that no other test and no other run has.
fn key(name: &str) -> String {
    format!("forebay-test-{}-{name}", std::process::id())
}

/// Bytes that show where one is missing.
fn pattern(n_bytes: usize) -> Vec<u8> {
    (0..n_bytes).map(|n| (n % 251).to_le_bytes()[0]).collect()
}

#[test]
fn redis_values_of_any_size_come_back_whole() {
    let Some(address) = redis_server() else { return };
    let ring = Ring::start(shards(1));
    ring.run(0, move || async move {
        let (mut client, _driver) = redis_client(address).await;
        let key = key("sizes");
        for n_bytes in [0, 1, 4_096, 70_000, 1 << 20] {
            let set =
                redis::cmd("SET").arg(&key).arg(pattern(n_bytes)).arg("EX").arg(60).to_owned();
            let () = set.query_async(&mut client).await.unwrap();
            let value: Vec<u8> =
                redis::cmd("GET").arg(&key).query_async(&mut client).await.unwrap();
            assert!(value == pattern(n_bytes), "{} of {n_bytes} bytes, or others", value.len());
        }
        let () = redis::cmd("DEL").arg(&key).query_async(&mut client).await.unwrap();
    });
    ring.stop();
}

#[test]
fn redis_commands_of_many_requests_share_one_connection() {
    let Some(address) = redis_server() else { return };
    let ring = Ring::start(shards(1));
    ring.run(0, move || async move {
        let (client, _driver) = redis_client(address).await;
        let key = key("shared");
        let one = |n: u64| {
            let (mut client, key) = (client.clone(), key.clone());
            spawn(async move {
                let field = n.to_string();
                let () = redis::cmd("HSET")
                    .arg((&key, &field, n * n))
                    .query_async(&mut client)
                    .await
                    .unwrap();
                let value: u64 =
                    redis::cmd("HGET").arg((&key, &field)).query_async(&mut client).await.unwrap();
                value
            })
        };
        let values = all((0..500).map(one).collect()).await;
        assert!(values.into_iter().eq((0..500).map(|n| n * n)));
        let mut client = client;
        let () = redis::cmd("DEL").arg(&key).query_async(&mut client).await.unwrap();
    });
    ring.stop();
}

#[test]
fn a_stream_that_was_sent_to_another_thread_panics_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ring = Ring::start(shards(1));
    ring.run(0, move || async move {
        let stream = TokioIo::new(connect(address).await).into_send();
        let elsewhere = std::thread::spawn(move || drop(stream));
        assert!(elsewhere.join().is_err(), "it belongs to its shard");
    });
    // The connection was never given up: it ends with the shard.
    ring.stop();
}

#[test]
fn memcached_values_of_any_size_come_back_whole() {
    let Some(address) = server("FOREBAY_MEMCACHED_ADDRESS") else { return };
    let address = address.parse().unwrap();
    let ring = Ring::start(shards(1));
    ring.run(0, move || async move {
        let mut client = Protocol::new(connect(address).await);
        // A memcached holds values of just under one MiB.
        for n_bytes in [1, 4_096, 70_000, 1_000_000] {
            let key = key(&n_bytes.to_string());
            client.set(&key, &pattern(n_bytes), 60).await.unwrap();
            let value = client.get(&key).await.unwrap();
            assert!(value == pattern(n_bytes), "{} of {n_bytes} bytes, or others", value.len());
            client.delete(&key).await.unwrap();
        }
        let keys: Vec<String> = (0..128).map(|n| key(&format!("many-{n}"))).collect();
        for name in &keys {
            client.set(name, name.as_bytes(), 60).await.unwrap();
        }
        let found = client.get_multi(&keys).await.unwrap();
        assert_eq!(found.len(), keys.len());
        assert!(found.iter().all(|(key, value)| key.as_bytes() == value));
    });
    ring.stop();
}

#[test]
fn a_server_that_falls_silent_is_timed_by_the_shard() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ring = Ring::start(shards(1));
    let answered = ring.run(0, move || async move {
        let mut client = Protocol::new(connect(address).await);
        let silent = async {
            forebay::sleep(Duration::from_millis(20)).await;
            false
        };
        futures_lite::future::or(async { client.version().await.is_ok() }, silent).await
    });
    assert!(!answered);
    drop(listener);
    ring.stop();
}
