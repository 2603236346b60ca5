//! How connections are made and bounded.

use std::net::IpAddr;
use std::time::Duration;

/// Bounds of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// Received bytes that may wait to be read; at this many nothing more is received until half of
    /// them are. What the kernel holds meanwhile slows the other side down. One delivery of the
    /// kernel's (32 buffers, so 128 KiB with the usual ones) may go beyond it. Default 64 KiB.
    pub read_bytes_max: usize,
    /// Bytes that may wait to be sent; a write waits while there are more. Default 64 KiB.
    pub write_bytes_max: usize,
    /// How long the connection may be silent in both directions before it is closed; reads and
    /// writes then fail with `TimedOut`. Default none.
    pub idle: Option<Duration>,
    /// How long what stands first of the bytes that wait, at most 64 KiB of it, may take to leave
    /// before the connection is closed, also after it was dropped: a reader that takes a byte now and
    /// then is cut as one that takes none. Default 30 s, which asks for 2 KiB a second of a long reply.
    pub write_within: Duration,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            read_bytes_max: 64 << 10,
            write_bytes_max: 64 << 10,
            idle: None,
            write_within: Duration::from_secs(30),
        }
    }
}

/// How a listener takes in connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that the kernel holds until they are accepted; it has a limit of its own
    /// (`net.core.somaxconn`). Default 4,096.
    pub backlog: u32,
    /// Connections of this listener that may be open at once; further ones wait in the kernel. One
    /// delivery of the kernel's may bring as many more as `backlog` holds: they are kept, and none is
    /// taken in until as many have closed. Default 65,536.
    pub connections_max: usize,
    /// The bounds of each.
    pub connection: ConnectionOptions,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 4_096, connections_max: 65_536, connection: ConnectionOptions::default() }
    }
}

/// How to connect to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// How long the attempt may take. Default 5 s.
    pub within: Duration,
    /// The address to connect from: one address has some 28,000 ports for each server. Default the
    /// system's choice.
    pub from: Option<IpAddr>,
    /// The bounds of the connection.
    pub connection: ConnectionOptions,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            within: Duration::from_secs(5),
            from: None,
            connection: ConnectionOptions::default(),
        }
    }
}
