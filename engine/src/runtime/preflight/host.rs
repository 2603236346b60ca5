//! Reads from the host what [`judge`](super::judge) wants to know, and decides nothing.
//!
//! A fact that cannot be read is left out rather than guessed: the checks that need it pass, and
//! the start itself tells. The exceptions are io_uring and the CPUs, without which nothing starts.

use std::fs;
use std::path::{Component, Path};

use io_uring::{IoUring, Probe, opcode};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::super::affinity::{Cpu, current_thread_cores};
use super::super::ring;
use super::{CpuQuota, HostFacts, RingFacts};

/// All operations that glommio 0.9 asks the kernel for when its first reactor is made (its
/// `GLOMMIO_URING_OPS`), where a missing one ends the process.
const NEEDED_OPS: &[(u8, &str)] = &[
    (opcode::Nop::CODE, "IORING_OP_NOP"),
    (opcode::Readv::CODE, "IORING_OP_READV"),
    (opcode::Writev::CODE, "IORING_OP_WRITEV"),
    (opcode::Fsync::CODE, "IORING_OP_FSYNC"),
    (opcode::ReadFixed::CODE, "IORING_OP_READ_FIXED"),
    (opcode::WriteFixed::CODE, "IORING_OP_WRITE_FIXED"),
    (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
    (opcode::PollRemove::CODE, "IORING_OP_POLL_REMOVE"),
    (opcode::SendMsg::CODE, "IORING_OP_SENDMSG"),
    (opcode::RecvMsg::CODE, "IORING_OP_RECVMSG"),
    (opcode::Timeout::CODE, "IORING_OP_TIMEOUT"),
    (opcode::TimeoutRemove::CODE, "IORING_OP_TIMEOUT_REMOVE"),
    (opcode::Accept::CODE, "IORING_OP_ACCEPT"),
    // Not in glommio's list, but how it takes back its timers.
    (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL"),
    (opcode::LinkTimeout::CODE, "IORING_OP_LINK_TIMEOUT"),
    (opcode::Connect::CODE, "IORING_OP_CONNECT"),
    (opcode::Fallocate::CODE, "IORING_OP_FALLOCATE"),
    (opcode::OpenAt::CODE, "IORING_OP_OPENAT"),
    (opcode::Close::CODE, "IORING_OP_CLOSE"),
    (opcode::Statx::CODE, "IORING_OP_STATX"),
    (opcode::Read::CODE, "IORING_OP_READ"),
    (opcode::Write::CODE, "IORING_OP_WRITE"),
    (opcode::Send::CODE, "IORING_OP_SEND"),
    (opcode::Recv::CODE, "IORING_OP_RECV"),
];

/// Enough for a trial, which submits nothing.
const TRIAL_RING_ENTRIES: u32 = 4;

/// Reads the host. To be called before any shard is pinned: it sees the calling thread's CPUs.
#[must_use]
pub fn gather() -> HostFacts {
    // The thread, not the process: a filter may sit on one thread only.
    let status = read("/proc/thread-self/status");
    HostFacts {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        ring: try_ring(),
        net_ring: ring::try_ring(),
        io_uring_disabled: read("/proc/sys/kernel/io_uring_disabled").trim().parse().ok(),
        seccomp_filtered: seccomp_filtered(&status),
        cpus: cpus(),
        cpu_quota: cpu_quota(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup")),
        memlock_bytes: getrlimit(Resource::Memlock).current,
        memlock_exempt: memlock_exempt(),
        descriptors: getrlimit(Resource::Nofile).current,
        descriptors_open: descriptors_open(),
    }
}

fn try_ring() -> RingFacts {
    let failed = |call| move |e: std::io::Error| (call, e.raw_os_error().unwrap_or(0));
    let missing = || -> Result<Vec<&'static str>, (&'static str, i32)> {
        let ring = IoUring::new(TRIAL_RING_ENTRIES).map_err(failed("io_uring_setup"))?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(failed("io_uring_register"))?;
        // Nothing is queued: this only shows that the call is let through.
        ring.submit().map_err(failed("io_uring_enter"))?;
        Ok(missing_ops(|code| probe.is_supported(code)))
    };
    match missing() {
        Ok(missing) => RingFacts::Works { missing },
        Err((call, errno)) => RingFacts::Failed { call, errno },
    }
}

fn missing_ops(is_supported: impl Fn(u8) -> bool) -> Vec<&'static str> {
    NEEDED_OPS.iter().filter(|(code, _)| !is_supported(*code)).map(|&(_, name)| name).collect()
}

fn cpus() -> Result<Vec<Cpu>, String> {
    // glommio reads this file to check the CPU that a shard is pinned to.
    let online = "/sys/devices/system/cpu/online";
    fs::metadata(online).map_err(|e| format!("{online}: {e}"))?;
    current_thread_cores().map_err(|e| format!("sched_getaffinity: {e}"))
}

/// The kernel asks for `CAP_IPC_LOCK` in the first user namespace; root of another has it in name.
fn memlock_exempt() -> bool {
    let locks =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    locks && maps_all_users(&read("/proc/self/uid_map"))
}

fn maps_all_users(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn seccomp_filtered(status: &str) -> bool {
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() == "2")
}

fn descriptors_open() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |fds| u64::try_from(fds.count()).unwrap_or(u64::MAX))
}

/// Finds the tightest `cpu.max` from this process's control group up to the root that it sees.
fn cpu_quota(root: &Path, membership: &str) -> Option<CpuQuota> {
    let own = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    // A group outside this namespace's root is shown with `..`, and cannot be read from here.
    let names = Path::new(own).components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let mut group = root.to_path_buf();
    let mut quotas: Vec<CpuQuota> =
        parse_cpu_max(&read(group.join("cpu.max"))).into_iter().collect();
    for name in names {
        group.push(name);
        quotas.extend(parse_cpu_max(&read(group.join("cpu.max"))));
    }
    let product = |of: u64, other: u64| u128::from(of) * u128::from(other);
    quotas.into_iter().reduce(|a, b| {
        match product(b.quota_us, a.period_us) < product(a.quota_us, b.period_us) {
            true => b,
            false => a,
        }
    })
}

/// Reads `200000 100000`; `max 100000` is no quota.
fn parse_cpu_max(text: &str) -> Option<CpuQuota> {
    let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
    Some(CpuQuota { quota_us: numbers.next()??, period_us: numbers.next()?? })
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_needed_operation_is_missed_when_it_is_not_there() {
        assert_eq!(missing_ops(|_| true), Vec::<&str>::new());
        assert_eq!(missing_ops(|code| code != opcode::Accept::CODE), ["IORING_OP_ACCEPT"]);
        assert_eq!(missing_ops(|_| false).len(), NEEDED_OPS.len());
    }

    #[test]
    fn a_cpu_max_line_is_read_as_the_kernel_writes_it() {
        let quota = |quota_us, period_us| Some(CpuQuota { quota_us, period_us });
        let check = |text, wanted| assert_eq!(parse_cpu_max(text), wanted, "{text:?}");
        check("max 100000\n", None);
        check("150000 100000\n", quota(150_000, 100_000));
        check("150000", None);
        check("", None);
    }

    #[test]
    fn the_tightest_quota_on_the_way_up_counts() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("a/b");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cpu.max"), "max 100000").unwrap();
        fs::write(dir.path().join("a/cpu.max"), "300000 200000").unwrap();
        fs::write(dir.path().join("cpu.max"), "200000 100000").unwrap();
        let check = |membership, quota_us| {
            let quota = cpu_quota(dir.path(), membership).map(|quota| quota.quota_us);
            assert_eq!(quota, quota_us, "{membership:?}");
        };
        check("0::/a/b\n", Some(300_000));
        check("1:cpu:/x\n0::/\n", Some(200_000));
        check("0::/../../a\n", Some(300_000));
        check("0::/gone\n", Some(200_000));
        check("4:cpu:/a\n", None);
    }

    #[test]
    fn only_a_filter_counts_as_seccomp() {
        assert!(seccomp_filtered("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!seccomp_filtered("Seccomp:\t0\n"));
        assert!(!seccomp_filtered(""));
    }

    #[test]
    fn a_narrow_user_map_is_another_namespace() {
        assert!(maps_all_users("         0          0 4294967295\n"));
        assert!(!maps_all_users("         0       1000          1\n"));
        assert!(!maps_all_users(""));
    }
}
