//! What a batch costs: a line fitted to the sizes and run times of the last batches.
//!
//! A batch of `n` items is taken to run for `a + b n`, the cost of a dispatch and that of its items.
//! Both are found by least squares, each older batch counting a little less, so that five sums are
//! all that is kept and a downstream that has changed is soon known as it is.

/// What each further batch leaves of the weight of the older ones: the last hundred count.
pub(crate) const KEPT: f64 = 0.99;

/// Weighted sums of batch sizes and run times.
#[derive(Debug, Default)]
pub(crate) struct Fit {
    weight: f64,
    n: f64,
    run: f64,
    n_n: f64,
    n_run: f64,
}

/// Below this part of its square, the variance of the batch size tells nothing about the slope.
const VARIANCE_MIN: f64 = 1e-4;

impl Fit {
    /// Counts a batch of `n` items that ran for `run` seconds.
    pub(crate) fn add(&mut self, n: f64, run: f64) {
        let add = |sum: &mut f64, value: f64| *sum = *sum * KEPT + value;
        add(&mut self.weight, 1.0);
        add(&mut self.n, n);
        add(&mut self.run, run);
        add(&mut self.n_n, n * n);
        add(&mut self.n_run, n * run);
    }

    /// The fixed cost of a batch and the cost of an item, in seconds, neither negative.
    pub(crate) fn line(&self) -> (f64, f64) {
        if self.weight == 0.0 {
            return (0.0, 0.0);
        }
        let (n, run) = (self.n / self.weight, self.run / self.weight);
        let variance = self.n_n / self.weight - n * n;
        let covariance = self.n_run / self.weight - n * run;
        if variance <= VARIANCE_MIN * n * n || covariance <= 0.0 {
            // All of one size: as if all cost were the items', which errs to the safe side above it.
            return (0.0, run / n.max(1.0));
        }
        let item = covariance / variance;
        let fixed = run - item * n;
        if fixed < 0.0 { (0.0, run / n.max(1.0)) } else { (fixed, item) }
    }
}
