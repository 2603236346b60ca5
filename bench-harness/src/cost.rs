//! What a request costs its process: CPU time and heap allocations, as differences over a phase.
//!
//! Both are of the whole process, the generator included where it shares it. Allocations are
//! counted exactly, but only a fixed number of requests makes the quotient repeat to the digit: a
//! phase that ends by the clock cuts some requests in two.

use crate::alloc_count;
use crate::dump::{Finite, Measured, MeasuredMap, MetricKind, PerOp, to_f64};
use crate::process;
use crate::workload_file::Until;

/// The counters as they stood when the measured phase began.
///
/// Threads that allocate must have called [`alloc_count::publish`] when `start` and `per_op` read.
#[derive(Debug, Clone, Copy)]
pub struct CostMeter {
    cpu_ns: u64,
    allocs: Option<u64>,
}

impl CostMeter {
    /// CPU time of the process between two readings.
    #[must_use]
    pub const fn cpu_ns_until(&self, now: &Self) -> u64 {
        now.cpu_ns.saturating_sub(self.cpu_ns)
    }

    /// Reads the counters of this process. The calling thread publishes its own count.
    #[must_use]
    pub fn start() -> Self {
        alloc_count::publish();
        Self { cpu_ns: process::cpu_ns(), allocs: alloc_count::published_total() }
    }

    /// Returns `allocs` and `cpu_ns` for each of `completed` requests since `start`.
    #[must_use]
    pub fn per_op(&self, completed: u64, until: Until) -> MeasuredMap<PerOp> {
        self.per_op_until(&Self::start(), completed, until)
    }

    /// The same up to `now`, for a caller that learns only later how many requests completed.
    #[must_use]
    pub fn per_op_until(&self, now: &Self, completed: u64, until: Until) -> MeasuredMap<PerOp> {
        let kind = match until {
            Until::Requests(_) => MetricKind::Exact,
            Until::DurationMs(_) => MetricKind::Sampled,
        };
        let mut per_op = MeasuredMap::default();
        per_op.insert("allocs", self.allocs_per_op(now, completed, kind));
        let cpu_ns = self.cpu_ns_until(now);
        per_op.insert("cpu_ns", each(cpu_ns, completed, MetricKind::Sampled));
        per_op
    }

    fn allocs_per_op(&self, now: &Self, completed: u64, kind: MetricKind) -> Measured<PerOp> {
        if !alloc_count::is_active() {
            return Measured::absent("this binary was built without the counting allocator");
        }
        match (self.allocs, now.allocs) {
            (Some(before), Some(after)) => each(after.saturating_sub(before), completed, kind),
            _ => Measured::absent("more threads allocated than can be counted"),
        }
    }
}

fn each(total: u64, completed: u64, kind: MetricKind) -> Measured<PerOp> {
    if completed == 0 {
        return Measured::absent("no request completed");
    }
    let value = Finite::new(to_f64(total) / to_f64(completed));
    Measured::from_option(value.map(|value| PerOp { value, kind }), "the quotient is not finite")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_counting_allocator_allocations_are_absent_and_not_zero() {
        let per_op = CostMeter::start().per_op(10, Until::Requests(10));
        assert!(per_op.get("allocs").unwrap().reason().unwrap().contains("counting allocator"));
        assert!(per_op.get("cpu_ns").unwrap().value().is_some());
        let none = CostMeter::start().per_op(0, Until::Requests(10));
        assert_eq!(none.get("cpu_ns").unwrap().reason(), Some("no request completed"));
    }
}
