//! A tokio runtime on the same cores as the engine it is compared with.
//!
//! One shard means the current-thread scheduler on one core; more mean the multi-thread scheduler
//! with one worker pinned to each core. Threads for blocking calls may run on every core that the
//! process may use, like our bridges.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use tokio::runtime::{Builder, Runtime};

use super::tally::{self, Tally};
use crate::subject::CellError;
use crate::{alloc_count, cpus};

/// Connections of a peer's pool, and threads of its blocking pool: what people set.
pub(super) const POOL_CONNECTIONS: usize = 16;

/// A runtime, and where its threads leave their tallies when they stop.
#[derive(Debug)]
pub(super) struct PinnedRuntime {
    pub(super) runtime: Runtime,
    pub(super) tallies: Receiver<Tally>,
    pub(super) workers: usize,
}

/// Builds the runtime. With one worker the calling thread becomes it, and is pinned.
pub(super) fn build(cpus: &[usize]) -> Result<PinnedRuntime, CellError> {
    let allowed = cpus::allowed()?;
    let (tally_sender, tallies) = mpsc::channel();
    let runtime = match cpus {
        [cpu] => {
            cpus::pin(&[*cpu]).map_err(setup)?;
            let mut builder = Builder::new_current_thread();
            builder.on_thread_start(move || {
                // Only blocking threads come here; they inherited the one core.
                if let Err(why) = cpus::pin(&allowed) {
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
    allowed: Vec<usize>,
    tallies: Sender<Tally>,
) -> Result<Runtime, CellError> {
    let (pinned_sender, pinned) = mpsc::channel();
    let (started, one_each) = (Arc::new(AtomicUsize::new(0)), cpus.to_vec());
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(cpus.len()).on_thread_start(move || {
        // The first threads to start are the workers: no blocking call has been made yet.
        let thread_idx = started.fetch_add(1, Ordering::Relaxed);
        let cpus = one_each.get(thread_idx).map_or(&allowed[..], std::slice::from_ref);
        let result = cpus::pin(cpus);
        if thread_idx < one_each.len() && pinned_sender.send(result).is_err() {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cpus::allowed;

    /// Runs on a thread of its own, since a runtime of one worker pins its thread for good.
    fn aside<T: Send>(test: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(test).join().unwrap())
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
