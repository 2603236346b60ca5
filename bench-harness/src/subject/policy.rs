//! The settings of stages as a workload file has them, put on a builder.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay::{Builder, ShardId, StageOptions};

use super::{CellError, controllers};
use crate::workload_file::{Dedup, Placement, Stage, Window};

/// Applies what the file says; what it does not say keeps the service's own.
pub(crate) fn apply(
    builder: &mut Builder,
    stages: &BTreeMap<String, Stage>,
) -> Result<(), CellError> {
    for (name, stage) in stages {
        let unknown = || CellError::Setup(format!("no stage {name}"));
        let options = builder.options_mut(name).ok_or_else(unknown)?;
        set(options, name, stage)?;
    }
    Ok(())
}

fn set(options: &mut StageOptions, name: &str, stage: &Stage) -> Result<(), CellError> {
    if let Some(items_max) = stage.items_max {
        options.items_max = items_max as usize;
    }
    if let Some(window) = stage.window {
        options.window = match window {
            Window::Idle => forebay::Window::Idle,
            Window::LingerUs(us) => forebay::Window::Linger(Duration::from_micros(us)),
        };
    }
    if let Some(permits) = stage.permits {
        // Without a rule the engine opens permits one by one as they pay, from one on.
        if permits.min != permits.max && permits.min != 1 && stage.scaling.is_none() {
            let why = format!("stages.{name}.permits.min needs stages.{name}.scaling");
            return Err(CellError::Setup(why));
        }
        options.permits = permits.max as usize;
        options.permits_min = permits.min as usize;
    }
    if let Some(queue_max) = stage.queue_max {
        options.queue_max = queue_max as usize;
    }
    if let Some(placement) = stage.placement {
        options.placement = match placement {
            Placement::Local => forebay::Placement::Local,
            Placement::Owner => forebay::Placement::Owner,
            Placement::Gather(shard) => forebay::Placement::Gather(ShardId::new(shard as usize)),
        };
    }
    if let Some(dedup) = stage.dedup {
        options.dedup = match dedup {
            Dedup::Off => forebay::Dedup::Off,
            Dedup::Queued => forebay::Dedup::Queued,
            Dedup::InFlight => forebay::Dedup::InFlight,
        };
    }
    if let Some(run_max_ms) = stage.run_max_ms {
        options.run_max = Duration::from_millis(run_max_ms);
    }
    if let Some(call_max_ms) = stage.call_max_ms {
        options.call_max = Duration::from_millis(call_max_ms);
    }
    controllers::set(options, stage);
    Ok(())
}
