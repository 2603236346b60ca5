//! Goal: allocations are counted to the digit, over all threads that publish.
//! Method: this test binary installs the counting allocator as `main.rs` does; one test only, since
//! the published total is of the whole process.

use std::hint::black_box;

use bench_harness::alloc_count::{self, CountingAllocator};
use bench_harness::cost::CostMeter;
use bench_harness::dump::MetricKind;
use bench_harness::workload_file::Until;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::system();

fn allocate(times: u64) {
    for i in 0..times {
        drop(black_box(Box::new(i)));
    }
}

#[test]
fn allocations_of_all_threads_are_counted_exactly() {
    let before = alloc_count::of_this_thread();
    allocate(1_000);
    assert_eq!(alloc_count::of_this_thread() - before, 1_000);

    let worker = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let meter = CostMeter::start();
            let before = alloc_count::published_total().unwrap();
            allocate(300);
            alloc_count::publish();
            let after = alloc_count::published_total().unwrap();
            (after - before, after, meter.per_op(100, Until::Requests(100)))
        });
        worker.join().unwrap()
    });
    let (counted, after, per_op) = worker;
    assert_eq!(counted, 300);
    let allocs = per_op.get("allocs").unwrap().value().copied().unwrap();
    assert_eq!((allocs.value.get(), allocs.kind), (3.0, MetricKind::Exact));
    // The thread has ended; what it published stays in the total.
    assert!(alloc_count::published_total().unwrap() >= after);
}
