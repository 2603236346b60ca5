//! What goes wrong with connections: broken off, fallen silent, their shard gone.

use super::super::Kind;
use super::network::Network;
use crate::runtime::{ShardId, Time};

impl Network {
    /// Breaks off every connection that there is.
    pub(crate) fn reset_connections(&mut self, now: Time) {
        self.now = now;
        for socket in self.connections() {
            self.reset(socket);
        }
    }

    /// From now on nothing arrives on any connection that there is, nor is any of it told so.
    pub(crate) fn silence_connections(&mut self, now: Time) {
        self.now = now;
        for socket in self.connections() {
            self.silence(socket);
        }
    }

    fn connections(&self) -> Vec<u32> {
        let connected = self.sockets.iter().filter(|(_, socket)| socket.connected().is_some());
        connected.map(|(socket, _)| *socket).collect()
    }

    /// A shard is gone: what it had open is closed, as when a process ends.
    pub(crate) fn end_shard(&mut self, shard: ShardId, now: Time) {
        self.now = now;
        let shard = shard.index();
        self.shards[shard].ended = true;
        self.shards[shard].queued.clear();
        let own = self.sockets.iter().filter(|(_, socket)| socket.shard == shard);
        for socket in own.map(|(socket, _)| *socket).collect::<Vec<_>>() {
            // One that waited for its accept has gone with its listener.
            if self.sockets.contains_key(&socket) {
                self.remove(socket);
            }
        }
        self.shards[shard].n_open = 0;
    }

    /// Both sides lose what is in flight, and will be told.
    pub(super) fn reset(&mut self, socket: u32) {
        let Some(connected) = self.connected(socket) else { return };
        let other = connected.other;
        let now = self.now;
        for side in [socket, other] {
            let due = self.later();
            let Some(connected) = self.connected(side) else { continue };
            connected.incoming.reset(now, due);
            self.refresh(side, Kind::Receive);
            self.refresh(side, Kind::Send);
        }
    }

    /// Neither side hears of the other any more.
    pub(super) fn silence(&mut self, socket: u32) {
        let Some(connected) = self.connected(socket) else { return };
        let other = connected.other;
        let now = self.now;
        for side in [socket, other] {
            let Some(connected) = self.connected(side) else { continue };
            connected.incoming.silence(now);
            if connected.broken_due > now {
                connected.broken_due = Time::NEVER;
            }
            self.refresh(side, Kind::Receive);
            self.refresh(side, Kind::Send);
        }
    }
}
