//! One stage on one shard: its state.
//!
//! All parts of a stage stand side by side here, each in a cell of its own, and the files beside this
//! one each add what one of them is about. None calls user code while it holds a borrow.

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;
use std::rc::Rc;

use slotmap::SlotMap;

use super::controls::Controls;
use super::crossing::{Crossing, Ship};
use super::flight::{Flight, FlightKey};
use super::index::{Index, Place};
use super::permits::Permits;
use super::queue::Queue;
use super::slots::{Slot, SlotKey};
use super::{Stage, StageOptions};
use crate::control::door::Door;
use crate::control::rate::Leased;
use crate::metrics::StageMetrics;
use crate::runtime::Time;
use crate::runtime::core::Core;
use crate::runtime::shared::tokens::Tokens;

/// One stage on one shard.
pub(crate) struct StageCore<S: Stage> {
    pub(super) core: Rc<Core>,
    pub(super) name: &'static str,
    pub(super) rank: u16,
    /// Names of all stages, for the error that tells of a cycle.
    pub(super) names: Rc<[&'static str]>,
    pub(super) instance: Rc<S>,
    pub(super) options: StageOptions,
    pub(super) slots: RefCell<SlotMap<SlotKey, Slot<S>>>,
    pub(super) queue: RefCell<Queue<S>>,
    pub(super) index: RefCell<Index>,
    pub(super) flights: RefCell<SlotMap<FlightKey, Rc<Flight<S>>>>,
    pub(super) permits: RefCell<Permits>,
    pub(super) controls: RefCell<Controls>,
    pub(super) door: Door,
    /// Whether calls are asked about before they are let in.
    pub(super) guarded: bool,
    pub(super) crossing: Crossing<S>,
    pub(super) metrics: StageMetrics,
    pub(super) closed: Cell<bool>,
    /// Calls of this turn whose deadlines come before the next sweep but one.
    pub(super) near: RefCell<Vec<SlotKey>>,
    /// When to look next for deadlines that have come near; never while none is far.
    pub(super) sweep_at: Cell<Time>,
    pub(super) hasher: foldhash::fast::FixedState,
}

impl<S: Stage> std::fmt::Debug for StageCore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stage({}, {} queued)", self.name, self.queue.borrow().len())
    }
}

impl<S: Stage> StageCore<S> {
    pub(crate) fn new(
        core: Rc<Core>,
        rank: u16,
        names: Rc<[&'static str]>,
        instance: S,
        options: StageOptions,
        ship: Option<Ship<S>>,
        tokens: Option<Tokens>,
    ) -> Rc<Self> {
        let (n_shards, seed) = (core.n_shards(), core.hash_seed());
        let counts = options.rate.as_ref().map(|rate| rate.counts);
        let downstream = counts.zip(tokens.map(Leased::new));
        let controls = Controls::new(&options, S::DEGRADE_LEVELS, downstream);
        Rc::new(Self {
            core,
            name: names[usize::from(rank)],
            rank,
            names,
            instance: Rc::new(instance),
            permits: RefCell::new(Permits::new(&options.scaling())),
            guarded: controls.guard_the_way_in(),
            door: controls.door(),
            controls: RefCell::new(controls),
            slots: RefCell::new(SlotMap::with_key()),
            queue: RefCell::new(Queue::new(options.weights)),
            options,
            index: RefCell::default(),
            flights: RefCell::new(SlotMap::with_key()),
            crossing: Crossing::new(n_shards, ship),
            metrics: StageMetrics::default(),
            closed: Cell::new(false),
            near: RefCell::default(),
            sweep_at: Cell::new(Time::NEVER),
            hasher: foldhash::fast::FixedState::with_seed(seed),
        })
    }

    /// Asks the controllers, or tells them something by which their terms may change.
    pub(super) fn consult<T>(&self, matter: impl FnOnce(&mut Controls, Time) -> T) -> T {
        let mut controls = self.controls.borrow_mut();
        let answer = matter(&mut controls, self.core.now());
        self.door.agree(controls.terms());
        answer
    }

    /// Takes an item's entry out of the index.
    pub(super) fn forget(&self, hash: Option<u64>, place: Place) {
        if let Some(hash) = hash {
            self.index.borrow_mut().remove(hash, place);
        }
    }

    pub(super) fn hash(&self, key: &S::Key) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn hasher(&self) -> foldhash::fast::FixedState {
        self.hasher.clone()
    }

    /// Items that wait here or to leave from here.
    pub(super) fn depth(&self) -> usize {
        self.queue.borrow().len() + self.crossing.outgoing()
    }
}
