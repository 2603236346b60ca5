//! One listener's side of the ring, pure: told what has completed, asked what is to be done.
//!
//! ```text
//!   taking in ──▶ full: the accept is taken back; the rest waits in the kernel
//!       ▲ └─────▶ exhausted (EMFILE …): a pause, doubled each time ──┐
//!       └────────────────────────────────────────────────────────────┘
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

#[derive(Debug)]
pub(super) struct Listening {
    connections_max: usize,
    /// Of each connection.
    pub(super) connection: Rc<ConnectionOptions>,
    armed: bool,
    cancelling: bool,
    closing: bool,
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
            closing: false,
            accepted: VecDeque::new(),
            open: 0,
            pause: PAUSE_MIN,
            paused_until: Time::ZERO,
            waker: None,
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Takes in nothing more.
    pub(super) fn close(&mut self) {
        self.closing = true;
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
        let full = self.open >= self.connections_max;
        let wanted = !self.closing && !full && self.paused_until <= now;
        match (self.armed, wanted) {
            (false, true) if !self.cancelling => {
                self.armed = true;
                Step::Push(Op::Accept)
            }
            (true, false) if !self.cancelling => {
                self.cancelling = true;
                Step::Push(Op::Cancel(Kind::Accept))
            }
            (false, false) if self.closing && !self.cancelling => Step::Close,
            _ => Step::Nothing,
        }
    }
}
