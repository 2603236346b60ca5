//! One connection's side of the ring, pure: told what has completed, asked what is to be done.
//!
//! Nothing is decided where it happens. Reading, writing, closing and completions only change the
//! state; [`Stream::step`] then derives the next operation from it, one at a time, until there is
//! none. So every order of events is the same few questions.
//!
//! ```text
//!   connecting ──▶ open ──▶ closing: what is queued leaves ─▶ both directions end
//!        └──────────┴── given up ──▶ ─▶ each operation's last completion ─▶ the socket closes
//! ```
//!
//! A socket is closed only when none of its operations is under way: its number may be another
//! socket's a moment later.

use std::collections::VecDeque;
use std::task::Waker;

use super::fault::Fault;
use super::options::ConnectionOptions;
use super::sending::Sending;
use super::table::SlotKey;
use crate::runtime::Time;
use crate::runtime::ring::{Address, Chunk, Kind, Op, Outgoing, Side};

/// What a socket asks for next.
#[derive(Debug)]
pub(super) enum Step {
    Push(Op),
    Shutdown(Side),
    Close,
    Nothing,
}

/// Whether an operation is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    Off,
    On,
}

/// How far the connection has come.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// The address until the operation is pushed.
    Connecting(Option<Address>),
    Open,
    /// Nobody holds it: it closes when what is queued has left.
    Closing,
    /// It closes as soon as it can.
    Aborted,
}

/// What a reader finds.
#[derive(Debug)]
pub(super) enum Read {
    Bytes(Chunk),
    End,
    Failed(Fault),
    Nothing,
}

#[derive(Debug)]
struct Receiving {
    armed: Armed,
    unread: VecDeque<Chunk>,
    n_bytes: usize,
    /// The reader is behind: nothing is received until it has caught up.
    paused: bool,
    /// There was no buffer: the table arms it again when there is.
    starved: bool,
    ended: Option<Result<(), Fault>>,
    read_by: Time,
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Stream {
    phase: Phase,
    /// Somebody has a handle to it.
    held: bool,
    options: ConnectionOptions,
    receiving: Receiving,
    sending: Sending,
    /// The operation that is being taken back, until the taking back has completed.
    cancelling: Option<Kind>,
    shut: Option<Side>,
    connect: Armed,
    active_at: Time,
    pub(super) listener: Option<SlotKey>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Stream {
    fn new(phase: Phase, options: ConnectionOptions, now: Time) -> Self {
        let receiving = Receiving {
            armed: Armed::Off,
            unread: VecDeque::new(),
            n_bytes: 0,
            paused: false,
            starved: false,
            ended: None,
            read_by: Time::NEVER,
        };
        Self {
            phase,
            held: true,
            options,
            receiving,
            sending: Sending::default(),
            cancelling: None,
            shut: None,
            connect: Armed::Off,
            active_at: now,
            listener: None,
            reader: None,
            writer: None,
        }
    }

    /// A connection that a listener has accepted.
    pub(super) fn accepted(options: ConnectionOptions, from: SlotKey, now: Time) -> Self {
        Self { listener: Some(from), ..Self::new(Phase::Open, options, now) }
    }

    /// A connection to be made.
    pub(super) fn connecting(to: Address, options: ConnectionOptions, now: Time) -> Self {
        Self::new(Phase::Connecting(Some(to)), options, now)
    }

    // What its holder does.

    /// Takes the oldest bytes that were received.
    pub(super) fn read(&mut self, now: Time) -> Read {
        let receiving = &mut self.receiving;
        if let Some(chunk) = receiving.unread.pop_front() {
            receiving.n_bytes -= chunk.len();
            return Read::Bytes(chunk);
        }
        match receiving.ended {
            Some(Ok(())) => Read::End,
            Some(Err(fault)) => Read::Failed(fault),
            None if receiving.read_by <= now => Read::Failed(Fault::TimedOut),
            None => Read::Nothing,
        }
    }

    /// Puts back what a reader has left over.
    pub(super) fn unread(&mut self, chunk: Chunk) {
        self.receiving.n_bytes += chunk.len();
        self.receiving.unread.push_front(chunk);
    }

    /// Bytes that may be queued now; none only while as many wait as may.
    pub(super) fn room(&self) -> Result<usize, Fault> {
        self.sending.check_open()?;
        Ok(self.options.write_bytes_max.saturating_sub(self.sending.n_bytes()))
    }

    pub(super) fn sending(&mut self) -> &mut Sending {
        &mut self.sending
    }

    /// Whether all that was written has left.
    pub(super) fn flushed(&self) -> Result<bool, Fault> {
        self.sending.check()?;
        Ok(self.sending.is_empty())
    }

    /// Whether the end has been sent behind all that was written.
    pub(super) fn finished(&mut self) -> Result<bool, Fault> {
        self.sending.finish();
        Ok(self.flushed()? && self.shut.is_some())
    }

    /// Whether the connection stands.
    pub(super) fn connected(&self) -> Result<bool, Fault> {
        self.sending.check()?;
        Ok(self.phase == Phase::Open)
    }

    pub(super) fn read_by(&mut self, deadline: Time) {
        self.receiving.read_by = deadline;
    }

    /// Nobody holds it any more.
    pub(super) fn release(&mut self) {
        self.held = false;
        self.phase = match self.phase {
            Phase::Open => Phase::Closing,
            Phase::Closing => Phase::Closing,
            Phase::Connecting(_) | Phase::Aborted => Phase::Aborted,
        };
        self.receiving.unread = VecDeque::new();
        self.receiving.n_bytes = 0;
    }

    /// Ends it without regard to what is queued.
    pub(super) fn abort(&mut self, fault: Fault) {
        self.phase = Phase::Aborted;
        self.receiving.ended.get_or_insert(Err(fault));
        self.sending.fail(fault);
    }

    // What the ring tells.

    /// Connecting → Open | Aborted
    pub(super) fn on_connected(&mut self, result: Result<(), Fault>, now: Time) {
        self.connect = Armed::Off;
        self.active_at = now;
        match result {
            Ok(()) if matches!(self.phase, Phase::Connecting(_)) => self.phase = Phase::Open,
            Ok(()) => {}
            Err(fault) => self.abort(fault),
        }
    }

    pub(super) fn on_received(&mut self, result: Result<Chunk, Fault>, more: bool, now: Time) {
        let receiving = &mut self.receiving;
        receiving.armed = if more { Armed::On } else { Armed::Off };
        match result {
            Ok(chunk) if chunk.is_empty() => {
                receiving.ended.get_or_insert(Ok(()));
            }
            Ok(chunk) => {
                self.active_at = now;
                self.keep(chunk);
            }
            Err(fault) if fault.is_starved() => receiving.starved = true,
            Err(fault) if fault.is_harmless() => {}
            Err(fault) => {
                receiving.ended.get_or_insert(Err(fault));
            }
        }
    }

    fn keep(&mut self, chunk: Chunk) {
        if !self.is_held() {
            return;
        }
        let receiving = &mut self.receiving;
        receiving.n_bytes += chunk.len();
        // A slow reader of small pieces holds few buffers that way.
        if receiving.unread.back_mut().is_some_and(|last| last.absorb(&chunk)) {
            return;
        }
        receiving.unread.push_back(chunk);
    }

    pub(super) fn on_sent(&mut self, bytes: Outgoing, result: Result<usize, Fault>, now: Time) {
        self.active_at = now;
        self.sending.on_sent(bytes, result);
    }

    pub(super) fn on_cancelled(&mut self) {
        self.cancelling = None;
    }

    /// There are buffers again.
    pub(super) fn feed(&mut self) {
        self.receiving.starved = false;
    }

    pub(super) fn is_starved(&self) -> bool {
        self.receiving.starved
    }

    // What follows.

    /// Whether an ordinary completion leaves something to be done with the socket.
    pub(super) fn wants_step(&self) -> bool {
        self.phase != Phase::Open
            || self.sending.has_queued()
            || self.sending.is_finishing()
            || self.is_behind()
    }

    /// Whether as many bytes as may be are unread.
    pub(super) fn is_behind(&self) -> bool {
        self.receiving.n_bytes >= self.options.read_bytes_max
    }

    /// Whether nothing is received because the reader was behind.
    pub(super) fn is_paused(&self) -> bool {
        self.receiving.paused
    }

    /// The next thing to be done with the socket.
    pub(super) fn step(&mut self, now: Time) -> Step {
        let step = match self.phase {
            Phase::Connecting(ref mut address) => {
                let Some(address) = address.take() else { return Step::Nothing };
                self.connect = Armed::On;
                return Step::Push(Op::Connect(address));
            }
            Phase::Open => self.step_receiving(),
            Phase::Closing => Step::Nothing,
            Phase::Aborted => return self.step_ending(),
        };
        if !matches!(step, Step::Nothing) {
            return step;
        }
        match self.sending.next(now) {
            Some(bytes) => Step::Push(Op::Send(bytes)),
            None => self.step_finishing(),
        }
    }

    fn step_receiving(&mut self) -> Step {
        let receiving = &mut self.receiving;
        let max = self.options.read_bytes_max;
        let resume = if receiving.paused { max / 2 } else { max };
        receiving.paused = receiving.n_bytes > 0 && receiving.n_bytes >= resume;
        let wanted = receiving.ended.is_none() && !receiving.paused && !receiving.starved;
        match receiving.armed {
            Armed::Off if wanted && self.cancelling.is_none() => {
                receiving.armed = Armed::On;
                Step::Push(Op::Receive)
            }
            Armed::On if receiving.paused => self.cancel(Kind::Receive),
            _ => Step::Nothing,
        }
    }

    /// All that was queued has left, or nothing more can.
    fn step_finishing(&mut self) -> Step {
        let left = self.sending.is_empty();
        match self.phase {
            Phase::Closing if left || self.sending.check().is_err() => {
                self.phase = Phase::Aborted;
                self.step_ending()
            }
            _ if left && self.sending.is_finishing() && self.shut.is_none() => {
                self.shut = Some(Side::Write);
                Step::Shutdown(Side::Write)
            }
            _ => Step::Nothing,
        }
    }

    /// Ends what is under way, then closes.
    fn step_ending(&mut self) -> Step {
        if self.connect == Armed::On {
            return self.cancel(Kind::Connect);
        }
        let under_way = self.receiving.armed == Armed::On || self.sending.is_under_way();
        if under_way && self.shut != Some(Side::Both) {
            self.shut = Some(Side::Both);
            return Step::Shutdown(Side::Both);
        }
        if under_way || self.cancelling.is_some() { Step::Nothing } else { Step::Close }
    }

    /// A socket that is no longer connected cannot be shut down: what is under way is taken back.
    pub(super) fn on_not_shut(&mut self) -> Step {
        if self.receiving.armed == Armed::On && self.shut == Some(Side::Both) {
            return self.cancel(Kind::Receive);
        }
        Step::Nothing
    }

    fn cancel(&mut self, kind: Kind) -> Step {
        if self.cancelling.is_some() {
            return Step::Nothing;
        }
        self.cancelling = Some(kind);
        Step::Push(Op::Cancel(kind))
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    // Its bounds in time.

    /// When something is due if nothing happens until then.
    pub(super) fn due(&self) -> Time {
        let read = if self.reader.is_some() { self.receiving.read_by } else { Time::NEVER };
        self.gives_up_at().min(read)
    }

    fn gives_up_at(&self) -> Time {
        let idle = match self.options.idle {
            Some(idle) if self.phase == Phase::Open => self.active_at.after(idle),
            _ => Time::NEVER,
        };
        let write = match self.sending.waits_since() {
            Some(since) if self.phase != Phase::Aborted => since.after(self.options.write_within),
            _ => Time::NEVER,
        };
        idle.min(write)
    }

    /// Gives the connection up if a bound has been passed; tells whether it did. A reader whose
    /// deadline has passed is only woken: what it does then is its own affair.
    pub(super) fn on_time(&mut self, now: Time) -> bool {
        let passed = self.gives_up_at() <= now;
        if passed {
            self.abort(Fault::TimedOut);
        }
        passed
    }
}
