//! Why a host cannot run an engine, each with what to do about it.
//!
//! Whoever reads such a line has a host to change and no source at hand, so every one names a
//! command, a setting or a number to give instead.

use std::{fmt, io};

use super::super::affinity::{CpuId, CpuList};

/// Who keeps this process from io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockCause {
    /// The setting `kernel.io_uring_disabled`.
    Sysctl {
        /// Its value: 1 lets privileged processes through, 2 nobody.
        level: u8,
    },
    /// A seccomp filter, as container runtimes install.
    Seccomp,
    /// A security module such as `SELinux`.
    SecurityModule,
    /// The kernel has no io_uring.
    NotBuilt,
    /// None of the above explains the error number.
    Unknown,
}

/// Why this host cannot run what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostError {
    /// The process may not use io_uring.
    IoUringBlocked {
        /// The system call that failed.
        call: &'static str,
        /// Its error number.
        errno: i32,
        /// Who is in the way.
        cause: BlockCause,
    },
    /// The kernel has io_uring, but not yet all that is needed.
    KernelTooOld {
        /// Its release.
        have: String,
        /// The first version that will do.
        need: (u32, u32),
    },
    /// The kernel is new enough and still lacks an operation.
    OperationMissing {
        /// The kernel's name of it.
        op: &'static str,
    },
    /// `RLIMIT_MEMLOCK` is too low for the rings.
    MemlockTooLow {
        /// The soft limit.
        have_bytes: u64,
        /// What the shards need.
        need_bytes: u64,
    },
    /// More shards than CPUs: two on one CPU would only take turns.
    TooManyShards {
        /// How many shards.
        wanted: usize,
        /// The CPUs there are for them.
        allowed: CpuList,
    },
    /// A shard was to go to a CPU that is not there, or not this process's to use.
    NoSuchCpu {
        /// The CPU that was named.
        cpu: CpuId,
        /// Those that may be named.
        allowed: CpuList,
    },
    /// Two shards were to go to the same CPU.
    CpuTwice {
        /// The CPU that was named twice.
        cpu: CpuId,
    },
    /// The list of CPUs for shards was empty.
    NoShards,
    /// The CPUs of this host could not be read.
    CpusUnreadable {
        /// What could not be read, and why.
        what: String,
    },
    /// `RLIMIT_NOFILE` is too low.
    TooFewDescriptors {
        /// The soft limit.
        have: u64,
        /// What is open already, what the shards open and what was asked for beyond that.
        need: u64,
    },
    /// Sockets were to stand on a ring, and the kernel lacks what that needs.
    NoSocketRing {
        /// What it lacks, and what it said.
        missing: String,
    },
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IoUringBlocked { call, errno, cause } => {
                write!(f, "{call} failed ({}): {cause}", io::Error::from_raw_os_error(*errno))
            }
            Self::KernelTooOld { have, need: (major, minor) } => {
                write!(f, "kernel {have} is too old: run Linux {major}.{minor} or newer")
            }
            Self::OperationMissing { op } => {
                write!(
                    f,
                    "this kernel's io_uring lacks {op}: run a kernel of Linux 5.8 or newer that has it"
                )
            }
            Self::MemlockTooLow { have_bytes, need_bytes } => {
                let need_kib = need_bytes.div_ceil(1024);
                write!(
                    f,
                    "locked memory is limited to {have_bytes} bytes and {need_bytes} are needed: \
                     `ulimit -l {need_kib}`, or LimitMEMLOCK={need_kib}K in the service's unit, or \
                     `docker run --ulimit memlock={need_bytes}`, or fewer shards"
                )
            }
            Self::TooManyShards { wanted, allowed } => {
                write!(
                    f,
                    "{wanted} shards want a cpu each and this process may use {} ({allowed}): ask \
                     for at most {}, or widen the cpuset (`taskset -c`, `docker run --cpuset-cpus`)",
                    allowed.len(),
                    allowed.len(),
                )
            }
            Self::NoSuchCpu { cpu, allowed } => {
                write!(
                    f,
                    "cpu {cpu} is not among those this process may use: name some of {allowed}, or widen the cpuset"
                )
            }
            Self::CpuTwice { cpu } => {
                write!(f, "cpu {cpu} is named for two shards: name each cpu once")
            }
            Self::NoShards => f.write_str("no shards were asked for: name at least one cpu"),
            Self::CpusUnreadable { what } => {
                write!(
                    f,
                    "cannot tell which cpus there are ({what}): mount /sys readable in the container"
                )
            }
            Self::TooFewDescriptors { have, need } => {
                write!(
                    f,
                    "descriptors are limited to {have} and {need} are needed: `ulimit -n {need}`, \
                     or LimitNOFILE={need} in the service's unit, or `docker run --ulimit nofile={need}`"
                )
            }
            Self::NoSocketRing { missing } => {
                write!(
                    f,
                    "a ring for sockets was asked for, and this kernel has no {missing}: run Linux \
                     6.1 or newer, or leave the choice to the engine (`Sockets::Auto`), which takes \
                     readiness here"
                )
            }
        }
    }
}

impl fmt::Display for BlockCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { level: 1 } => f.write_str(
                "kernel.io_uring_disabled is 1; `sysctl -w kernel.io_uring_disabled=0` as root, or \
                 put the process's group into kernel.io_uring_group",
            ),
            Self::Sysctl { level } => write!(
                f,
                "kernel.io_uring_disabled is {level}; `sysctl -w kernel.io_uring_disabled=0` as root",
            ),
            Self::Seccomp => f.write_str(
                "a seccomp filter blocks it; run the container with a profile that allows \
                 io_uring_setup, io_uring_enter and io_uring_register \
                 (`docker run --security-opt seccomp=profile.json`)",
            ),
            Self::SecurityModule => f.write_str(
                "a security module denies it; allow io_uring in its policy (`ausearch -m avc` or \
                 `dmesg` names the rule)",
            ),
            Self::NotBuilt => f.write_str("run a kernel built with CONFIG_IO_URING=y"),
            Self::Unknown => f.write_str("see `man 2 io_uring_setup` for this error"),
        }
    }
}

impl std::error::Error for HostError {}
