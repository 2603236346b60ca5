//! The phases of a workload file: what happens, in order.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dump::LoopKind;
use crate::load::OpenArrival;

/// One part of the experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// First part of the cell's id.
    pub name: String,
    /// Whether it is measured or only prepares the one that is.
    pub role: Role,
    /// Response time within which a request counts towards goodput.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Response time, 90th percentile, that is to hold again soon after the load has changed: what
    /// settling and overshoot are told against, the same in every cell. Only where the load changes,
    /// in steps or to a share of what the service can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ms: Option<u64>,
    /// How requests arrive.
    pub arrival: Arrival,
    /// When it ends.
    pub until: Until,
}

/// What a phase is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs before the next measured phase in the same process; its figures are thrown away.
    Warmup,
    /// Is a cell.
    Measure,
}

/// How requests arrive; numbers are totals over all shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrival {
    /// A fixed number is in flight: each starts when one has ended.
    Closed {
        /// Requests in flight.
        in_flight: u64,
        /// Pause between the end of one and the start of the next.
        #[serde(default)]
        think_time_ns: u64,
    },
    /// The same on every connection; only for a workload that has connections.
    EachConnection {
        /// Requests in flight on each: more than one are pipelined.
        in_flight: u64,
    },
    /// Evenly spaced, whether or not the service keeps up.
    Constant {
        /// Requests per second.
        rate_per_s: u64,
    },
    /// Independent of one another, whether or not the service keeps up.
    Poisson {
        /// Mean requests per second.
        rate_per_s: u64,
    },
    /// Closed clients that come and go together: so many in the first step, so many in the next.
    Steps {
        /// Clients in each step, one request in flight each.
        clients: Vec<u64>,
        /// How long each step is.
        step_ms: u64,
        /// Pause of a client between the end of one request and the start of the next.
        #[serde(default)]
        think_time_ns: u64,
    },
    /// Independent of one another, at a share of what the service can do: 100 is the goodput of the
    /// last closed warm-up before it, on a server of its own without conditioners and admission
    /// limits, so that it does not depend on what they let through.
    Relative {
        /// Mean rate, in percent of it.
        percent: u64,
    },
    /// No requests: the cost of being there.
    None,
}

impl Arrival {
    /// The schedule, where the file alone says it.
    #[must_use]
    pub const fn open(&self) -> Option<OpenArrival> {
        match *self {
            Self::Constant { rate_per_s } => Some(OpenArrival::Constant { rate_per_s }),
            Self::Poisson { rate_per_s } => Some(OpenArrival::Poisson { rate_per_s }),
            Self::Closed { .. }
            | Self::EachConnection { .. }
            | Self::Steps { .. }
            | Self::Relative { .. }
            | Self::None => None,
        }
    }

    /// How long all steps are together.
    #[must_use]
    pub fn steps_ms(clients: &[u64], step_ms: u64) -> u64 {
        step_ms.saturating_mul(u64::try_from(clients.len()).unwrap_or(u64::MAX))
    }

    /// Whether requests wait for one another; no requests count as open.
    #[must_use]
    pub const fn loop_kind(&self) -> LoopKind {
        match self {
            Self::Closed { .. } | Self::EachConnection { .. } | Self::Steps { .. } => {
                LoopKind::Closed
            }
            Self::Constant { .. } | Self::Poisson { .. } | Self::Relative { .. } | Self::None => {
                LoopKind::Open
            }
        }
    }
}

/// The closest group of warm-ups above a phase: they run before it in its process. A warm-up has
/// those that stand right above it.
#[must_use]
pub fn warmups_of(phases: &[Phase], phase_idx: usize) -> Range<usize> {
    let is_warmup = |phase: &Phase| phase.role == Role::Warmup;
    let end = if is_warmup(&phases[phase_idx]) {
        phase_idx
    } else {
        phases[..phase_idx].iter().rposition(is_warmup).map_or(0, |last| last + 1)
    };
    let start = phases[..end].iter().rposition(|p| !is_warmup(p)).map_or(0, |before| before + 1);
    start..end
}

/// When a phase ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// After this long.
    DurationMs(u64),
    /// When this many requests, all shards together, have ended. Counters are exact only here.
    Requests(u64),
}
