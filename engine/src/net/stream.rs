//! One connection's side of the ring, pure: told what has completed, asked what is to be done.
//!
//! Nothing is decided where it happens. Reading, writing, closing and completions only change the
//! state; [`Stream::step`] then derives the next operation from it, one at a time, until there is
//! none. So every order of events is the same few questions.
//!
//! ```text
//!   connecting ──▶ open ──▶ closing: what is queued leaves ──▶ ending: both directions end ──▶ closed
//!        └──────────┴────────── given up ──▶ aborted: what is under way is taken back ──▶ reset
//! ```
//!
//! A socket is closed only when none of its operations is under way: its number may be another
//! socket's a moment later.

use std::rc::Rc;
use std::task::Waker;

use super::fault::Fault;
use super::options::ConnectionOptions;
use super::receiving::{Receiving, Wants};
use super::sending::{Sending, Spent};
use super::table::SlotKey;
use crate::runtime::Time;
use crate::runtime::ring::{Address, Chunk, Kind, Op, Outgoing, Side};

/// What a socket asks for next.
#[derive(Debug)]
pub(super) enum Step {
    Push(Op),
    Shutdown(Side),
    /// Of a listener: nobody more may connect.
    TurnAway,
    /// Of a listener: takes in the next who waits in the kernel.
    TakeWaiting,
    /// The other side sees the end of the stream.
    Close,
    /// The other side sees that the stream was broken off.
    Reset,
    Nothing,
}

/// How far the connection has come.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// The address until the operation is pushed.
    Connecting(Option<Box<Address>>),
    Open,
    /// Nobody holds it: it closes when what is queued has left.
    Closing,
    /// Both directions end, then it closes.
    Ending,
    /// What is under way is taken back, then it is reset.
    Aborted,
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Stream {
    phase: Phase,
    /// Somebody has a handle to it.
    held: bool,
    /// Those of a listener's connections stand in one place.
    options: Rc<ConnectionOptions>,
    receiving: Receiving,
    sending: Sending,
    /// The operation that is being taken back, until the taking back has completed.
    cancelling: Option<Kind>,
    shut: Option<Side>,
    /// A connect is under way.
    connecting: bool,
    active_at: Time,
    pub(super) listener: Option<SlotKey>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Stream {
    fn new(phase: Phase, options: Rc<ConnectionOptions>, now: Time) -> Self {
        // None at all would wait for ever.
        let receiving = Receiving::new(options.read_bytes_max.max(1));
        Self {
            phase,
            held: true,
            options,
            receiving,
            sending: Sending::default(),
            cancelling: None,
            shut: None,
            connecting: false,
            active_at: now,
            listener: None,
            reader: None,
            writer: None,
        }
    }

    /// A connection that a listener has accepted.
    pub(super) fn accepted(options: Rc<ConnectionOptions>, from: SlotKey, now: Time) -> Self {
        Self { listener: Some(from), ..Self::new(Phase::Open, options, now) }
    }

    /// A connection to be made.
    pub(super) fn connecting(to: Address, options: ConnectionOptions, now: Time) -> Self {
        Self::new(Phase::Connecting(Some(Box::new(to))), Rc::new(options), now)
    }

    // What its holder does.

    /// Bytes that may be queued now; none only while as many wait as may.
    pub(super) fn room(&self) -> Result<usize, Fault> {
        self.sending.check_open()?;
        Ok(self.options.write_bytes_max.max(1).saturating_sub(self.sending.n_bytes()))
    }

    pub(super) fn receiving(&mut self) -> &mut Receiving {
        &mut self.receiving
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

    /// Nobody holds it any more.
    pub(super) fn release(&mut self) {
        self.held = false;
        self.phase = match self.phase {
            Phase::Open => Phase::Closing,
            Phase::Closing => Phase::Closing,
            Phase::Ending => Phase::Ending,
            Phase::Connecting(_) | Phase::Aborted => Phase::Aborted,
        };
        self.receiving.forget();
    }

    /// Ends it for this reason: properly if all that was written has left, else broken off.
    pub(super) fn give_up(&mut self, fault: Fault) {
        let is_whole = self.phase == Phase::Open && self.sending.is_empty();
        self.abort(fault);
        if is_whole {
            self.phase = Phase::Ending;
        }
    }

    /// Breaks it off without regard to what is queued.
    pub(super) fn abort(&mut self, fault: Fault) {
        self.phase = Phase::Aborted;
        self.receiving.end(Err(fault));
        self.sending.fail(fault);
    }

    // What the ring tells.

    /// Connecting → Open | Aborted
    pub(super) fn on_connected(&mut self, result: Result<(), Fault>, now: Time) {
        self.connecting = false;
        self.active_at = now;
        match result {
            Ok(()) if matches!(self.phase, Phase::Connecting(_)) => self.phase = Phase::Open,
            Ok(()) => {}
            Err(fault) => self.abort(fault),
        }
    }

    pub(super) fn on_received(&mut self, result: Result<Chunk, Fault>, more: bool, now: Time) {
        self.active_at = now;
        self.receiving.on_received(result, more);
        if !self.held {
            self.receiving.forget();
        }
    }

    pub(super) fn on_sent(
        &mut self,
        bytes: Outgoing,
        result: Result<usize, Fault>,
        now: Time,
        spent: &mut Spent,
    ) {
        self.active_at = now;
        self.sending.on_sent(bytes, result, now, spent);
    }

    pub(super) fn on_cancelled(&mut self) {
        self.cancelling = None;
    }

    // What follows.

    /// Whether an ordinary completion leaves something to be done with the socket.
    pub(super) fn wants_step(&self) -> bool {
        self.phase != Phase::Open
            || self.sending.has_queued()
            || self.sending.is_finishing()
            || self.receiving.is_behind()
    }

    /// The next thing to be done with the socket.
    pub(super) fn step(&mut self, now: Time) -> Step {
        let step = match self.phase {
            Phase::Connecting(ref mut address) => {
                let Some(address) = address.take() else { return Step::Nothing };
                self.connecting = true;
                return Step::Push(Op::Connect(*address));
            }
            Phase::Open => self.step_receiving(),
            Phase::Closing => Step::Nothing,
            Phase::Ending => return self.step_ending(),
            Phase::Aborted => return self.step_aborting(),
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
        match self.receiving.next() {
            Wants::Arm if self.cancelling.is_none() => {
                self.receiving.arm();
                Step::Push(Op::Receive)
            }
            Wants::TakeBack => self.cancel(Kind::Receive),
            Wants::Arm | Wants::Nothing => Step::Nothing,
        }
    }

    /// All that was queued has left, or nothing more can.
    fn step_finishing(&mut self) -> Step {
        let left = self.sending.is_empty();
        match self.phase {
            Phase::Closing if left || self.sending.check().is_err() => {
                self.phase = Phase::Ending;
                self.step_ending()
            }
            _ if left && self.sending.is_finishing() && self.shut.is_none() => {
                self.shut = Some(Side::Write);
                Step::Shutdown(Side::Write)
            }
            _ => Step::Nothing,
        }
    }

    /// Ends both directions, waits for what is under way, then closes.
    fn step_ending(&mut self) -> Step {
        let under_way = self.receiving.is_armed() || self.sending.is_under_way();
        if under_way && self.shut != Some(Side::Both) {
            self.shut = Some(Side::Both);
            return Step::Shutdown(Side::Both);
        }
        if under_way || self.cancelling.is_some() { Step::Nothing } else { Step::Close }
    }

    /// Takes back what is under way, then breaks off: a shutdown would look like a proper end.
    fn step_aborting(&mut self) -> Step {
        let under_way = [
            (self.connecting, Kind::Connect),
            (self.receiving.is_armed(), Kind::Receive),
            (self.sending.is_under_way(), Kind::Send),
        ];
        match under_way.iter().find(|(is_it, _)| *is_it) {
            Some((_, kind)) => self.cancel(*kind),
            None if self.cancelling.is_some() => Step::Nothing,
            None => Step::Reset,
        }
    }

    /// A socket that is no longer connected cannot be shut down: nothing more can be sent, and a
    /// receive that is under way is taken back if it was to end by this.
    pub(super) fn on_not_shut(&mut self, side: Side, fault: Fault) -> Step {
        self.sending.fail(fault);
        if side == Side::Both && self.receiving.is_armed() {
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
        let read = if self.reader.is_some() { self.receiving.read_by() } else { Time::NEVER };
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
            self.give_up(Fault::TimedOut);
        }
        passed
    }
}
