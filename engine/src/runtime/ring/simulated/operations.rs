//! How operations begin, and when they have something to do.

use super::super::{Kind, Op, Token};
use super::endpoint::{Connected, Role, name_of_client};
use super::network::Network;
use crate::runtime::Time;

impl Network {
    /// Queues an operation. What the caller of a ring must keep to is checked here: the kernel
    /// would do something else than was meant, or nothing at all.
    pub(super) fn push(&mut self, shard: usize, token: Token, socket: u32, op: Op) {
        if self.shards[shard].ended {
            return;
        }
        let kind = token.kind();
        assert_eq!(op.kind(), kind, "{token:?} names another operation");
        assert!(!matches!(op, Op::Cancel(Kind::Cancel)), "a cancel cannot be cancelled");
        let endpoint = self.socket(socket);
        assert_eq!(endpoint.shard, shard, "socket {socket} is another shard's");
        assert!(endpoint.allows(kind), "{kind:?} on {endpoint:?}");
        let key = *endpoint.key.get_or_insert(token.key());
        assert_eq!(key, token.key(), "socket {socket} had another key");
        endpoint.start(token, op);
        let side = &mut self.shards[shard];
        let owner = *side.slots.entry(token.slot()).or_insert(socket);
        assert_eq!(owner, socket, "{token:?} is in the slot of another open socket");
        side.queued.push((socket, kind));
    }

    /// Begins what was queued.
    pub(super) fn enter(&mut self, shard: usize) {
        for (socket, kind) in std::mem::take(&mut self.shards[shard].queued) {
            let operation = self.socket(socket).operation_mut(kind).expect("queued once");
            operation.begun = true;
            match kind {
                Kind::Accept | Kind::Receive => self.refresh(socket, kind),
                Kind::Connect => self.connect(socket),
                Kind::Send => {
                    self.send_some(socket);
                    self.refresh(socket, kind);
                }
                Kind::Cancel => self.cancel(socket),
            }
        }
    }

    /// Sets when an operation under way is looked at next; one that was taken back, when it ends
    /// at the latest.
    pub(super) fn schedule(&mut self, socket: u32, kind: Kind, due: Option<Time>) {
        let Some(endpoint) = self.sockets.get_mut(&socket) else { return };
        let shard = endpoint.shard;
        let Some(operation) = endpoint.operation_mut(kind) else { return };
        let due = due.into_iter().chain(operation.cancelled).min();
        let due = due.filter(|due| *due < Time::NEVER);
        if let Some(before) = std::mem::replace(&mut operation.due, due) {
            self.due.remove(&(shard, before, socket, kind as u8));
        }
        if let Some(due) = due {
            self.due.insert((shard, due, socket, kind as u8));
        }
    }

    /// Schedules an operation anew after what it waits for has changed.
    pub(super) fn refresh(&mut self, socket: u32, kind: Kind) {
        let Some(endpoint) = self.sockets.get(&socket) else { return };
        if !endpoint.operation(kind).is_some_and(|operation| operation.begun) {
            return;
        }
        let due = match (kind, &endpoint.role) {
            (Kind::Accept, Role::Listening(listener)) => {
                listener.queue.front().map(|(due, _)| *due)
            }
            (Kind::Receive, Role::Connected(connected)) => connected.receive_due(),
            (Kind::Send, _) => self.send_due(socket),
            // It fails.
            _ => Some(self.now),
        };
        self.schedule(socket, kind, due);
    }

    /// Some time from now: what the way takes.
    pub(super) fn later(&mut self) -> Time {
        let delay = self.rng.u64(0..=self.chance.delay_ns);
        Time::from_nanos(self.now.as_nanos() + delay)
    }

    /// How many of `n_bytes` go at once: all, some, or hardly any; none only of none.
    pub(super) fn prefix(&mut self, n_bytes: usize) -> usize {
        match self.rng.u8(0..4) {
            _ if n_bytes == 0 => 0,
            0 | 1 => n_bytes,
            2 => self.rng.usize(1..=n_bytes),
            _ => self.rng.usize(1..=n_bytes.min(4)),
        }
    }

    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    fn happens(&mut self, per_mille: u32) -> bool {
        self.rng.u32(0..1_000) < per_mille
    }

    pub(super) fn connected(&mut self, socket: u32) -> Option<&mut Connected> {
        self.sockets.get_mut(&socket)?.connected_mut()
    }

    /// The shard that listens hears of it even if the one that connects never runs again.
    fn connect(&mut self, socket: u32) {
        if self.happens(self.chance.silence_per_mille) {
            return;
        }
        let operation = self.socket(socket).operation(Kind::Connect);
        let Some(Op::Connect(to)) = operation.map(|operation| &operation.op) else {
            unreachable!("a connect has begun")
        };
        let to = to.clone();
        let listeners = self.listeners.at(&to);
        if listeners.is_empty() {
            let due = self.later();
            self.schedule(socket, Kind::Connect, Some(due));
            return;
        }
        let drawn = listeners[self.rng.usize(0..listeners.len())];
        let listener = self.socket(drawn).listener_mut().expect("it stands among those");
        // As Linux has it: one more than asked for.
        if listener.queue.len() > listener.backlog {
            listener.waiting.push_back(socket);
        } else {
            self.establish(socket, drawn);
        }
    }

    fn establish(&mut self, client: u32, listener: u32) {
        let port = self.listeners.free_port();
        let server = self.next_socket();
        let window_bytes = self.chance.window_bytes;
        let endpoint = self.socket(client);
        let (Role::Fresh { from }, Some(Op::Connect(to))) =
            (&endpoint.role, endpoint.operation(Kind::Connect).map(|operation| &operation.op))
        else {
            unreachable!("it is connecting: {endpoint:?}")
        };
        let (name, to) = (name_of_client(to, *from, port), to.clone());
        let here = Connected::new(name.clone(), to.clone(), server, window_bytes);
        let there = Connected::new(to, name, client, window_bytes);
        endpoint.role = Role::Connected(here);
        let shard = self.socket(listener).shard;
        self.insert(shard, Role::Connected(there));
        let due = self.later();
        let queue = &mut self.socket(listener).listener_mut().expect("it listens").queue;
        let due = queue.back().map_or(due, |(last, _)| due.max(*last));
        queue.push_back((due, server));
        self.refresh(listener, Kind::Accept);
        let due = self.later();
        self.schedule(client, Kind::Connect, Some(due));
    }

    /// Lets in the next of those whose connect found the queue full.
    pub(super) fn let_in(&mut self, listener: u32) {
        let mut waits = || self.socket(listener).listener_mut()?.waiting.pop_front();
        let Some(client) = waits() else { return };
        let connect = self.sockets.get(&client).and_then(|client| client.operation(Kind::Connect));
        match connect {
            Some(connect) if connect.cancelled.is_none() => self.establish(client, listener),
            // It has given up.
            _ => self.let_in(listener),
        }
    }

    fn cancel(&mut self, socket: u32) {
        let due = self.later();
        let operation = self.socket(socket).operation(Kind::Cancel);
        let Some(&Op::Cancel(kind)) = operation.map(|operation| &operation.op) else {
            unreachable!("a cancel has begun")
        };
        if let Some(target) = self.socket(socket).operation_mut(kind).filter(|target| target.begun)
        {
            target.cancelled = Some(due);
            let before = target.due;
            self.schedule(socket, kind, before);
        }
        let due = self.later();
        self.schedule(socket, Kind::Cancel, Some(due));
    }

    /// Bytes that a send can be rid of now.
    fn room_bytes(&self, socket: u32) -> usize {
        let connected = |socket| self.sockets.get(&socket)?.connected();
        let Some(here) = connected(socket) else { return 0 };
        if here.send_error(self.now).is_some() {
            return 0;
        }
        match connected(here.other) {
            Some(there) if !there.is_reset() => there.incoming.room_bytes(),
            // Lost on the way, until this side is told; which silence prevents.
            _ if here.send_error_due() < Time::NEVER => usize::MAX,
            _ => 0,
        }
    }

    /// Puts some of the bytes on their way.
    pub(super) fn send_some(&mut self, socket: u32) {
        let room = self.room_bytes(socket);
        let operation = self.socket(socket).operation(Kind::Send).expect("a send is under way");
        let Op::Send(outgoing) = &operation.op else { unreachable!("{operation:?}") };
        let rest = outgoing[operation.done_bytes..].to_vec();
        let n_bytes = self.prefix(rest.len().min(room));
        if n_bytes == 0 {
            return;
        }
        if self.happens(self.chance.reset_per_mille) {
            self.reset(socket);
        } else if self.happens(self.chance.silence_per_mille) {
            self.silence(socket);
        }
        self.carry(socket, &rest[..n_bytes]);
        let operation = self.socket(socket).operation_mut(Kind::Send).expect("as above");
        operation.done_bytes += n_bytes;
    }

    /// They arrive in one piece or in several.
    fn carry(&mut self, from: u32, mut bytes: &[u8]) {
        let other = self.connected(from).expect("a send has begun").other;
        while !bytes.is_empty() {
            let (n_bytes, due) = (self.prefix(bytes.len()), self.later());
            let Some(there) = self.connected(other).filter(|there| !there.is_reset()) else {
                return;
            };
            there.incoming.push(&bytes[..n_bytes], due);
            bytes = &bytes[n_bytes..];
        }
        self.refresh(other, Kind::Receive);
    }

    fn send_due(&mut self, socket: u32) -> Option<Time> {
        let operation = self.sockets.get(&socket)?.operation(Kind::Send)?;
        let Op::Send(outgoing) = &operation.op else { unreachable!("{operation:?}") };
        let is_done = operation.done_bytes == outgoing.len();
        let before = operation.due;
        let connected = self.sockets.get(&socket)?.connected()?;
        let has_failed = connected.send_error(self.now).is_some();
        let error_due = connected.send_error_due();
        if is_done || has_failed || self.room_bytes(socket) > 0 {
            let due = self.later();
            return Some(before.map_or(due, |before| before.min(due)));
        }
        Some(error_due)
    }
}
