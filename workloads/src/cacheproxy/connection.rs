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
//! What one client can make us hold is bounded, however slowly it reads:
//!
//! - what it has said: a chunk, the commands of one run with the values that they store, 64 KiB that are
//!   received meanwhile, and of half a command up to `value_bytes_max`;
//! - the values of a part of a long get, up to 4 MiB, or of one run, up to twice that; one value where it
//!   is larger. That is reckoned by the largest value lately read on this shard (`parts.rs`): what was
//!   asked before such a value was read takes up to 64 of them, and up to 128 in a run. Those of the
//!   embedded store are shared with it, and count beyond its `bytes_max` when it has let go of them;
//! - their answers in bytes: two pieces that are copied, one queued and one being made, each of 64 KiB
//!   and a value that is shorter than that, behind 64 KiB that were queued before. A longer value is not
//!   copied: it leaves as it is shared. No further value is put into bytes before there is room.

mod answers;
mod hearing;
mod parts;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use forebay::net::{Chunk, Connection, ConnectionOptions, ListenOptions, Listener};
use forebay::{RequestOptions, now, spawn};
use futures_util::future::join_all;

use super::cache::Cache;
use super::census::Census;
use super::clock::Clock;
use super::config::Limits;
use super::counts::Countable;
use super::operation::{Failure, Get, Key, Operation, Outcome, What};
use super::protocol::{Answering, Asked, Command, Decoder, Refusal};
use super::run::Run;
use super::stats;
use crate::closing::hear_out;
use answers::{Answer, Answers};
use hearing::{Hearing, Patience};
use parts::Parts;

pub(super) use answers::Told;

/// What all connections of a shard share.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) cache: Cache,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    census: Rc<Census>,
    parts: Parts,
}

impl Site {
    /// What the connections of one listener on this shard share.
    pub(super) fn new(cache: Cache, limits: Limits) -> Self {
        let census = cache.census();
        census.listens(limits.connections_max.into());
        Self { cache, limits, clock: Clock::set(), census, parts: Parts::default() }
    }
}

/// The bounds of a listener.
pub(super) fn listen_options(limits: &Limits) -> ListenOptions {
    let write_within = Duration::from_millis(limits.write_ms.into());
    let connection = ConnectionOptions { write_within, ..ConnectionOptions::default() };
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
    let client = site.census.enter(connection);
    let connection = client.connection();
    let mut decoder = Decoder::new(site.limits.protocol());
    let mut hearing = Hearing::of(connection, Patience::of(&site.limits));
    while let Some(chunk) = hearing.next(&decoder).await {
        let mut arrived = Arrived::of(chunk, &mut decoder, site.keys_max());
        if arrived.is_empty() {
            continue;
        }
        client.spoke();
        match Box::pin(arrived.answer(&mut decoder, connection, &site)).await {
            Ok(Next::Read) => client.is_answered(),
            Ok(Next::Close) | Err(_) => break,
        }
    }
    // What was written reaches the client before the connection closes.
    hear_out(connection).await;
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
    fn of(chunk: Chunk, decoder: &mut Decoder, keys_max: usize) -> Self {
        let mut arrived = Self { run: Run::of_parts(keys_max), next: None, rest: Vec::new() };
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
        let mut out = Answers::to(connection);
        let rest = std::mem::take(&mut self.rest);
        let mut input = &rest[..];
        while !self.run.is_empty() {
            let commands = self.run.take(site.keys_max());
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

impl Site {
    /// Most keys of a get that are read at once now.
    fn keys_max(&self) -> usize {
        self.parts.keys_max(now())
    }

    /// Carries out a run, and puts the answers in the order of the commands. What is rare lives on the
    /// heap, so that the future of what is frequent stays small.
    async fn carry_out(&self, commands: Vec<Command>, out: &mut Answers<'_>) -> io::Result<()> {
        if let [Command { asked: Asked::Many(get, keys), answering }] = &commands[..]
            && keys.len() > self.keys_max()
        {
            return Box::pin(self.answer_long_get(*get, keys, answering.clone(), out)).await;
        }
        // Nearly every run, and one that needs nothing to join what comes of it.
        if commands.len() == 1 {
            for command in commands {
                out.put(self.answer(command).await).await?;
            }
            return Ok(());
        }
        let answered = join_all(commands.into_iter().map(|command| self.answer(command))).await;
        for answer in answered {
            out.put(answer).await?;
        }
        Ok(())
    }

    /// Answers one command, apart from putting that into bytes.
    async fn answer(&self, command: Command) -> Answer {
        let Command { asked, answering } = command;
        let what = match asked {
            Asked::One(operation) => {
                let key = operation.key.clone();
                let countable = Countable::of(&answering, &operation.what);
                let outcome = self.cache.apply(operation).await;
                self.parts.note(&outcome);
                self.census.count(|commands| commands.outcome(countable, &outcome));
                Told::One(key, outcome)
            }
            Asked::Many(get, keys) => match Box::pin(self.read(get, &keys, &answering)).await {
                Ok(outcomes) => Told::Many(keys, outcomes),
                Err(failure) => Told::Refused(Refusal::Failed(failure)),
            },
            Asked::FlushAll(delay) => match Box::pin(self.cache.flush_all(delay)).await {
                Ok(()) => Told::Done,
                Err(refusal) => Told::Refused(refusal),
            },
            Asked::Stats(asked) => Box::pin(stats::told(asked, self)).await,
            Asked::Version => Told::Version,
            Asked::Verbosity | Asked::Noop | Asked::Quit => Told::Done,
            Asked::Refused(refusal) => {
                let protocol = answering.protocol();
                self.census.count(|commands| commands.refused(protocol, refusal));
                Told::Refused(refusal)
            }
        };
        Answer { answering, what }
    }

    /// The outcomes of the same read of several keys. If one has failed, so have all: text cannot tell
    /// which of the keys it was.
    async fn read(
        &self,
        get: Get,
        keys: &[Key],
        answering: &Answering,
    ) -> Result<Vec<Outcome>, Failure> {
        let asked = keys.iter().map(|key| Operation { key: key.clone(), what: What::Get(get) });
        let outcomes = join_all(asked.map(|operation| self.cache.apply(operation))).await;
        let countable = Countable::of(answering, &What::Get(get));
        outcomes.iter().for_each(|outcome| self.parts.note(outcome));
        self.census.count(|commands| {
            outcomes.iter().for_each(|outcome| commands.outcome(countable, outcome));
        });
        outcomes.iter().find_map(Outcome::read_failure).map_or(Ok(outcomes), Err)
    }

    /// Answers a get of many keys a part at a time: their values together may be more than memory.
    async fn answer_long_get(
        &self,
        get: Get,
        keys: &[Key],
        answering: Answering,
        out: &mut Answers<'_>,
    ) -> io::Result<()> {
        let mut keys = keys;
        while !keys.is_empty() {
            let (part, later) = keys.split_at(self.keys_max().min(keys.len()));
            keys = later;
            match self.read(get, part, &answering).await {
                Ok(outcomes) => out.put_values(&answering, part, outcomes).await?,
                Err(failure) => {
                    let what = Told::Refused(Refusal::Failed(failure));
                    return out.put(Answer { answering, what }).await;
                }
            }
        }
        out.put(Answer { answering, what: Told::Many(Vec::new(), Vec::new()) }).await
    }
}
