//! Counts the system calls of another process, where the kernel lets us.
//!
//! By the tracepoint that every system call passes. It costs each of them a little, so what is
//! counted must not be timed as well: a server is counted in a stretch of its own.

use std::fs;
use std::path::Path;

use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};
use rustix::io::Errno;

/// Where the number of the tracepoint stands: in the place of today's kernels, or the old one.
const IDS: [&str; 2] = [
    "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id",
    "/sys/kernel/debug/tracing/events/raw_syscalls/sys_enter/id",
];

/// A counter for every thread that a process has.
#[derive(Debug)]
pub(crate) struct CallCounter {
    threads: Vec<Counter>,
}

impl CallCounter {
    /// Counts the calls of a process from now on.
    ///
    /// # Errors
    /// The reason, fit for a dump's `…_reason`.
    pub(crate) fn start(pid: u32) -> Result<Self, String> {
        let id = IDS.iter().find_map(|path| fs::read_to_string(Path::new(path)).ok());
        let id = id.and_then(|id| id.trim().parse().ok());
        let id = id.ok_or("no tracepoint of system calls can be read; mount tracefs, as root")?;
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        let threads = threads.map_err(|error| format!("the server's threads: {error}"))?;
        let mut counters = Vec::new();
        for thread in threads.flatten() {
            let thread = thread.file_name().to_string_lossy().parse().unwrap_or_default();
            match count(id, thread) {
                Ok(counter) => counters.push(counter),
                // It has ended since.
                Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
                Err(error) => {
                    let remedy = "see kernel.perf_event_paranoid";
                    return Err(format!("counting system calls: {error}; {remedy}"));
                }
            }
        }
        if counters.is_empty() {
            return Err("counting system calls: the server has no thread any more".to_owned());
        }
        Ok(Self { threads: counters })
    }

    /// What has been counted.
    ///
    /// # Errors
    /// The reason, as for `start`.
    pub(crate) fn total(&mut self) -> Result<u64, String> {
        let mut total = 0;
        for thread in &mut self.threads {
            total += thread.read().map_err(|error| format!("counting system calls: {error}"))?;
        }
        Ok(total)
    }
}

fn count(id: u64, thread: i32) -> std::io::Result<Counter> {
    let mut builder = Builder::new(Tracepoint::with_id(id));
    let mut counter = builder.observe_pid(thread).any_cpu().include_kernel().build()?;
    counter.enable()?;
    Ok(counter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_or_a_reason_is_given() {
        match CallCounter::start(std::process::id()) {
            Ok(mut counter) => {
                let before = counter.total().unwrap();
                (0..100).for_each(|_| drop(fs::metadata("/")));
                assert!(counter.total().unwrap() - before >= 100);
            }
            Err(reason) => assert!(reason.contains("mount") || reason.contains("paranoid")),
        }
    }
}
