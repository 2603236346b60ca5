//! A tokio runtime on the same cores as the engine it is compared with.
//!
//! One shard means the current-thread scheduler on one core; more mean the multi-thread scheduler
//! with one worker pinned to each core. Threads for blocking calls may run on every core that the
//! process may use, like our bridges.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Builder, Runtime};

use super::tally::{self, Tally};
use crate::alloc_count;
use crate::subject::CellError;
use crate::workload_file::{Engine, ShardCount};

/// Connections of a peer's pool, and threads of its blocking pool: what people set.
pub(super) const POOL_CONNECTIONS: usize = 16;

/// A runtime, and where its threads leave their tallies when they stop.
#[derive(Debug)]
pub(super) struct PinnedRuntime {
    pub(super) runtime: Runtime,
    pub(super) tallies: Receiver<Tally>,
    pub(super) workers: usize,
}

/// Returns the CPU of each worker, chosen as the engine chooses those of its shards.
pub(super) fn cpus(engine: &Engine) -> Result<Vec<usize>, CellError> {
    let allowed = allowed()?;
    let wanted = match (&engine.pin_cpus, engine.shards) {
        (_, ShardCount::Fixed(0)) => return Err(setup("engine.shards is 0".to_owned())),
        (Some(cpus), _) => cpus.iter().map(|&cpu| cpu as usize).collect(),
        (None, ShardCount::PerCore) => allowed.clone(),
        (None, ShardCount::Fixed(shards)) => {
            allowed.iter().copied().take(shards as usize).collect::<Vec<_>>()
        }
    };
    let n_wanted = match engine.shards {
        ShardCount::Fixed(shards) => shards as usize,
        ShardCount::PerCore => wanted.len(),
    };
    if wanted.len() != n_wanted || wanted.iter().any(|cpu| !allowed.contains(cpu)) {
        let why = format!("{n_wanted} workers on CPUs {wanted:?} of the allowed {allowed:?}");
        return Err(setup(why));
    }
    Ok(wanted)
}

/// Builds the runtime. With one worker the calling thread becomes it, and is pinned.
pub(super) fn build(cpus: &[usize]) -> Result<PinnedRuntime, CellError> {
    let allowed: CpuSet = set(&allowed()?);
    let (tally_sender, tallies) = mpsc::channel();
    let runtime = match cpus {
        [cpu] => {
            pin(&set(&[*cpu])).map_err(setup)?;
            let mut builder = Builder::new_current_thread();
            builder.on_thread_start(move || {
                // Only blocking threads come here; they inherited the one core.
                if let Err(why) = pin(&allowed) {
                    eprintln!("warning: {why}");
                }
            });
            finish(builder, tally_sender)?
        }
        cpus => multi_thread(cpus, allowed, tally_sender)?,
    };
    Ok(PinnedRuntime { runtime, tallies, workers: cpus.len() })
}

fn multi_thread(
    cpus: &[usize],
    allowed: CpuSet,
    tallies: Sender<Tally>,
) -> Result<Runtime, CellError> {
    let (pinned_sender, pinned) = mpsc::channel();
    let (started, sets) = (Arc::new(AtomicUsize::new(0)), Vec::from_iter(cpus.iter().map(one)));
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(cpus.len()).on_thread_start(move || {
        // The first threads to start are the workers: no blocking call has been made yet.
        let thread_idx = started.fetch_add(1, Ordering::Relaxed);
        let result = pin(sets.get(thread_idx).unwrap_or(&allowed));
        if thread_idx < sets.len() && pinned_sender.send(result).is_err() {
            eprintln!("warning: worker {thread_idx} started after the runtime was given up");
        }
    });
    let runtime = finish(builder, tallies)?;
    for _ in cpus {
        pinned.recv().map_err(|gone| setup(gone.to_string()))?.map_err(setup)?;
    }
    Ok(runtime)
}

fn finish(mut builder: Builder, tallies: Sender<Tally>) -> Result<Runtime, CellError> {
    builder
        .max_blocking_threads(POOL_CONNECTIONS)
        .on_thread_park(alloc_count::publish)
        .on_thread_stop(move || {
            alloc_count::publish();
            if let Some(tally) = tally::take() {
                // Nobody listens only where the run has failed already.
                drop(tallies.send(tally));
            }
        })
        .enable_all()
        .build()
        .map_err(|error| setup(format!("tokio runtime: {error}")))
}

fn setup(why: String) -> CellError {
    CellError::Setup(why)
}

fn allowed() -> Result<Vec<usize>, CellError> {
    let set = sched_getaffinity(None).map_err(|error| setup(format!("affinity: {error}")))?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

fn one(cpu: &usize) -> CpuSet {
    set(&[*cpu])
}

fn set(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    set
}

fn pin(cpus: &CpuSet) -> Result<(), String> {
    sched_setaffinity(None, cpus).map_err(|error| format!("cannot pin a thread: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::workload_file::Idle;

    fn engine(shards: ShardCount, pin_cpus: Option<Vec<u32>>) -> Engine {
        Engine { shards, pin_cpus, idle: Idle::Park }
    }

    /// Runs on a thread of its own, since a runtime of one worker pins its thread for good.
    fn aside<T: Send>(test: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(test).join().unwrap())
    }

    #[test]
    fn workers_get_the_cpus_they_are_told_or_the_first_allowed() {
        let all = allowed().unwrap();
        assert_eq!(cpus(&engine(ShardCount::PerCore, None)).unwrap(), all);
        assert_eq!(cpus(&engine(ShardCount::Fixed(1), None)).unwrap(), all[..1]);
        let last = u32::try_from(*all.last().unwrap()).unwrap();
        let pinned = engine(ShardCount::Fixed(1), Some(vec![last]));
        assert_eq!(cpus(&pinned).unwrap(), [last as usize]);
    }

    #[test]
    fn impossible_cpus_are_refused() {
        for engine in [
            engine(ShardCount::Fixed(0), None),
            engine(ShardCount::Fixed(10_000), None),
            engine(ShardCount::Fixed(2), Some(vec![0])),
            engine(ShardCount::Fixed(1), Some(vec![1_000])),
        ] {
            assert!(matches!(cpus(&engine), Err(CellError::Setup(_))), "{engine:?}");
        }
    }

    #[test]
    fn one_worker_is_the_calling_thread_and_its_blocking_threads_are_free() {
        aside(|| {
            let all = allowed().unwrap();
            let pinned = build(&all[..1]).unwrap();
            assert_eq!(allowed().unwrap(), all[..1]);
            let blocking = pinned.runtime.spawn_blocking(|| allowed().unwrap());
            // Built after pinning, so "allowed" is taken before it.
            assert_eq!(pinned.runtime.block_on(blocking).unwrap(), all);
        });
    }

    #[test]
    fn each_worker_has_its_own_core() {
        aside(|| {
            let all = allowed().unwrap();
            let pinned = build(&all).unwrap();
            if all.len() == 1 {
                return;
            }
            let seen = pinned.runtime.block_on(async {
                let tasks = (0..1_000).map(|_| tokio::spawn(async { allowed().unwrap() }));
                let mut seen = BTreeSet::new();
                for task in Vec::from_iter(tasks) {
                    seen.insert(task.await.unwrap());
                }
                seen
            });
            assert!(seen.iter().all(|cpus| cpus.len() == 1), "{seen:?}");
        });
    }
}
