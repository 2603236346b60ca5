//! The smallest batch at which throughput is still constant: the staged design's rule, mended.
//!
//! It begins at the largest batch and tries smaller ones, a sixth less at a time, as long as nothing
//! is lost by it. Published was a look at throughput alone, which accepts a loss of a tenth and so
//! lets a backlog grow; here the queue is looked at too. A *backlog* is a window in which there was
//! never less than a whole batch left: then the size is too small and grows until there is none.
//!
//! ```text
//!   window ends ─▶ backlog that does not shrink, or a tenth less done since a cut ─▶ x STEP
//!                └ `patience` windows without a backlog ─▶ / STEP, or to the largest batch seen,
//!                                                          unless the fitted costs forbid it
//! ```
//!
//! Where a dispatch costs `a`, an item `b`, and `L` items come per second, the smallest batch that
//! suffices is `ceil(L a / (1 - L b))`: the size in which the work of a batch is done while the next
//! one gathers. A step from 2 to 1 would halve it, so a size is only tried if the line fitted to the
//! run times says that it may suffice. Where costs are no line, the tries that fail tell, and become
//! rarer.

use std::time::Duration;

use super::SmallestBatch;
use crate::control::Reading;
use crate::control::fit::Fit;
use crate::runtime::Time;

/// By how much the size changes at a time, as published.
const STEP: f64 = 1.2;

/// The weight of the old throughput, as in the staged design's server.
const SMOOTHING: f64 = 0.5;

/// A part of the best throughput that is a loss, or another load; as published.
const LOSS: f64 = 0.9;

/// By how much the best fades in a window: it may stem from the draining of a backlog.
const FADE: f64 = 0.02;

/// What the throughput of a window varies by of itself, in standard deviations: less is no loss.
const DEVIATIONS: f64 = 3.0;

/// A size is tried only if it is fitted to carry so much more than what comes: with none to spare a
/// queue takes for ever to empty.
const SPARE: f64 = 1.02;

/// Less than this part of what it was one window ago: a backlog shrinks fast enough.
const SHRINKS: f64 = 0.875;

/// Batches in a window at least; of fewer, each may have met a burst.
const BATCHES_MIN: u32 = 8;

/// Doublings of the patience at most: with the defaults a try every 32 s.
const DOUBLINGS_MAX: u32 = 6;

#[derive(Debug)]
pub(super) struct Smallest {
    options: SmallestBatch,
    items_max: f64,
    target: f64,
    fit: Fit,
    window: Option<Window>,
    /// Items per second, smoothed.
    throughput: f64,
    /// The best of it lately, since the load was last found to have changed.
    best: f64,
    /// The least depth of the last window.
    depth_before: usize,
    /// Windows in a row without a backlog, and the largest batch in them.
    n_calm: u32,
    largest: usize,
    /// Tries of a smaller size that failed.
    n_failed: u32,
    last_move: Move,
}

/// What is seen of the current window.
#[derive(Clone, Copy, Debug)]
struct Window {
    began: Time,
    n_items: usize,
    n_batches: u32,
    depth_min: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    None,
    Smaller,
    Larger,
}

impl Smallest {
    pub(super) fn new(options: &SmallestBatch, items_max: usize) -> Self {
        Self {
            options: options.clone(),
            items_max: items_max as f64,
            target: items_max as f64,
            fit: Fit::default(),
            window: None,
            throughput: 0.0,
            best: 0.0,
            depth_before: 0,
            n_calm: 0,
            largest: 0,
            n_failed: 0,
            last_move: Move::None,
        }
    }

    pub(super) fn target(&self) -> f64 {
        self.target
    }

    pub(super) fn on_batch(
        &mut self,
        now: Time,
        n_items: usize,
        run: Duration,
        depth_after: usize,
    ) {
        self.fit.add(n_items as f64, run.as_secs_f64());
        self.largest = self.largest.max(n_items);
        // The first batch opens the window: what came before it is not known.
        let Some(window) = &mut self.window else {
            self.window = Some(Window::begin(now));
            return;
        };
        window.n_items += n_items;
        window.n_batches += 1;
        window.depth_min = window.depth_min.min(depth_after);
        if window.n_batches >= BATCHES_MIN && now.since(window.began) >= self.options.window {
            let ended = std::mem::replace(window, Window::begin(now));
            self.adjust(&ended, now);
        }
    }

    fn adjust(&mut self, window: &Window, now: Time) {
        let elapsed_s = now.since(window.began).as_secs_f64().max(f64::MIN_POSITIVE);
        let per_s = window.n_items as f64 / elapsed_s;
        self.throughput = match self.throughput {
            0.0 => per_s,
            old => SMOOTHING * old + (1.0 - SMOOTHING) * per_s,
        };
        self.best = self.throughput.max(self.best + FADE * (self.throughput - self.best));
        let noise = DEVIATIONS / (window.n_items as f64).sqrt();
        let lost = self.throughput < self.best * (LOSS - noise);
        let depth_before = std::mem::replace(&mut self.depth_before, window.depth_min);
        let has_backlog = window.depth_min as f64 >= self.target;
        let shrinks = (window.depth_min as f64) < depth_before as f64 * SHRINKS;
        if has_backlog && !shrinks || lost && self.last_move == Move::Smaller {
            self.grow();
        } else if lost {
            self.forget();
        } else if has_backlog {
            self.stay();
        } else {
            self.n_calm += 1;
            if self.n_calm >= self.patience() {
                self.shrink();
            }
        }
    }

    fn grow(&mut self) {
        if self.last_move == Move::Smaller {
            self.n_failed = (self.n_failed + 1).min(DOUBLINGS_MAX);
            self.best = self.throughput;
        }
        self.target = (self.target * STEP).min(self.items_max);
        self.last_move = Move::Larger;
        self.stay();
    }

    fn shrink(&mut self) {
        let target = (self.target / STEP).min(self.largest as f64).max(1.0);
        if target < self.target && self.may_carry(target.ceil()) {
            self.target = target;
            self.last_move = Move::Smaller;
        }
        self.stay();
    }

    /// Whether batches of `n` items are fitted to carry what comes at its best: a lull is no reason.
    fn may_carry(&self, n: f64) -> bool {
        let (fixed_s, item_s) = self.fit.line();
        n >= self.best * SPARE * (fixed_s + item_s * n)
    }

    /// The load has changed: what failed before may do now.
    fn forget(&mut self) {
        self.best = self.throughput;
        self.n_failed = 0;
        self.last_move = Move::None;
        self.stay();
    }

    /// Begins to count calm windows anew.
    fn stay(&mut self) {
        self.n_calm = 0;
        self.largest = 0;
    }

    fn patience(&self) -> u32 {
        self.options.patience.saturating_mul(1 << self.n_failed)
    }

    pub(super) fn readings(&self, out: &mut Vec<Reading>) {
        out.push(Reading::new("batch_items_target", self.target));
        out.push(Reading::new("batch_items_per_s", self.throughput));
    }
}

impl Window {
    fn begin(now: Time) -> Self {
        Self { began: now, n_items: 0, n_batches: 0, depth_min: usize::MAX }
    }
}
