//! What of phases has the right shape and still cannot be run.

use std::collections::BTreeSet;

use forebay_workloads::units::config::Request;

use super::check::{Faults, PAUSE_MS_MAX};
use super::phases::{Arrival, Phase, Role, Until, warmups_of};
use super::service::{Clients, Connections, Workload};
use super::types::WorkloadFile;

/// Longest phase: beyond a day it is surely a slip.
const DURATION_MS_MAX: u64 = 86_400_000;
/// Highest rate: one request a nanosecond.
const RATE_PER_S_MAX: u64 = 1_000_000_000;
/// Highest share of what a service can do: a hundred times as much.
const PERCENT_MAX: u64 = 10_000;
/// Most steps of one phase: each is a line of what is reported.
const STEPS_MAX: usize = 64;
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
        check_clients(&pointer, phase, file.workload.connections(), faults);
        check_relative(&file.phases, phase_idx, faults);
        check_target(&pointer, phase, faults);
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

/// What a phase asks of the clients, where there are any.
fn check_clients(
    pointer: &str,
    phase: &Phase,
    connections: Option<Connections>,
    faults: &mut Faults,
) {
    let mut refuse = |why: &str| faults.add(format!("{pointer}/arrival"), why.to_owned());
    match (&phase.arrival, connections) {
        (Arrival::EachConnection { .. }, None) => {
            refuse("this workload has no connections: use `closed`");
        }
        (Arrival::Steps { .. } | Arrival::Relative { .. }, None) => {
            refuse("this workload has no clients of its own: use `closed` or `poisson`");
        }
        (arrival, Some(connections)) => match connections.clients {
            Clients::Streams => check_streams(pointer, arrival, connections, faults),
            Clients::People => check_people(pointer, phase, connections.n_open, faults),
        },
        (_, None) => {}
    }
}

/// Clients that keep one connection each, and pipeline on it.
fn check_streams(pointer: &str, arrival: &Arrival, connections: Connections, faults: &mut Faults) {
    let at = |field: &str| format!("{pointer}/arrival/{field}");
    match *arrival {
        Arrival::EachConnection { in_flight } => {
            let pointer = at("each_connection/in_flight");
            faults.range(pointer, in_flight, 1, connections.pipelined_max);
        }
        Arrival::Closed { in_flight, think_time_ns } => {
            let most = connections.n_open * connections.pipelined_max;
            faults.range(at("closed/in_flight"), in_flight, 1, most);
            if think_time_ns != 0 {
                let why = "connections do not pause".to_owned();
                faults.add(at("closed/think_time_ns"), why);
            }
        }
        Arrival::Steps { .. } | Arrival::Relative { .. } => {
            let why = "these connections are all open throughout: use `closed` or `poisson`";
            faults.add(format!("{pointer}/arrival"), why.to_owned());
        }
        Arrival::Constant { .. } | Arrival::Poisson { .. } | Arrival::None => {}
    }
}

/// Clients that ask one thing at a time.
fn check_people(pointer: &str, phase: &Phase, n_clients_max: u64, faults: &mut Faults) {
    let at = |field: &str| format!("{pointer}/arrival/{field}");
    match &phase.arrival {
        Arrival::EachConnection { .. } => {
            let why = "one request at a time is in flight on each connection: use `closed`";
            faults.add(format!("{pointer}/arrival"), why.to_owned());
        }
        Arrival::Closed { in_flight, .. } => {
            faults.range(at("closed/in_flight"), *in_flight, 1, n_clients_max);
        }
        Arrival::Steps { clients, step_ms, .. } => {
            for (step_idx, n_clients) in clients.iter().enumerate() {
                let pointer = at(&format!("steps/clients/{step_idx}"));
                faults.range(pointer, *n_clients, 1, n_clients_max);
            }
            let whole_ms = Arrival::steps_ms(clients, *step_ms);
            if phase.until != Until::DurationMs(whole_ms) {
                let why = format!("must be {{\"duration_ms\": {whole_ms}}}: the steps are as long");
                faults.add(format!("{pointer}/until"), why);
            }
        }
        Arrival::Constant { .. }
        | Arrival::Poisson { .. }
        | Arrival::Relative { .. }
        | Arrival::None => {}
    }
}

/// A share of what a service can do needs something that has found that out.
fn check_relative(phases: &[Phase], phase_idx: usize, faults: &mut Faults) {
    let is_closed = |phase: &Phase| matches!(phase.arrival, Arrival::Closed { .. });
    if matches!(phases[phase_idx].arrival, Arrival::Relative { .. })
        && !phases[warmups_of(phases, phase_idx)].iter().any(is_closed)
    {
        let why = "needs a closed warm-up before it, whose goodput is 100 percent".to_owned();
        faults.add(format!("/phases/{phase_idx}/arrival/relative"), why);
    }
}

/// A target is told against in a phase whose load changes, and nowhere else.
fn check_target(pointer: &str, phase: &Phase, faults: &mut Faults) {
    let Some(target_ms) = phase.target_ms else { return };
    let pointer = format!("{pointer}/target_ms");
    if matches!(phase.arrival, Arrival::Steps { .. } | Arrival::Relative { .. }) {
        faults.range(pointer, target_ms, 1, PAUSE_MS_MAX);
    } else {
        let why = "only where the load changes: under `steps` and `relative`".to_owned();
        faults.add(pointer, why);
    }
}

fn check_phase(pointer: &str, phase: &Phase, idle: bool, faults: &mut Faults) {
    let at = |field: &str| format!("{pointer}/{field}");
    let pause_ns_max = PAUSE_MS_MAX * 1_000_000;
    match phase.arrival {
        Arrival::Closed { in_flight, think_time_ns } => {
            faults.range(at("arrival/closed/in_flight"), in_flight, 1, IN_FLIGHT_MAX);
            faults.range(at("arrival/closed/think_time_ns"), think_time_ns, 0, pause_ns_max);
        }
        Arrival::Steps { ref clients, step_ms, think_time_ns } => {
            if clients.is_empty() || clients.len() > STEPS_MAX {
                let why = format!("must hold 1 to {STEPS_MAX} numbers of clients");
                faults.add(at("arrival/steps/clients"), why);
            }
            faults.range(at("arrival/steps/step_ms"), step_ms, 1, DURATION_MS_MAX);
            faults.range(at("arrival/steps/think_time_ns"), think_time_ns, 0, pause_ns_max);
        }
        Arrival::Relative { percent } => {
            faults.range(at("arrival/relative/percent"), percent, 1, PERCENT_MAX);
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
