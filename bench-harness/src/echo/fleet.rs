//! All clients of a cell: connected side by side, greeted, closed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use forebay::RequestOptions;
use forebay::net::{Address, ConnectOptions, Connection};

use super::line::Line;
use super::wire::Wire;
use crate::subject::CellError;

/// Connection attempts at a time: well below the backlog of any server here.
const CONNECTORS: usize = 64;
/// Connections from one loopback address: it has 28,000 ports by default, and those of the
/// connections before may still be waiting out their minute.
const CONNECTIONS_PER_ADDRESS: usize = 4_000;
/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(20);

/// Opens all connections and has each answer one request, so that none is only half there.
pub(super) async fn connect(
    address: SocketAddr,
    n_connections: usize,
    wire: Wire,
) -> Result<Vec<Rc<Line>>, CellError> {
    let connectors: Vec<_> = (0..CONNECTORS.min(n_connections))
        .map(|first| {
            let lines = connect_every(address, (first..n_connections).step_by(CONNECTORS), wire);
            forebay::spawn(RequestOptions::default(), lines)
        })
        .collect();
    let mut fleet = Vec::with_capacity(n_connections);
    for connector in connectors {
        let lines = connector.await.map_err(|error| CellError::Failed(error.to_string()))?;
        fleet.extend(lines.map_err(|error| {
            CellError::Failed(format!("connecting {n_connections} clients: {error}"))
        })?);
    }
    Ok(fleet)
}

async fn connect_every(
    address: SocketAddr,
    ids: impl Iterator<Item = usize>,
    wire: Wire,
) -> io::Result<Vec<Rc<Line>>> {
    let mut lines = Vec::new();
    for id in ids {
        let from = Some(source(id));
        let options = ConnectOptions { within: CONNECT_MAX, from, ..ConnectOptions::default() };
        let connection = Connection::connect(&Address::Tcp(address), options).await?;
        let number = u64::try_from(id).expect("a number of a connection fits 64 bits");
        let line = Line::new(connection, wire, number);
        greet(&line).await?;
        lines.push(Rc::new(line));
    }
    Ok(lines)
}

/// The address that a client connects from. The whole of 127/8 is this host; the process takes
/// part in the choice, so that a repetition does not meet the ports of the one before it.
fn source(id: usize) -> IpAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let block = u8::try_from(id / CONNECTIONS_PER_ADDRESS).unwrap_or(u8::MAX);
    // Neither network nor broadcast address, whatever the process and the block.
    IpAddr::V4(Ipv4Addr::new(127, 1 + low % 250, high, 1 + block % 250))
}

/// Waits for one reply. A wrong one is counted where requests are: the server may spoil some.
async fn greet(line: &Line) -> io::Result<()> {
    let mut out = Vec::new();
    line.put_request(&mut out);
    line.send(&mut out).await?;
    let mut replied = false;
    while !replied {
        line.receive(|_| replied = true).await?;
    }
    Ok(())
}

/// Closes all connections at once.
pub(super) fn close(fleet: Vec<Rc<Line>>) {
    for line in fleet {
        if let Ok(line) = Rc::try_unwrap(line) {
            line.abort();
        }
    }
}
