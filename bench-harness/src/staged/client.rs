//! One client: asks one thing at a time, over a connection that it opens when it needs one.
//!
//! A connection is used until the server says that it closes, until the client has asked as often
//! as it may on one, or until something goes wrong. It is closed by a reset: one that ended in order
//! would keep its port for a minute, and clients that come and go would soon have none. Before each
//! use it is looked at, so that a reply to no request is found and an idle connection that the server
//! has closed is replaced.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use forebay::net::{Address, Chunk, ConnectOptions, Connection};
use futures_lite::future::{or, ready};

use super::asks::{Ask, Bodies};
use super::reply::{Answer, Reading, Reply, Then};
use crate::client_shard::source;
use crate::troubles::Troubles;

/// What all clients of a cell share.
#[derive(Debug)]
pub(super) struct Town {
    pub(super) address: SocketAddr,
    pub(super) bodies: Bodies,
    /// Names of the classes, in the order of the file.
    pub(super) classes: Vec<String>,
    /// Time after which a request is given up, and its connection with it.
    pub(super) timeout: Duration,
    pub(super) requests_per_connection: u32,
    pub(super) troubles: RefCell<Troubles>,
    /// Connections opened so far.
    pub(super) n_opened: Cell<u64>,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    town: Rc<Town>,
    idx: usize,
    line: Option<Line>,
    out: Vec<u8>,
}

/// Its connection.
#[derive(Debug)]
struct Line {
    connection: Connection,
    n_requests_left: u32,
}

/// How a request ended, as its client sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Answer(Answer),
    /// No reply in time: it was given up.
    GaveUp,
    /// No connection, or one that broke: which of the two.
    Lost(&'static str),
}

/// Why there is no reply.
#[derive(Debug)]
enum Over {
    GaveUp,
    NotConnected(io::Error),
    Broken(io::Error),
    Garbage(String),
}

impl Client {
    pub(super) fn new(town: &Rc<Town>, idx: usize) -> Self {
        Self { town: Rc::clone(town), idx, line: None, out: Vec::new() }
    }

    /// Makes a request and waits for what comes of it.
    pub(super) async fn ask(&mut self, ask: &Ask) -> Got {
        let timeout = self.town.timeout;
        let in_time = async {
            forebay::sleep(timeout).await;
            Err(Over::GaveUp)
        };
        match or(self.exchange(ask), in_time).await {
            Ok(Reply { answer, then }) => {
                self.finish_with(then).await;
                if let Answer::Wrong(what) = &answer {
                    self.note_wrong(what);
                }
                Got::Answer(answer)
            }
            Err(over) => self.give_up(over),
        }
    }

    async fn exchange(&mut self, ask: &Ask) -> Result<Reply, Over> {
        self.look().await;
        let mut line = match self.line.take() {
            Some(line) => line,
            None => self.open().await?,
        };
        line.n_requests_left -= 1;
        ask.put(&self.town.classes[ask.class_idx], &mut self.out);
        let mut reading = Reading::new(ask.page, self.town.bodies);
        // In its place while it is waited for: whoever gives up finds it there.
        let connection = &self.line.insert(line).connection;
        connection.write(std::mem::take(&mut self.out)).await.map_err(Over::Broken)?;
        loop {
            let chunk = connection.read().await.map_err(Over::Broken)?;
            let chunk = chunk.ok_or_else(|| Over::Broken(io::ErrorKind::UnexpectedEof.into()))?;
            if let Some(reply) = reading.take(&chunk).map_err(Over::Garbage)? {
                return Ok(reply);
            }
        }
    }

    async fn open(&self) -> Result<Line, Over> {
        let town = &self.town;
        let options = ConnectOptions {
            within: town.timeout,
            from: Some(source(self.idx)),
            ..ConnectOptions::default()
        };
        let connection = Connection::connect(&Address::Tcp(town.address), options).await;
        let connection = connection.map_err(Over::NotConnected)?;
        town.n_opened.set(town.n_opened.get() + 1);
        Ok(Line { connection, n_requests_left: town.requests_per_connection })
    }

    /// Looks whether anything has come that was not asked for, or the server has closed.
    pub(super) async fn look(&mut self) {
        let Some(line) = &self.line else { return };
        let seen = or(async { Some(line.connection.read().await) }, ready(None)).await;
        match seen {
            None => {}
            Some(Ok(Some(chunk))) => self.note_unasked(&chunk),
            // It is the server's right to close a connection on which nothing is asked.
            Some(Ok(None) | Err(_)) => self.close(),
        }
    }

    /// Closes the connection where it has served its time.
    async fn finish_with(&mut self, then: Then) {
        let worn = self.line.as_ref().is_some_and(|line| line.n_requests_left == 0);
        if worn || then == Then::Closes {
            self.look().await;
            self.close();
        }
    }

    /// Closes the connection now.
    pub(super) fn close(&mut self) {
        if let Some(line) = self.line.take() {
            line.connection.abort();
        }
    }

    #[cold]
    fn give_up(&mut self, over: Over) -> Got {
        self.close();
        match over {
            Over::GaveUp => Got::GaveUp,
            Over::NotConnected(error) => self.lose("connect", &error),
            Over::Broken(error) => self.lose("connection", &error),
            Over::Garbage(what) => {
                self.note_wrong(&what);
                Got::Answer(Answer::Wrong(what))
            }
        }
    }

    fn lose(&self, kind: &'static str, error: &io::Error) -> Got {
        let number = u64::try_from(self.idx).unwrap_or(u64::MAX);
        self.town.troubles.borrow_mut().note_break(number, error);
        Got::Lost(kind)
    }

    fn note_wrong(&self, what: &str) {
        self.town.troubles.borrow_mut().note_wrong(&format!("client {}: {what}", self.idx));
    }

    #[cold]
    fn note_unasked(&mut self, chunk: &Chunk) {
        self.note_wrong(&format!("{} bytes that nobody asked for", chunk.len()));
        self.close();
    }
}
