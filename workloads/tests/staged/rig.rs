//! The service on an engine, and a client that reads replies byte by byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use forebay::net::Address;
use forebay::{Builder, Engine, ShardSnapshot};
use forebay_workloads::staged::files::FileId;
use forebay_workloads::staged::page::PageId;
use forebay_workloads::staged::{Config, Staged};

use crate::books::check_books;

/// Long enough for any machine: only a test that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Seeds the bytes that are served.
pub(crate) const SEED: u64 = 20_260_101;

/// The least that a workload file says.
pub(crate) fn config() -> Config {
    let text = r#"{"files": {"directories": 1},
        "classes": [{"name": "all", "page": "file", "share_percent": 100}],
        "clients": {"connections": 1}}"#;
    serde_json::from_str(text).unwrap()
}

/// A running server.
pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    /// Its files.
    _staged: Staged,
}

impl Server {
    pub(crate) fn start(config: &Config) -> Self {
        Self::start_with(config, 1, |_| {})
    }

    /// Starts one whose stages' options `change` has had its say about.
    pub(crate) fn start_with(
        config: &Config,
        n_shards: usize,
        change: impl FnOnce(&mut Builder),
    ) -> Self {
        assert_eq!(config.check(), Vec::new());
        let mut builder = Builder::new();
        builder.quiet().shards(n_shards);
        let staged = Staged::new(config, SEED).unwrap();
        let graph = staged.declare(&mut builder);
        change(&mut builder);
        let engine = builder.start().unwrap();
        let any_port = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        match staged.serve(&engine, graph, &any_port).unwrap() {
            Address::Tcp(address) => Self { engine, address, _staged: staged },
            other => panic!("asked for TCP, got {other}"),
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// The reply to one request on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Reply {
        let mut client = self.connect();
        client.ask(target);
        client.reply()
    }

    /// The server answers as ever.
    #[track_caller]
    pub(crate) fn serves_on(&self) {
        assert_is_file(&self.get("/front"), FileId::FRONT);
    }

    pub(crate) fn shard(&self) -> ShardSnapshot {
        (*self.engine.handle().snapshot(0).unwrap().shard).clone()
    }

    /// Drains and stops; nothing may be left, lost or counted twice. Gives the last counts.
    #[track_caller]
    pub(crate) fn stop(self) -> Vec<ShardSnapshot> {
        let handle = self.engine.handle().clone();
        let report = self.engine.stop(PATIENCE);
        assert!(report.drained && report.stuck_shards.is_empty(), "{report:?}");
        check_books(&handle)
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// In lowercase.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// One side of a connection.
#[derive(Debug)]
pub(crate) struct Client(pub(crate) BufReader<TcpStream>);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(socket))
    }

    /// Sends bytes; a server that has closed meanwhile is no error here.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _closed = self.0.get_mut().write_all(bytes);
    }

    pub(crate) fn ask(&mut self, target: &str) {
        self.send(format!("GET {target} HTTP/1.1\r\nhost: here\r\n\r\n").as_bytes());
    }

    pub(crate) fn finish(&mut self) {
        self.0.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    #[track_caller]
    pub(crate) fn reply(&mut self) -> Reply {
        self.reply_or_end().expect("a reply, not the end of the connection")
    }

    /// The next reply; `None` when the server has closed before its first byte.
    #[track_caller]
    pub(crate) fn reply_or_end(&mut self) -> Option<Reply> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match self.0.read_line(&mut head) {
                Ok(0) => {
                    assert_eq!(head, "", "cut within a head");
                    return None;
                }
                Ok(_) => {}
                Err(error) if is_broken(&error) && head.is_empty() => return None,
                Err(error) => panic!("{error} after {head:?}"),
            }
        }
        let head = head.to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { status, head, body: Vec::new() };
        reply.body.resize(reply.header("content-length").unwrap().parse().unwrap(), 0);
        self.0.read_exact(&mut reply.body).expect("the body is not cut");
        Some(reply)
    }

    /// The server has closed, and nothing more came.
    #[track_caller]
    pub(crate) fn is_ended(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert!(is_broken(&error), "{error}"),
        }
        assert!(rest.is_empty(), "more came: {:?}", String::from_utf8_lossy(&rest));
    }
}

/// What was sent and not read turns a close into a reset.
fn is_broken(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset)
}

/// A reply is this file, whole.
#[track_caller]
pub(crate) fn assert_is_file(reply: &Reply, id: FileId) {
    assert_eq!((reply.status, reply.body.len()), (200, id.n_bytes()), "{id}: {}", reply.head);
    assert!(id.content(SEED).is_at(0, &reply.body), "{id} has other bytes");
}

/// A reply is this page, whole.
#[track_caller]
pub(crate) fn assert_is_page(reply: &Reply, id: PageId, n_bytes: u32) {
    assert_eq!((reply.status, reply.body.len()), (200, n_bytes as usize), "{id}: {}", reply.head);
    assert!(id.content(SEED).is_at(0, &reply.body), "{id} has other bytes");
}
