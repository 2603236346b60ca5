//! What of phases has the right shape and still cannot be run.

use std::collections::BTreeSet;

use forebay_workloads::units::config::Request;

use super::check::{Faults, PAUSE_MS_MAX};
use super::phases::{Arrival, Phase, Role, Until};
use super::service::{Connections, Workload};
use super::types::WorkloadFile;

/// Longest phase: beyond a day it is surely a slip.
const DURATION_MS_MAX: u64 = 86_400_000;
/// Highest rate: one request a nanosecond.
const RATE_PER_S_MAX: u64 = 1_000_000_000;
/// Most requests in flight; each is a live task.
const IN_FLIGHT_MAX: u64 = 10_000_000;

pub(super) fn check_phases(file: &WorkloadFile, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (phase_idx, phase) in file.phases.iter().enumerate() {
        let pointer = format!("/phases/{phase_idx}");
        faults.name(format!("{pointer}/name"), &phase.name);
        if !seen.insert(phase.name.as_str()) {
            faults.add(format!("{pointer}/name"), format!("phase `{}` stands twice", phase.name));
        }
        check_phase(&pointer, phase, is_idle(file), faults);
        check_connections(&pointer, phase, file.workload.connections(), faults);
    }
    match file.phases.last() {
        None => faults.add("/phases", "must hold at least one phase of role `measure`".to_owned()),
        Some(last) if last.role == Role::Warmup => {
            let pointer = format!("/phases/{}/role", file.phases.len() - 1);
            faults.add(pointer, "a warm-up after which nothing is measured".to_owned());
        }
        Some(_) => {}
    }
}

fn is_idle(file: &WorkloadFile) -> bool {
    matches!(&file.workload, Workload::Units(config) if config.request == Request::Idle)
}

/// What a phase asks of connections, where there are any.
fn check_connections(
    pointer: &str,
    phase: &Phase,
    connections: Option<Connections>,
    faults: &mut Faults,
) {
    match (phase.arrival, connections) {
        (Arrival::EachConnection { .. }, None) => {
            let why = "this workload has no connections: use `closed`".to_owned();
            faults.add(format!("{pointer}/arrival"), why);
        }
        (Arrival::EachConnection { in_flight }, Some(connections)) => {
            let at = format!("{pointer}/arrival/each_connection/in_flight");
            faults.range(at, in_flight, 1, connections.pipelined_max);
        }
        (Arrival::Closed { in_flight, think_time_ns }, Some(connections)) => {
            let at = |field: &str| format!("{pointer}/arrival/closed/{field}");
            let most = connections.n_open * connections.pipelined_max;
            faults.range(at("in_flight"), in_flight, 1, most);
            if think_time_ns != 0 {
                faults.add(at("think_time_ns"), "connections do not pause".to_owned());
            }
        }
        _ => {}
    }
}

fn check_phase(pointer: &str, phase: &Phase, idle: bool, faults: &mut Faults) {
    let at = |field: &str| format!("{pointer}/{field}");
    match phase.arrival {
        Arrival::Closed { in_flight, think_time_ns } => {
            faults.range(at("arrival/closed/in_flight"), in_flight, 1, IN_FLIGHT_MAX);
            let most = PAUSE_MS_MAX * 1_000_000;
            faults.range(at("arrival/closed/think_time_ns"), think_time_ns, 0, most);
        }
        // What connections are asked is checked with them.
        Arrival::EachConnection { .. } => {}
        Arrival::Constant { rate_per_s } => {
            faults.range(at("arrival/constant/rate_per_s"), rate_per_s, 1, RATE_PER_S_MAX);
        }
        Arrival::Poisson { rate_per_s } => {
            faults.range(at("arrival/poisson/rate_per_s"), rate_per_s, 1, RATE_PER_S_MAX);
        }
        Arrival::None => {
            if matches!(phase.until, Until::Requests(_)) {
                faults.add(at("until"), "no requests arrive, so it would never end".to_owned());
            }
        }
    }
    if idle != (phase.arrival == Arrival::None) {
        faults.add(
            at("arrival"),
            if idle {
                "an idle workload has no requests: use `\"none\"`"
            } else {
                "`none` is for an idle workload; this one has requests to make"
            }
            .to_owned(),
        );
    }
    match phase.until {
        Until::DurationMs(duration_ms) => {
            faults.range(at("until/duration_ms"), duration_ms, 1, DURATION_MS_MAX);
        }
        Until::Requests(requests) => {
            faults.range(at("until/requests"), requests, 1, u64::MAX / 2);
        }
    }
    if let Some(deadline_ms) = phase.deadline_ms {
        faults.range(at("deadline_ms"), deadline_ms, 1, PAUSE_MS_MAX);
    }
}
