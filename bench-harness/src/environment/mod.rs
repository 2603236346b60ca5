//! What a dump says about the host and the build.
//!
//! Read once, before the first repetition, from `/proc`, `/sys` and what `build.rs` left in the program.
//! Whatever cannot be read is absent with its reason; no host name, user or path is looked at. A
//! comparison refuses two hosts whose fingerprints differ.

use sha2::{Digest, Sha256};

use crate::dump::{Build, Cpu, Environment, Finite, IoUring, Limits, Measured, Preflight, System};

mod cgroup;
mod cpu_time;
mod files;
#[cfg(test)]
mod fake;

pub use cpu_time::CpuTimes;
pub use files::HostFiles;

/// Share of the CPU time taken by others above which timings are not believed.
pub const STEAL_PERCENT_MAX: f64 = 2.0;

/// Share of time with some task waiting for a CPU that is worth a warning.
const PRESSURE_PERCENT_MAX: f64 = 10.0;

/// What the engine's pre-flight found; the engine does the probing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineFinding {
    /// The engine can run here.
    Usable {
        /// What its sockets stand on.
        sockets: String,
        /// Why that is no ring; none if it is one.
        no_ring: Option<String>,
    },
    /// The engine cannot run here.
    Refused {
        /// What was refused.
        error: String,
        /// What to do about it.
        remedy: String,
    },
    /// Nobody asked the engine.
    NotProbed,
}

impl EngineFinding {
    fn as_measured(&self) -> Measured<String> {
        match self {
            Self::Usable { .. } => Measured::Value("usable".to_owned()),
            Self::Refused { error, .. } => Measured::Value(error.clone()),
            Self::NotProbed => Measured::absent("the engine was not asked"),
        }
    }
}

/// Reads the host and the build. `idle_policy` is the workload file's, in words.
pub fn capture(files: &HostFiles, finding: &EngineFinding, idle_policy: &str) -> Environment {
    let mut environment = Environment {
        host_fingerprint: String::new(),
        cpu: cpu(files),
        system: system(files),
        cgroup: cgroup::read(files),
        limits: Limits {
            memlock_bytes: files.limit("Max locked memory"),
            open_files: files.limit("Max open files"),
        },
        io_uring: IoUring {
            disabled_sysctl: files.number("proc/sys/kernel/io_uring_disabled"),
            preflight: finding.as_measured(),
        },
        build: build(),
        preflight: Preflight {
            warnings: Vec::new(),
            load1: files.load1(),
            psi_cpu_some_avg10_percent: files.cpu_pressure(),
            steal_percent: files
                .cpu_times()
                .map_or_else(Measured::Absent, CpuTimes::steal_since_boot),
        },
        idle_policy: idle_policy.to_owned(),
    };
    environment.host_fingerprint = fingerprint(&environment);
    environment.preflight.warnings = warnings(&environment);
    environment
}

fn cpu(files: &HostFiles) -> Cpu {
    let online = files.cpu_list("sys/devices/system/cpu/online");
    Cpu {
        // The list of allowed CPUs is there on every kernel; that of online ones needs sysfs.
        online: online.unwrap_or_else(|| files.cpus_allowed()),
        allowed: files.cpus_allowed(),
        model: files.cpu_model(),
        governor: files
            .line("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
            .map_or_else(|_| Measured::absent("no cpufreq here"), Measured::Value),
        smt: match files.number("sys/devices/system/cpu/smt/active") {
            Measured::Value(active) => Measured::Value(active != 0),
            Measured::Absent(reason) => Measured::Absent(reason),
        },
    }
}

fn system(files: &HostFiles) -> System {
    System {
        kernel: files.measured_line("proc/sys/kernel/osrelease"),
        hypervisor: files.hypervisor(),
        clocksource: files
            .measured_line("sys/devices/system/clocksource/clocksource0/current_clocksource"),
        memory_bytes: files.memory_bytes(),
    }
}

/// Returns how this program was built.
pub fn build() -> Build {
    let known =
        |fact: Option<&str>, reason: &str| Measured::from_option(fact.map(str::to_owned), reason);
    const NO_GIT: &str = "built without git, or outside a checkout";
    let features = option_env!("BENCH_HARNESS_FEATURES").unwrap_or_default();
    Build {
        // Cargo's own name: every profile with optimisation inherits from `release`.
        profile: option_env!("BENCH_HARNESS_PROFILE").unwrap_or("unknown").to_owned(),
        target: option_env!("BENCH_HARNESS_TARGET").unwrap_or("unknown").to_owned(),
        features: features.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        git_commit: known(option_env!("BENCH_HARNESS_GIT_COMMIT"), NO_GIT),
        git_dirty: match option_env!("BENCH_HARNESS_GIT_DIRTY") {
            Some(dirty) => Measured::Value(dirty == "true"),
            None => Measured::absent(NO_GIT),
        },
        rustc: known(option_env!("BENCH_HARNESS_RUSTC"), "the compiler did not say"),
    }
}

/// Hashes what makes timings of two hosts comparable. The kernel is left out: it has an axis of its own
/// in comparisons.
fn fingerprint(environment: &Environment) -> String {
    const GIBIBYTE: u64 = 1 << 30;
    let Environment { cpu, system, cgroup, .. } = environment;
    // Whole gibibytes: a kernel update moves the last megabytes.
    let memory_gib = system.memory_bytes.value().map(|bytes| bytes / GIBIBYTE);
    let facts = format!(
        "{:?} {} {} {:?} {:?} {:?} {:?} {:?} {:?}",
        cpu.model.value(),
        cpu.online,
        cpu.allowed,
        cpu.smt.value(),
        memory_gib,
        system.hypervisor.value(),
        system.clocksource.value(),
        cgroup.cpu_max_percent.value(),
        cgroup.memory_max_bytes.value(),
    );
    sha256(facts.as_bytes())
}

/// Returns `sha256:` and the digest in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hexadecimal: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hexadecimal}")
}

fn warnings(environment: &Environment) -> Vec<String> {
    let Environment { cpu, build, preflight, .. } = environment;
    let above = |value: &Measured<Finite>, limit: f64| value.get().filter(|value| *value > limit);
    let mut warnings = Vec::new();
    if build.profile != "release" {
        warnings
            .push(format!("this is a {} build: build with --release to measure", build.profile));
    }
    if let Some(governor) = cpu.governor.value().filter(|governor| *governor != "performance") {
        warnings.push(format!("the CPU governor is `{governor}`: timings follow its clock"));
    }
    if let Some(load1) = above(&preflight.load1, f64::from(cpu.online)) {
        warnings.push(format!("load is {load1} on {} CPUs: others are at work", cpu.online));
    }
    if let Some(percent) = above(&preflight.psi_cpu_some_avg10_percent, PRESSURE_PERCENT_MAX) {
        warnings.push(format!("tasks waited for a CPU in {percent} % of the last 10 s"));
    }
    if let Some(percent) = above(&preflight.steal_percent, STEAL_PERCENT_MAX) {
        warnings.push(format!("the hypervisor took {percent:.1} % of CPU time since boot"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_read_and_hides_who_it_is() {
        let environment = capture(&HostFiles::real(), &EngineFinding::NotProbed, "park");
        assert!(environment.cpu.online >= 1 && environment.cpu.allowed >= 1);
        assert!(environment.system.kernel.value().is_some());
        let text = serde_json::to_string(&environment).unwrap();
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        // A host named like a common word, as `localhost` is not, would be found by chance.
        assert!(host_name.trim().len() < 6 || !text.contains(host_name.trim()));
        assert!(!text.contains("\"/"), "{text}");
        assert_eq!(
            text,
            serde_json::to_string(&serde_json::from_str::<Environment>(&text).unwrap()).unwrap()
        );
    }

    #[test]
    fn a_host_without_files_gives_reasons_everywhere() {
        let environment =
            capture(&HostFiles::at("does/not/exist"), &EngineFinding::NotProbed, "park");
        for reason in [
            environment.cpu.model.reason(),
            environment.cpu.governor.reason(),
            environment.system.kernel.reason(),
            environment.system.hypervisor.reason(),
            environment.cgroup.cpu_max_percent.reason(),
            environment.limits.memlock_bytes.reason(),
            environment.io_uring.disabled_sysctl.reason(),
            environment.preflight.load1.reason(),
            environment.preflight.steal_percent.reason(),
        ] {
            assert!(reason.is_some_and(|reason| !reason.is_empty()));
        }
    }

    #[test]
    fn the_fingerprint_follows_the_cpu_and_not_the_load() {
        let mut environment = capture(&HostFiles::real(), &EngineFinding::NotProbed, "park");
        environment.preflight.load1 = Measured::number(17.0);
        environment.system.kernel = Measured::absent("another");
        assert_eq!(fingerprint(&environment), environment.host_fingerprint);
        environment.cpu.model = Measured::Value("another CPU".to_owned());
        assert_ne!(fingerprint(&environment), environment.host_fingerprint);
    }

    #[test]
    fn the_digest_is_sha_256() {
        let of_nothing = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), of_nothing);
    }
}
