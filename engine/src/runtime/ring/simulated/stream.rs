//! One direction of a simulated connection: bytes on their way, in order, and what follows them.
//!
//! ```text
//!   push ─▶ | in flight: due later | arrived: due by now | ─▶ take
//!           └────────── held: at most the window ────────┘
//! ```
//!
//! It knows no chance and no clock: whoever pushes says when a piece is due.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::runtime::Time;

/// What follows the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    End,
    Reset,
}

#[derive(Debug)]
struct Piece {
    due: Time,
    bytes: Bytes,
}

/// It belongs to the end that receives.
#[derive(Debug)]
pub(super) struct Stream {
    pieces: VecDeque<Piece>,
    held_bytes: usize,
    window_bytes: usize,
    ending: Option<(Time, Ending)>,
    /// Nothing more arrives before this: a stream keeps its order. `NEVER` once it is silent.
    after: Time,
}

impl Stream {
    pub(super) fn new(window_bytes: usize) -> Self {
        assert!(window_bytes > 0, "nothing would ever arrive");
        Self {
            pieces: VecDeque::new(),
            held_bytes: 0,
            window_bytes,
            ending: None,
            after: Time::ZERO,
        }
    }

    /// Bytes that the window still takes.
    pub(super) fn room_bytes(&self) -> usize {
        self.window_bytes - self.held_bytes
    }

    /// Bytes that were sent and not received.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Adds bytes that arrive at `due`, or with those before them if these arrive later.
    pub(super) fn push(&mut self, bytes: &[u8], due: Time) {
        assert!(self.ending.is_none(), "bytes after {:?}", self.ending);
        assert!(bytes.len() <= self.room_bytes(), "{} bytes into {self:?}", bytes.len());
        self.after = self.after.max(due);
        self.held_bytes += bytes.len();
        self.pieces.push_back(Piece { due: self.after, bytes: Bytes::copy_from_slice(bytes) });
    }

    /// Nothing more is sent.
    pub(super) fn end(&mut self, due: Time) {
        if self.ending.is_none() {
            self.after = self.after.max(due);
            self.ending = Some((self.after, Ending::End));
        }
    }

    /// Loses what is in flight; from `due` on it says so. Not if it is silent.
    pub(super) fn reset(&mut self, now: Time, due: Time) {
        if self.is_silent() {
            return;
        }
        self.pieces.retain(|piece| piece.due <= now);
        self.held_bytes = self.arrived_bytes(now);
        self.after = due;
        self.ending = Some((due, Ending::Reset));
    }

    /// Nothing that has not arrived by now ever will.
    pub(super) fn silence(&mut self, now: Time) {
        self.after = Time::NEVER;
        for piece in self.pieces.iter_mut().filter(|piece| piece.due > now) {
            piece.due = Time::NEVER;
        }
        if let Some((due, _)) = self.ending.as_mut().filter(|(due, _)| *due > now) {
            *due = Time::NEVER;
        }
    }

    pub(super) fn is_silent(&self) -> bool {
        self.after == Time::NEVER
    }

    /// When there is something to receive.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.pieces.front().map(|piece| piece.due).or(self.ending.map(|(due, _)| due))
    }

    pub(super) fn arrived_bytes(&self, now: Time) -> usize {
        self.pieces.iter().take_while(|piece| piece.due <= now).map(|piece| piece.bytes.len()).sum()
    }

    /// What has followed the last byte, once all of them are received.
    pub(super) fn ended(&self, now: Time) -> Option<Ending> {
        let (due, ending) = self.ending?;
        (self.pieces.is_empty() && due <= now).then_some(ending)
    }

    /// When the other end has, or will have, broken the connection off.
    pub(super) fn reset_due(&self) -> Option<Time> {
        self.ending.and_then(|(due, ending)| (ending == Ending::Reset).then_some(due))
    }

    /// Fills `into` with the bytes in front, of which so many must have arrived.
    pub(super) fn take(&mut self, into: &mut [u8]) {
        assert!(into.len() <= self.held_bytes, "{} bytes of {self:?}", into.len());
        let mut rest = &mut *into;
        while !rest.is_empty() {
            let front = self.pieces.front_mut().expect("held bytes are in pieces");
            let (part, behind) = rest.split_at_mut(front.bytes.len().min(rest.len()));
            front.bytes.copy_to_slice(part);
            if front.bytes.is_empty() {
                self.pieces.pop_front();
            }
            rest = behind;
        }
        self.held_bytes -= into.len();
    }
}
