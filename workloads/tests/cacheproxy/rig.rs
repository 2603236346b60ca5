//! The service on an engine, and a client that writes bytes and counts the answers it reads.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use forebay::net::Address;
use forebay::{Builder, Engine};
pub(crate) use forebay_workloads::cacheproxy::Limits;
use forebay_workloads::cacheproxy::chunks::ChunksConfig;
use forebay_workloads::cacheproxy::downstream;
use forebay_workloads::cacheproxy::{
    Cacheproxy, ChunkedTier, Config, Embedded, Orchestration, Service, TierConfig,
};

use crate::books::check_books;
pub(crate) use crate::memcached::{PATIENCE, eventually};

/// A service whose items are in memory.
pub(crate) fn embedded() -> Service {
    Service::default()
}

/// A service in front of these servers.
pub(crate) fn proxy(servers: &[SocketAddr]) -> Service {
    Service { l1: memcached(servers), ..Service::default() }
}

/// A service with copies in memory of what these servers have.
pub(crate) fn two_tiers(servers: &[SocketAddr]) -> Service {
    Service {
        orchestration: Orchestration::L1L2,
        l1: TierConfig::Embedded(Embedded::default()),
        l2: Some(memcached(servers)),
        ..Service::default()
    }
}

/// A service with copies on one server of what another has.
pub(crate) fn tiers_of(orchestration: Orchestration, [l1, l2]: [SocketAddr; 2]) -> Service {
    Service {
        orchestration,
        l1: memcached(&[l1]),
        l2: Some(memcached(&[l2])),
        ..Service::default()
    }
}

/// A service in front of these servers that cuts values into the smallest pieces there are.
pub(crate) fn chunked(servers: &[SocketAddr]) -> Service {
    let chunks = ChunksConfig { piece_bytes: 512, value_bytes_max: 1 << 20 };
    let tier = ChunkedTier { memcached: downstream_of(servers), chunks };
    Service { l1: TierConfig::Chunked(tier), ..Service::default() }
}

fn memcached(servers: &[SocketAddr]) -> TierConfig {
    TierConfig::Memcached(downstream_of(servers))
}

fn downstream_of(servers: &[SocketAddr]) -> downstream::Config {
    let servers: Vec<Address> = servers.iter().copied().map(Address::Tcp).collect();
    downstream::Config::of(&servers)
}

/// A running service.
pub(crate) struct Server {
    pub(crate) engine: Engine,
    address: Address,
}

impl Server {
    /// Starts one on a TCP port of its own.
    pub(crate) fn start(service: Service, n_shards: usize) -> Self {
        let any_port = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self::start_at(service, n_shards, &any_port)
    }

    pub(crate) fn start_at(service: Service, n_shards: usize, address: &Address) -> Self {
        let load = serde_json::from_str(r#"{"connections": 1, "keys": 1}"#).unwrap();
        let config = Config { service, backends: 0, load, planted: None };
        assert_eq!(config.check(), Vec::new());
        let mut builder = Builder::new();
        builder.quiet().shards(n_shards);
        let cacheproxy = Cacheproxy::declare(&mut builder, &config, &[]).unwrap();
        let engine = builder.start().unwrap();
        let address = cacheproxy.serve(&engine, address).unwrap();
        Self { engine, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match &self.address {
            Address::Tcp(address) => *address,
            other => panic!("asked for TCP, got {other}"),
        }
    }

    pub(crate) fn connect(&self) -> Client<TcpStream> {
        connect(self.address())
    }

    /// Sum over all shards of what a shard has counted of its connections.
    pub(crate) fn n_accepted(&self) -> u64 {
        let snapshots = self.engine.handle().snapshots();
        snapshots.into_iter().map(|snapshot| snapshot.unwrap().shard.net.accepted).sum()
    }

    pub(crate) fn n_sent_bytes(&self) -> u64 {
        let snapshots = self.engine.handle().snapshots();
        snapshots.into_iter().map(|snapshot| snapshot.unwrap().shard.net.sent_bytes).sum()
    }

    /// The number of this name in `stats`.
    #[track_caller]
    pub(crate) fn stat(&self, name: &str) -> u64 {
        stat(self.address(), name)
    }

    /// The server answers as ever.
    #[track_caller]
    pub(crate) fn serves_on(&self) {
        let mut client = self.connect();
        client.asks(
            b"set still 0 0 4\r\nhere\r\nget still\r\n",
            b"STORED\r\nVALUE still 0 4\r\nhere\r\nEND\r\n",
        );
    }

    /// Drains and stops; nothing may be left, lost or counted twice.
    #[track_caller]
    pub(crate) fn stop(self) {
        let handle = self.engine.handle().clone();
        let report = self.engine.stop(PATIENCE);
        assert!(report.drained && report.stuck_shards.is_empty(), "{report:?}");
        check_books(&handle);
    }
}

/// The number of this name in what is answered there to `stats`.
#[track_caller]
pub(crate) fn stat(address: SocketAddr, name: &str) -> u64 {
    let mut client = connect(address);
    client.send(b"stats\r\n");
    let told = client.read_until(|came| came.ends_with(b"END\r\n"));
    let told = String::from_utf8(told).unwrap();
    let prefix = format!("STAT {name} ");
    let number = told.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok());
    number.unwrap_or_else(|| panic!("no {name} in {told}"))
}

/// One side of a connection.
#[derive(Debug)]
pub(crate) struct Client<S>(pub(crate) S);

/// Connects to whoever speaks memcached's protocols there.
pub(crate) fn connect(address: SocketAddr) -> Client<TcpStream> {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    Client(socket)
}

impl<S: Read + Write> Client<S> {
    /// Sends bytes; a server that has closed meanwhile is no error here.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _closed = self.0.write_all(bytes);
    }

    /// Reads until `is_whole` says so of all that came, or the server closes.
    #[track_caller]
    pub(crate) fn read_until(&mut self, is_whole: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut came = Vec::new();
        let mut part = [0; 64 << 10];
        while !is_whole(&came) {
            match self.0.read(&mut part) {
                Ok(0) => break,
                Ok(n_bytes) => came.extend(&part[..n_bytes]),
                Err(error) if is_broken(&error) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} after {} bytes: {}", came.len(), tail(&came)),
            }
        }
        came
    }

    /// The next bytes are these.
    #[track_caller]
    pub(crate) fn hears(&mut self, expected: &[u8]) {
        let mut came = Vec::new();
        let read = Read::by_ref(&mut self.0).take(expected.len() as u64).read_to_end(&mut came);
        assert!(came == expected, "{read:?}: {}\nand not\n{}", tail(&came), tail(expected));
    }

    /// Asks, and is answered with these bytes.
    #[track_caller]
    pub(crate) fn asks(&mut self, asked: &[u8], expected: &[u8]) {
        self.send(asked);
        self.hears(expected);
    }

    /// One line.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            match self.0.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => line.push(byte[0]),
                Err(error) if is_broken(&error) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} after {}", tail(&line)),
            }
        }
        String::from_utf8(line).unwrap()
    }

    /// The server has closed, and nothing more came.
    #[track_caller]
    pub(crate) fn is_ended(&mut self) {
        let rest = self.read_until(|rest| !rest.is_empty());
        assert!(rest.is_empty(), "more came: {}", tail(&rest));
    }
}

/// What was sent and not read turns a close into a reset.
fn is_broken(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// The end of some bytes, for a message.
pub(crate) fn tail(bytes: &[u8]) -> String {
    const TOLD_BYTES: usize = 600;
    bytes[bytes.len().saturating_sub(TOLD_BYTES)..].escape_ascii().to_string()
}
