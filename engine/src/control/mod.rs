//! The controllers of a stage: pure rules that move its limits while it runs.
//!
//! A stage has a few knobs: how large a batch may be, how many are in flight, who is let in, how
//! often it calls its downstream. What is right for each depends on the load and on the downstream,
//! and both change. So each knob has a rule here that is told what happens and answers what the knob
//! should be. A rule has no clock, no I/O and no runtime: it takes `now`, so that a test of minutes
//! runs in virtual time, and the same seed gives the same figures.
//!
//! ```text
//!             admission, conditioner        order, share           batch, scaling
//!   call ──▶ accept, degrade or reject ──▶ queue: who is next ──▶ batch size, permits ──▶ downstream
//!                     ▲                                              │ rate, breaker, retry   │
//!                     └────────── answered, after how long ◀─────────┴────────────────────────┘
//! ```
//!
//! Targets are real numbers throughout, and are rounded only where they are read: a rule that
//! multiplies an integer by 1.2 stands still at 4.

pub(crate) mod batch;
mod fit;
pub(crate) mod scaling;
pub(crate) mod rate;
pub(crate) mod admission;
pub(crate) mod door;
pub(crate) mod conditioner;
pub(crate) mod percentile;
pub(crate) mod order;
pub(crate) mod share;
pub(crate) mod retry;
pub(crate) mod breaker;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// One value of a controller, as metrics show it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// What it is, in words that suit the name of a metric.
    pub name: &'static str,
    /// Its value now. Durations are in seconds.
    pub value: f64,
}

impl Reading {
    pub(crate) fn new(name: &'static str, value: f64) -> Self {
        Self { name, value }
    }
}

/// A time of so many seconds; what is negative is none, what no duration holds is the longest.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::MAX)
}

/// A real-valued limit as the count that it allows: rounded up, so that a limit a little above one
/// allows two, and kept between `min` and `max`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates, and the bounds are counts"
)]
fn count_up(limit: f64, min: usize, max: usize) -> usize {
    (limit.ceil() as usize).clamp(min, max)
}
