//! A shard put together: its requests, its stages, its lanes, and the turn over all of them.

mod intake;
mod turn;
mod stop;
mod setup;
mod stopwatch;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

pub(crate) use setup::{Factory, Setup, erase};

use crate::mesh::{LaneLedger, Mesh};
use crate::metrics::{ServiceMetrics, ShardMetrics, ShardSnapshot};
use crate::net::Net;
use crate::runtime::core::Core;
use crate::runtime::core::Due;
use crate::runtime::guard::Contained;
use crate::runtime::hosted::{Hosted, Next, Seen, TurnRecord};
use crate::runtime::lane::Parcel;
use crate::runtime::ring::Ring;
use crate::runtime::shared::Message;
use crate::runtime::shared::board::{Board, Phase};
use crate::runtime::shared::published::Published;
use crate::runtime::{ShardId, Time};
use crate::stage::{self, AnyStage};
use crate::task::Tasks;

/// What a shard shares with whoever runs the engine.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) board: Arc<Board>,
    pub(crate) snapshot: Arc<Published<ShardSnapshot>>,
    pub(crate) cpu: Option<usize>,
}

/// One shard.
#[derive(Debug)]
pub(crate) struct Shard {
    core: Rc<Core>,
    tasks: Rc<Tasks>,
    /// In the order of their ranks; empty until all factories have succeeded.
    stages: RefCell<Rc<[Rc<dyn AnyStage>]>>,
    mesh: Mesh,
    net: Rc<Net>,
    metrics: ShardMetrics,
    /// What the service tells of itself; it may ask its stages, so not before they are there.
    service: OnceCell<Contained<ServiceMetrics>>,
    shown: Shown,
    phase: Cell<Phase>,
    /// The pass that runs: tasks of it that have not run yet.
    pass_left: Cell<usize>,
    completed_pass: Cell<u64>,
    publish_at: Cell<Time>,
    log: RefCell<Option<Vec<TurnRecord>>>,
    /// Reused from turn to turn, so that a turn allocates nothing.
    messages: RefCell<Vec<Message>>,
    fired: RefCell<Vec<Due>>,
}

impl Shard {
    /// Makes a shard and starts its setup; it serves once the factories have succeeded.
    pub(crate) fn new(core: Rc<Core>, ring: Box<dyn Ring>, shown: Shown, setup: Setup) -> Rc<Self> {
        let shard = Rc::new(Self {
            tasks: Tasks::new(Rc::clone(&core)),
            stages: RefCell::new(Rc::new([])),
            mesh: Mesh::new(Rc::clone(&core)),
            net: Net::new(Rc::clone(&core), ring),
            metrics: ShardMetrics::default(),
            service: OnceCell::new(),
            shown,
            phase: Cell::new(Phase::Starting),
            pass_left: Cell::new(0),
            completed_pass: Cell::new(0),
            publish_at: Cell::new(Time::ZERO),
            log: RefCell::new(None),
            messages: RefCell::default(),
            fired: RefCell::default(),
            core,
        });
        setup::begin(&shard, setup);
        shard
    }

    pub(crate) fn id(&self) -> ShardId {
        self.core.id()
    }

    pub(crate) fn tasks(&self) -> &Rc<Tasks> {
        &self.tasks
    }

    pub(crate) fn stages(&self) -> Rc<[Rc<dyn AnyStage>]> {
        Rc::clone(&self.stages.borrow())
    }

    pub(crate) fn lane_ledgers(&self) -> Vec<LaneLedger> {
        self.mesh.ledgers()
    }

    /// Starts to keep a log of turns.
    pub(crate) fn keep_log(&self) {
        self.log.borrow_mut().get_or_insert_default();
    }

    /// Hands out the log kept so far.
    pub(crate) fn take_log(&self) -> Vec<TurnRecord> {
        self.log.borrow_mut().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Everything a shard has counted, as of now.
    pub(crate) fn snapshot(&self) -> ShardSnapshot {
        let mut snapshot = self.metrics.snapshot(self.id(), self.shown.cpu, self.core.now());
        let counters = &self.tasks.counters;
        snapshot.live_requests = self.tasks.live();
        snapshot.requests_started = counters.started.get();
        snapshot.requests_ended = counters.ended();
        snapshot.requests_closed = counters.closed.get();
        snapshot.net = self.net.snapshot();
        for stage in self.stages.borrow().iter() {
            let (permits, depth) = (stage.permits(), stage.depth());
            let mut counted = stage.metrics().snapshot(stage.name(), permits, depth);
            (counted.oldest_wait, counted.controls) = (stage.oldest_wait(), stage.readings());
            snapshot.stages.push(counted);
            snapshot.ledgers.push(stage.ledger());
        }
        if let Some(service) = self.service.get() {
            // Entered anew: the turn in which the stages were made began without them.
            snapshot.service = self.enter(|| service.get().read());
        }
        snapshot
    }

    /// Makes this the current shard of the thread for as long as `code` runs.
    pub(crate) fn enter<R>(&self, code: impl FnOnce() -> R) -> R {
        let _core = self.core.enter();
        let tasks = Tasks::swap_current(Some(Rc::clone(&self.tasks)));
        let stages = stage::swap_current(self.stages());
        let net = Net::swap_current(Some(Rc::clone(&self.net)));
        let result = code();
        Tasks::swap_current(tasks);
        stage::swap_current(stages);
        Net::swap_current(net);
        result
    }
}

impl Hosted for Shard {
    fn core(&self) -> &Rc<Core> {
        &self.core
    }

    fn turn(&self) -> Next {
        self.enter(|| self.run_turn())
    }

    fn deliver(&self, parcel: Parcel) {
        self.mesh.deliver(parcel);
    }

    fn has_incoming(&self) -> bool {
        self.mesh.has_incoming()
    }

    fn bury(&self) {
        Shard::bury(self);
    }

    fn arm_ring(&self) -> bool {
        self.net.arm()
    }

    fn disarm_ring(&self) {
        self.net.disarm();
    }

    fn is_ring_ready(&self) -> bool {
        self.net.is_ready()
    }

    fn open_sockets(&self) -> usize {
        self.net.open()
    }

    fn cut_sockets(&self) {
        self.enter(|| self.net.close_all());
    }

    fn end_sockets(&self) -> bool {
        self.enter(|| {
            self.net.reap();
            self.net.submit();
            self.net.is_empty()
        })
    }

    fn note(&self, seen: Seen) {
        match seen {
            Seen::Look => self.metrics.looks.add(1),
            Seen::Park => self.metrics.parks.add(1),
            Seen::CappedWait => self.metrics.waits_capped.add(1),
        }
    }
}
