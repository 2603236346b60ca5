//! What must hold before two dumps may be compared at all, and before a timing may be believed.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dump::{Cell, Dump, Environment, Measured, Repetition, RunStatus, to_f64};
use crate::environment::STEAL_PERCENT_MAX;
use crate::stats;

/// Fields of a workload file that change nothing in what is measured, and so stand outside its digest.
const NOT_IN_DIGEST: [&str; 7] =
    ["$schema", "name", "description", "notes", "slo", "compare", "repetitions"];

/// Most differences of the workload that are listed; more say no more.
const DIFFERENCES_MAX: usize = 20;

/// Load average, per CPU, above which timings are not believed.
const LOAD_PER_CPU_MAX: f64 = 2.0;

/// Where two dumps may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// What is measured; can never be allowed to differ.
    Workload,
    /// How replies are checked; can never be allowed to differ.
    Verify,
    /// The build's profile, which must be `release` on both sides.
    Profile,
    /// The host's fingerprint.
    Host,
    /// The kernel's release.
    Kernel,
    /// The cargo features of the build.
    Features,
}

impl Axis {
    /// Returns the axis as it is written in files and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Verify => "verify",
            Self::Profile => "profile",
            Self::Host => "host",
            Self::Kernel => "kernel",
            Self::Features => "features",
        }
    }
}

impl FromStr for Axis {
    type Err = String;

    /// Reads an axis that a caller may allow to differ.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::Host, Self::Kernel, Self::Features]
            .into_iter()
            .find(|axis| axis.name() == name)
            .ok_or_else(|| format!("`{name}` is none of host, kernel, features"))
    }
}

/// One field in which two dumps differ so that timings do not compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Where it lies.
    pub axis: Axis,
    /// The field.
    pub field: String,
    /// Its value in the base.
    pub base: String,
    /// Its value in the new dump.
    pub new: String,
    /// True when the caller allowed this axis to differ.
    pub allowed: bool,
}

/// Returns why a dump must not be believed; empty when it may be.
pub(super) fn invalid_reasons(side: &str, dump: &Dump) -> Vec<String> {
    let mut reasons = Vec::new();
    match dump.run.status {
        RunStatus::Complete => {}
        RunStatus::Interrupted => reasons.push(format!("{side}: the run was interrupted")),
        RunStatus::Failed => reasons.push(format!("{side}: the run failed")),
    }
    for cell in dump.cells.iter().filter(|cell| !cell.valid) {
        reasons.push(format!("{side}: {}: {}", cell.id, cell.invalid_reasons.join("; ")));
    }
    reasons
}

/// Returns every difference that makes the dumps incomparable, allowed or not.
pub(super) fn differences(base: &Dump, new: &Dump, allow: &BTreeSet<Axis>) -> Vec<Difference> {
    let mut found = Found { differences: Vec::new(), allow };
    found.workload(base, new);
    found.unequal(
        Axis::Verify,
        "measurement.verify",
        &base.measurement.verify,
        &new.measurement.verify,
    );
    // A quick run may do less of the same, which even exact counts would show.
    let quick = [base, new].map(|dump| dump.run.quick.to_string());
    found.unequal(Axis::Workload, "run.quick", &quick[0], &quick[1]);
    let profiles = [&base.environment.build.profile, &new.environment.build.profile];
    if profiles.iter().any(|profile| *profile != "release") {
        found.add(Axis::Profile, "environment.build.profile", profiles[0], profiles[1]);
    }
    found.host(base, new);
    let kernels = [&base.environment.system.kernel, &new.environment.system.kernel];
    found.unequal(
        Axis::Kernel,
        "environment.system.kernel",
        &shown(kernels[0]),
        &shown(kernels[1]),
    );
    let features = [&base.environment.build.features, &new.environment.build.features];
    let [of_base, of_new] = features.map(|features| features.join(","));
    found.unequal(Axis::Features, "environment.build.features", &of_base, &of_new);
    found.differences
}

struct Found<'options> {
    differences: Vec<Difference>,
    allow: &'options BTreeSet<Axis>,
}

impl Found<'_> {
    fn add(&mut self, axis: Axis, field: &str, base: &str, new: &str) {
        self.differences.push(Difference {
            axis,
            field: field.to_owned(),
            base: base.to_owned(),
            new: new.to_owned(),
            allowed: self.allow.contains(&axis),
        });
    }

    fn unequal(&mut self, axis: Axis, field: &str, base: &str, new: &str) {
        if base != new {
            self.add(axis, field, base, new);
        }
    }

    fn workload(&mut self, base: &Dump, new: &Dump) {
        let (old, new) = (&base.workload, &new.workload);
        if old.digest == new.digest {
            return;
        }
        let before = self.differences.len();
        self.tree("", &without_free_text(&old.resolved), &without_free_text(&new.resolved));
        self.differences.truncate(before + DIFFERENCES_MAX);
        if self.differences.len() == before {
            self.add(Axis::Workload, "digest", &old.digest, &new.digest);
        }
    }

    /// Walks both files side by side and names the leaves that differ.
    fn tree(&mut self, path: &str, base: &Value, new: &Value) {
        match (base, new) {
            (Value::Object(old), Value::Object(fresh)) => {
                let keys: BTreeSet<_> = old.keys().chain(fresh.keys()).collect();
                for key in keys {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    self.tree(&path, &base[key], &new[key]);
                }
            }
            (Value::Array(old), Value::Array(fresh)) if old.len() == fresh.len() => {
                for (entry_idx, (old, fresh)) in old.iter().zip(fresh).enumerate() {
                    self.tree(&format!("{path}[{entry_idx}]"), old, fresh);
                }
            }
            _ if base == new => {}
            _ => self.add(Axis::Workload, path, &base.to_string(), &new.to_string()),
        }
    }

    fn host(&mut self, base: &Dump, new: &Dump) {
        let (old, new) = (&base.environment, &new.environment);
        if old.host_fingerprint == new.host_fingerprint {
            return;
        }
        let before = self.differences.len();
        for ((field, old), (_, new)) in host_fields(old).iter().zip(host_fields(new)) {
            self.unequal(Axis::Host, field, old, &new);
        }
        if self.differences.len() == before {
            self.add(Axis::Host, "host_fingerprint", &old.host_fingerprint, &new.host_fingerprint);
        }
    }
}

/// The fields behind the fingerprint.
fn host_fields(environment: &Environment) -> [(&'static str, String); 7] {
    let Environment { cpu, system, cgroup, .. } = environment;
    [
        ("cpu.model", shown(&cpu.model)),
        ("cpu.online", cpu.online.to_string()),
        ("cpu.allowed", cpu.allowed.to_string()),
        ("system.hypervisor", shown(&system.hypervisor)),
        ("system.clocksource", shown(&system.clocksource)),
        ("cgroup.cpu_max_percent", shown(&cgroup.cpu_max_percent)),
        ("cgroup.memory_max_bytes", shown(&cgroup.memory_max_bytes)),
    ]
}

fn shown<T: ToString>(value: &Measured<T>) -> String {
    match value {
        Measured::Value(value) => value.to_string(),
        Measured::Absent(reason) => format!("none ({reason})"),
    }
}

fn without_free_text(resolved: &Value) -> Value {
    let mut resolved = resolved.clone();
    if let Some(fields) = resolved.as_object_mut() {
        fields.retain(|name, _| !NOT_IN_DIGEST.contains(&name.as_str()));
    }
    resolved
}

/// Returns why no timing of this run is believed, whatever its cells say.
pub(super) fn noisy_run(side: &str, dump: &Dump) -> Option<String> {
    if dump.run.quick {
        return Some(format!("{side}: a quick run is not for comparison"));
    }
    let limit = f64::from(dump.environment.cpu.online) * LOAD_PER_CPU_MAX;
    let load1 = dump.environment.preflight.load1.get().filter(|load1| *load1 > limit)?;
    Some(format!("{side}: load {load1} on {} CPUs", dump.environment.cpu.online))
}

/// Returns why no timing of this cell is believed: the hypervisor took too much of the CPU.
pub(super) fn stolen(side: &str, cell: &Cell) -> Option<String> {
    let shares: Vec<f64> = cell
        .repetitions
        .iter()
        .filter_map(|repetition| repetition.canary.steal_percent.get())
        .collect();
    let mean = shares.iter().sum::<f64>() / stats::count_to_f64(shares.len()).max(1.0);
    (mean > STEAL_PERCENT_MAX)
        .then(|| format!("{side}: the hypervisor took {mean:.1} % of the CPU"))
}

/// Returns by how much the canary's median time differs between the two cells, in percent.
///
/// Only the shift between the sides can pass for a change of the code. What a host does within a
/// repetition, or from one to the next, widens the interval instead.
pub(super) fn canary_drift_percent(base: &Cell, new: &Cell) -> Option<f64> {
    let level = |cell: &Cell| {
        let levels: Vec<f64> = cell.repetitions.iter().filter_map(canary_level).collect();
        stats::median(&levels)
    };
    let (base, new) = (level(base)?, level(new)?);
    (base > 0.0).then(|| (new / base - 1.0) * 100.0)
}

fn canary_level(repetition: &Repetition) -> Option<f64> {
    let canary = &repetition.canary;
    let (before, after) = (canary.before_ns.value()?, canary.after_ns.value()?);
    Some(to_f64(*before) / 2.0 + to_f64(*after) / 2.0)
}
