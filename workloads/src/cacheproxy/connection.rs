//! One connection: what its client says is carried out and answered, in order, as straight-line code.
//!
//! ```text
//!   read a chunk ─▶ commands ─▶ runs of independent ones ─▶ outcomes ─▶ answers, in order ─▶ write
//! ```
//!
//! A connection that waits for its client holds a decoder and nothing else: what a run needs lives in
//! a future of its own, on the heap, while the run lasts. What has been read is copied out of the
//! kernel's buffer before anything is waited for, since all connections of a shard share those.
//!
//! What one client can make us hold is bounded: a chunk and the commands of one run; the values of one
//! run or of a part of a long get, and the answers they make; beyond a piece of those, no further command
//! is answered before the client has taken some.

use std::io;
use std::rc::Rc;

use forebay::net::{Chunk, Connection, ConnectionOptions, ListenOptions, Listener};
use forebay::{RequestOptions, draining, sleep, spawn};
use futures_lite::future::or;
use futures_util::future::join_all;

use super::cache::Cache;
use super::clock::Clock;
use super::config::Limits;
use super::operation::{Get, Key, Operation, Outcome, What};
use super::protocol::{Answering, Asked, Command, Decoder, Refusal};
use super::run::{KEYS_MAX, Run};
use super::stats;

/// Room for the answers of a run to begin with: those of a few small values.
const ANSWERS_BYTES: usize = 512;
/// Bytes of answers that are written at once; more wait until these have a place among those that
/// leave.
const PIECE_BYTES: usize = 64 << 10;

/// What all connections of a shard share.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) cache: Cache,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
}

/// The bounds of a listener.
pub(super) fn listen_options(limits: &Limits) -> ListenOptions {
    let millis = |ms: u32| std::time::Duration::from_millis(ms.into());
    let connection = ConnectionOptions {
        idle: (limits.idle_ms > 0).then(|| millis(limits.idle_ms)),
        write_within: millis(limits.write_ms),
        ..ConnectionOptions::default()
    };
    let connections_max = limits.connections_max as usize;
    ListenOptions { connections_max, connection, ..ListenOptions::default() }
}

/// Gives every connection a request of its own, until the engine stops: so a stop waits until those
/// are answered who have asked, and a panic is the end of one connection alone.
pub(super) async fn accept(listener: Listener, site: Rc<Site>) {
    while let Ok(connection) = listener.accept().await {
        let options = RequestOptions::default().also_draining();
        spawn(options, serve(connection, Rc::clone(&site))).detach();
    }
}

/// Serves one connection to its end.
async fn serve(connection: Connection, site: Rc<Site>) {
    let _counted = site.cache.count_connection();
    let mut decoder = Decoder::new(site.limits.protocol());
    let told_to_end = async {
        draining().await;
        sleep(site.limits.last_word()).await;
    };
    let mut told_to_end = std::pin::pin!(told_to_end);
    loop {
        let read = async { connection.read().await.ok().flatten() };
        let ended = async {
            told_to_end.as_mut().await;
            None
        };
        // A connection that breaks is its client's to notice: there is nobody else to tell.
        let Some(chunk) = or(read, ended).await else { break };
        let mut arrived = Arrived::of(chunk, &mut decoder);
        if arrived.is_empty() {
            continue;
        }
        match Box::pin(arrived.answer(&mut decoder, &connection, &site)).await {
            Ok(Next::Read) => {}
            Ok(Next::Close) | Err(_) => break,
        }
    }
    // What was written leaves before the connection closes.
    connection.finish().await.ok();
}

/// What becomes of a connection after its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Read,
    Close,
}

/// What a client has said that is not carried out yet.
#[derive(Debug)]
struct Arrived {
    run: Run,
    /// The first command that depends on the run.
    next: Option<Command>,
    /// Bytes behind it.
    rest: Vec<u8>,
}

impl Arrived {
    /// Takes a chunk apart as far as its first run goes, and gives the buffer back.
    fn of(chunk: Chunk, decoder: &mut Decoder) -> Self {
        let mut arrived = Self { run: Run::default(), next: None, rest: Vec::new() };
        let mut input = &chunk[..];
        arrived.fill(decoder, &mut input);
        arrived.rest = input.to_vec();
        arrived
    }

    fn is_empty(&self) -> bool {
        self.run.is_empty()
    }

    /// Adds commands to the run until one depends on it or the input ends.
    fn fill(&mut self, decoder: &mut Decoder, input: &mut &[u8]) {
        while self.next.is_none() {
            let Some(command) = decoder.decode(input) else { return };
            if self.run.takes(&command) {
                self.run.push(command);
            } else {
                self.next = Some(command);
            }
        }
    }

    /// Carries out everything, run by run, and writes the answers.
    async fn answer(
        &mut self,
        decoder: &mut Decoder,
        connection: &Connection,
        site: &Site,
    ) -> io::Result<Next> {
        let mut out = Answers { connection, bytes: Vec::with_capacity(ANSWERS_BYTES) };
        let rest = std::mem::take(&mut self.rest);
        let mut input = &rest[..];
        while !self.run.is_empty() {
            let commands = self.run.take();
            let closes = commands.last().is_some_and(Command::closes);
            site.carry_out(commands, &mut out).await?;
            if closes {
                out.write().await?;
                return Ok(Next::Close);
            }
            if let Some(command) = self.next.take() {
                self.run.push(command);
            }
            self.fill(decoder, &mut input);
        }
        out.write().await?;
        Ok(Next::Read)
    }
}

/// Answers that have not been written yet.
struct Answers<'a> {
    connection: &'a Connection,
    bytes: Vec<u8>,
}

impl Answers<'_> {
    /// Writes them if they are a piece.
    async fn write_piece(&mut self) -> io::Result<()> {
        if self.bytes.len() >= PIECE_BYTES { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        self.connection.write(std::mem::take(&mut self.bytes)).await
    }
}

impl Site {
    /// Carries out a run, and puts the answers in the order of the commands. What is rare lives on the
    /// heap, so that the future of what is frequent stays small.
    async fn carry_out(&self, commands: Vec<Command>, out: &mut Answers<'_>) -> io::Result<()> {
        if let [Command { asked: Asked::Many(get, keys), answering }] = &commands[..]
            && keys.len() > KEYS_MAX
        {
            return Box::pin(self.answer_long_get(*get, keys, answering, out)).await;
        }
        // Nearly every run, and one that needs nothing to join what comes of it.
        if commands.len() == 1 {
            for command in commands {
                self.answer(command).await.put(&mut out.bytes);
            }
            return out.write_piece().await;
        }
        let answered = join_all(commands.into_iter().map(|command| self.answer(command))).await;
        for answer in answered {
            answer.put(&mut out.bytes);
            out.write_piece().await?;
        }
        Ok(())
    }

    /// Answers one command, apart from putting that into bytes.
    async fn answer(&self, command: Command) -> Answer {
        let Command { asked, answering } = command;
        let what = match asked {
            Asked::One(operation) => {
                let key = operation.key.clone();
                Told::One(key, self.cache.apply(operation).await)
            }
            Asked::Many(get, keys) => {
                let outcomes = Box::pin(self.read(get, &keys)).await;
                Told::Many(keys, outcomes)
            }
            Asked::FlushAll(delay) => match Box::pin(self.cache.flush_all(delay)).await {
                Ok(()) => Told::Done,
                Err(refusal) => Told::Refused(refusal),
            },
            Asked::Stats(asked) => Box::pin(stats::told(asked, self)).await,
            Asked::Version => Told::Version,
            Asked::Verbosity | Asked::Noop | Asked::Quit => Told::Done,
            Asked::Refused(refusal) => Told::Refused(refusal),
        };
        Answer { answering, what }
    }

    /// The outcomes of the same read of several keys.
    async fn read(&self, get: Get, keys: &[Key]) -> Vec<Outcome> {
        let asked = keys.iter().map(|key| Operation { key: key.clone(), what: What::Get(get) });
        join_all(asked.map(|operation| self.cache.apply(operation))).await
    }

    /// Answers a get of many keys a part at a time: their values together may be more than memory.
    async fn answer_long_get(
        &self,
        get: Get,
        keys: &[Key],
        answering: &Answering,
        out: &mut Answers<'_>,
    ) -> io::Result<()> {
        for part in keys.chunks(KEYS_MAX) {
            let outcomes = self.read(get, part).await;
            if let Some(failure) = answering.hits(part.iter().zip(&outcomes), &mut out.bytes) {
                answering.refused(Refusal::Failed(failure), &mut out.bytes);
                return Ok(());
            }
            out.write_piece().await?;
        }
        answering.outcomes([], &mut out.bytes);
        Ok(())
    }
}

/// What came of one command, and how that is put into bytes.
pub(super) struct Answer {
    answering: Answering,
    what: Told,
}

/// What a client is told.
pub(super) enum Told {
    One(Key, Outcome),
    Many(Vec<Key>, Vec<Outcome>),
    Done,
    Version,
    Stats(Vec<(String, String)>),
    Refused(Refusal),
}

impl Answer {
    fn put(&self, out: &mut Vec<u8>) {
        match &self.what {
            Told::One(key, outcome) => self.answering.outcomes([(key, outcome)], out),
            Told::Many(keys, outcomes) => {
                self.answering.outcomes(keys.iter().zip(outcomes), out);
            }
            Told::Done => self.answering.done(out),
            Told::Version => self.answering.version(stats::VERSION, out),
            Told::Refused(refusal) => self.answering.refused(*refusal, out),
            Told::Stats(stats) => {
                for (name, value) in stats {
                    self.answering.stat(name, value, out);
                }
                self.answering.stats_end(out);
            }
        }
    }
}
