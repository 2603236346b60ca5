//! The one door to the outside: threads, CPUs, signals and what the host allows.

pub mod affinity;
pub mod preflight;
pub mod signal;
