//! The harness: reads workload files, runs each cell in a fresh process, writes dumps, compares.
//!
//! In reading order: what is asked (`workload_file`), how it is run (`run` in the parent,
//! `subject` in the child), how load is made and counted (`load`, `alloc_count`, `process`).

pub mod workload_file;
pub mod subject;
pub mod load;
pub mod alloc_count;
pub mod process;
