//! What a reap gives: one thing that is due after the other, drawn.

use std::hash::BuildHasher;
use std::io;

use rustix::io::Errno;

use super::super::{Chunk, Completion, KINDS, Kind, Op, Outcome, Socket};
use super::Buffers;
use super::endpoint::Role;
use super::network::Network;
use crate::runtime::Time;

/// Of so many things that are due one is drawn.
const DRAWN_MAX: usize = 64;

/// One accept or receive in so many ends although it could go on.
const ENDS_ONE_IN: u32 = 8;

/// One receive in so many finds no buffer although there are some.
const STARVES_ONE_IN: u32 = 16;

/// One send in so many that has begun ends short.
const SHORT_ONE_IN: u32 = 4;

impl Network {
    pub(super) fn reap(
        &mut self,
        shard: usize,
        max: usize,
        buffers: &mut Buffers,
        into: &mut Vec<Completion>,
    ) {
        let full = into.len() + max;
        while into.len() < full {
            let Some((socket, kind)) = self.draw_due(shard) else { return };
            self.schedule(socket, kind, None);
            let Some((more, outcome)) = self.progress(socket, kind, buffers) else {
                self.refresh(socket, kind);
                continue;
            };
            let operation = self.socket(socket).operation(kind).expect("it has progressed");
            let completion = Completion { token: operation.token, more, outcome };
            self.book(shard, &completion);
            into.push(completion);
            if more {
                self.refresh(socket, kind);
            } else {
                self.end_operation(socket, kind);
            }
        }
    }

    fn draw_due(&mut self, shard: usize) -> Option<(u32, Kind)> {
        let range = (shard, Time::ZERO, 0, 0)..=(shard, self.now, u32::MAX, u8::MAX);
        let n_due = self.due.range(range.clone()).take(DRAWN_MAX).count();
        let drawn = if n_due > 1 { self.rng.usize(0..n_due) } else { 0 };
        let (.., socket, kind) = *self.due.range(range).nth(drawn)?;
        Some((socket, KINDS[usize::from(kind)]))
    }

    fn end_operation(&mut self, socket: u32, kind: Kind) {
        let operation = self.socket(socket).end(kind);
        if let Some(due) = operation.due {
            let shard = self.socket(socket).shard;
            self.due.remove(&(shard, due, socket, kind as u8));
        }
    }

    fn book(&mut self, shard: usize, completion: &Completion) {
        let code = |result: Result<usize, &io::Error>| result.map_err(io::Error::raw_os_error);
        let (result, bytes): (_, &[u8]) = match &completion.outcome {
            Outcome::Accepted(result) => (code(result.as_ref().map(|_| 0)), &[]),
            Outcome::Connected(result) => (code(result.as_ref().map(|()| 0)), &[]),
            Outcome::Received(Ok(chunk)) => (Ok(chunk.len()), chunk),
            Outcome::Received(Err(error)) => (code(Err(error)), &[]),
            Outcome::Sent(_, result) => (code(result.as_ref().copied()), &[]),
            Outcome::Cancelled => (Ok(0), &[]),
        };
        let state = foldhash::fast::FixedState::with_seed(self.digest);
        let (token, more) = (completion.token.bits(), completion.more);
        self.digest = state.hash_one((self.now, shard, token, more, result, bytes));
    }

    /// Whether an operation that was taken back ends now.
    fn is_cancelled(&mut self, socket: u32, kind: Kind) -> bool {
        let now = self.now;
        let operation = self.socket(socket).operation(kind).expect("it is due");
        operation.cancelled.is_some_and(|due| due <= now)
    }

    /// Does what there is to do; gives what completes by it and whether more will.
    fn progress(
        &mut self,
        socket: u32,
        kind: Kind,
        buffers: &mut Buffers,
    ) -> Option<(bool, Outcome)> {
        let cancelled = self.is_cancelled(socket, kind);
        match kind {
            Kind::Accept => {
                let (more, result) = self.accept(socket, cancelled)?;
                Some((more, Outcome::Accepted(result.map(Socket::Simulated))))
            }
            Kind::Connect => {
                Some((false, Outcome::Connected(self.finish_connect(socket, cancelled))))
            }
            Kind::Receive => {
                let (more, result) = self.receive(socket, cancelled, buffers)?;
                Some((more, Outcome::Received(result)))
            }
            Kind::Send => self.send(socket, cancelled),
            Kind::Cancel => Some((false, Outcome::Cancelled)),
        }
    }

    fn accept(&mut self, socket: u32, cancelled: bool) -> Option<(bool, io::Result<u32>)> {
        let now = self.now;
        // What had come before it was taken back may still be given out.
        let is_over = cancelled && self.one_in(2);
        let endpoint = self.socket(socket);
        let shard = endpoint.shard;
        let Some(listener) = endpoint.listener_mut() else {
            return Some((false, Err(Errno::INVAL.into())));
        };
        let has_come = listener.queue.front().is_some_and(|(due, _)| *due <= now);
        if !has_come || is_over {
            return cancelled.then(|| (false, Err(Errno::CANCELED.into())));
        }
        if let Err(error) = self.check_room(shard) {
            return Some((false, Err(error)));
        }
        let listener = self.socket(socket).listener_mut()?;
        let (_, accepted) = listener.queue.pop_front()?;
        self.shards[shard].n_open += 1;
        self.let_in(socket);
        Some((!self.one_in(ENDS_ONE_IN), Ok(accepted)))
    }

    fn finish_connect(&mut self, socket: u32, cancelled: bool) -> io::Result<()> {
        let is_over = cancelled && self.one_in(2);
        match self.socket(socket).role {
            Role::Connected(_) if !is_over => Ok(()),
            _ if cancelled => Err(Errno::CANCELED.into()),
            _ => Err(Errno::CONNREFUSED.into()),
        }
    }

    fn receive(
        &mut self,
        socket: u32,
        cancelled: bool,
        buffers: &mut Buffers,
    ) -> Option<(bool, io::Result<Chunk>)> {
        let now = self.now;
        let is_over = self.one_in(2);
        let connected = self.connected(socket)?;
        let (other, is_over) = (connected.other, is_over && (cancelled || connected.read_end));
        let arrived_bytes = connected.incoming.arrived_bytes(now);
        if arrived_bytes == 0 || is_over {
            return match connected.received_end(now) {
                _ if cancelled => Some((false, Err(Errno::CANCELED.into()))),
                Some(end) => Some((false, end.map(|()| Chunk::empty()))),
                None => None,
            };
        }
        if buffers.n_ready == 0 || self.one_in(STARVES_ONE_IN) {
            return Some((false, Err(Errno::NOBUFS.into())));
        }
        let mut buffer = buffers.take();
        let n_bytes = self.prefix(arrived_bytes.min(buffer.len()));
        self.connected(socket)?.incoming.take(&mut buffer[..n_bytes]);
        self.refresh(other, Kind::Send);
        let chunk = Chunk::new(buffer, n_bytes, &buffers.pool);
        Some((!self.one_in(ENDS_ONE_IN), Ok(chunk)))
    }

    fn send(&mut self, socket: u32, cancelled: bool) -> Option<(bool, Outcome)> {
        let now = self.now;
        let ends_short = self.one_in(SHORT_ONE_IN);
        let endpoint = self.socket(socket);
        let error = endpoint.connected()?.send_error(now);
        let error = if cancelled { Some(Errno::CANCELED.into()) } else { error };
        let operation = endpoint.operation_mut(Kind::Send)?;
        let Op::Send(outgoing) = &mut operation.op else { unreachable!("{operation:?}") };
        let result = match (operation.done_bytes, error) {
            (done, _) if done == outgoing.len() => Ok(done),
            (0, Some(error)) => Err(error),
            (done, Some(_)) => Ok(done),
            (done, None) if done > 0 && ends_short => Ok(done),
            (_, None) => {
                self.send_some(socket);
                return None;
            }
        };
        let outgoing = std::mem::replace(outgoing, Vec::new().into());
        Some((false, Outcome::Sent(outgoing, result)))
    }
}
