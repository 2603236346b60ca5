//! A ring whose completions a test writes by hand.
//!
//! Nothing completes unless the test says so through the [`Script`] that it shares with the ring,
//! and everything that was asked of the ring can be read there. What a caller must keep to is
//! asserted: one operation of each kind per socket, no close while one is under way.
//!
//! ```text
//!   push ─▶ queued ─ enter ─▶ under way ─ script.received(..) ─▶ waits ─ reap ─▶ completion
//! ```
//!
//! An operation is over when its last completion has been reaped, as with the kernel.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::{
    Address, Chunk, Completion, End, How, Kind, ListenSpec, Op, Outcome, Outgoing, Pool, Ring,
    Side, Socket, Token,
};

/// Larger than what a test lets be received at once.
const BUFFER_BYTES: usize = 64;

/// One operation as it was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    pub(crate) kind: Kind,
    pub(crate) key: u64,
    pub(crate) socket: u32,
    /// Of a send.
    pub(crate) bytes: Vec<u8>,
    /// Of a cancel.
    pub(crate) cancels: Option<Kind>,
}

/// What a socket is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Shut(Side),
    Closed,
    Reset,
}

impl State {
    fn is_open(self) -> bool {
        !matches!(self, Self::Closed | Self::Reset)
    }
}

#[derive(Debug)]
struct UnderWay {
    socket: u32,
    begun: bool,
    /// Its last completion is written, and waits.
    over: bool,
    /// Of a send.
    outgoing: Option<Outgoing>,
}

/// What was asked of a scripted ring, and what it is to answer.
#[derive(Debug)]
pub(crate) struct Script {
    /// Every operation pushed, in order.
    pub(crate) pushed: Vec<Pushed>,
    /// How often the ring was entered.
    pub(crate) n_enters: usize,
    /// How often it was asked to recycle.
    pub(crate) n_recycles: usize,
    /// Buffers that `recycle` says stand ready. At first 8.
    pub(crate) n_buffers: usize,
    /// Whether the shard is about to sleep.
    pub(crate) armed: bool,
    /// Completions that one reap brings at most.
    pub(crate) delivery: usize,
    /// What the next shutdown gives, instead of being done.
    pub(crate) refuse_shutdown: Option<io::Error>,
    /// What opening a socket gives next, instead of one.
    pub(crate) refuse: Option<io::Error>,
    /// What stands in the line of every listener: connections, or what taking the next one gives.
    pub(crate) line: VecDeque<io::Result<()>>,
    /// How often newcomers were turned away.
    pub(crate) n_turned_away: usize,
    under_way: BTreeMap<(u64, u8), UnderWay>,
    completions: VecDeque<Completion>,
    sockets: Vec<State>,
    pool: Rc<Pool>,
}

/// A ring that a script answers for, and that script.
pub(crate) fn ring() -> (Box<dyn Ring>, Rc<RefCell<Script>>) {
    let script = Rc::new(RefCell::new(Script {
        pushed: Vec::new(),
        n_enters: 0,
        n_recycles: 0,
        n_buffers: 8,
        armed: false,
        delivery: usize::MAX,
        refuse_shutdown: None,
        refuse: None,
        line: VecDeque::new(),
        n_turned_away: 0,
        under_way: BTreeMap::new(),
        completions: VecDeque::new(),
        sockets: Vec::new(),
        pool: Pool::new(BUFFER_BYTES, 8),
    }));
    (Box::new(ScriptedRing(Rc::clone(&script))), script)
}

impl Script {
    /// Gives a new connection to the listener `key`; tells its socket.
    pub(crate) fn accepted(&mut self, key: u64, more: bool) -> u32 {
        let socket = self.open_socket();
        self.complete(key, Kind::Accept, more, Outcome::Accepted(Ok(Socket::Simulated(socket))));
        socket
    }

    /// Ends the accept of `key`.
    pub(crate) fn accept_failed(&mut self, key: u64, error: io::Error) {
        self.complete(key, Kind::Accept, false, Outcome::Accepted(Err(error)));
    }

    pub(crate) fn connected(&mut self, key: u64, result: io::Result<()>) {
        self.complete(key, Kind::Connect, false, Outcome::Connected(result));
    }

    /// Bytes for `key`; none are the end of the stream.
    pub(crate) fn received(&mut self, key: u64, more: bool, bytes: &[u8]) {
        let chunk = self.chunk(bytes);
        self.complete(key, Kind::Receive, more, Outcome::Received(Ok(chunk)));
    }

    /// Ends the receive of `key`.
    pub(crate) fn receive_failed(&mut self, key: u64, error: io::Error) {
        self.complete(key, Kind::Receive, false, Outcome::Received(Err(error)));
    }

    /// So many bytes of the send of `key` have left.
    pub(crate) fn sent(&mut self, key: u64, result: io::Result<usize>) {
        let operation = self.under_way.get_mut(&(key, Kind::Send as u8));
        let outgoing = operation.and_then(|operation| operation.outgoing.take());
        let outgoing = outgoing.unwrap_or_else(|| panic!("{key:#x} sends nothing"));
        if let Ok(n_bytes) = result {
            assert!(n_bytes <= outgoing.len(), "{n_bytes} of {} bytes", outgoing.len());
        }
        self.complete(key, Kind::Send, false, Outcome::Sent(outgoing, result));
    }

    /// The cancel of `key` is done; what it took back completes by itself.
    pub(crate) fn cancelled(&mut self, key: u64) {
        self.complete(key, Kind::Cancel, false, Outcome::Cancelled);
    }

    fn complete(&mut self, key: u64, kind: Kind, more: bool, outcome: Outcome) {
        let operation = self.under_way.get_mut(&(key, kind as u8));
        let operation = operation.unwrap_or_else(|| panic!("no {kind:?} of {key:#x} under way"));
        assert!(operation.begun, "{kind:?} of {key:#x} was not entered");
        assert!(!operation.over, "{kind:?} of {key:#x} is over");
        operation.over = !more;
        self.completions.push_back(Completion { token: Token::new(key, kind), more, outcome });
    }

    fn chunk(&self, bytes: &[u8]) -> Chunk {
        if bytes.is_empty() {
            return Chunk::empty();
        }
        let mut buffer = self.pool.take();
        buffer[..bytes.len()].copy_from_slice(bytes);
        Chunk::new(buffer, bytes.len(), &self.pool)
    }

    fn open_socket(&mut self) -> u32 {
        self.sockets.push(State::Open);
        u32::try_from(self.sockets.len() - 1).expect("few sockets")
    }

    /// Whether such an operation is under way: pushed, and its last completion not reaped.
    pub(crate) fn is_under_way(&self, key: u64, kind: Kind) -> bool {
        self.under_way.contains_key(&(key, kind as u8))
    }

    /// Operations of all sockets under way.
    pub(crate) fn n_under_way(&self) -> usize {
        self.under_way.len()
    }

    /// How often such an operation was pushed.
    pub(crate) fn n_pushed(&self, key: u64, kind: Kind) -> usize {
        self.pushed.iter().filter(|pushed| pushed.key == key && pushed.kind == kind).count()
    }

    pub(crate) fn state(&self, socket: u32) -> State {
        self.sockets[socket as usize]
    }

    /// Sockets that are not closed.
    pub(crate) fn n_open(&self) -> usize {
        self.sockets.iter().filter(|state| state.is_open()).count()
    }
}

#[derive(Debug)]
struct ScriptedRing(Rc<RefCell<Script>>);

impl ScriptedRing {
    fn open_socket(&self) -> io::Result<Socket> {
        let mut script = self.0.borrow_mut();
        match script.refuse.take() {
            Some(error) => Err(error),
            None => Ok(Socket::Simulated(script.open_socket())),
        }
    }
}

impl Ring for ScriptedRing {
    fn listen(&mut self, _spec: &ListenSpec) -> io::Result<Socket> {
        self.open_socket()
    }

    fn adopt(&mut self, _descriptor: OwnedFd) -> io::Result<Socket> {
        self.open_socket()
    }

    fn open(&mut self, _to: &Address, _from: Option<IpAddr>) -> io::Result<Socket> {
        self.open_socket()
    }

    fn push(&mut self, token: Token, socket: &Socket, op: Op) {
        let mut script = self.0.borrow_mut();
        let (key, kind, socket) = (token.key(), token.kind(), socket.simulated());
        assert!(script.state(socket).is_open(), "{kind:?} on closed socket {socket}");
        let of_key = script.under_way.range((key, 0)..=(key, u8::MAX));
        for (_, other) in of_key {
            assert_eq!(other.socket, socket, "{token:?} is another socket's");
        }
        let cancels = if let Op::Cancel(kind) = op { Some(kind) } else { None };
        let outgoing = if let Op::Send(outgoing) = op { Some(outgoing) } else { None };
        let bytes = outgoing.as_deref().unwrap_or_default().to_vec();
        script.pushed.push(Pushed { kind, key, socket, bytes, cancels });
        let operation = UnderWay { socket, begun: false, over: false, outgoing };
        let before = script.under_way.insert((key, kind as u8), operation);
        assert!(before.is_none(), "two of {kind:?} under way on socket {socket}");
    }

    fn wants_enter(&mut self) -> bool {
        self.0.borrow().under_way.values().any(|operation| !operation.begun)
    }

    fn enter(&mut self) {
        let mut script = self.0.borrow_mut();
        script.n_enters += 1;
        for operation in script.under_way.values_mut() {
            operation.begun = true;
        }
    }

    fn reap(&mut self, max: usize, into: &mut Vec<Completion>) {
        let mut script = self.0.borrow_mut();
        let n_reaped = max.min(script.delivery).min(script.completions.len());
        for completion in script.completions.drain(..n_reaped).collect::<Vec<_>>() {
            if !completion.more {
                let (key, kind) = (completion.token.key(), completion.token.kind());
                script.under_way.remove(&(key, kind as u8));
            }
            into.push(completion);
        }
    }

    fn recycle(&mut self) -> usize {
        let mut script = self.0.borrow_mut();
        script.n_recycles += 1;
        script.n_buffers
    }

    fn shutdown(&mut self, socket: &Socket, side: Side) -> io::Result<()> {
        let mut script = self.0.borrow_mut();
        if let Some(error) = script.refuse_shutdown.take() {
            return Err(error);
        }
        let state = &mut script.sockets[socket.simulated() as usize];
        match *state {
            State::Closed | State::Reset => panic!("shutdown of closed {socket:?}"),
            State::Shut(Side::Both) => {}
            State::Open | State::Shut(Side::Write) => *state = State::Shut(side),
        }
        Ok(())
    }

    fn close(&mut self, socket: Socket, how: How) {
        let mut script = self.0.borrow_mut();
        let number = socket.simulated();
        assert!(script.state(number).is_open(), "{socket:?} is closed twice");
        let under_way = script.under_way.iter().find(|(_, operation)| operation.socket == number);
        assert!(under_way.is_none(), "{socket:?} is closed with {under_way:?}");
        script.sockets[number as usize] = match how {
            How::Closed => State::Closed,
            How::Reset => State::Reset,
        };
    }

    fn turn_away(&mut self, _listener: &Socket) {
        self.0.borrow_mut().n_turned_away += 1;
    }

    fn take_waiting(&mut self, listener: &Socket) -> io::Result<Option<Socket>> {
        let mut script = self.0.borrow_mut();
        let number = listener.simulated();
        let mut under_way = script.under_way.iter();
        let accepts = Kind::Accept as u8;
        let is_armed = under_way.any(|((_, kind), op)| *kind == accepts && op.socket == number);
        assert!(!is_armed, "{listener:?} has an accept under way");
        let Some(next) = script.line.pop_front() else { return Ok(None) };
        next?;
        Ok(Some(Socket::Simulated(script.open_socket())))
    }

    fn name(&self, _socket: &Socket, end: End) -> io::Result<Address> {
        let text = if end == End::Here { "127.0.0.1:1" } else { "127.0.0.1:2" };
        Ok(text.parse().expect("an address"))
    }

    fn is_ready(&mut self) -> bool {
        !self.0.borrow().completions.is_empty()
    }

    fn arm(&mut self) -> bool {
        self.0.borrow_mut().armed = true;
        self.is_ready()
    }

    fn disarm(&mut self) {
        self.0.borrow_mut().armed = false;
    }

    fn signal(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: u64 = 1 << 32;

    /// A ring with one open socket.
    fn opened() -> (Box<dyn Ring>, Rc<RefCell<Script>>, Socket) {
        let (mut ring, script) = ring();
        let socket = ring.open(&"127.0.0.1:1".parse().unwrap(), None).unwrap();
        (ring, script, socket)
    }

    #[test]
    fn an_operation_is_over_when_its_last_completion_is_reaped() {
        let (mut ring, script, socket) = opened();
        ring.push(Token::new(KEY, Kind::Receive), &socket, Op::Receive);
        ring.enter();
        script.borrow_mut().received(KEY, true, b"ab");
        script.borrow_mut().received(KEY, false, b"");
        let mut completions = Vec::new();
        ring.reap(1, &mut completions);
        assert!(script.borrow().is_under_way(KEY, Kind::Receive));
        ring.reap(9, &mut completions);
        assert_eq!((completions.len(), script.borrow().n_under_way()), (2, 0));
        ring.close(socket, How::Closed);
        assert_eq!((script.borrow().state(0), script.borrow().n_open()), (State::Closed, 0));
    }

    #[test]
    fn a_send_gives_its_bytes_back() {
        let (mut ring, script, socket) = opened();
        ring.push(Token::new(KEY, Kind::Send), &socket, Op::Send("abc".into()));
        assert_eq!(script.borrow().pushed[0].bytes, b"abc");
        ring.enter();
        script.borrow_mut().sent(KEY, Ok(2));
        let mut completions = Vec::new();
        ring.reap(1, &mut completions);
        let Outcome::Sent(outgoing, Ok(2)) = &completions[0].outcome else { panic!() };
        assert_eq!(**outgoing, *b"abc");
    }

    #[test]
    #[should_panic(expected = "two of Receive under way")]
    fn a_second_operation_of_a_kind_is_a_mistake() {
        let (mut ring, _script, socket) = opened();
        for _ in 0..2 {
            ring.push(Token::new(KEY, Kind::Receive), &socket, Op::Receive);
        }
    }

    #[test]
    #[should_panic(expected = "is closed with")]
    fn a_close_before_the_last_completion_is_a_mistake() {
        let (mut ring, script, socket) = opened();
        ring.push(Token::new(KEY, Kind::Receive), &socket, Op::Receive);
        ring.enter();
        script.borrow_mut().received(KEY, false, b"");
        ring.close(socket, How::Closed);
    }
}
