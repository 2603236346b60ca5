//! What has the right shape and still cannot be run: every such value, by JSON pointer.
//!
//! Only what the file itself decides. Whether this host has the CPUs is a matter of the run.

use std::collections::BTreeSet;

use forebay_workloads::cacheproxy::wire::Dialect;
use forebay_workloads::echo::Protocol;
use forebay_workloads::staged::config::Page;

use super::check_phases::check_phases;
use super::check_stages::check_stages;
use super::phases::Role;
use super::position::push_segment;
use super::service::{Peer, Workload};
use super::shape::{Fault, nearest};
use super::types::{Idle, SCHEMA, WorkloadFile};
use super::values::ShardCount;
use crate::dump::{self, EXTRA_PREFIX, METRICS};

/// Longest pause, linger or deadline.
pub(super) const PAUSE_MS_MAX: u64 = 60_000;
/// Most shards; beyond it the number is surely a slip.
const SHARDS_MAX: u32 = 1_024;
/// Most repetitions of a cell.
const REPETITIONS_MAX: u32 = 1_000;
/// Longest name of a file or a phase: both become file names or parts of ids.
const NAME_CHARS_MAX: usize = 64;

/// Finds everything that cannot be run.
pub(super) fn check(file: &WorkloadFile, file_stem: &str) -> Vec<Fault> {
    let mut faults = Faults(Vec::new());
    check_head(file, file_stem, &mut faults);
    check_engine(file, &mut faults);
    match &file.workload {
        Workload::Units(config) => faults.of_workload("units", config.check()),
        Workload::Echo(config) => faults.of_workload("echo", config.check()),
        Workload::Staged(config) => faults.of_workload("staged", config.check()),
        Workload::Cacheproxy(config) => faults.of_workload("cacheproxy", config.check()),
    }
    check_peers(file, &mut faults);
    check_stages(file, &mut faults);
    check_phases(file, &mut faults);
    check_judgement(file, &mut faults);
    faults.0
}

fn check_head(file: &WorkloadFile, file_stem: &str, faults: &mut Faults) {
    if file.schema != SCHEMA {
        faults.add("/schema", format!("must be `{SCHEMA}`, is `{}`", file.schema));
    }
    if file.name != file_stem {
        faults.add(
            "/name",
            format!("must be the file's name without .json, `{file_stem}`, is `{}`", file.name),
        );
    } else {
        faults.name("/name", &file.name);
    }
    faults.range("/repetitions", file.repetitions, 1, REPETITIONS_MAX);
}

fn check_peers(file: &WorkloadFile, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    let there: Vec<String> = file.workload.peers().iter().map(|p| p.name().to_owned()).collect();
    for (peer_idx, peer) in file.peers.iter().enumerate() {
        let (pointer, name) = (format!("/peers/{peer_idx}"), peer.name());
        if !file.workload.peers().contains(peer) {
            let message =
                format!("`{name}` does not do the work of this {} workload", file.workload.tag());
            faults.word(pointer, message, name, &there);
        } else if !seen.insert(name) {
            faults.add(pointer, format!("`{name}` stands twice"));
        } else if let Some(why) = cannot_do_as_told(*peer, file) {
            faults.add(pointer, format!("`{name}` {why}"));
        }
    }
}

/// What of this file's settings a peer of its workload cannot do.
fn cannot_do_as_told(peer: Peer, file: &WorkloadFile) -> Option<String> {
    match &file.workload {
        Workload::Units(_) => return None,
        Workload::Echo(echo) => {
            if let Protocol::Bytes(bytes) = echo.protocol
                && bytes.is_faulty()
            {
                let why = "spoils no replies: leave out the planted fault or the peers";
                return Some(why.to_owned());
            }
        }
        Workload::Staged(staged) => {
            if staged.classes.iter().any(|class| class.page == Page::Dynamic) {
                return Some(
                    "makes no dynamic pages: leave out their class or the peers".to_owned(),
                );
            }
        }
        Workload::Cacheproxy(cache) if peer == Peer::Nutcracker => {
            if cache.load.protocol != Dialect::Text {
                return Some("speaks text only: leave out the protocol or the peer".to_owned());
            }
            if cache.backends == 0 {
                let why =
                    "keeps nothing itself: set `workload.cacheproxy.backends`, or leave it out";
                return Some(why.to_owned());
            }
        }
        Workload::Cacheproxy(_) => {}
    }
    if peer == Peer::Memcached {
        // It has as many threads as there are CPUs.
        return None;
    }
    match file.engine.shards {
        // How many `per_core` makes, the host decides.
        ShardCount::Fixed(shards) if shards > 1 => Some(format!(
            "serves on one core, and engine.shards is {shards}: leave it out, or all \
                          by `--set peers=[]`"
        )),
        _ => None,
    }
}

fn check_engine(file: &WorkloadFile, faults: &mut Faults) {
    let engine = &file.engine;
    if let ShardCount::Fixed(shards) = engine.shards {
        faults.range("/engine/shards", shards, 1, SHARDS_MAX);
    }
    if let Idle::SpinUs(spin_us) = engine.idle {
        faults.range("/engine/idle/spin_us", spin_us, 1, 1_000_000);
    }
    let Some(cpus) = &engine.pin_cpus else { return };
    let mut seen = BTreeSet::new();
    for (cpu_idx, cpu) in cpus.iter().enumerate() {
        if !seen.insert(cpu) {
            faults.add(
                format!("/engine/pin_cpus/{cpu_idx}"),
                format!("CPU {cpu} stands twice: two shards on one CPU stall each other"),
            );
        }
    }
    let wrong = match engine.shards {
        ShardCount::Fixed(shards) if cpus.len() == shards as usize => return,
        ShardCount::Fixed(shards) => format!("names {} CPUs for {shards} shards", cpus.len()),
        ShardCount::PerCore => {
            "cannot stand beside `\"shards\": \"per_core\"`, which takes every CPU".to_owned()
        }
    };
    faults.add("/engine/pin_cpus", wrong);
}

/// Limits and floors.
fn check_judgement(file: &WorkloadFile, faults: &mut Faults) {
    let measured: Vec<String> = file
        .phases
        .iter()
        .filter(|phase| phase.role == Role::Measure)
        .map(|phase| phase.name.clone())
        .collect();
    for (slo_idx, slo) in file.slo.iter().enumerate() {
        let pointer = format!("/slo/{slo_idx}");
        if !measured.contains(&slo.phase) {
            let message = format!("no measured phase `{}`", slo.phase);
            faults.word(format!("{pointer}/phase"), message, &slo.phase, &measured);
        }
        faults.metric(format!("{pointer}/metric"), &slo.metric);
        if slo.at_most.is_some() == slo.at_least.is_some() {
            faults.add(pointer, "needs either `at_most` or `at_least`".to_owned());
        }
    }
    for (metric, floor) in &file.compare.floors_percent {
        let mut pointer = "/compare/floors_percent".to_owned();
        push_segment(&mut pointer, metric);
        faults.metric(pointer.clone(), metric);
        if !(0.0..=100.0).contains(floor) {
            faults.add(pointer, format!("must be between 0 and 100, is {floor}"));
        }
    }
}

pub(super) const IMPOSSIBLE: &str = "W021";

pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn put(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn add(&mut self, pointer: impl Into<String>, message: String) {
        self.0.push(Fault::new(IMPOSSIBLE, pointer.into(), message));
    }

    /// What a workload has found in its own settings, by pointers from there.
    fn of_workload(&mut self, tag: &str, found: Vec<(String, String)>) {
        for (pointer, message) in found {
            self.add(format!("/workload/{tag}{pointer}"), message);
        }
    }

    fn word(&mut self, pointer: String, message: String, word: &str, allowed: &[String]) {
        let help = nearest(word, allowed).map(|near| format!("did you mean `{near}`?"));
        let fault = Fault::new(IMPOSSIBLE, pointer, message);
        self.0.push(Fault { help, allowed: allowed.to_vec(), ..fault });
    }

    fn metric(&mut self, pointer: String, metric: &str) {
        if dump::metric(metric).is_none() && !metric.starts_with(EXTRA_PREFIX) {
            let mut allowed: Vec<String> =
                METRICS.iter().map(|metric| metric.name.to_owned()).collect();
            allowed.push(format!("{EXTRA_PREFIX}*"));
            self.word(pointer, format!("no metric `{metric}`"), metric, &allowed);
        }
    }

    /// Names stand in ids and file names, between `/`, `@`, `,` and `=`.
    pub(super) fn name(&mut self, pointer: impl Into<String>, name: &str) {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(fits) {
            self.add(
                pointer,
                format!("must be 1 to {NAME_CHARS_MAX} of a-z, 0-9, `-` and `_`, is `{name}`"),
            );
        }
    }

    pub(super) fn range<T: PartialOrd + std::fmt::Display>(
        &mut self,
        pointer: impl Into<String>,
        value: T,
        least: T,
        most: T,
    ) {
        if value < least || value > most {
            self.add(pointer, format!("must be between {least} and {most}, is {value}"));
        }
    }
}
