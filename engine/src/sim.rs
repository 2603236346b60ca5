//! Several shards on one thread in virtual time: how this engine's bugs are found.
//!
//! The shards are the real ones: turn, ready queue, wheel, inbox, stages and mesh are the same
//! code. Only the clock, the lanes' transport, the wait and the order of what is left open come
//! from here, all drawn from one seed. The same seed gives the same run, to the last turn.
//!
//! ```text
//!   step: deliver due parcels ─▶ wake due sleepers ─▶ one shard, drawn: a turn, or going to sleep
//!                                └ whose time, waker or network has come
//!         └ none awake: time moves on to the next thing that is due; nothing due: all is at rest
//! ```
//!
//! Going to sleep is a step of its own after the turn that found nothing to do, so that whatever
//! may happen in between on real threads happens here too.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::engine::{Builder, Handle};
use crate::error::StartError;
use crate::mesh::LaneLedger;
use crate::metrics::ShardSnapshot;
use crate::runtime::clock::Clock;
use crate::runtime::core::Core;
use crate::runtime::half::Half;
pub use crate::runtime::half::Plant;
use crate::runtime::hosted::{Hosted, Next};
use crate::runtime::ring::{NetChance, Network};
use crate::runtime::shared::board::{Board, Phase};
use crate::runtime::shared::bridges::Bridges;
use crate::runtime::shared::flag::Flag;
use crate::runtime::shared::inbox::Watch;
use crate::runtime::shared::{Control, Gathering, Outside};
use crate::runtime::simulated::{Chance, Script, SimulatedHalf, World};
use crate::runtime::{ShardId, Time, TurnRecord, affinity::CpuList, nanos};
use crate::shard::{Shard, Shown};

/// What a simulation is made of.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SimOptions {
    /// Decides everything that is left open.
    pub seed: u64,
    /// Shards.
    pub n_shards: usize,
    /// Longest time a parcel is on its way. Default 200 µs.
    pub lane_delay: Duration,
    /// Longest time one poll takes. Default 20 µs: some passes are cut.
    pub poll: Duration,
    /// Longest time a bridge's thread takes for one job. Default 500 µs.
    pub job: Duration,
    /// Whether the tasks of a pass run in any order. Default yes.
    pub shuffle: bool,
    /// Longest time that bytes, ends and handshakes are on their way. Default 200 µs.
    pub net_delay: Duration,
    /// Bytes one direction of a connection takes before its reader has read. Default 64 KiB.
    pub net_window_bytes: usize,
    /// Of a thousand pieces sent, so many break their connection off: both sides are told, what is
    /// on its way is lost. Default none.
    pub reset_per_mille: u32,
    /// Of a thousand pieces sent and of a thousand connects, so many are the last that their
    /// connection hears: nothing arrives any more, and nobody is told. Default none.
    pub silence_per_mille: u32,
    /// Sockets that a shard may have open. Default 65,536.
    pub sockets_max: usize,
    /// A fault to plant. Default none.
    pub plant: Option<Plant>,
}

impl SimOptions {
    /// The defaults, for so many shards and this seed.
    #[must_use]
    pub fn new(seed: u64, n_shards: usize) -> Self {
        Self {
            seed,
            n_shards,
            lane_delay: Duration::from_micros(200),
            poll: Duration::from_micros(20),
            job: Duration::from_micros(500),
            shuffle: true,
            net_delay: Duration::from_micros(200),
            net_window_bytes: 64 << 10,
            reset_per_mille: 0,
            silence_per_mille: 0,
            sockets_max: 65_536,
            plant: None,
        }
    }

    fn net_chance(&self) -> NetChance {
        NetChance {
            delay_ns: nanos(self.net_delay),
            window_bytes: self.net_window_bytes,
            reset_per_mille: self.reset_per_mille,
            silence_per_mille: self.silence_per_mille,
            sockets_max: self.sockets_max,
        }
    }
}

/// How long the sockets of a shard that has ended may take to close, and how often that is looked
/// at: as the pinned half does.
const SOCKETS_ENDING: Duration = Duration::from_secs(1);
const SOCKETS_STEP: Duration = Duration::from_micros(200);

/// How the sockets of a shard that has ended close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// When what was written has left.
    Gently,
    Cut,
}

/// What a simulated shard is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A turn is due.
    Awake,
    /// Its turn found nothing to do; it has not yet looked whether it may sleep.
    Dozing {
        until: Time,
    },
    Asleep {
        until: Time,
    },
    /// It has ended, but for sockets that it is closing: looked at next, given up.
    Closing {
        next: Time,
        until: Time,
        ending: Ending,
    },
    Gone,
}

#[derive(Debug)]
struct SimShard {
    shard: Rc<Shard>,
    state: State,
    /// It does not run before this time: a stalled host, a poll that takes for ever.
    frozen_until: Time,
    woken: Arc<Flag>,
}

impl SimShard {
    fn has_ended(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Gone)
    }

    fn awaken(&mut self) {
        if let State::Asleep { .. } = self.state {
            self.shard.disarm_ring();
        }
        self.state = State::Awake;
    }

    /// Goes on closing the sockets of a shard that has ended, for as long as on a real ring.
    fn end_sockets(&mut self, now: Time, until: Time, ending: Ending) {
        let next = now.after(SOCKETS_STEP);
        self.state = if self.shard.end_sockets() {
            State::Gone
        } else if next <= until {
            State::Closing { next, until, ending }
        } else if ending == Ending::Gently {
            self.shard.cut_sockets();
            State::Closing { next, until: now.after(SOCKETS_ENDING), ending: Ending::Cut }
        } else {
            State::Gone
        };
    }
}

/// Several shards in virtual time.
#[derive(Debug)]
pub struct Simulation {
    world: Rc<World>,
    shards: Vec<SimShard>,
    outsides: Arc<[&'static Outside]>,
    handle: Handle,
    board: Arc<Board>,
    turns: Vec<TurnRecord>,
    keep_turns: bool,
    digest: u64,
}

impl Builder {
    /// Starts the declared stages on simulated shards instead of pinned ones. Which CPUs and which
    /// idle policy were chosen does not matter then.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`], less what concerns the host.
    ///
    /// # Panics
    ///
    /// If the shards do not come up within a million steps: a factory waits for the real world.
    pub fn simulate(mut self, options: SimOptions) -> Result<Simulation, StartError> {
        self.seed(options.seed);
        self.record_turns(true);
        let mut sim = Simulation::new(&self, options)?;
        let started = Arc::new(Gathering::default());
        sim.bring_up(&self, &started);
        for _ in 0..1_000_000 {
            match started.wait(options.n_shards, Duration::ZERO) {
                Ok(()) => return Ok(sim),
                Err(Some(error)) => return Err(error),
                Err(None) => {
                    sim.step();
                }
            }
        }
        panic!("seed {}: the shards did not come up", options.seed)
    }
}

impl Simulation {
    fn new(builder: &Builder, options: SimOptions) -> Result<Self, StartError> {
        let n_shards = options.n_shards;
        builder.check(n_shards)?;
        let world = Rc::new(World {
            clock: Cell::new(Time::from_nanos(1)),
            rng: RefCell::new(fastrand::Rng::with_seed(options.seed)),
            lanes: RefCell::new((0..n_shards * n_shards).map(|_| VecDeque::new()).collect()),
            lane_parcels: builder.limits_ref().lane_parcels,
            chance: Chance {
                lane_delay_ns: nanos(options.lane_delay),
                poll_ns: nanos(options.poll),
                job_ns: nanos(options.job),
                shuffle: options.shuffle,
            },
            plant: options.plant,
            network: RefCell::new(Network::new(options.seed, n_shards, options.net_chance())),
            files: RefCell::default(),
            script: Cell::new(None),
        });
        let bridges = Bridges::new(CpuList::default());
        let inbox_max = builder.limits_ref().inbox_max;
        let outsides: Arc<[&'static Outside]> = (0..n_shards)
            .map(|idx| Outside::leak(ShardId::new(idx), inbox_max, Arc::clone(&bridges)))
            .collect();
        let snapshots = (0..n_shards).map(|_| Arc::default()).collect();
        let board = Arc::new(Board::new(n_shards));
        Ok(Self {
            handle: Handle::new(
                Arc::clone(&outsides),
                snapshots,
                Arc::clone(&board),
                Clock::start(),
            ),
            board,
            shards: Vec::new(),
            turns: Vec::new(),
            keep_turns: false,
            digest: 0,
            world,
            outsides,
        })
    }

    fn bring_up(&mut self, builder: &Builder, started: &Arc<Gathering<StartError>>) {
        for (idx, outside) in self.outsides.iter().enumerate() {
            let id = ShardId::new(idx);
            let half = SimulatedHalf {
                id,
                world: Rc::clone(&self.world),
                outsides: Arc::clone(&self.outsides),
            };
            let ring = half.ring(builder.limits_ref());
            let core = Core::new(
                id,
                self.outsides.len(),
                outside,
                Half::Simulated(half),
                builder.limits_ref().clone(),
                builder.hash_seed(),
            );
            let shown =
                Shown { board: Arc::clone(&self.board), snapshot: Arc::default(), cpu: None };
            let started = Arc::clone(started);
            let setup = builder.setup(move |result| started.add(result));
            self.shards.push(SimShard {
                shard: Shard::new(core, ring, shown, setup),
                state: State::Awake,
                frozen_until: Time::ZERO,
                woken: Arc::default(),
            });
        }
    }

    /// The handle through which ordinary threads would speak to the shards. What waits for an
    /// answer (`wait`, `snapshot`, `requests`) would wait for ever here: use what this type has.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.world.clock.get()
    }

    /// Draws from the simulation's own seed, for what a test leaves open.
    #[must_use]
    pub fn draw(&self, below: u64) -> u64 {
        self.world.rng.borrow_mut().u64(0..below)
    }

    /// Does one thing; `false` when all shards are at rest and nothing is due.
    pub fn step(&mut self) -> bool {
        self.deliver();
        self.wake();
        let now = self.now();
        let runnable: Vec<usize> = (0..self.shards.len())
            .filter(|idx| self.shards[*idx].frozen_until <= now)
            .filter(|idx| matches!(self.shards[*idx].state, State::Awake | State::Dozing { .. }))
            .collect();
        if runnable.is_empty() {
            return self.let_time_pass();
        }
        let idx = runnable[self.world.rng.borrow_mut().usize(0..runnable.len())];
        match self.shards[idx].state {
            State::Dozing { until } => self.fall_asleep(idx, until),
            _ => self.turn(idx),
        }
        true
    }

    /// Steps until `done` or `steps_max`; tells whether it was done.
    pub fn run_until(&mut self, steps_max: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        for _ in 0..steps_max {
            if done(self) {
                return true;
            }
            if !self.step() {
                return done(self);
            }
        }
        done(self)
    }

    fn turn(&mut self, idx: usize) {
        let next = self.shards[idx].shard.turn();
        // A turn takes some time, or a shard that has always more to do would stop the clock.
        let now = Time::from_nanos(self.now().as_nanos() + 1_000);
        self.world.clock.set(now);
        for turn in self.shards[idx].shard.take_log() {
            self.book(turn);
        }
        self.shards[idx].state = match next {
            Next::Again => State::Awake,
            Next::Wait { until, .. } => State::Dozing { until },
            Next::Ended => State::Gone,
        };
        if next == Next::Ended {
            self.bury(idx);
            self.shards[idx].end_sockets(now, now.after(SOCKETS_ENDING), Ending::Gently);
        }
    }

    fn book(&mut self, turn: TurnRecord) {
        self.digest = foldhash::fast::FixedState::with_seed(self.digest).hash_one(&turn);
        if self.keep_turns {
            self.turns.push(turn);
        }
    }

    fn fall_asleep(&mut self, idx: usize, until: Time) {
        let sim = &mut self.shards[idx];
        let inbox = sim.shard.core().outside().inbox();
        let waker = Waker::from(Arc::clone(&sim.woken));
        let watch = if self.world.plant == Some(Plant::DroppedRecheck) {
            inbox.watch_without_recheck(&waker)
        } else {
            inbox.watch(&waker)
        };
        // The ring is asked last, and to signal what comes from then on.
        let stay = watch == Watch::Work || sim.shard.has_incoming() || sim.shard.arm_ring();
        sim.state = State::Asleep { until };
        if stay {
            sim.awaken();
        }
    }

    fn deliver(&mut self) {
        let now = self.now();
        let n_lanes = self.world.lanes.borrow().len();
        for lane in 0..n_lanes {
            while let Some(arrived) = {
                let mut lanes = self.world.lanes.borrow_mut();
                let due = lanes[lane].front().is_some_and(|transit| transit.due <= now);
                due.then(|| lanes[lane].pop_front()).flatten()
            } {
                let sim = &mut self.shards[arrived.to.index()];
                if sim.has_ended() {
                    continue;
                }
                sim.shard.deliver(arrived.parcel);
                sim.awaken();
            }
        }
    }

    fn wake(&mut self) {
        let now = self.now();
        for sim in &mut self.shards {
            let (id, network) = (sim.shard.core().id(), &self.world.network);
            match sim.state {
                State::Asleep { until } => {
                    let signal = network.borrow().signal_due(id).unwrap_or(Time::NEVER);
                    if until.min(signal) <= now || sim.woken.take() {
                        sim.awaken();
                    }
                }
                State::Closing { next, until, ending } if next <= now => {
                    sim.end_sockets(now, until, ending);
                }
                _ => {}
            }
        }
    }

    /// Moves time on to the next thing that is due.
    fn let_time_pass(&mut self) -> bool {
        let lanes = self.world.lanes.borrow();
        let parcels = lanes.iter().filter_map(|lane| Some(lane.front()?.due));
        let network = self.world.network.borrow();
        let sleepers = self.shards.iter().filter_map(|sim| match sim.state {
            State::Asleep { until } => {
                let signal = network.signal_due(sim.shard.core().id()).unwrap_or(Time::NEVER);
                Some(until.min(signal).max(sim.frozen_until))
            }
            State::Closing { next, .. } => Some(next),
            State::Awake | State::Dozing { .. } => Some(sim.frozen_until),
            State::Gone => None,
        });
        let next = parcels.chain(sleepers).filter(|due| *due < Time::NEVER).min();
        drop((lanes, network));
        match next {
            Some(due) => {
                self.world.clock.set(self.now().max(due));
                true
            }
            None => false,
        }
    }

    /// The shard runs nothing for this long: a stalled host, a poll that does not end.
    pub fn freeze(&mut self, shard: usize, time: Duration) {
        self.shards[shard].frozen_until = self.now().after(time);
    }

    /// Every frozen shard runs again.
    pub fn thaw(&mut self) {
        for sim in &mut self.shards {
            sim.frozen_until = Time::ZERO;
        }
    }

    /// The shard ends at once, in the middle of whatever it did between turns; its sockets are
    /// closed, as when a process ends.
    pub fn kill(&mut self, shard: usize) {
        self.shards[shard].state = State::Gone;
        self.world.network.borrow_mut().end_shard(ShardId::new(shard), self.now());
        self.bury(shard);
    }

    /// Breaks off every connection that there is now: what is on its way is lost, and both sides
    /// are told by errors.
    pub fn reset_connections(&mut self) {
        self.world.network.borrow_mut().reset_connections(self.now());
    }

    /// Every connection that there is now falls silent: nothing arrives on it any more, and neither
    /// side is ever told. Connections made later are not touched.
    pub fn silence_connections(&mut self) {
        self.world.network.borrow_mut().silence_connections(self.now());
    }

    /// Sockets that a shard has open; at its end it must have closed all.
    #[must_use]
    pub fn open_sockets(&self, shard: usize) -> usize {
        self.world.network.borrow().n_open(ShardId::new(shard))
    }

    fn bury(&mut self, shard: usize) {
        self.shards[shard].shard.bury();
        let outside = self.outsides[shard];
        outside.mark_gone();
        drop(outside.inbox().close());
        for peer in self.outsides.iter().filter(|peer| peer.id().index() != shard) {
            peer.control(Control::PeerGone);
        }
    }

    /// Whether the shard has ended.
    #[must_use]
    pub fn is_gone(&self, shard: usize) -> bool {
        self.shards[shard].has_ended()
    }

    /// Commands a phase of stopping to all shards.
    pub fn enter_phase(&self, phase: Phase) {
        self.handle.control_all(|| Control::Enter(phase));
    }

    /// The phase a shard has come to.
    #[must_use]
    pub fn phase(&self, shard: usize) -> Phase {
        self.board.line(shard)
    }

    /// What a shard has counted.
    #[must_use]
    pub fn snapshot(&self, shard: usize) -> ShardSnapshot {
        self.shards[shard].shard.snapshot()
    }

    /// The books of a shard's lanes.
    #[must_use]
    pub fn lanes(&self, shard: usize) -> Vec<LaneLedger> {
        self.shards[shard].shard.lane_ledgers()
    }

    /// A number that stands for every turn and every completion of a socket's operation so far:
    /// equal for equal seeds.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let completions = self.world.network.borrow().digest();
        foldhash::fast::FixedState::with_seed(self.digest).hash_one(completions)
    }

    /// The first thing that must always hold and does not, at this moment.
    #[must_use]
    pub fn violation(&self) -> Option<String> {
        for (idx, sim) in self.shards.iter().enumerate() {
            if sim.has_ended() {
                continue;
            }
            for ledger in sim.shard.stages().iter().map(|stage| stage.ledger()) {
                if let Some(imbalance) = ledger.imbalance() {
                    return Some(format!("shard {idx}: {imbalance}"));
                }
            }
            let inbox = sim.shard.core().outside().inbox();
            let asleep = matches!(sim.state, State::Asleep { .. });
            if asleep && inbox.is_pending() && !sim.woken.is_set() {
                return Some(format!("shard {idx}: asleep with a full inbox, nobody wakes it"));
            }
            let (id, now, network) = (sim.shard.core().id(), self.now(), &self.world.network);
            let is_signalled = network.borrow().signal_due(id).is_some_and(|due| due <= now);
            if asleep && !is_signalled && network.borrow().has_due(id, now) {
                return Some(format!("shard {idx}: asleep with completions, nothing signals them"));
            }
        }
        self.lane_violation()
    }

    fn lane_violation(&self) -> Option<String> {
        let n_shards = self.shards.len();
        let lanes = self.world.lanes.borrow();
        for (from, sim) in self.shards.iter().enumerate() {
            for ledger in sim.shard.lane_ledgers() {
                let to = ledger.peer.index();
                if self.is_gone(from) || self.is_gone(to) {
                    continue;
                }
                let far = self.shards[to].shard.lane_ledgers();
                let far = far.iter().find(|far| far.peer.index() == from)?;
                let there = far.received + (far.waiting + lanes[from * n_shards + to].len()) as u64;
                if ledger.sent != there {
                    return Some(format!(
                        "lane {from} to {to}: sent {}, {there} found",
                        ledger.sent
                    ));
                }
            }
        }
        None
    }

    /// What still lives although all should have settled; `None` when nothing does. An open socket
    /// counts once its shard has ended.
    #[must_use]
    pub fn unsettled(&self) -> Option<String> {
        let ended = (0..self.shards.len()).filter(|idx| self.is_gone(*idx));
        if let Some(idx) = ended.into_iter().find(|idx| self.open_sockets(*idx) > 0) {
            return Some(format!("shard {idx}: ended with {} sockets", self.open_sockets(idx)));
        }
        for (idx, sim) in self.shards.iter().enumerate().filter(|(idx, _)| !self.is_gone(*idx)) {
            let live = sim.shard.tasks().live();
            if live > 0 {
                return Some(format!(
                    "shard {idx}: {live} requests live: {:?}",
                    sim.shard.tasks().list()
                ));
            }
            for stage in sim.shard.stages().iter() {
                let ledger = stage.ledger();
                if ledger.live + ledger.guests + ledger.queued + ledger.flights + ledger.indexed > 0
                {
                    return Some(format!("shard {idx}: {ledger:?}"));
                }
            }
            for lane in sim.shard.lane_ledgers() {
                if lane.outstanding > 0 && !self.is_gone(lane.peer.index()) {
                    return Some(format!("shard {idx}: {lane:?}"));
                }
            }
        }
        None
    }

    /// Runs recorded turns again: the same stages, the same submissions (made by `submit`), the
    /// clock readings, cuts and arrivals of the record. Every decision must be the same.
    ///
    /// # Errors
    ///
    /// The first turn that came out differently, as recorded and as replayed.
    ///
    /// # Panics
    ///
    /// If `builder` does not start, or a record names a shard there is not.
    pub fn replay(
        mut builder: Builder,
        n_shards: usize,
        seed: u64,
        submit: impl FnOnce(&Handle),
        turns: &[TurnRecord],
    ) -> Result<usize, String> {
        builder.seed(seed);
        builder.record_turns(true);
        let options = SimOptions {
            lane_delay: Duration::ZERO,
            poll: Duration::ZERO,
            shuffle: false,
            ..SimOptions::new(seed, n_shards)
        };
        let mut sim = Self::new(&builder, options).expect("it started on real shards");
        sim.bring_up(&builder, &Arc::default());
        submit(&sim.handle);
        for (idx, turn) in turns.iter().enumerate() {
            let again = sim.replay_turn(turn)?;
            if again != *turn {
                return Err(format!("turn {idx}: recorded {turn:?}, replayed {again:?}"));
            }
        }
        Ok(turns.len())
    }

    fn replay_turn(&mut self, turn: &TurnRecord) -> Result<TurnRecord, String> {
        let TurnRecord { shard, began, passed, messages, polled, ran, answered, .. } = *turn;
        self.world.clock.set(began);
        self.world.script.set(Some(Script { polled, answered, messages, passed, ran }));
        for from in &turn.parcels {
            let lane = from.index() * self.shards.len() + shard.index();
            let arrived = self.world.lanes.borrow_mut()[lane].pop_front();
            let arrived = arrived.ok_or_else(|| format!("no parcel from {from} for {turn:?}"))?;
            self.shards[shard.index()].shard.deliver(arrived.parcel);
        }
        self.shards[shard.index()].shard.turn();
        let mut log = self.shards[shard.index()].shard.take_log();
        log.pop().ok_or_else(|| format!("no turn was logged for {turn:?}"))
    }
}
