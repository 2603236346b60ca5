//! Answers on their way to a client: put into bytes value by value, and written a piece at a time.
//!
//! Whoever asks for many large values and reads slowly must not have them turned into one answer in
//! memory first. So a write stands between any two values that would make more than a piece, and waits
//! there until the client has taken what was written before.

use std::io;

use forebay::net::Connection;

use crate::cacheproxy::operation::{Key, Outcome};
use crate::cacheproxy::protocol::{Answering, Out as _, Pieces, Refusal};
use crate::cacheproxy::stats;

/// Room for the answers of a run to begin with: those of a few small values.
const ANSWERS_BYTES: usize = 512;
/// Bytes of answers that are written at once; more wait until these have a place among those that
/// leave.
const PIECE_BYTES: usize = 64 << 10;

/// What came of one command, and how that is put into bytes.
pub(in crate::cacheproxy) struct Answer {
    pub(super) answering: Answering,
    pub(super) what: Told,
}

/// What a client is told.
pub(in crate::cacheproxy) enum Told {
    One(Key, Outcome),
    /// None of them is a failure.
    Many(Vec<Key>, Vec<Outcome>),
    Done,
    Version,
    Stats(Vec<(String, String)>),
    Refused(Refusal),
}

/// Answers that have not been written yet.
pub(super) struct Answers<'a> {
    connection: &'a Connection,
    pieces: Pieces,
}

impl<'a> Answers<'a> {
    pub(super) fn to(connection: &'a Connection) -> Self {
        Self { connection, pieces: Pieces::with_capacity(ANSWERS_BYTES) }
    }

    /// Puts an answer behind the others, and writes what has become a piece.
    pub(super) async fn put(&mut self, answer: Answer) -> io::Result<()> {
        let Answer { answering, what } = answer;
        match what {
            Told::One(key, outcome) => answering.outcomes([(&key, &outcome)], &mut self.pieces),
            Told::Many(keys, outcomes) => {
                self.put_values(&answering, &keys, outcomes).await?;
                answering.outcomes([], &mut self.pieces);
            }
            Told::Done => answering.done(self.pieces.bytes()),
            Told::Version => answering.version(stats::VERSION, self.pieces.bytes()),
            Told::Refused(refusal) => answering.refused(refusal, self.pieces.bytes()),
            Told::Stats(stats) => {
                for (name, value) in stats {
                    answering.stat(&name, &value, self.pieces.bytes());
                }
                answering.stats_end(self.pieces.bytes());
            }
        }
        self.write_pieces().await
    }

    /// Puts the outcomes of some keys of a get, of which none is a failure. Each is let go of once it
    /// is in bytes.
    pub(super) async fn put_values(
        &mut self,
        answering: &Answering,
        keys: &[Key],
        outcomes: Vec<Outcome>,
    ) -> io::Result<()> {
        for (key, outcome) in keys.iter().zip(outcomes) {
            answering.one_of_many(key, &outcome, &mut self.pieces);
            drop(outcome);
            self.write_pieces().await?;
        }
        Ok(())
    }

    /// Writes them if they are a piece.
    async fn write_pieces(&mut self) -> io::Result<()> {
        if self.pieces.n_bytes() >= PIECE_BYTES { self.write().await } else { Ok(()) }
    }

    pub(super) async fn write(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.pieces).into_bytes() {
            Ok(bytes) if bytes.is_empty() => Ok(()),
            Ok(bytes) => self.connection.write(bytes).await,
            Err(pieces) => {
                for piece in pieces.into_pieces() {
                    self.connection.write(piece).await?;
                }
                Ok(())
            }
        }
    }
}
