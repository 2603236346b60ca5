//! Bridges: blocking clients on threads of their own, called from a shard.
//!
//! A blocking call never runs on a shard. A bridge owns a few threads, each with its own client,
//! and a bounded queue of jobs; a shard sends a job and awaits its answer, which comes back
//! through the shard's inbox. The hop is paid once per batch: 70 µs when both sides sleep, 4 µs
//! with 16 batches in flight. Threads are re-pinned: started from a shard they would inherit its
//! one core.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError};

use super::affinity::unpin_current_thread;
use super::core::{self, Core};
use super::guard::{contain, drop_payload};
use super::half::Half;
use super::sleep::sleep;
use crate::error::BridgeError;

type Job<C> = Box<dyn FnOnce(&mut C) + Send>;

/// A blocking client behind threads of its own, for the stages of one shard.
///
/// Its threads end, once they have worked off their jobs, when the last clone is dropped or the
/// engine stops; a thread still busy then is reported by name and left behind.
///
/// In simulation jobs run on the simulation's own thread, each after a time that the seed decides.
pub struct Bridge<C> {
    workers: Workers<C>,
    name: Rc<str>,
}

/// Who works off the jobs.
enum Workers<C> {
    Threads(Sender<Job<C>>),
    Simulated(Rc<Simulated<C>>),
}

impl<C> Clone for Bridge<C> {
    fn clone(&self) -> Self {
        let workers = match &self.workers {
            Workers::Threads(jobs) => Workers::Threads(jobs.clone()),
            Workers::Simulated(simulated) => Workers::Simulated(Rc::clone(simulated)),
        };
        Self { workers, name: Rc::clone(&self.name) }
    }
}

impl<C> fmt::Debug for Bridge<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_waiting = match &self.workers {
            Workers::Threads(jobs) => jobs.len(),
            Workers::Simulated(simulated) => simulated.waiting.borrow().len(),
        };
        write!(f, "Bridge({}, {n_waiting} jobs wait)", self.name)
    }
}

impl<C: 'static> Bridge<C> {
    /// Starts `n_threads` threads, each with a client that `connect` makes on it. At most
    /// `jobs_max` jobs wait.
    ///
    /// A job that panics costs its thread's client: the next one finds a new one. When `connect`
    /// fails the waiting job is answered [`BridgeError::Closed`] and the next one tries again.
    ///
    /// # Errors
    ///
    /// The system's error when a thread cannot be had.
    ///
    /// # Panics
    ///
    /// Outside of a shard: a stage's factory is the place to make one.
    pub fn new<F>(
        name: &str,
        n_threads: usize,
        jobs_max: usize,
        connect: F,
    ) -> std::io::Result<Self>
    where
        F: Fn() -> Option<C> + Send + Sync + Clone + 'static,
    {
        let core = core::current();
        if let Half::Simulated(_) = core.half() {
            let workers = Workers::Simulated(Simulated::new(n_threads, jobs_max, connect));
            return Ok(Self { workers, name: name.into() });
        }
        let (sender, receiver) = crossbeam_channel::bounded(jobs_max);
        let bridges = Arc::clone(core.outside().bridges());
        let (idx, closed) = bridges.enter(name);
        for thread_idx in 0..n_threads {
            let (jobs, closed, connect) = (receiver.clone(), closed.clone(), connect.clone());
            let running = bridges.thread(idx);
            let cpus = bridges.cpus().clone();
            std::thread::Builder::new().name(format!("{name}-{thread_idx}")).spawn(move || {
                // On a host that forbids it the bridge is slower, not wrong.
                let _still_pinned = unpin_current_thread(&cpus);
                serve(&jobs, &closed, &connect);
                drop(running);
            })?;
        }
        Ok(Self { workers: Workers::Threads(sender), name: name.into() })
    }

    /// Runs `job` on one of the bridge's threads and awaits its answer. Dropping the future does
    /// not stop a job that has begun.
    ///
    /// # Errors
    ///
    /// `Full` when `jobs_max` jobs wait, `Panicked` when the job did, `Closed` when no client
    /// could be made or the bridge has ended.
    pub async fn call<T, F>(&self, job: F) -> Result<T, BridgeError>
    where
        T: Send + 'static,
        F: FnOnce(&mut C) -> T + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Job<C> = Box::new(move |client| {
            let answer = catch_unwind(AssertUnwindSafe(|| job(client)));
            let (answer, payload) = match answer {
                Ok(value) => (Ok(value), None),
                Err(payload) => (Err(BridgeError::Panicked), Some(payload)),
            };
            // The caller may have gone; the answer goes with it.
            let _ = sender.send(answer);
            if let Some(payload) = payload {
                std::panic::resume_unwind(payload);
            }
        });
        match &self.workers {
            Workers::Threads(jobs) => jobs.try_send(job).map_err(|refused| match refused {
                TrySendError::Full(_) => BridgeError::Full { depth: jobs.len() },
                TrySendError::Disconnected(_) => BridgeError::Closed,
            })?,
            Workers::Simulated(simulated) => simulated.send(job)?,
        }
        let _owed = core::current().owe();
        receiver.await.unwrap_or(Err(BridgeError::Closed))
    }
}

/// The threads of a bridge in simulation: tasks that take their time and then do the job at once.
struct Simulated<C> {
    connect: Box<dyn Fn() -> Option<C>>,
    waiting: RefCell<VecDeque<Job<C>>>,
    jobs_max: usize,
    /// Clients of the threads that have nothing to do; `None` for one that is to connect first.
    idle: RefCell<Vec<Option<C>>>,
}

impl<C: 'static> Simulated<C> {
    fn new(
        n_threads: usize,
        jobs_max: usize,
        connect: impl Fn() -> Option<C> + 'static,
    ) -> Rc<Self> {
        Rc::new(Self {
            connect: Box::new(connect),
            waiting: RefCell::default(),
            jobs_max,
            idle: RefCell::new((0..n_threads).map(|_| None).collect()),
        })
    }

    fn send(self: &Rc<Self>, job: Job<C>) -> Result<(), BridgeError> {
        let idle = self.idle.borrow_mut().pop();
        let depth = self.waiting.borrow().len();
        if idle.is_none() && depth >= self.jobs_max {
            return Err(BridgeError::Full { depth });
        }
        self.waiting.borrow_mut().push_back(job);
        if let Some(client) = idle {
            let thread = Rc::clone(self).work(core::current(), client);
            core::current().spawn(Location::caller(), thread).detach();
        }
        Ok(())
    }

    async fn work(self: Rc<Self>, core: Rc<Core>, mut client: Option<C>) {
        loop {
            let job = self.waiting.borrow_mut().pop_front();
            let Some(job) = job else { break };
            let Half::Simulated(half) = core.half() else {
                unreachable!("a simulated bridge lives in a simulation")
            };
            sleep(half.job_time()).await;
            serve_one(&mut client, job, &*self.connect);
        }
        self.idle.borrow_mut().push(client);
    }
}

/// Works off jobs until nobody can send any more, or the engine stops and none waits.
fn serve<C>(jobs: &Receiver<Job<C>>, closed: &Receiver<()>, connect: &impl Fn() -> Option<C>) {
    let mut client = None;
    while let Some(job) = next_job(jobs, closed) {
        serve_one(&mut client, job, connect);
    }
}

fn serve_one<C>(client: &mut Option<C>, job: Job<C>, connect: &(impl Fn() -> Option<C> + ?Sized)) {
    if client.is_none() {
        *client = catch_unwind(AssertUnwindSafe(connect)).unwrap_or_else(|payload| {
            drop_payload(payload);
            None
        });
    }
    // Without a client the job is dropped, and with it the sender of its answer: `Closed`.
    let Some(connected) = client else { return };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| job(connected))) {
        drop_payload(payload);
        // What a panic left of the client cannot be trusted.
        let broken = client.take();
        contain(|| drop(broken));
    }
}

fn next_job<C>(jobs: &Receiver<Job<C>>, closed: &Receiver<()>) -> Option<Job<C>> {
    crossbeam_channel::select! {
        recv(jobs) -> job => job.ok(),
        recv(closed) -> _ => jobs.try_recv().ok(),
    }
}
