//! What the kernel has counted of another process: CPU time, memory.

use std::fs;

use crate::process::status_bytes;

/// CPU time and memory of a process at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    /// CPU time, user and system, of all its threads; those of the kernel that serve its rings
    /// are among them. The reason, fit for a dump's `…_reason`, where the kernel keeps no such books.
    pub(crate) cpu_ns: Result<u64, String>,
    /// Resident memory.
    pub(crate) resident_bytes: u64,
    /// Highest resident memory so far.
    pub(crate) max_resident_bytes: u64,
}

impl Usage {
    /// Reads the books of a process.
    pub(crate) fn of(pid: u32) -> Result<Self, String> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let bytes = |name: &str| {
            status_bytes(&status, name).ok_or_else(|| format!("{path} has no {name} line"))
        };
        Ok(Self {
            cpu_ns: cpu_ns(pid),
            resident_bytes: bytes("VmRSS:")?,
            max_resident_bytes: bytes("VmHWM:")?,
        })
    }
}

/// Adds up the threads. Read from the scheduler's books: those of a process are kept in ticks.
fn cpu_ns(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
    let mut total_ns = None;
    for thread in threads {
        let thread = thread.map_err(|error| format!("{path}: {error}"))?;
        // One that has ended since takes its time along; a server's threads end with it.
        let Ok(books) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
        let ran = ran_ns(&books).ok_or_else(|| format!("{path}: schedstat says `{books}`"))?;
        total_ns = Some(total_ns.unwrap_or(0) + ran);
    }
    total_ns.ok_or_else(|| format!("{path}: no thread has a schedstat; needs CONFIG_SCHED_INFO"))
}

/// The first of three numbers: time on a CPU.
fn ran_ns(books: &str) -> Option<u64> {
    books.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_of_this_process_can_be_read() {
        let before = Usage::of(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while crate::process::thread_cpu_ns() < 20_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let after = Usage::of(std::process::id()).unwrap();
        assert!(after.cpu_ns.unwrap() > before.cpu_ns.unwrap());
        assert!(after.resident_bytes > 0 && after.max_resident_bytes >= after.resident_bytes);
        assert!(Usage::of(u32::MAX).unwrap_err().contains("/status"));
    }

    #[test]
    fn books_that_nobody_keeps_are_a_reason_and_not_zero() {
        assert!(cpu_ns(u32::MAX).unwrap_err().contains("/task"));
    }

    #[test]
    fn what_is_no_number_is_no_time() {
        assert_eq!(ran_ns("123 4 5\n"), Some(123));
        assert_eq!(ran_ns(""), None);
    }
}
