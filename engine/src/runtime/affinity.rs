//! Which CPUs this process may use, which of them the shards get, and pinning a thread to one.
//!
//! A container or `taskset` narrows what the machine has, so everything here starts from the
//! calling thread's own mask and never from the count of CPUs online. Threads inherit the mask of
//! the thread that starts them: one started from a shard would share that shard's core for ever,
//! which is why bridge threads call [`unpin_current_thread`] first.
//!
//! **The spread rule.** Shards go to different physical cores first, in order of CPU number, and
//! to the second hardware threads of those cores only when cores run out. A shard that shares its
//! core with another gains a third of a core at best, and its latency follows its neighbour's
//! load. Packages are not alternated: shards that talk much are better off behind one cache.

use std::collections::BTreeSet;
use std::{fmt, fs, io};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The kernel's number of one CPU, a hardware thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(pub usize);

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The CPUs a thread may run on, ascending, printed as the kernel does: `0-3,8`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(BTreeSet<CpuId>);

impl CpuList {
    /// Tells whether `cpu` is one of these.
    #[must_use]
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0.contains(&cpu)
    }

    /// Counts the CPUs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lists the CPUs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<CpuId> for CpuList {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.0.iter().map(|cpu| cpu.0).peekable();
        let mut comma = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

/// A CPU and the physical core it is a hardware thread of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The kernel's number.
    pub id: CpuId,
    /// The lowest-numbered CPU on the same physical core; itself where the host does not tell.
    pub core: CpuId,
}

/// Why a thread is not where it was put.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PinError {
    /// The kernel refused the mask, or could not tell it.
    Refused {
        /// What was asked for.
        wanted: CpuList,
        /// The kernel's error number.
        errno: i32,
    },
    /// The kernel took the mask and the thread has another one all the same.
    Elsewhere {
        /// What was asked for.
        wanted: CpuList,
        /// What the thread has.
        got: CpuList,
    },
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { wanted, errno } => {
                let cause = io::Error::from_raw_os_error(*errno);
                write!(
                    f,
                    "cannot run a thread on cpu {wanted}: {cause}; widen the cpuset or name other cpus"
                )
            }
            Self::Elsewhere { wanted, got } => {
                write!(
                    f,
                    "a thread pinned to cpu {wanted} has cpu {got}; something else sets affinities in this process"
                )
            }
        }
    }
}

impl std::error::Error for PinError {}

/// Lists the CPUs that the calling thread may use.
/// # Errors
/// The kernel's error, for one when the machine has more CPUs than a mask has bits (1,024).
pub fn current_thread_cpus() -> io::Result<CpuList> {
    Ok(list_of(&sched_getaffinity(None)?))
}

/// Lists the CPUs that the calling thread may use, each with its physical core.
/// # Errors
/// As [`current_thread_cpus`].
pub fn current_thread_cores() -> io::Result<Vec<Cpu>> {
    Ok(current_thread_cpus()?
        .iter()
        .map(|id| Cpu { id, core: core_of(id).unwrap_or(id) })
        .collect())
}

/// Chooses the CPUs of `n_shards` shards by the spread rule, in the order of the shards.
///
/// `None` when there are fewer CPUs than shards: two shards on one CPU only take turns.
#[must_use]
pub fn spread(cpus: &[Cpu], n_shards: usize) -> Option<Vec<CpuId>> {
    let mut by_rank: Vec<(usize, CpuId)> = Vec::with_capacity(cpus.len());
    for cpu in cpus {
        let lower_on_core = cpus.iter().filter(|c| c.core == cpu.core && c.id < cpu.id).count();
        by_rank.push((lower_on_core, cpu.id));
    }
    by_rank.sort_unstable();
    (n_shards <= by_rank.len()).then(|| by_rank.iter().take(n_shards).map(|&(_, id)| id).collect())
}

/// Pins the calling thread to one CPU, and checks that it is so.
/// # Errors
/// `Refused` when the CPU is not there or not allowed; `Elsewhere` when the check fails.
pub fn pin_current_thread(cpu: CpuId) -> Result<(), PinError> {
    set_current_thread(&CpuList::from_iter([cpu]))
}

/// Lets the calling thread use all of `cpus` again, and checks that it is so.
///
/// For threads that a shard started. `cpus` is what was allowed before any shard was pinned.
/// # Errors
/// `Refused` when none of them is allowed any more; `Elsewhere` when the check fails.
pub fn unpin_current_thread(cpus: &CpuList) -> Result<(), PinError> {
    set_current_thread(cpus)
}

fn set_current_thread(wanted: &CpuList) -> Result<(), PinError> {
    let refused = |errno: rustix::io::Errno| PinError::Refused {
        wanted: wanted.clone(),
        errno: errno.raw_os_error(),
    };
    let mut mask = CpuSet::new();
    for CpuId(idx) in wanted.iter() {
        if idx >= CpuSet::MAX_CPU {
            return Err(refused(rustix::io::Errno::INVAL));
        }
        mask.set(idx);
    }
    sched_setaffinity(None, &mask).map_err(refused)?;

    let got = list_of(&sched_getaffinity(None).map_err(refused)?);
    match got == *wanted {
        true => Ok(()),
        false => Err(PinError::Elsewhere { wanted: wanted.clone(), got }),
    }
}

fn list_of(mask: &CpuSet) -> CpuList {
    (0..CpuSet::MAX_CPU).filter(|&idx| mask.is_set(idx)).map(CpuId).collect()
}

fn core_of(cpu: CpuId) -> Option<CpuId> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    first_of_list(&fs::read_to_string(path).ok()?)
}

/// Reads the first number of a kernel list such as `0,32` or `4-5`.
fn first_of_list(list: &str) -> Option<CpuId> {
    list.trim().split([',', '-']).next()?.parse().ok().map(CpuId)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(pairs: &[(usize, usize)]) -> Vec<Cpu> {
        pairs.iter().map(|&(id, core)| Cpu { id: CpuId(id), core: CpuId(core) }).collect()
    }

    #[test]
    fn spread_takes_whole_cores_before_second_threads() {
        let siblings_apart = cpus(&[(0, 0), (1, 1), (2, 0), (3, 1)]);
        let siblings_together = cpus(&[(0, 0), (1, 0), (2, 2), (3, 2)]);
        let half_allowed = cpus(&[(1, 0), (2, 2), (3, 2)]);
        let check = |cpus: &[Cpu], n_shards: usize, wanted: Option<&[usize]>| {
            let wanted = wanted.map(|ids| ids.iter().copied().map(CpuId).collect::<Vec<_>>());
            assert_eq!(spread(cpus, n_shards), wanted, "{n_shards} shards on {cpus:?}");
        };
        check(&siblings_apart, 2, Some(&[0, 1]));
        check(&siblings_apart, 3, Some(&[0, 1, 2]));
        check(&siblings_together, 2, Some(&[0, 2]));
        check(&siblings_together, 4, Some(&[0, 2, 1, 3]));
        check(&half_allowed, 2, Some(&[1, 2]));
        check(&half_allowed, 3, Some(&[1, 2, 3]));
        check(&half_allowed, 4, None);
        check(&[], 0, Some(&[]));
        check(&[], 1, None);
    }

    #[test]
    fn a_list_prints_as_the_kernel_prints_it() {
        let check = |ids: &[usize], wanted: &str| {
            let list: CpuList = ids.iter().copied().map(CpuId).collect();
            assert_eq!(list.to_string(), wanted);
        };
        check(&[], "");
        check(&[3], "3");
        check(&[0, 1], "0-1");
        check(&[9, 1, 0, 2, 7, 9], "0-2,7,9");
    }

    #[test]
    fn the_first_sibling_names_the_core() {
        for (list, wanted) in [("0,32\n", Some(0)), ("4-5", Some(4)), ("7", Some(7)), ("", None)] {
            assert_eq!(first_of_list(list), wanted.map(CpuId), "{list:?}");
        }
    }

    /// On a thread of its own, because it changes the thread's mask.
    #[test]
    fn a_pinned_thread_is_there_and_is_free_again_once_unpinned() {
        let body = || {
            let all = current_thread_cpus().unwrap();
            let last = all.iter().last().unwrap();
            pin_current_thread(last).unwrap();
            assert_eq!(current_thread_cpus().unwrap(), CpuList::from_iter([last]));
            unpin_current_thread(&all).unwrap();
            assert_eq!(current_thread_cpus().unwrap(), all);
        };
        std::thread::Builder::new().spawn(body).unwrap().join().unwrap();
    }

    #[test]
    fn pinning_to_a_cpu_that_is_not_there_is_refused() {
        for idx in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU, 4096] {
            let refused = pin_current_thread(CpuId(idx)).unwrap_err();
            assert!(matches!(&refused, PinError::Refused { errno: 22, .. }), "{refused}");
        }
    }
}
