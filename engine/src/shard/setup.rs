//! Making a shard's stages: every factory in order of declaration, then the shard serves.

use std::any::Any;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;

use super::Shard;
use crate::error::StartError;
use crate::metrics::ServiceMetrics;
use crate::runtime::core::{Context, Core};
use crate::runtime::guard::{Contained, Guarded, Panicked};
use crate::runtime::shared::board::Phase;
use crate::stage::AnyStage;

/// What a factory gives.
pub(crate) type Made = Result<Rc<dyn AnyStage>, Box<dyn std::error::Error + Send + Sync>>;

/// Makes one stage on one shard: its rank, the names of all, the core it stands on.
pub(crate) type Factory = Box<
    dyn FnOnce(Rc<Core>, u16, Rc<[&'static str]>) -> Pin<Box<dyn Future<Output = Made>>> + Send,
>;

/// What a shard needs in order to serve.
pub(crate) struct Setup {
    pub(crate) names: Vec<&'static str>,
    pub(crate) recording: bool,
    pub(crate) factories: Vec<Factory>,
    pub(crate) service: ServiceMetrics,
    pub(crate) done: Box<dyn FnOnce(Result<(), StartError>) + Send>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Setup({:?})", self.names)
    }
}

/// Spawns the task that runs the factories; the shard's own turns drive it.
pub(super) fn begin(shard: &Rc<Shard>, setup: Setup) {
    let owner = Rc::clone(shard);
    let Setup { names, recording, factories, service, done } = setup;
    if recording {
        shard.keep_log();
    }
    let task = async move {
        let made = make_all(&owner, names, factories).await;
        let result = made.map(|stages| {
            owner.stages.replace(stages.into());
            owner.service.set(Contained::new(service)).expect("a shard is set up once");
            if owner.phase.get() == Phase::Starting {
                owner.phase.set(Phase::Running);
                owner.shown.board.reach(owner.id().index(), Phase::Running);
            }
        });
        done(result);
    };
    shard.core.spawn(Location::caller(), task).detach();
}

async fn make_all(
    shard: &Shard,
    names: Vec<&'static str>,
    factories: Vec<Factory>,
) -> Result<Vec<Rc<dyn AnyStage>>, StartError> {
    let names: Rc<[&'static str]> = names.into();
    let mut stages = Vec::with_capacity(factories.len());
    for (rank, factory) in factories.into_iter().enumerate() {
        let (core, names_here) = (Rc::clone(&shard.core), Rc::clone(&names));
        let rank = u16::try_from(rank).expect("fewer than 65,536 stages");
        let making = async move { factory(core, rank, names_here).await };
        let source = match Guarded::new(Context::NONE, making).await {
            Ok(Ok(stage)) => {
                stages.push(stage);
                continue;
            }
            Ok(Err(source)) => source,
            Err(Panicked) => "it panicked".into(),
        };
        let stage = names[usize::from(rank)];
        return Err(StartError::Factory { stage, shard: shard.id(), source });
    }
    Ok(stages)
}

/// Boxes a stage core without naming its type.
pub(crate) fn erase(stage: Rc<impl AnyStage + Any>) -> Rc<dyn AnyStage> {
    stage
}
