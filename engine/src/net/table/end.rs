//! Letting go: of one connection, of a listener, of everything when the shard ends.

use super::{SlotKey, Table};
use crate::net::fault::Fault;

impl Table {
    /// Nobody holds the connection any more.
    pub(in crate::net) fn release(&mut self, key: SlotKey) {
        if let Ok(stream) = self.stream(key) {
            stream.release();
            self.list(key);
            self.forget(key);
        }
    }

    /// Nobody holds the listener any more: who has connected and was not handed out goes with it.
    pub(in crate::net) fn release_listener(&mut self, key: SlotKey) {
        self.close_listener(key);
        if let Ok(listening) = self.listener(key) {
            listening.release();
            self.forget(key);
        }
    }

    /// The listener takes in nothing more, and closes.
    fn close_listener(&mut self, key: SlotKey) {
        let Ok(listening) = self.listener(key) else { return };
        listening.close();
        let waker = listening.waker.take();
        for connection in std::mem::take(&mut listening.accepted) {
            self.release(connection);
        }
        self.after.wake([waker]);
        self.list(key);
    }

    /// Closes all listeners.
    fn close_listeners(&mut self) {
        let keys: Vec<SlotKey> = self.slots.keys().collect();
        for key in keys {
            self.close_listener(key);
        }
    }

    /// Lets go of everything, whoever holds it: what was written still leaves.
    pub(in crate::net) fn release_all(&mut self) {
        self.close_listeners();
        let keys: Vec<SlotKey> = self.slots.keys().collect();
        for key in keys {
            let Ok(stream) = self.stream(key) else { continue };
            stream.receiving().end(Err(Fault::Closed));
            let wakers = [stream.reader.take(), stream.writer.take()];
            self.after.wake(wakers);
            self.release(key);
        }
    }

    /// Closes everything at once.
    pub(in crate::net) fn close_all(&mut self) {
        self.close_listeners();
        let keys: Vec<SlotKey> = self.slots.keys().collect();
        for key in keys {
            if let Ok(stream) = self.stream(key) {
                stream.give_up(Fault::Closed);
                let wakers = [stream.reader.take(), stream.writer.take()];
                self.after.wake(wakers);
                self.list(key);
            }
        }
    }
}
