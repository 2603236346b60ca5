//! Finds out, before any executor exists, whether this host can run the shards that are wanted.
//!
//! glommio panics in a lazy static when io_uring is blocked, ends the process when an operation is
//! missing, and reports a low memlock limit only from the join of a thread that others may already
//! be waiting for. So the host is asked first, and a host that cannot run gives one [`HostError`]
//! that names the remedy.
//!
//! [`gather`] reads the host and decides nothing; [`judge`] decides and reads nothing.

use std::fmt;
use std::num::NonZeroUsize;

use super::affinity::{Cpu, CpuId, CpuList, spread};
use super::ring::{SocketBack, Sockets};

mod error;
mod host;

pub use error::{BlockCause, HostError};
pub use host::gather;

/// glommio refuses to make a reactor below this soft limit, whatever the process's privileges.
pub const MEMLOCK_FLOOR_BYTES: u64 = 512 << 10;

/// What one shard may charge to the memlock limit: three rings, each with its own 64 KiB of
/// registered buffers (192 KiB, `io_memory`), and on kernels before 5.12 the rings themselves, at
/// a depth of 128 (3 × 16 KiB); rounded up.
pub const MEMLOCK_PER_SHARD_BYTES: u64 = 256 << 10;

/// What one shard opens for itself: three rings and an eventfd of glommio's, the net ring and its
/// eventfd, and a listening socket; rounded up.
pub const DESCRIPTORS_PER_SHARD: u64 = 8;

/// The first kernel with all that glommio asks of it.
pub const KERNEL_MIN: (u32, u32) = (5, 8);

/// Which CPUs get a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardCpus {
    /// One shard on each CPU that this process may use.
    All,
    /// So many shards, on CPUs chosen by the spread rule.
    Count(NonZeroUsize),
    /// One shard on each of these, in this order.
    Listed(Vec<CpuId>),
}

/// What the engine is about to ask of the host.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where the shards go.
    pub cpus: ShardCpus,
    /// Descriptors beyond the shards' own: connections, files, downstreams. Default 64.
    pub descriptors: u64,
    /// Memory one shard locks. Default [`MEMLOCK_PER_SHARD_BYTES`].
    pub memlock_per_shard_bytes: u64,
    /// What sockets are to stand on. Default [`Sockets::Auto`].
    pub sockets: Sockets,
}

impl Wanted {
    /// Asks for shards on `cpus`, and for the defaults of all else.
    #[must_use]
    pub fn new(cpus: ShardCpus) -> Self {
        Self {
            cpus,
            descriptors: 64,
            memlock_per_shard_bytes: MEMLOCK_PER_SHARD_BYTES,
            sockets: Sockets::Auto,
        }
    }
}

/// What came of making a small ring and asking it what it can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingFacts {
    /// A ring works; `missing` names the operations that are needed and not there.
    Works {
        /// The missing operations, by their kernel names.
        missing: Vec<&'static str>,
    },
    /// One of the three system calls failed.
    Failed {
        /// The system call.
        call: &'static str,
        /// Its error number.
        errno: i32,
    },
}

/// The CPU time that a control group may use: `quota_us` in every `period_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    /// CPU time per period.
    pub quota_us: u64,
    /// Length of a period.
    pub period_us: u64,
}

impl CpuQuota {
    /// Tells whether this is less than `n_shards` whole CPUs.
    #[must_use]
    pub fn is_below(self, n_shards: usize) -> bool {
        let period_us = u128::from(self.period_us);
        u128::from(self.quota_us) < period_us * n_shards as u128
    }
}

impl fmt::Display for CpuQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quota_us, period_us } = self;
        write!(f, "{quota_us} of every {period_us} us")
    }
}

/// What the host is and allows, as found by [`gather`].
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// The kernel's release, such as `6.1.0-18-amd64`.
    pub kernel: String,
    /// What a trial ring said.
    pub ring: RingFacts,
    /// What came of receiving on a ring as sockets do; else what is missing, and why.
    pub net_ring: Result<(), String>,
    /// `kernel.io_uring_disabled`: 0 open, 1 privileged only, 2 closed; `None` before Linux 6.6.
    pub io_uring_disabled: Option<u8>,
    /// Whether a seccomp filter sits on the calling thread.
    pub seccomp_filtered: bool,
    /// The CPUs this thread may use; else what could not be read, and why.
    pub cpus: Result<Vec<Cpu>, String>,
    /// The tightest `cpu.max` of this process's control group and those above it.
    pub cpu_quota: Option<CpuQuota>,
    /// The soft `RLIMIT_MEMLOCK`; `None` is unlimited.
    pub memlock_bytes: Option<u64>,
    /// Whether the kernel leaves this process's locked memory uncounted.
    pub memlock_exempt: bool,
    /// The soft `RLIMIT_NOFILE`; `None` is unlimited.
    pub descriptors: Option<u64>,
    /// Descriptors open already.
    pub descriptors_open: u64,
}

/// What a start will use, and what is worth a warning; printed one fact a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The kernel's release.
    pub kernel: String,
    /// The CPU of each shard, in the order of the shards.
    pub shards: Vec<CpuId>,
    /// All CPUs this process may use: what bridge threads go back to.
    pub allowed: CpuList,
    /// The limit in bytes; `None` is unlimited.
    pub memlock_bytes: Option<u64>,
    /// The limit; `None` is unlimited.
    pub descriptors: Option<u64>,
    /// The tightest quota on CPU time, if there is one.
    pub cpu_quota: Option<CpuQuota>,
    /// What sockets stand on.
    pub sockets: SocketBack,
    /// Why they do not stand on a ring; `None` if they do.
    pub no_ring: Option<String>,
}

impl Report {
    /// Tells what may disappoint though it does not prevent a start.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let n_shards = self.shards.len();
        let quota = self.cpu_quota.filter(|quota| quota.is_below(n_shards));
        let text = |quota| {
            format!(
                "the control group's cpu.max allows {quota}, less than {n_shards} shards can use: \
                 they will be stopped for the rest of each period; raise it or start fewer shards"
            )
        };
        quota.map(text).into_iter().collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = |value: Option<u64>| value.map_or("unlimited".to_owned(), |v| v.to_string());
        write!(f, "shards: {} on cpus", self.shards.len())?;
        for cpu in &self.shards {
            write!(f, " {cpu}")?;
        }
        writeln!(f, " of {} allowed", self.allowed)?;
        writeln!(f, "kernel: {}", self.kernel)?;
        writeln!(f, "memlock_bytes: {}", limit(self.memlock_bytes))?;
        writeln!(f, "descriptors: {}", limit(self.descriptors))?;
        write!(f, "sockets: {}", self.sockets)?;
        self.no_ring.iter().try_for_each(|reason| write!(f, " ({reason})"))?;
        self.warnings().iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

/// Decides whether this host can run what is wanted, and on which CPUs.
/// # Errors
/// The first thing that stands in the way, in this order: io_uring, CPUs, memlock, descriptors,
/// the ring of sockets.
pub fn judge(facts: &HostFacts, wanted: &Wanted) -> Result<Report, HostError> {
    judge_ring(facts)?;
    let (shards, allowed) = judge_cpus(facts, &wanted.cpus)?;
    judge_memlock(facts, wanted, shards.len())?;
    judge_descriptors(facts, wanted, shards.len())?;
    let (sockets, no_ring) = judge_sockets(facts, wanted.sockets)?;
    Ok(Report {
        kernel: facts.kernel.clone(),
        shards,
        allowed,
        memlock_bytes: facts.memlock_bytes,
        descriptors: facts.descriptors,
        cpu_quota: facts.cpu_quota,
        sockets,
        no_ring,
    })
}

fn judge_sockets(
    facts: &HostFacts,
    wanted: Sockets,
) -> Result<(SocketBack, Option<String>), HostError> {
    let sockets =
        wanted.choose(&facts.net_ring).map_err(|missing| HostError::NoSocketRing { missing })?;
    let no_ring = match (sockets, &facts.net_ring) {
        (SocketBack::Ring | SocketBack::Simulated, _) => None,
        (SocketBack::Readiness, Ok(())) => Some("as asked for".to_owned()),
        (SocketBack::Readiness, Err(missing)) => Some(format!("no {missing}")),
    };
    Ok((sockets, no_ring))
}

fn judge_ring(facts: &HostFacts) -> Result<(), HostError> {
    // Old kernels fail in many ways; the version is the better answer to all of them.
    let too_old = kernel_version(&facts.kernel).is_some_and(|have| have < KERNEL_MIN);
    let kernel_too_old =
        || HostError::KernelTooOld { have: facts.kernel.clone(), need: KERNEL_MIN };
    match &facts.ring {
        RingFacts::Works { missing } => match missing.first() {
            None => Ok(()),
            Some(_) if too_old => Err(kernel_too_old()),
            Some(op) => Err(HostError::OperationMissing { op }),
        },
        RingFacts::Failed { call, errno } => Err(match *errno {
            errno::ENOSYS if too_old && !facts.seccomp_filtered => kernel_too_old(),
            errno::ENOMEM => memlock_too_low(facts, MEMLOCK_FLOOR_BYTES),
            errno::EMFILE | errno::ENFILE => {
                too_few_descriptors(facts, facts.descriptors_open + DESCRIPTORS_PER_SHARD)
            }
            errno => HostError::IoUringBlocked { call, errno, cause: block_cause(facts, errno) },
        }),
    }
}

fn block_cause(facts: &HostFacts, errno: i32) -> BlockCause {
    match (errno, facts.io_uring_disabled) {
        (errno::EPERM, Some(level @ 1..)) => BlockCause::Sysctl { level },
        (errno::EPERM | errno::ENOSYS | errno::EACCES, _) if facts.seccomp_filtered => {
            BlockCause::Seccomp
        }
        (errno::ENOSYS, _) => BlockCause::NotBuilt,
        (errno::EPERM | errno::EACCES, _) => BlockCause::SecurityModule,
        _ => BlockCause::Unknown,
    }
}

fn judge_cpus(facts: &HostFacts, wanted: &ShardCpus) -> Result<(Vec<CpuId>, CpuList), HostError> {
    let cpus =
        facts.cpus.as_ref().map_err(|what| HostError::CpusUnreadable { what: what.clone() })?;
    let allowed: CpuList = cpus.iter().map(|cpu| cpu.id).collect();
    let too_many = |wanted| HostError::TooManyShards { wanted, allowed: allowed.clone() };
    let shards = match wanted {
        ShardCpus::All => spread(cpus, cpus.len()).ok_or_else(|| too_many(cpus.len()))?,
        ShardCpus::Count(n) => spread(cpus, n.get()).ok_or_else(|| too_many(n.get()))?,
        ShardCpus::Listed(listed) => listed.clone(),
    };
    if shards.is_empty() {
        return Err(HostError::NoShards);
    }
    for (idx, &cpu) in shards.iter().enumerate() {
        if !allowed.contains(cpu) {
            return Err(HostError::NoSuchCpu { cpu, allowed });
        }
        if shards[..idx].contains(&cpu) {
            return Err(HostError::CpuTwice { cpu });
        }
    }
    Ok((shards, allowed))
}

fn judge_memlock(facts: &HostFacts, wanted: &Wanted, n_shards: usize) -> Result<(), HostError> {
    let n_shards = u64::try_from(n_shards).unwrap_or(u64::MAX);
    let locked_bytes = match facts.memlock_exempt {
        true => 0,
        false => n_shards.saturating_mul(wanted.memlock_per_shard_bytes),
    };
    let need_bytes = locked_bytes.max(MEMLOCK_FLOOR_BYTES);
    match facts.memlock_bytes {
        Some(have_bytes) if have_bytes < need_bytes => Err(memlock_too_low(facts, need_bytes)),
        _ => Ok(()),
    }
}

fn judge_descriptors(facts: &HostFacts, wanted: &Wanted, n_shards: usize) -> Result<(), HostError> {
    let n_shards = u64::try_from(n_shards).unwrap_or(u64::MAX);
    let need = n_shards
        .saturating_mul(DESCRIPTORS_PER_SHARD)
        .saturating_add(facts.descriptors_open)
        .saturating_add(wanted.descriptors);
    match facts.descriptors {
        Some(have) if have < need => Err(too_few_descriptors(facts, need)),
        _ => Ok(()),
    }
}

fn memlock_too_low(facts: &HostFacts, need_bytes: u64) -> HostError {
    HostError::MemlockTooLow { have_bytes: facts.memlock_bytes.unwrap_or(u64::MAX), need_bytes }
}

fn too_few_descriptors(facts: &HostFacts, need: u64) -> HostError {
    HostError::TooFewDescriptors { have: facts.descriptors.unwrap_or(u64::MAX), need }
}

/// Reads the first two numbers of a release such as `5.10.0-8-amd64`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Error numbers that mean something here; the same on every Linux architecture that glommio runs on.
mod errno {
    pub(super) const EPERM: i32 = 1;
    pub(super) const ENOMEM: i32 = 12;
    pub(super) const EACCES: i32 = 13;
    pub(super) const ENFILE: i32 = 23;
    pub(super) const EMFILE: i32 = 24;
    pub(super) const ENOSYS: i32 = 38;
}

#[cfg(test)]
mod tests;
