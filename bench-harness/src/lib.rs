//! The library behind the `bench-harness` binary: workload files in, dumps and verdicts out.
//!
//! In reading order: what is asked (`workload_file`), what is answered (`dump`), how it is run in
//! the child (`subject`), how load is made and counted (`load`, `cost`, `alloc_count`, `process`).

pub mod workload_file;
pub mod dump;
pub mod subject;
#[cfg(feature = "peers")]
pub mod peers;
pub mod load;
pub mod cost;
pub mod alloc_count;
pub mod process;
