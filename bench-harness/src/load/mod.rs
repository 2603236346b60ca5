//! Load generation without a clock: when requests are due, and what became of them.
//!
//! The engine's shards and the peers use the same two pieces, so that both sides of a comparison
//! get the same schedule and are counted by the same rules. Nothing here reads a clock, sleeps or
//! spawns: every time is nanoseconds since the start of the phase and comes in as an argument.
//!
//! ```
//! use bench_harness::dump::LoopKind;
//! use bench_harness::load::{Arrivals, OpenArrival, Outcome, Part, Recorder};
//!
//! // One of two shards; the clock of this example jumps 10 us a turn and replies take 3 us.
//! let part = Part::new(0, 2).expect("0 is below 2");
//! let mut due = Arrivals::new(OpenArrival::Poisson { rate_per_s: 50_000 }, 1, part);
//! let mut recorder = Recorder::new(LoopKind::Open, None, 0);
//! for now_ns in (0..1_000_000).step_by(10_000) {
//!     while let Some(intended_ns) = due.take_due(now_ns) {
//!         let ticket = recorder.start(intended_ns, now_ns);
//!         recorder.finish(ticket, now_ns + 3_000, Outcome::Completed);
//!     }
//! }
//! recorder.close(1_000_000);
//! assert_eq!(recorder.counts().in_flight(), 0);
//! assert!(recorder.schedule_lag().is_some_and(|lag| lag.values().max() <= 10_010));
//! ```
//!
//! A closed loop keeps [`Part::share`] of the phase's requests in flight, and starts the next when
//! one has ended: `recorder.start(now_ns, now_ns)`.

mod part;
mod schedule;
mod histogram;
mod recorder;
mod report;
mod tally;

pub use histogram::LatencyHistogram;
pub use part::Part;
pub use recorder::{OpCounts, Outcome, Overload, Recorder, Ticket};
pub use report::ACHIEVED_PERCENT_MIN;
pub use schedule::{ArrivalCheck, Arrivals, GapError, OpenArrival};
pub use tally::{Ended, PhaseTally, end_ns};
