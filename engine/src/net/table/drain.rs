//! Draining: a listener that is to close hands out everybody who has connected before it does.
//!
//! To its client a connection stands as soon as the kernel has put it into the listener's line, and the
//! client may have asked already: who is left there when the socket closes is reset without a word.

use super::{SlotKey, State, Table};
use crate::net::fault::Fault;

impl Table {
    /// Lets every listener take in who has connected, and then close.
    pub(in crate::net) fn drain_listeners(&mut self) {
        let keys: Vec<SlotKey> = self.slots.keys().collect();
        for key in keys {
            if let Ok(listening) = self.listener(key) {
                listening.drain();
                self.list(key);
            }
        }
    }

    /// Whether somebody has connected, or may have, whom a listener that drains has not handed out.
    pub(in crate::net) fn has_unaccepted(&self) -> bool {
        let is_draining = |slot: &super::Slot| match &slot.state {
            State::Listening(listening) => listening.is_draining(),
            State::Stream(_) => false,
        };
        self.slots.values().any(is_draining)
    }

    /// Takes in the next who waits in the kernel; when nobody does, the listener closes. Bounded by
    /// the listener's connections: nobody more can connect.
    pub(super) fn take_waiting(&mut self, key: SlotKey) {
        let Some(listener) = self.slots.get(key).and_then(|slot| slot.socket.as_ref()) else {
            return;
        };
        match self.ring.take_waiting(listener) {
            Ok(Some(connection)) => self.accept(key, connection, false),
            Ok(None) => {
                let listening = self.listener(key).expect("it was stepped just now");
                listening.close();
                let waker = listening.waker.take();
                self.after.wake([waker]);
            }
            Err(error) => self.refuse(key, Fault::of(&error), false),
        }
    }
}
