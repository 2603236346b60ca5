//! Load generation without a clock: when requests are due, and what became of them.
//!
//! The engine's shards and the peers use the same two pieces, so that both sides of a comparison
//! get the same schedule and are counted by the same rules. Nothing here reads a clock, sleeps or
//! spawns: every time is nanoseconds since the start of the phase and comes in as an argument.
//!
//! ```text
//! Arrivals::take_due(now) ─► intended ─► Recorder::started ─► … ─► Recorder::finished(outcome)
//! ```

mod part;
mod schedule;
mod histogram;
mod recorder;
mod report;

pub use histogram::LatencyHistogram;
pub use part::Part;
pub use recorder::{OpCounts, Outcome, Recorder, Ticket};
pub use report::ACHIEVED_PERCENT_MIN;
pub use schedule::{ArrivalCheck, Arrivals, GapError, OpenArrival};
