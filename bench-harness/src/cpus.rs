//! Which CPUs a shard, a peer's worker or a load generator runs on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::subject::CellError;
use crate::workload_file::{Engine, ShardCount};

/// Returns the CPU of each shard or worker, chosen as the engine chooses those of its shards.
///
/// # Errors
/// When the host does not have them.
pub fn of_shards(engine: &Engine) -> Result<Vec<usize>, CellError> {
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

/// Returns the CPUs that the calling thread may use, from the first on.
///
/// # Errors
/// When the system does not tell.
pub fn allowed() -> Result<Vec<usize>, CellError> {
    let set = sched_getaffinity(None).map_err(|error| setup(format!("affinity: {error}")))?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Lets the calling thread, and what it starts from now on, run on these CPUs only.
///
/// # Errors
/// The reason in words, when the system refuses.
pub fn pin(cpus: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    sched_setaffinity(None, &set).map_err(|error| format!("cannot pin a thread: {error}"))
}

fn setup(why: String) -> CellError {
    CellError::Setup(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload_file::{Idle, Sockets};

    fn engine(shards: ShardCount, pin_cpus: Option<Vec<u32>>) -> Engine {
        Engine { shards, pin_cpus, idle: Idle::Park, sockets: Sockets::Auto }
    }

    #[test]
    fn workers_get_the_cpus_they_are_told_or_the_first_allowed() {
        let all = allowed().unwrap();
        assert_eq!(of_shards(&engine(ShardCount::PerCore, None)).unwrap(), all);
        assert_eq!(of_shards(&engine(ShardCount::Fixed(1), None)).unwrap(), all[..1]);
        let last = u32::try_from(*all.last().unwrap()).unwrap();
        let pinned = engine(ShardCount::Fixed(1), Some(vec![last]));
        assert_eq!(of_shards(&pinned).unwrap(), [last as usize]);
    }

    #[test]
    fn impossible_cpus_are_refused() {
        for engine in [
            engine(ShardCount::Fixed(0), None),
            engine(ShardCount::Fixed(10_000), None),
            engine(ShardCount::Fixed(2), Some(vec![0])),
            engine(ShardCount::Fixed(1), Some(vec![1_000])),
        ] {
            assert!(matches!(of_shards(&engine), Err(CellError::Setup(_))), "{engine:?}");
        }
    }
}
