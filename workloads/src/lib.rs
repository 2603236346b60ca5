//! Real services that run on Forebay and prove it.
//!
//! Each module is one workload: the service itself and what is asked of it. No workload imports
//! another; what two of them share stands beside them.

pub mod listening;
mod closing;
pub mod planted;
mod burning;
#[cfg(feature = "http")]
pub mod admin;
pub mod units;
pub mod echo;
pub mod staged;
pub mod cacheproxy;
