//! One listener's side of the ring, pure: told what has completed, asked what is to be done.
//!
//! ```text
//!   taking in ──▶ full: the accept is taken back; the rest waits in the kernel
//!       ▲ └─────▶ exhausted (EMFILE …): a pause, doubled each time ──┐
//!       └────────────────────────────────────────────────────────────┘
//!
//!   Open ─▶ Draining ─────▶ Emptying ──────────▶ Closing
//!           the accept is   one after the other   nobody is left
//!           taken back      is taken in           in the kernel
//! ```

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use super::fault::Fault;
use super::options::{ConnectionOptions, ListenOptions};
use super::stream::Step;
use super::table::SlotKey;
use crate::runtime::Time;
use crate::runtime::ring::{Kind, Op};

/// The first pause when descriptors have run out: long enough not to spin, short enough to be
/// forgotten when one connection more was the cause.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How far the listener has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// To be closed once all who have connected are taken in.
    Draining,
    /// Nobody more can connect; who waits in the kernel is taken in.
    Emptying,
    /// Nothing more is taken in.
    Closing,
}

#[derive(Debug)]
pub(super) struct Listening {
    connections_max: usize,
    /// Of each connection.
    pub(super) connection: Rc<ConnectionOptions>,
    armed: bool,
    cancelling: bool,
    phase: Phase,
    /// Somebody has a handle to it.
    held: bool,
    /// Taken in and not yet handed out.
    pub(super) accepted: VecDeque<SlotKey>,
    /// Open, handed out or not.
    open: usize,
    pause: Duration,
    paused_until: Time,
    pub(super) waker: Option<Waker>,
}

impl Listening {
    pub(super) fn new(options: ListenOptions) -> Self {
        Self {
            connections_max: options.connections_max,
            connection: Rc::new(options.connection),
            armed: false,
            cancelling: false,
            phase: Phase::Open,
            held: true,
            accepted: VecDeque::new(),
            open: 0,
            pause: PAUSE_MIN,
            paused_until: Time::ZERO,
            waker: None,
        }
    }

    /// Nothing more is taken in.
    pub(super) fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Whether somebody has connected, or may have, who is still to be handed out before the end.
    pub(super) fn is_draining(&self) -> bool {
        match self.phase {
            Phase::Open => false,
            Phase::Draining | Phase::Emptying => true,
            Phase::Closing => !self.accepted.is_empty(),
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Open → Draining
    pub(super) fn drain(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
        }
    }

    /// Takes in nothing more.
    pub(super) fn close(&mut self) {
        self.phase = Phase::Closing;
    }

    /// Nobody has a handle to it any more.
    pub(super) fn release(&mut self) {
        self.held = false;
    }

    pub(super) fn on_accepted(&mut self, more: bool) {
        self.armed = more;
        self.open += 1;
        self.pause = PAUSE_MIN;
    }

    /// Gives when to try again, if that should not be at once.
    pub(super) fn on_refused(&mut self, fault: Fault, more: bool, now: Time) -> Option<Time> {
        self.armed = more;
        if !fault.is_exhausted() {
            return None;
        }
        self.paused_until = now.after(self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Some(self.paused_until)
    }

    pub(super) fn on_cancelled(&mut self) {
        self.cancelling = false;
    }

    /// One of its connections has closed.
    pub(super) fn on_closed(&mut self) {
        self.open -= 1;
    }

    pub(super) fn step(&mut self, now: Time) -> Step {
        let has_room = self.open < self.connections_max && self.paused_until <= now;
        let wanted = self.phase == Phase::Open && has_room;
        match (self.armed, wanted) {
            _ if self.cancelling => Step::Nothing,
            (false, true) => {
                self.armed = true;
                Step::Push(Op::Accept)
            }
            (true, false) => {
                self.cancelling = true;
                Step::Push(Op::Cancel(Kind::Accept))
            }
            (true, true) => Step::Nothing,
            (false, false) => self.step_closing(has_room),
        }
    }

    /// No accept is under way, and none is wanted.
    fn step_closing(&mut self, has_room: bool) -> Step {
        match self.phase {
            Phase::Draining => {
                self.phase = Phase::Emptying;
                Step::TurnAway
            }
            Phase::Emptying if has_room => Step::TakeWaiting,
            Phase::Closing => Step::Close,
            Phase::Open | Phase::Emptying => Step::Nothing,
        }
    }
}
