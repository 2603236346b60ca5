//! All clients of a cell: connected side by side, greeted, looked at once more, closed.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use forebay::RequestOptions;
use forebay::net::{Address, ConnectOptions, Connection};

use super::Dialogue;
use super::line::{Line, Over};
use crate::client_shard::source;
use crate::subject::CellError;
use crate::troubles::Troubles;

/// Connection attempts at a time: well below the backlog of any server here.
const CONNECTORS: usize = 64;
/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// Pause before the last look: time for what a server sends too much to arrive.
const SETTLE: Duration = Duration::from_millis(20);
/// Connections looked at in one poll of the task: fewer than a task's budget of reads.
const LOOKS_PER_POLL: usize = 16;

/// All clients, and the book that they share.
pub(crate) struct Fleet<D> {
    pub(super) lines: Vec<Rc<Line<D>>>,
    troubles: Rc<RefCell<Troubles>>,
}

/// Opens all connections, each with the dialogue that `dialogue` gives for its number, and has each
/// answer a greeting, so that none is only half there. One that breaks at once or answers wrong
/// stands in the book; one that cannot be opened is an error.
pub(crate) async fn connect<D: Dialogue + 'static>(
    address: SocketAddr,
    n_connections: usize,
    dialogue: impl Fn(u64) -> D + Clone + 'static,
) -> Result<Fleet<D>, CellError> {
    let troubles = Rc::default();
    let connectors: Vec<_> = (0..CONNECTORS.min(n_connections))
        .map(|first| {
            let ids = (first..n_connections).step_by(CONNECTORS);
            let lines = connect_every(address, ids, dialogue.clone(), Rc::clone(&troubles));
            forebay::spawn(RequestOptions::default(), lines)
        })
        .collect();
    let mut lines = Vec::with_capacity(n_connections);
    for connector in connectors {
        let some = connector.await.map_err(|error| CellError::Failed(error.to_string()))?;
        lines.extend(some.map_err(|error| {
            CellError::Failed(format!("connecting {n_connections} clients: {error}"))
        })?);
    }
    Ok(Fleet { lines, troubles })
}

async fn connect_every<D: Dialogue>(
    address: SocketAddr,
    ids: impl Iterator<Item = usize>,
    dialogue: impl Fn(u64) -> D,
    troubles: Rc<RefCell<Troubles>>,
) -> io::Result<Vec<Rc<Line<D>>>> {
    let mut lines = Vec::new();
    for id in ids {
        let from = Some(source(id));
        let options = ConnectOptions { within: CONNECT_MAX, from, ..ConnectOptions::default() };
        let connection = Connection::connect(&Address::Tcp(address), options).await?;
        let number = u64::try_from(id).expect("a number of a connection fits 64 bits");
        let line = Line::new(connection, number, dialogue(number), &troubles);
        // A line that is over stays in its place, and is over in every phase.
        let _over = greet(&line).await;
        lines.push(Rc::new(line));
    }
    Ok(lines)
}

/// Greets, and waits for the reply.
async fn greet<D: Dialogue>(line: &Line<D>) -> Result<(), Over> {
    let mut out = Vec::new();
    line.put_greeting(&mut out);
    line.send(&mut out).await?;
    let mut replied = false;
    while !replied {
        line.receive(|_| replied = true).await?;
    }
    Ok(())
}

impl<D: Dialogue> Fleet<D> {
    /// Looks at every connection once more, closes all, and tells what went wrong since they were
    /// opened.
    pub(crate) async fn close(self) -> Troubles {
        forebay::sleep(SETTLE).await;
        for lines in self.lines.chunks(LOOKS_PER_POLL) {
            for line in lines {
                line.look().await;
            }
            forebay::yield_now().await;
        }
        for line in self.lines {
            if let Ok(line) = Rc::try_unwrap(line) {
                line.abort();
            }
        }
        self.troubles.borrow().clone()
    }
}
