//! What the ring tells: each completion to the slot it is for.

use std::io;
use std::rc::Rc;

use super::{After, SlotKey, State, Table};
use crate::limits::{NET_COMPLETIONS_PER_TURN, NET_CQ_ENTRIES};
use crate::metrics::NetMetrics;
use crate::net::fault::Fault;
use crate::net::stream::Stream;
use crate::runtime::Time;
use crate::runtime::ring::{Completion, Outcome, Socket};

impl Table {
    /// Takes in what has completed; tells how much.
    pub(in crate::net) fn reap(&mut self) -> usize {
        let mut completions = std::mem::take(&mut self.completions);
        let (mut n_reaped, mut behind) = (0, false);
        // What has been delivered is taken whole: what is left there fills the completion queue,
        // until each enter makes the kernel store more elsewhere than a turn takes.
        // No further delivery once a reader is behind: what stops its receiving must be submitted
        // first, or a quick sender fills the memory within one turn.
        while n_reaped < NET_COMPLETIONS_PER_TURN && !behind {
            self.ring.reap(NET_CQ_ENTRIES as usize, &mut completions);
            if completions.is_empty() {
                break;
            }
            n_reaped += completions.len();
            for completion in completions.drain(..) {
                behind |= self.complete(completion);
            }
        }
        self.completions = completions;
        self.metrics.completions.add(n_reaped as u64);
        n_reaped
    }

    /// Tells whom it concerns; gives whether a reader is behind.
    fn complete(&mut self, completion: Completion) -> bool {
        let Completion { token, more, outcome } = completion;
        let (key, now) = (SlotKey::from_bits(token.key()), self.core.now());
        match outcome {
            Outcome::Accepted(Ok(socket)) => self.accept(key, socket, more),
            Outcome::Accepted(Err(error)) => self.refuse(key, Fault::of(&error), more),
            outcome => {
                let Some(slot) = self.slots.get_mut(key) else {
                    panic!("a completion for a socket that has closed: {token:?} {outcome:?}")
                };
                match &mut slot.state {
                    State::Stream(stream) => {
                        tell(stream, outcome, more, now, &mut self.after, &self.metrics);
                        let behind = stream.receiving().is_behind();
                        if !more || stream.wants_step() {
                            self.list(key);
                        }
                        return behind;
                    }
                    State::Listening(listening) => {
                        listening.on_cancelled();
                        self.list(key);
                    }
                }
            }
        }
        false
    }

    pub(super) fn accept(&mut self, key: SlotKey, socket: Socket, more: bool) {
        let now = self.core.now();
        self.metrics.accepted.add(1);
        let listening = self.listener(key).expect("a listener outlives its accept");
        let options = Rc::clone(&listening.connection);
        let stream = Stream::accepted(options, key, now);
        let connection = self.insert(socket, State::Stream(stream));
        let listening = self.listener(key).expect("a listener outlives its accept");
        listening.on_accepted(more);
        let waker = listening.waker.take();
        if listening.is_closing() {
            self.release(connection);
        } else {
            listening.accepted.push_back(connection);
        }
        self.after.wake([waker]);
        self.list(key);
    }

    pub(super) fn refuse(&mut self, key: SlotKey, fault: Fault, more: bool) {
        let now = self.core.now();
        let listening = self.listener(key).expect("a listener outlives its accept");
        let again = listening.on_refused(fault, more, now);
        if let Some(again) = again {
            self.metrics.accept_pauses.add(1);
            self.arm(key, again);
        }
        self.list(key);
    }
}

/// Tells a connection what has completed.
fn tell(
    stream: &mut Stream,
    outcome: Outcome,
    more: bool,
    now: Time,
    after: &mut After,
    metrics: &NetMetrics,
) {
    let fault = |error: io::Error| Fault::of(&error);
    match outcome {
        Outcome::Received(result) => {
            metrics.received_bytes.add(result.as_ref().map_or(0, |chunk| chunk.len() as u64));
            stream.on_received(result.map_err(fault), more, now);
            after.wake([stream.reader.take()]);
        }
        Outcome::Sent(bytes, result) => {
            metrics.sent_bytes.add(*result.as_ref().unwrap_or(&0) as u64);
            stream.on_sent(bytes, result.map_err(fault), now, &mut after.spent);
            after.wake([stream.writer.take()]);
        }
        Outcome::Connected(result) => {
            stream.on_connected(result.map_err(fault), now);
            after.wake([stream.writer.take()]);
        }
        Outcome::Cancelled => stream.on_cancelled(),
        Outcome::Accepted(_) => unreachable!("told apart by the caller"),
    }
}
