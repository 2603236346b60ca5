//! What the dump says about the host, the build and the cost of measuring.
//!
//! Only the shape; `environment` fills it in. No host name, no user and no path has a place here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::measured::{Finite, record};

/// The host and the build that a run was made on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// SHA-256 over what makes two hosts comparable: CPU, memory, kernel, hypervisor, clock source, limits.
    pub host_fingerprint: String,
    /// The processor.
    pub cpu: Cpu,
    /// The kernel and what lies below it.
    pub system: System,
    /// Limits of the control group.
    pub cgroup: Cgroup,
    /// Limits of the process.
    pub limits: Limits,
    /// What io_uring can do here.
    pub io_uring: IoUring,
    /// How this binary was built.
    pub build: Build,
    /// How busy the host was when the run began.
    pub preflight: Preflight,
    /// What an idle shard does: `park`, or `spin N us` from the workload file.
    pub idle_policy: String,
}

record! {
    /// The processor.
    pub struct Cpu {
        /// CPUs that are online.
        pub online: u32,
        /// CPUs this process may use.
        pub allowed: u32,
    } measured {
        /// The model as the kernel names it.
        pub model: String,
        /// The frequency governor.
        pub governor: String,
        /// Whether hardware threads share cores.
        pub smt: bool,
    }
}

record! {
    /// The kernel and what lies below it.
    pub struct System {
    } measured {
        /// Kernel release.
        pub kernel: String,
        /// Hypervisor, where the CPU says there is one.
        pub hypervisor: String,
        /// Clock source in use.
        pub clocksource: String,
        /// Memory of the host.
        pub memory_bytes: u64,
    }
}

record! {
    /// Limits of the control group.
    pub struct Cgroup {
    } measured {
        /// CPU quota in hundredths of a CPU: 150 is one and a half.
        pub cpu_max_percent: Finite,
        /// Memory limit.
        pub memory_max_bytes: u64,
    }
}

record! {
    /// Limits of the process.
    pub struct Limits {
    } measured {
        /// Memory that may be locked; absent where unlimited.
        pub memlock_bytes: u64,
        /// Open files.
        pub open_files: u64,
    }
}

record! {
    /// What io_uring can do here.
    pub struct IoUring {
    } measured {
        /// `kernel.io_uring_disabled`: 0 for all, 1 for a group, 2 for nobody.
        pub disabled_sysctl: u64,
        /// The pre-flight's finding: `usable`, or its error.
        pub preflight: String,
    }
}

record! {
    /// How this binary was built.
    pub struct Build {
        /// `release` or `debug`.
        pub profile: String,
        /// Target triple.
        pub target: String,
        /// Cargo features of the harness, sorted.
        pub features: Vec<String>,
    } measured {
        /// Revision of the source.
        pub git_commit: String,
        /// Whether the source differed from the revision.
        pub git_dirty: bool,
        /// Version of the compiler.
        pub rustc: String,
    }
}

record! {
    /// How busy the host was when the run began.
    pub struct Preflight {
        /// What a reader should know before trusting a timing.
        pub warnings: Vec<String>,
    } measured {
        /// Load average over one minute.
        pub load1: Finite,
        /// Share of the last ten seconds in which some task waited for a CPU.
        pub psi_cpu_some_avg10_percent: Finite,
        /// Share of CPU time that the hypervisor gave to others since boot.
        pub steal_percent: Finite,
    }
}

record! {
    /// What measuring itself costs.
    pub struct Measurement {
        /// Significant digits of the histograms.
        pub significant_digits: u32,
        /// How replies are checked: `every_reply` or `off`; unequal modes are not comparable.
        pub verify: String,
    } measured {
        /// One reading of the clock.
        pub clock_read_ns: Finite,
        /// One record into a histogram.
        pub histogram_record_ns: Finite,
    }
}
