//! The sockets of one shard: a slot for each, from its opening to the last completion.
//!
//! Whatever happens to a socket changes its slot's state and puts it on the list of those to be
//! stepped; the turn steps them once, after everything else, and enters the ring. A slot outlives
//! its handle until nothing of it is under way, so a completion always finds whom it is for.

use std::io;
use std::rc::Rc;
use std::task::Waker;

use slotmap::{Key, KeyData, SlotMap, new_key_type};

use super::fault::Fault;
use super::listening::Listening;
use super::options::{ConnectionOptions, ListenOptions};
use super::stream::{Step, Stream};
use crate::limits::NET_COMPLETIONS_PER_TURN;
use crate::metrics::{NetMetrics, NetSnapshot};
use crate::runtime::Time;
use crate::runtime::core::{Core, Due};
use crate::runtime::guard::contain;
use crate::runtime::ring::{Address, Completion, Outcome, Outgoing, Ring, Socket, Token};
use crate::runtime::wheel::TimerId;

new_key_type! {
    /// Names a socket of one shard; never that of another that came later.
    pub(crate) struct SlotKey;
}

impl SlotKey {
    pub(super) fn bits(self) -> u64 {
        self.data().as_ffi()
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        KeyData::from_ffi(bits).into()
    }
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are streams: a box would only cost")]
enum State {
    Stream(Stream),
    Listening(Box<Listening>),
}

#[derive(Debug)]
struct Slot {
    /// Gone once it has closed; the slot stays as long as somebody holds the connection.
    socket: Option<Socket>,
    state: State,
    /// On the list of those to be stepped.
    listed: bool,
    timer: Option<(TimerId, Time)>,
}

/// What is foreign code, to be done when the borrow has ended.
#[derive(Debug, Default)]
pub(super) struct After {
    /// To be woken.
    woken: Vec<Waker>,
    /// To be dropped: shared bytes may have an owner of any type.
    spent: Vec<Outgoing>,
}

impl After {
    fn wake(&mut self, wakers: impl IntoIterator<Item = Option<Waker>>) {
        self.woken.extend(wakers.into_iter().flatten());
    }

    fn is_empty(&self) -> bool {
        self.woken.is_empty() && self.spent.is_empty()
    }

    /// Does it all.
    pub(super) fn run(&mut self) {
        for waker in self.woken.drain(..) {
            contain(|| waker.wake());
        }
        for bytes in self.spent.drain(..) {
            contain(|| drop(bytes));
        }
    }
}

/// The table, behind the one borrow of [`Net`](super::Net).
#[derive(Debug)]
pub(super) struct Table {
    core: Rc<Core>,
    ring: Box<dyn Ring>,
    slots: SlotMap<SlotKey, Slot>,
    /// To be stepped at the end of the turn.
    listed: Vec<SlotKey>,
    /// Connections that found no buffer to receive into.
    starved: Vec<SlotKey>,
    after: After,
    /// Reused from turn to turn.
    completions: Vec<Completion>,
    timers: usize,
    /// Sockets that have not closed.
    open: usize,
    metrics: NetMetrics,
}

impl Table {
    pub(super) fn new(core: Rc<Core>, ring: Box<dyn Ring>) -> Self {
        Self {
            core,
            ring,
            slots: SlotMap::with_key(),
            listed: Vec::new(),
            starved: Vec::new(),
            after: After::default(),
            completions: Vec::new(),
            timers: 0,
            open: 0,
            metrics: NetMetrics::default(),
        }
    }

    pub(super) fn ring(&mut self) -> &mut dyn Ring {
        &mut *self.ring
    }

    /// Takes what is to be done when the borrow has ended, if there is any.
    pub(super) fn take_after(&mut self) -> Option<After> {
        (!self.after.is_empty()).then(|| std::mem::take(&mut self.after))
    }

    /// Gives the emptied lists back, for the next turn.
    pub(super) fn put_after(&mut self, after: After) {
        debug_assert!(after.is_empty(), "all of it was done");
        if self.after.is_empty() {
            self.after = after;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Timers that stand for bounds of sockets.
    pub(super) fn timers(&self) -> usize {
        self.timers
    }

    /// Whether something is to be stepped.
    pub(super) fn has_listed(&self) -> bool {
        !self.listed.is_empty()
    }

    pub(super) fn snapshot(&self) -> NetSnapshot {
        self.metrics.snapshot(self.open)
    }

    // Opening.

    fn insert(&mut self, socket: Socket, state: State) -> SlotKey {
        assert!(self.slots.len() < Token::SLOTS - 1, "a shard holds fewer than 2^24 sockets");
        let slot = Slot { socket: Some(socket), state, listed: false, timer: None };
        let key = self.slots.insert(slot);
        self.open += 1;
        self.list(key);
        key
    }

    pub(super) fn add_listener(&mut self, socket: Socket, options: ListenOptions) -> SlotKey {
        self.insert(socket, State::Listening(Box::new(Listening::new(options))))
    }

    pub(super) fn add_connecting(
        &mut self,
        socket: Socket,
        to: Address,
        options: ConnectionOptions,
    ) -> SlotKey {
        self.metrics.connected.add(1);
        self.insert(socket, State::Stream(Stream::connecting(to, options, self.core.now())))
    }

    // Looking.

    pub(super) fn stream(&mut self, key: SlotKey) -> Result<&mut Stream, Fault> {
        match self.slots.get_mut(key).map(|slot| &mut slot.state) {
            Some(State::Stream(stream)) => Ok(stream),
            _ => Err(Fault::Closed),
        }
    }

    pub(super) fn listener(&mut self, key: SlotKey) -> Result<&mut Listening, Fault> {
        match self.slots.get_mut(key).map(|slot| &mut slot.state) {
            Some(State::Listening(listening)) => Ok(listening),
            _ => Err(Fault::Closed),
        }
    }

    pub(super) fn socket(&mut self, key: SlotKey) -> io::Result<(&Socket, &dyn Ring)> {
        let socket = self.slots.get(key).and_then(|slot| slot.socket.as_ref());
        Ok((socket.ok_or_else(|| Fault::Closed.error())?, &*self.ring))
    }

    /// Sees to it that the socket is stepped at the end of the turn.
    pub(super) fn list(&mut self, key: SlotKey) {
        if let Some(slot) = self.slots.get_mut(key)
            && !std::mem::replace(&mut slot.listed, true)
        {
            self.listed.push(key);
        }
    }

    // Completions.

    /// Takes in what has completed; tells how much.
    pub(super) fn reap(&mut self) -> usize {
        let mut completions = std::mem::take(&mut self.completions);
        let (mut n_reaped, mut behind) = (0, false);
        // No further delivery once a reader is behind: what stops its receiving must be submitted
        // first, or a quick sender fills the memory within one turn.
        while n_reaped < NET_COMPLETIONS_PER_TURN && !behind {
            self.ring.reap(NET_COMPLETIONS_PER_TURN - n_reaped, &mut completions);
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
                        let behind = stream.is_behind();
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

    fn accept(&mut self, key: SlotKey, socket: Socket, more: bool) {
        let now = self.core.now();
        self.metrics.accepted.add(1);
        let options =
            self.listener(key).expect("a listener outlives its accept").options.connection;
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

    fn refuse(&mut self, key: SlotKey, fault: Fault, more: bool) {
        let now = self.core.now();
        let listening = self.listener(key).expect("a listener outlives its accept");
        let again = listening.on_refused(fault, more, now);
        if let Some(again) = again {
            self.metrics.accept_pauses.add(1);
            self.arm(key, again);
        }
        self.list(key);
    }

    // What follows.

    /// Steps what is to be stepped, and enters the ring if it has something to do.
    pub(super) fn submit(&mut self) {
        self.step_listed();
        if self.ring.recycle() > 0 && !self.starved.is_empty() {
            for key in std::mem::take(&mut self.starved) {
                if let Ok(stream) = self.stream(key) {
                    stream.feed();
                    self.list(key);
                }
            }
            self.step_listed();
        }
        if self.ring.wants_enter() {
            self.metrics.enters.add(1);
            self.ring.enter();
        }
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
                if done.is_ok() {
                    // Whoever waits for the end to be sent.
                    self.after.wake([stream.writer.take()]);
                    continue;
                }
                step = stream.on_not_shut();
            }
            match step {
                Step::Push(op) => {
                    let token = Token::new(key.bits(), op.kind());
                    self.ring.push(token, socket, op);
                }
                Step::Close => return self.close(key),
                Step::Nothing | Step::Shutdown(_) => break,
            }
        }
        self.watch_time(key);
        if self.stream(key).is_ok_and(|stream| stream.is_starved()) && !self.starved.contains(&key)
        {
            self.metrics.starved.add(1);
            self.starved.push(key);
        }
    }

    fn close(&mut self, key: SlotKey) {
        let slot = self.slots.get_mut(key).expect("it was stepped just now");
        let timer = slot.timer.take();
        self.ring.close(slot.socket.take().expect("it closes once"));
        self.open -= 1;
        let listener = match &mut slot.state {
            State::Listening(_) => None,
            State::Stream(stream) => {
                self.metrics.closed.add(1);
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
    fn forget(&mut self, key: SlotKey) {
        let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.socket.is_none()) else {
            return;
        };
        if let State::Stream(stream) = &mut slot.state {
            if stream.is_held() {
                return;
            }
            stream.sending().take_spent(&mut self.after.spent);
        }
        self.slots.remove(key);
    }

    /// Nobody holds the connection any more.
    pub(super) fn release(&mut self, key: SlotKey) {
        if let Ok(stream) = self.stream(key) {
            stream.release();
            self.list(key);
            self.forget(key);
        }
    }

    /// The listener takes in nothing more, and closes.
    pub(super) fn close_listener(&mut self, key: SlotKey) {
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
    pub(super) fn close_listeners(&mut self) {
        let keys: Vec<SlotKey> = self.slots.keys().collect();
        for key in keys {
            self.close_listener(key);
        }
    }

    /// Closes everything, whoever holds it.
    pub(super) fn close_all(&mut self) {
        self.close_listeners();
        let keys: Vec<SlotKey> = self.slots.keys().collect();
        for key in keys {
            if let Ok(stream) = self.stream(key) {
                stream.abort(Fault::Closed);
                let wakers = [stream.reader.take(), stream.writer.take()];
                self.after.wake(wakers);
                self.list(key);
            }
        }
    }

    // Time.

    /// A timer of the socket has fired.
    pub(super) fn on_time(&mut self, key: SlotKey) {
        let now = self.core.now();
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.timer = None;
        self.timers -= 1;
        if let State::Stream(stream) = &mut slot.state {
            let wakes = stream.due() <= now;
            if stream.on_time(now) {
                self.metrics.timed_out.add(1);
            }
            if wakes {
                self.after.wake([stream.reader.take(), stream.writer.take()]);
            }
        }
        self.list(key);
    }

    /// Sees to it that a timer stands for the socket's nearest bound. It may stand too early: the
    /// bounds move away with each byte, and moving the timer along would cost more than one look.
    pub(super) fn watch_time(&mut self, key: SlotKey) {
        let Ok(stream) = self.stream(key) else { return };
        let due = stream.due();
        if due < Time::NEVER {
            self.arm(key, due);
        }
    }

    fn arm(&mut self, key: SlotKey, due: Time) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.timer.is_some_and(|(_, armed)| armed <= due) {
            return;
        }
        let timer = self.core.arm(due, Due::Socket(key.bits()));
        let before = slot.timer.replace((timer, due));
        self.timers += 1;
        self.disarm(before);
    }

    fn disarm(&mut self, timer: Option<(TimerId, Time)>) {
        if let Some((timer, _)) = timer {
            self.core.disarm(timer);
            self.timers -= 1;
        }
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
            stream.on_sent(bytes, result.map_err(fault), now);
            stream.sending().take_spent(&mut after.spent);
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
