//! What follows: the listed slots are stepped, what they ask for is pushed, the ring is entered.

use super::{SlotKey, State, Table};
use crate::net::fault::Fault;
use crate::net::stream::Step;
use crate::runtime::ring::{How, Token};

impl Table {
    /// Steps what is to be stepped, and enters the ring if it has something to do.
    pub(in crate::net) fn submit(&mut self) {
        self.step_listed();
        self.feed_starved();
        if self.ring.wants_enter() {
            self.metrics.enters.add(1);
            self.ring.enter();
        }
    }

    /// Lets as many of the starved receive again as there are buffers.
    fn feed_starved(&mut self) {
        let n_buffers = self.ring.recycle();
        let n_fed = n_buffers.min(self.starved.len());
        self.feeds = n_fed > 0 && n_fed < self.starved.len();
        for _ in 0..n_fed {
            let Some(key) = self.starved.pop_front() else { break };
            let Some(slot) = self.slots.get_mut(key) else { continue };
            slot.starved = false;
            if let State::Stream(stream) = &mut slot.state {
                stream.receiving().feed();
                self.list(key);
            }
        }
        self.step_listed();
    }

    fn step_listed(&mut self) {
        while !self.listed.is_empty() {
            let mut listed = std::mem::take(&mut self.listed);
            for key in listed.drain(..) {
                self.step(key);
            }
            // A connection that closed has listed its listener, which lists nobody.
            if self.listed.is_empty() {
                self.listed = listed;
                return;
            }
        }
    }

    fn step(&mut self, key: SlotKey) {
        let now = self.core.now();
        loop {
            let Some(slot) = self.slots.get_mut(key) else { return };
            slot.listed = false;
            let Some(socket) = &slot.socket else { return };
            let mut step = match &mut slot.state {
                State::Stream(stream) => stream.step(now),
                State::Listening(listening) => listening.step(now),
            };
            if let Step::Shutdown(side) = step {
                let done = self.ring.shutdown(socket, side);
                let State::Stream(stream) = &mut slot.state else { return };
                // Whoever waits for the end to be sent.
                self.after.wake([stream.writer.take()]);
                let Err(error) = done else { continue };
                step = stream.on_not_shut(side, Fault::of(&error));
            }
            match step {
                Step::Push(op) => {
                    let token = Token::new(key.bits(), op.kind());
                    self.ring.push(token, socket, op);
                }
                Step::TurnAway => self.ring.turn_away(socket),
                Step::TakeWaiting => self.take_waiting(key),
                Step::Close => return self.close(key, How::Closed),
                Step::Reset => return self.close(key, How::Reset),
                Step::Nothing | Step::Shutdown(_) => break,
            }
        }
        self.watch_time(key);
        self.watch_starving(key);
    }

    fn watch_starving(&mut self, key: SlotKey) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let State::Stream(stream) = &mut slot.state else { return };
        if stream.receiving().is_starved() && !std::mem::replace(&mut slot.starved, true) {
            self.metrics.starved.add(1);
            self.starved.push_back(key);
        }
    }

    fn close(&mut self, key: SlotKey, how: How) {
        let slot = self.slots.get_mut(key).expect("it was stepped just now");
        let timer = slot.timer.take();
        self.ring.close(slot.socket.take().expect("it closes once"), how);
        self.open -= 1;
        let listener = match &mut slot.state {
            State::Listening(_) => None,
            State::Stream(stream) => {
                self.metrics.closed.add(1);
                stream.sending().forget(&mut self.after.spent);
                self.after.wake([stream.reader.take(), stream.writer.take()]);
                stream.listener
            }
        };
        self.disarm(timer);
        self.forget(key);
        if let Some(key) = listener
            && let Ok(listening) = self.listener(key)
        {
            listening.on_closed();
            self.list(key);
        }
    }

    /// Frees the slot if its socket has closed and nobody holds it.
    pub(super) fn forget(&mut self, key: SlotKey) {
        let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.socket.is_none()) else {
            return;
        };
        let is_held = match &slot.state {
            State::Stream(stream) => stream.is_held(),
            State::Listening(listening) => listening.is_held(),
        };
        if !is_held {
            self.slots.remove(key);
        }
    }
}
