//! Bringing one shard up: its thread, its executor, its lanes, its end.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use glommio::channels::shared_channel::{
    ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender, new_bounded,
};
use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

use super::driver::{Bell, drive};
use super::signal::Signal;
use super::{IdlePolicy, PinnedHalf};
use crate::error::StartError;
use crate::limits::Limits;
use crate::runtime::ShardId;
use crate::runtime::affinity::{CpuId, current_thread_cpus};
use crate::runtime::clock::Clock;
use crate::runtime::core::Core;
use crate::runtime::guard::contain;
use crate::runtime::half::Half;
use crate::runtime::hosted::Hosted;
use crate::runtime::lane::Parcel;
use crate::runtime::ring::{self, Ring, SocketBack};
use crate::runtime::shared::{Control, Outside};

/// The look makes the preempt timer needless; a short one is what sends glommio to sleep wrongly.
const PREEMPT: Duration = Duration::from_secs(1);

/// How long the last operations of sockets may take to end, when all were taken back.
const SOCKETS_ENDING: Duration = Duration::from_secs(1);

/// How often that is looked at.
const SOCKETS_STEP: Duration = Duration::from_micros(200);

/// Spinning for less than a look's own timer would turn each look into a park.
const SPIN_MIN: Duration = Duration::from_micros(2);

/// One shard's ends of all lanes, not yet connected.
pub(crate) struct LaneEnds {
    out: Vec<Option<SharedSender<Parcel>>>,
    into: Vec<Option<SharedReceiver<Parcel>>>,
}

impl std::fmt::Debug for LaneEnds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LaneEnds({})", self.out.len())
    }
}

/// One lane per ordered pair of shards, built here and moved in: glommio's own mesh builder shares
/// an `Rc` between threads.
pub(crate) fn lanes(n_shards: usize, parcels: usize) -> Vec<LaneEnds> {
    let empty = || (0..n_shards).map(|_| None).collect();
    let mut ends: Vec<LaneEnds> = (0..n_shards)
        .map(|_| LaneEnds { out: empty(), into: (0..n_shards).map(|_| None).collect() })
        .collect();
    for from in 0..n_shards {
        for to in (0..n_shards).filter(|to| *to != from) {
            let (sender, receiver) = new_bounded(parcels);
            ends[from].out[to] = Some(sender);
            ends[to].into[from] = Some(receiver);
        }
    }
    ends
}

/// What a shard's thread is started with.
#[derive(Debug)]
pub(crate) struct ShardSpec {
    pub(crate) id: ShardId,
    pub(crate) cpu: CpuId,
    pub(crate) idle: IdlePolicy,
    pub(crate) preempt: Option<Duration>,
    pub(crate) wait_cap: Option<Duration>,
    pub(crate) sockets: SocketBack,
    pub(crate) limits: Limits,
    pub(crate) hash_seed: u64,
    pub(crate) clock: Clock,
    pub(crate) outsides: Arc<[&'static Outside]>,
    pub(crate) ends: LaneEnds,
}

/// Starts the shard's thread. `host` makes the shard around its core, on that thread; `failed` is
/// told when the thread cannot come up.
pub(crate) fn start(
    spec: ShardSpec,
    host: impl FnOnce(Rc<Core>, Box<dyn Ring>) -> Rc<dyn Hosted> + Send + 'static,
    failed: impl FnOnce(StartError) + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, StartError> {
    let shard = spec.id;
    std::thread::Builder::new()
        .name(format!("forebay-{shard}"))
        .spawn(move || {
            let outsides = Arc::clone(&spec.outsides);
            match executor(&spec) {
                Ok(executor) => executor.run(live(spec, host, failed)),
                Err(error) => failed(error),
            }
            farewell(shard, &outsides);
        })
        .map_err(|source| StartError::Thread { shard, source })
}

fn executor(spec: &ShardSpec) -> Result<LocalExecutor, StartError> {
    let spin = match spec.idle {
        IdlePolicy::Park => SPIN_MIN,
        // Alone, the shard spins itself: nothing but files can come from the executor.
        IdlePolicy::SpinUs(_) if spec.outsides.len() == 1 => SPIN_MIN,
        IdlePolicy::SpinUs(us) => Duration::from_micros(us).max(SPIN_MIN),
    };
    let shard = spec.id;
    let executor = LocalExecutorBuilder::new(Placement::Fixed(spec.cpu.0))
        .name("forebay")
        .io_memory(spec.limits.io_memory_bytes)
        .ring_depth(spec.limits.ring_entries)
        .preempt_timer(spec.preempt.unwrap_or(PREEMPT))
        .spin_before_park(spin)
        // On the shard's own core the pool would steal what the shard needs.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .map_err(|error| StartError::Executor { shard, reason: error.to_string() })?;
    match current_thread_cpus() {
        Ok(cpus) if cpus.len() == 1 && cpus.contains(spec.cpu) => Ok(executor),
        Ok(found) => Err(StartError::NotPinned { shard, cpu: spec.cpu, found }),
        Err(error) => Err(StartError::Executor { shard, reason: error.to_string() }),
    }
}

async fn live(
    spec: ShardSpec,
    host: impl FnOnce(Rc<Core>, Box<dyn Ring>) -> Rc<dyn Hosted>,
    failed: impl FnOnce(StartError),
) {
    let ShardSpec { id, idle, wait_cap, sockets, limits, hash_seed, clock, outsides, ends, .. } =
        spec;
    // The first park in a process registers for membarrier and may take milliseconds: do it now.
    Timer::new(Duration::from_micros(100)).await;
    let connecting = connect(ends);
    let expired = async {
        Timer::new(limits.start_timeout).await;
        None
    };
    let Some((senders, receivers)) = future::or(async { Some(connecting.await) }, expired).await
    else {
        failed(StartError::LanesTimeout { shard: id, after: limits.start_timeout });
        return;
    };
    // On this thread, which alone may enter it.
    let (ring, signal) = match open_ring(sockets, &limits) {
        Ok(opened) => opened,
        Err(source) => {
            failed(StartError::Sockets { shard: id, source });
            return;
        }
    };
    let outside = outsides[id.index()];
    let n_shards = outsides.len();
    let half = Half::Pinned(PinnedHalf { clock, outsides, lanes: senders });
    let shard = host(Core::new(id, n_shards, outside, half, limits, hash_seed), ring);
    let bell = Rc::new(Bell::default());
    let mut receiving = Vec::new();
    for receiver in receivers.into_iter().flatten() {
        let (shard, bell) = (Rc::clone(&shard), Rc::clone(&bell));
        receiving.push(glommio::spawn_local(async move {
            while let Some(parcel) = receiver.recv().await {
                shard.deliver(parcel);
                bell.ring();
            }
        }));
    }
    drive(Rc::clone(&shard), &bell, signal, idle, wait_cap).await;
    shard.bury();
    end_sockets(&*shard).await;
    // A receive task left parked would leak, and its lane would never report its end.
    for task in receiving {
        task.cancel().await;
    }
    // The last of it: instances of stages are the user's, and so is their drop.
    contain(|| drop(shard));
    // What that drop has cancelled (a client's connection, say) holds things of this executor's.
    let mut cancelled = Vec::new();
    outside.inbox().take(usize::MAX, &mut cancelled);
    contain(|| drop(cancelled));
}

fn open_ring(sockets: SocketBack, limits: &Limits) -> io::Result<(Box<dyn Ring>, Signal)> {
    let ring = ring::open(sockets, limits)?;
    let signal = Signal::of(&*ring)?;
    Ok((ring, signal))
}

/// Waits until the shard's sockets have closed: what was written has left by then, what the kernel
/// still does for them ends before their memory does, and their port is free before the stop is
/// reported. What cannot leave in time is cut off.
async fn end_sockets(shard: &dyn Hosted) {
    if !sockets_end(shard).await {
        shard.cut_sockets();
        sockets_end(shard).await;
    }
}

async fn sockets_end(shard: &dyn Hosted) -> bool {
    for _ in 0..SOCKETS_ENDING.as_micros() / SOCKETS_STEP.as_micros() {
        if shard.end_sockets() {
            return true;
        }
        Timer::new(SOCKETS_STEP).await;
    }
    false
}

type Connected = (Vec<Option<ConnectedSender<Parcel>>>, Vec<Option<ConnectedReceiver<Parcel>>>);

/// Connects both ends of all lanes at once: one after the other deadlocks.
async fn connect(ends: LaneEnds) -> Connected {
    let LaneEnds { out, into } = ends;
    let connecting: Vec<_> = out
        .into_iter()
        .map(|end| glommio::spawn_local(async move { Some(end?.connect().await) }))
        .collect();
    let listening: Vec<_> = into
        .into_iter()
        .map(|end| glommio::spawn_local(async move { Some(end?.connect().await) }))
        .collect();
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for task in connecting {
        senders.push(task.await);
    }
    for task in listening {
        receivers.push(task.await);
    }
    (senders, receivers)
}

/// The last act of a shard's thread: nobody waits for it after this.
fn farewell(shard: ShardId, outsides: &[&'static Outside]) {
    let outside = outsides[shard.index()];
    outside.mark_gone();
    // Tasks woken too late are dropped here, on the thread they belong to.
    let left = outside.inbox().close();
    contain(|| drop(left));
    for peer in outsides.iter().filter(|peer| peer.id() != shard) {
        peer.control(Control::PeerGone);
    }
}
