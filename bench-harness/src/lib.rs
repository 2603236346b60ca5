//! The library behind the `bench-harness` binary: workload files in, dumps and verdicts out.
//!
//! In reading order: the command line (`cli`), what is asked (`workload_file`), what is answered
//! (`dump`, `stats`), what people read of it (`compare`, `table`, `text`), what runs when (`run`, in
//! the parent), how a cell runs in its child (`subject`, `peers`; over sockets `echo`, `staged`,
//! `cacheproxy` with `client_shard`, `streams`, `looks`, `troubles`) and what serves in a process of its own (`server`, `programs`), how load
//! is made and counted (`load`, `cost`, `extras`, `alloc_count`, `process`, `cpus`), what the host is
//! like (`environment`, `canary`, `doctor`).

pub mod cli;
pub mod exit;
pub mod schema;

pub mod workload_file;
pub mod dump;
pub mod stats;
pub mod compare;
pub mod table;
pub mod text;

pub mod run;

pub mod subject;
mod client_shard;
mod looks;
mod troubles;
mod streams;
mod echo;
mod staged;
mod cacheproxy;
pub mod server;
pub mod programs;
#[cfg(feature = "peers")]
pub mod peers;

mod clock;
pub mod load;
pub mod cost;
pub mod extras;
pub mod alloc_count;
pub mod process;
pub mod cpus;

pub mod environment;
pub mod canary;
pub mod doctor;
