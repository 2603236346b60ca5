//! The simulated half: virtual time, scripted lanes, and a seed that decides what is left open.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::half::{Access, Plant};
use super::lane::Parcel;
#[cfg(test)]
use super::ring::NetChance;
use super::ring::{Network, Ring, SimulatedRing};
use super::shared::Outside;
use super::{ShardId, Time};
use crate::limits::Limits;

/// A parcel on its way.
#[derive(Debug)]
pub(crate) struct InTransit {
    pub(crate) due: Time,
    pub(crate) to: ShardId,
    pub(crate) parcel: Parcel,
}

/// What the seed leaves to chance, and how far it may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance {
    /// Longest time a parcel is on its way.
    pub(crate) lane_delay_ns: u64,
    /// Longest time one poll takes.
    pub(crate) poll_ns: u64,
    /// Longest time one job of a bridge takes.
    pub(crate) job_ns: u64,
    /// Whether tasks of a pass run in another order than they became ready.
    pub(crate) shuffle: bool,
}

/// What all shards of one simulation share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Cell<Time>,
    pub(crate) rng: RefCell<fastrand::Rng>,
    /// Parcels on their way, per ordered pair of shards: a lane keeps its order.
    pub(crate) lanes: RefCell<Vec<VecDeque<InTransit>>>,
    pub(crate) lane_parcels: usize,
    pub(crate) chance: Chance,
    pub(crate) plant: Option<Plant>,
    /// What the shards connect to each other by.
    pub(crate) network: RefCell<Network>,
    /// Files in memory, by their paths.
    pub(crate) files: RefCell<BTreeMap<PathBuf, SimulatedFile>>,
    /// While set, decides where the turn is cut and what its clock says: the replay of a recorded
    /// run.
    pub(crate) script: Cell<Option<Script>>,
}

/// What a recorded turn took from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    pub(crate) polled: usize,
    pub(crate) answered: usize,
    pub(crate) messages: usize,
    pub(crate) passed: Time,
    pub(crate) ran: Time,
}

#[cfg(test)]
impl World {
    /// A world in which nothing takes any time of its own.
    pub(crate) fn for_tests(seed: u64, n_shards: usize, chance: NetChance) -> Self {
        Self {
            clock: Cell::new(Time::from_nanos(1)),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            lanes: RefCell::default(),
            lane_parcels: 0,
            chance: Chance { lane_delay_ns: 0, poll_ns: 0, job_ns: 0, shuffle: false },
            plant: None,
            network: RefCell::new(Network::new(seed, n_shards, chance)),
            files: RefCell::default(),
            script: Cell::new(None),
        }
    }
}

/// One shard's side of the world.
#[derive(Debug)]
pub(crate) struct SimulatedHalf {
    pub(crate) id: ShardId,
    pub(crate) world: Rc<World>,
    pub(crate) outsides: Arc<[&'static Outside]>,
}

impl SimulatedHalf {
    pub(crate) fn now(&self) -> Time {
        self.world.clock.get()
    }

    pub(crate) fn after_pass(&self) -> Time {
        if let Some(script) = self.world.script.get() {
            self.world.clock.set(script.passed);
        }
        self.now()
    }

    pub(crate) fn after_batches(&self) -> Time {
        if let Some(script) = self.world.script.get() {
            self.world.clock.set(script.ran);
        }
        self.now()
    }

    pub(crate) fn after_poll(&self) -> Time {
        let now = self.now();
        if self.world.script.get().is_some() {
            return now;
        }
        let spent = self.world.rng.borrow_mut().u64(0..=self.world.chance.poll_ns);
        let now = Time::from_nanos(now.as_nanos() + spent);
        self.world.clock.set(now);
        now
    }

    /// How long the next job of a bridge takes.
    pub(crate) fn job_time(&self) -> Duration {
        Duration::from_nanos(self.world.rng.borrow_mut().u64(0..=self.world.chance.job_ns))
    }

    pub(crate) fn cuts_pass(&self, polled: usize, over_slice: bool) -> bool {
        match self.world.script.get() {
            Some(script) => polled >= script.polled,
            None => over_slice,
        }
    }

    pub(crate) fn cuts_last_step(&self, answered: usize, over_slice: bool) -> bool {
        match self.world.script.get() {
            Some(script) => answered >= script.answered,
            None => over_slice,
        }
    }

    pub(crate) fn pick(&self, n_ready: usize) -> usize {
        let shuffle = self.world.chance.shuffle && self.world.script.get().is_none();
        if shuffle && n_ready > 1 { self.world.rng.borrow_mut().usize(0..n_ready) } else { 0 }
    }

    pub(crate) fn intake(&self, max: usize) -> usize {
        self.world.script.get().map_or(max, |script| script.messages)
    }

    pub(crate) fn send(&self, to: ShardId, parcel: Parcel) -> Result<(), Parcel> {
        let n_shards = self.outsides.len();
        let mut lanes = self.world.lanes.borrow_mut();
        let lane = &mut lanes[self.id.index() * n_shards + to.index()];
        if lane.len() >= self.world.lane_parcels {
            return Err(parcel);
        }
        let delay = self.world.rng.borrow_mut().u64(0..=self.world.chance.lane_delay_ns);
        let after = lane.back().map_or(Time::ZERO, |last| last.due);
        let due = Time::from_nanos(self.now().as_nanos() + delay).max(after);
        lane.push_back(InTransit { due, to, parcel });
        Ok(())
    }

    /// The ring of this shard's sockets; made once.
    pub(crate) fn ring(&self, limits: &Limits) -> Box<dyn Ring> {
        Box::new(SimulatedRing::new(&self.world, self.id, limits))
    }

    pub(crate) fn open(&self, path: &Path, access: Access) -> io::Result<SimulatedFile> {
        let mut files = self.world.files.borrow_mut();
        match access {
            Access::Write => Ok(files.entry(path.to_owned()).or_default().clone()),
            Access::Read => files.get(path).cloned().ok_or(io::ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn is_alive(&self, peer: ShardId) -> bool {
        self.outsides[peer.index()].is_alive()
    }

    pub(crate) fn planted(&self, plant: Plant) -> bool {
        self.world.plant == Some(plant)
    }
}

/// A file in memory; clones are the same file. It splits every read and write in two, as real ones
/// may.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimulatedFile(Rc<RefCell<Vec<u8>>>);

impl SimulatedFile {
    pub(crate) fn read_at(&self, offset: u64, n_bytes: usize) -> Vec<u8> {
        let bytes = self.0.borrow();
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = begin.saturating_add(n_bytes.div_ceil(2)).min(bytes.len());
        bytes[begin..end].to_vec()
    }

    pub(crate) fn write_at(&self, written: &[u8], offset: u64) -> usize {
        let written = &written[..written.len().div_ceil(2)];
        let mut bytes = self.0.borrow_mut();
        let begin = usize::try_from(offset).expect("a file in memory fits it");
        let end = begin + written.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[begin..end].copy_from_slice(written);
        written.len()
    }
}
