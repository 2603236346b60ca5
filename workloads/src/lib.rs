//! Real services that run on Forebay and prove it.
//!
//! Each module is one workload: the service itself and what is asked of it. No workload imports
//! another.

pub mod units;
pub mod echo;
pub mod staged;
