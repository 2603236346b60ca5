//! The binary: installs the counting allocator and hands over to the library.

use std::process::ExitCode;

use bench_harness::alloc_count::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::system();

fn main() -> ExitCode {
    bench_harness::cli::main().into()
}
