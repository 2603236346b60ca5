//! Declaring stages and starting shards.

use std::cell::OnceCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::handle::Handle;
use super::stop::Engine;
use crate::error::StartError;
use crate::limits::Limits;
use crate::metrics::{Metric, ServiceMetrics, ShardSnapshot};
use crate::runtime::ShardId;
use crate::runtime::affinity::CpuId;
use crate::runtime::clock::Clock;
use crate::runtime::hosted::Hosted;
use crate::runtime::pinned::{self, IdlePolicy, ShardSpec};
use crate::runtime::preflight::{ShardCpus, Wanted, gather, judge};
use crate::runtime::ring::Sockets;
use crate::runtime::shared::board::Board;
use crate::runtime::shared::bridges::Bridges;
use crate::runtime::shared::published::Published;
use crate::runtime::shared::tokens::Tokens;
use crate::runtime::shared::{Gathering, Outside};
use crate::shard::{Factory, Setup, Shard, Shown, erase};
use crate::stage::{Nature, Ship, Stage, StageCore, StageOptions, StageRef};

/// Which CPUs the shards run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuChoice {
    /// One shard on every CPU this process may use.
    PerCore,
    /// So many shards, spread over physical cores first.
    Count(NonZeroUsize),
    /// One shard on each of these, in this order.
    Listed(Vec<usize>),
}

/// One stage as declared, before any shard exists.
pub(crate) struct Declared {
    pub(crate) name: &'static str,
    pub(crate) options: StageOptions,
    nature: Nature,
    /// Makes the factory of one shard, with the options as they are at the start.
    make: Box<dyn Fn(StageOptions, Option<Tokens>) -> Factory + Send + Sync>,
    /// The tokens of its downstream's rate, one for all shards; made when the first is set up.
    tokens: OnceCell<Option<Tokens>>,
}

impl Declared {
    fn factory(&self) -> Factory {
        let rate = self.options.rate.as_ref();
        let tokens =
            self.tokens.get_or_init(|| rate.map(|rate| Tokens::new(rate.per_s, rate.lease)));
        (self.make)(self.options.clone(), tokens.clone())
    }
}

/// Declares stages and policies, then starts the shards.
///
/// ```no_run
/// # use forebay::{Batch, Builder, RequestOptions, Stage, StageOptions};
/// # use std::rc::Rc;
/// struct Double;
///
/// impl Stage for Double {
///     type Item = u64;
///     type Key = u64;
///     type Class = ();
///     type Value = u64;
///     type Error = std::convert::Infallible;
///     fn key(item: &u64) -> u64 { *item }
///     fn class(_: &u64) {}
///     async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Self::Error> {
///         for item in batch.items() {
///             item.settle(Ok(item.item() * 2));
///         }
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut builder = Builder::new();
/// let double = builder.stage("double", StageOptions::default(), |_| async { Ok(Double) });
/// let engine = builder.start()?;
/// let four = engine.handle().submit(0, RequestOptions::default(), move || async move {
///     double.call(2).await
/// })?;
/// assert_eq!(four.wait()??, 4);
/// engine.stop(std::time::Duration::from_secs(1));
/// # Ok(())
/// # }
/// ```
pub struct Builder {
    cpus: CpuChoice,
    idle: IdlePolicy,
    sockets: Sockets,
    limits: Limits,
    preempt: Option<Duration>,
    wait_cap: Option<Duration>,
    seed: u64,
    recording: bool,
    quiet: bool,
    stages: Vec<Declared>,
    service: ServiceMetrics,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.stages.iter().map(|stage| stage.name).collect();
        write!(f, "Builder({:?}, {:?}, stages {names:?})", self.cpus, self.idle)
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// One shard per core, parking when idle, with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cpus: CpuChoice::PerCore,
            idle: IdlePolicy::Park,
            sockets: Sockets::Auto,
            limits: Limits::default(),
            preempt: None,
            wait_cap: None,
            seed: fastrand::u64(..),
            recording: false,
            quiet: false,
            stages: Vec::new(),
            service: ServiceMetrics::default(),
        }
    }

    /// Starts `n_shards` shards, on CPUs chosen by the spread rule.
    ///
    /// # Panics
    ///
    /// If `n_shards` is 0.
    pub fn shards(&mut self, n_shards: usize) -> &mut Self {
        let n_shards = NonZeroUsize::new(n_shards).expect("an engine has at least one shard");
        self.cpus = CpuChoice::Count(n_shards);
        self
    }

    /// Starts one shard on each of these CPUs.
    pub fn cpus(&mut self, cpus: &[usize]) -> &mut Self {
        self.cpus = CpuChoice::Listed(cpus.to_vec());
        self
    }

    /// Starts shards on the CPUs of `choice`; the same as the two above, for a choice made elsewhere.
    pub fn cpu_choice(&mut self, choice: CpuChoice) -> &mut Self {
        self.cpus = choice;
        self
    }

    /// How a shard waits when it has nothing to do. Default [`IdlePolicy::Park`].
    pub fn idle(&mut self, idle: IdlePolicy) -> &mut Self {
        self.idle = idle;
        self
    }

    /// What sockets stand on; the same on every shard. Default [`Sockets::Auto`], which is right
    /// unless one of the two is the point: [`Sockets::Ring`] where falling back to readiness (a
    /// system call for each read and write) should rather be a failed start,
    /// [`Sockets::Readiness`] to see here what an older kernel gets. [`Engine::sockets`] tells what came of it.
    pub fn sockets(&mut self, sockets: Sockets) -> &mut Self {
        self.sockets = sockets;
        self
    }

    /// The hard bounds; see [`Limits`].
    pub fn limits(&mut self, limits: Limits) -> &mut Self {
        self.limits = limits;
        self
    }

    /// Seeds the hash that chooses owners and buckets. Default: another one for each engine, so
    /// that nobody outside can choose keys that collide.
    pub fn seed(&mut self, seed: u64) -> &mut Self {
        self.seed = seed;
        self
    }

    /// Keeps a log of every turn from the first on, for [`Handle::take_turns`]. Default off.
    pub fn record_turns(&mut self, recording: bool) -> &mut Self {
        self.recording = recording;
        self
    }

    /// Does not print on standard error what the engine runs on and its limits
    /// ([`Engine::describe`]) once it has started.
    pub fn quiet(&mut self) -> &mut Self {
        self.quiet = true;
        self
    }

    /// Sets the preempt timer of the executor underneath. Only for the test that shows why it is
    /// long: a short one lets the executor fall asleep with work to do.
    #[doc(hidden)]
    pub fn preempt_timer(&mut self, preempt: Duration) -> &mut Self {
        self.preempt = Some(preempt);
        self
    }

    /// Takes down the fence that bounds a wrong sleep of the executor underneath. Only for the
    /// test that shows what the fence is for.
    #[doc(hidden)]
    pub fn without_wait_cap(&mut self) -> &mut Self {
        self.wait_cap = Some(Duration::from_secs(10));
        self
    }

    /// Declares a stage. `factory` runs once on every shard and makes that shard's instance; its
    /// failure is a start error. Stages are ranked in order of declaration: from a batch function
    /// only later ones may be called.
    ///
    /// # Panics
    ///
    /// If the name is taken.
    pub fn stage<S, M, F>(
        &mut self,
        name: &'static str,
        options: StageOptions,
        factory: M,
    ) -> StageRef<S>
    where
        S: Stage,
        M: Fn(ShardId) -> F + Send + Sync + 'static,
        F: Future<Output = Result<S, Box<dyn std::error::Error + Send + Sync>>> + 'static,
    {
        self.declare(name, options, factory, None)
    }

    /// Declares a stage whose calls may be queued on another shard: [`Placement::Owner`] and
    /// [`Placement::Gather`] become possible.
    ///
    /// [`Placement::Owner`]: crate::Placement::Owner
    /// [`Placement::Gather`]: crate::Placement::Gather
    ///
    /// # Panics
    ///
    /// If the name is taken.
    pub fn shared_stage<S, M, F>(
        &mut self,
        name: &'static str,
        options: StageOptions,
        factory: M,
    ) -> StageRef<S>
    where
        S: Stage,
        S::Item: Send,
        S::Value: Send,
        S::Error: Send + Sync,
        M: Fn(ShardId) -> F + Send + Sync + 'static,
        F: Future<Output = Result<S, Box<dyn std::error::Error + Send + Sync>>> + 'static,
    {
        self.declare(name, options, factory, Some(Ship::new()))
    }

    fn declare<S, M, F>(
        &mut self,
        name: &'static str,
        options: StageOptions,
        factory: M,
        ship: Option<Ship<S>>,
    ) -> StageRef<S>
    where
        S: Stage,
        M: Fn(ShardId) -> F + Send + Sync + 'static,
        F: Future<Output = Result<S, Box<dyn std::error::Error + Send + Sync>>> + 'static,
    {
        assert!(self.stages.iter().all(|stage| stage.name != name), "two stages named {name}");
        let rank = u16::try_from(self.stages.len()).expect("fewer than 65,536 stages");
        let factory = Arc::new(factory);
        let nature = Nature { kind: S::KIND, shareable: ship.is_some(), idempotent: S::IDEMPOTENT };
        let make = move |options: StageOptions, tokens: Option<Tokens>| -> Factory {
            let (factory, ship) = (Arc::clone(&factory), ship.clone());
            Box::new(move |core, rank, names| {
                Box::pin(async move {
                    let instance = factory(core.id()).await?;
                    Ok(erase(StageCore::new(core, rank, names, instance, options, ship, tokens)))
                })
            })
        };
        self.stages.push(Declared {
            name,
            options,
            nature,
            make: Box::new(make),
            tokens: OnceCell::new(),
        });
        StageRef::new(rank)
    }

    /// The policy of a declared stage, to be changed before the start: how a workload file has
    /// its say. `None` if there is no stage of that name.
    pub fn options_mut(&mut self, name: &str) -> Option<&mut StageOptions> {
        self.stages.iter_mut().find(|stage| stage.name == name).map(|stage| &mut stage.options)
    }

    /// The names of the declared stages, in order of rank.
    pub fn stage_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.stages.iter().map(|stage| stage.name)
    }

    /// Adds numbers of the service's own to what each shard publishes ([`ShardSnapshot::service`]),
    /// for pages to show as `PLACE_NAME`: 256 rows at most, of all calls together. A place may have
    /// several tables.
    ///
    /// Each shard calls a copy of `count`, once its stages are made: whenever a snapshot is asked
    /// for, and every 50 ms while the shard is busy. It runs within a turn, so it reads what has been
    /// counted and does no more. If it panics its table is left out of that snapshot.
    ///
    /// ```no_run
    /// # use forebay::{Batch, Builder, Metric, Stage, StageOptions};
    /// # use std::cell::Cell;
    /// # use std::convert::Infallible;
    /// # use std::rc::Rc;
    /// #[derive(Default)]
    /// struct Double { n_odd: Cell<u64> }
    /// # impl Stage for Double {
    /// #     type Item = u64;
    /// #     type Key = u64;
    /// #     type Class = ();
    /// #     type Value = u64;
    /// #     type Error = Infallible;
    /// #     fn key(item: &u64) -> u64 { *item }
    /// #     fn class(_: &u64) {}
    /// #     async fn run(self: Rc<Self>, _: Batch<Self>) -> Result<(), Infallible> { Ok(()) }
    /// # }
    ///
    /// const METRICS: &[Metric<u64>] =
    ///     &[Metric::counter("odd", "Odd numbers that were doubled.", &[(&[], |n_odd| *n_odd)])];
    ///
    /// let mut builder = Builder::new();
    /// let double =
    ///     builder.stage("double", StageOptions::default(), |_| async { Ok(Double::default()) });
    /// builder.metrics("double", METRICS, move || double.instance().n_odd.get());
    /// ```
    ///
    /// # Panics
    ///
    /// If the place is not one word of letters and digits, or is the engine's; if a name is taken, or
    /// a metric is not as [`Metric`] tells; if there are too many rows.
    pub fn metrics<S>(
        &mut self,
        place: &'static str,
        table: &'static [Metric<S>],
        count: impl Fn() -> S + Clone + Send + 'static,
    ) -> &mut Self {
        if let Err(problem) = self.service.declare(place, table, count) {
            panic!("{problem}");
        }
        self
    }

    pub(crate) fn check(&self, n_shards: usize) -> Result<(), StartError> {
        if let Some((limit, problem)) = self.limits.problem() {
            return Err(StartError::Limit { limit, problem });
        }
        for stage in &self.stages {
            let problem = stage.options.problem(stage.nature, n_shards);
            if let Some(problem) = problem {
                return Err(StartError::Stage { stage: stage.name, problem });
            }
        }
        Ok(())
    }

    /// What one shard needs to set itself up.
    pub(crate) fn setup(
        &self,
        done: impl FnOnce(Result<(), StartError>) + Send + 'static,
    ) -> Setup {
        Setup {
            names: self.stage_names().collect(),
            recording: self.recording,
            factories: self.stages.iter().map(Declared::factory).collect(),
            service: self.service.clone(),
            done: Box::new(done),
        }
    }

    pub(crate) fn hash_seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn limits_ref(&self) -> &Limits {
        &self.limits
    }

    /// Checks the host, starts every shard, and returns when all of them serve.
    ///
    /// # Errors
    ///
    /// One [`StartError`]: the host cannot run this, a policy is impossible, a factory failed, or
    /// a shard did not come up in time. Nothing is left running.
    pub fn start(self) -> Result<Engine, StartError> {
        let cpus = match &self.cpus {
            CpuChoice::PerCore => ShardCpus::All,
            CpuChoice::Count(n_shards) => ShardCpus::Count(*n_shards),
            CpuChoice::Listed(cpus) => ShardCpus::Listed(cpus.iter().copied().map(CpuId).collect()),
        };
        let wanted = Wanted { sockets: self.sockets, ..Wanted::new(cpus) };
        let host = judge(&gather(), &wanted)?;
        let n_shards = host.shards.len();
        self.check(n_shards)?;
        let bridges = Bridges::new(host.allowed.clone());

        let clock = Clock::start();
        let outsides: Arc<[&'static Outside]> = (0..n_shards)
            .map(|idx| {
                Outside::leak(ShardId::new(idx), self.limits.inbox_max, Arc::clone(&bridges))
            })
            .collect();
        let board = Arc::new(Board::new(n_shards));
        let snapshots: Vec<Arc<Published<ShardSnapshot>>> =
            (0..n_shards).map(|_| Arc::default()).collect();
        let handle = Handle::new(
            Arc::clone(&outsides),
            snapshots.clone(),
            Arc::clone(&board),
            clock.clone(),
        );
        let mut engine = Engine::new(
            handle,
            Arc::clone(&board),
            bridges,
            self.limits.clone(),
            self.idle,
            host.clone(),
        );

        let failures = Arc::new(Gathering::default());
        let ends = pinned::lanes(n_shards, self.limits.lane_parcels);
        for (idx, ends) in ends.into_iter().enumerate() {
            let shown = Shown {
                board: Arc::clone(&board),
                snapshot: Arc::clone(&snapshots[idx]),
                cpu: Some(host.shards[idx].0),
            };
            let spec = ShardSpec {
                id: ShardId::new(idx),
                cpu: host.shards[idx],
                idle: self.idle,
                preempt: self.preempt,
                wait_cap: self.wait_cap,
                sockets: host.sockets,
                limits: self.limits.clone(),
                hash_seed: self.seed,
                clock: clock.clone(),
                outsides: Arc::clone(&outsides),
                ends,
            };
            let (gathered, failed) = (Arc::clone(&failures), Arc::clone(&failures));
            let setup = self.setup(move |result| gathered.add(result));
            let host_shard =
                move |core, ring| -> Rc<dyn Hosted> { Shard::new(core, ring, shown, setup) };
            match pinned::start(spec, host_shard, move |error| failed.add(Err(error))) {
                Ok(thread) => engine.adopt(thread),
                Err(error) => failures.add(Err(error)),
            }
        }
        self.await_shards(engine, &failures)
    }

    /// The start barrier: the engine, once every shard serves.
    fn await_shards(
        &self,
        mut engine: Engine,
        started: &Gathering<StartError>,
    ) -> Result<Engine, StartError> {
        let n_shards = engine.handle().n_shards();
        match started.wait(n_shards, self.limits.start_timeout) {
            Ok(()) => {
                if !self.quiet {
                    eprintln!("{}", engine.describe());
                }
                Ok(engine)
            }
            Err(Some(error)) => {
                engine.give_up();
                Err(error)
            }
            Err(None) => {
                let after = self.limits.start_timeout;
                let shards = engine.give_up();
                Err(StartError::BarrierTimeout { shards, after })
            }
        }
    }
}
