//! How long polls take, without reading the clock after each.
//!
//! A reading costs about as much as a short poll. So while polls are short the clock is read
//! after every eighth; after a stretch that took long, after each. A long stretch of several polls
//! names all of their sites: it was one of them. What is slow again and again is soon met in the
//! close readings and named alone.

use std::time::Duration;

use crate::metrics::ShardMetrics;
use crate::runtime::Time;
use crate::runtime::half::Half;
use crate::runtime::ready::Site;

/// Polls between two readings, at most.
const STRIDE_MAX: usize = 8;

/// A stretch longer than this is followed by close readings: a task at work, not a quick step.
const BRISK: Duration = Duration::from_micros(8);

/// Times the polls of one pass.
#[derive(Debug)]
pub(super) struct Stopwatch {
    last: Time,
    stride: usize,
    sites: [Option<Site>; STRIDE_MAX],
    n_polls: usize,
}

impl Stopwatch {
    pub(super) fn new(now: Time) -> Self {
        Self { last: now, stride: 1, sites: [None; STRIDE_MAX], n_polls: 0 }
    }

    /// The last reading.
    pub(super) fn read_at(&self) -> Time {
        self.last
    }

    pub(super) fn begin(&mut self, site: Site) {
        self.sites[self.n_polls] = Some(site);
        self.n_polls += 1;
    }

    pub(super) fn end(&mut self, half: &Half, metrics: &ShardMetrics) {
        if self.n_polls >= self.stride {
            self.read(half, metrics);
        }
    }

    /// The pass is over: what has not been timed is timed now.
    pub(super) fn close(&mut self, half: &Half, metrics: &ShardMetrics) {
        if self.n_polls > 0 {
            self.read(half, metrics);
        }
    }

    fn read(&mut self, half: &Half, metrics: &ShardMetrics) {
        let now = half.after_poll();
        let took = now.since(self.last);
        metrics.count_stretch(&self.sites[..self.n_polls], took);
        self.stride = if took > BRISK { 1 } else { (self.stride * 2).min(STRIDE_MAX) };
        self.last = now;
        self.n_polls = 0;
    }
}
