//! Time, CPU time and memory of the calling process, from the kernel.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// CPU time, user and system, all threads of this process, so far.
#[must_use]
pub fn cpu_ns() -> u64 {
    clock_ns(ClockId::ProcessCPUTime)
}

/// A clock that only goes forward; its zero means nothing.
#[must_use]
pub fn now_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

/// CPU time of the calling thread so far.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    clock_ns(ClockId::ThreadCPUTime)
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}

/// Highest resident memory of this process so far (`VmHWM`).
///
/// # Errors
/// The reason, fit for a dump's `…_reason`, when the kernel does not tell.
pub fn max_rss_bytes() -> Result<u64, String> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("/proc/self/status: {error}"))?;
    status_bytes(&status, "VmHWM:").ok_or_else(|| "/proc/self/status has no VmHWM line".to_owned())
}

/// The value of a line of `/proc/<pid>/status` that counts kibibytes.
pub(crate) fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Raises this process's own bound on open files, if `needed` are more than it allows.
///
/// # Errors
/// The reason with its remedy, when the host's bound is lower.
pub fn allow_open_files(needed: u64) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(most) = limit.maximum.filter(|most| *most < needed) {
        return Err(format!(
            "{needed} open files are needed and {most} allowed; raise `ulimit -Hn`"
        ));
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised)
        .map_err(|error| format!("{needed} open files are needed: {error}; raise `ulimit -n`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burning_cpu_shows_in_the_process_and_the_thread() {
        let before = (cpu_ns(), thread_cpu_ns());
        let mut sum = 0_u64;
        while thread_cpu_ns() < before.1 + 1_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu_ns() - before.0 >= 1_000_000);
    }

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        assert_eq!(status_bytes("Name:\tx\nVmHWM:\t    1234 kB\n", "VmHWM:"), Some(1_263_616));
        assert_eq!(status_bytes("Name:\tx\n", "VmHWM:"), None);
        assert!(max_rss_bytes().unwrap() > 0);
    }
}
