//! A running engine, and its end in phases.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::handle::Handle;
use crate::limits::Limits;
use crate::runtime::ShardId;
use crate::runtime::pinned::IdlePolicy;
use crate::runtime::preflight::Report;
use crate::runtime::ring::SocketBack;
use crate::runtime::shared::Control;
use crate::runtime::shared::board::{Board, Phase};
use crate::runtime::shared::bridges::Bridges;
use crate::runtime::signal::{Signal, Signals};

/// Time for what must not take long: settling what was cancelled, the last word on each lane.
const PROMPT: Duration = Duration::from_secs(1);

/// A running engine. Dropping it stops it at once; [`Engine::stop`] drains it first.
#[derive(Debug)]
pub struct Engine {
    handle: Handle,
    board: Arc<Board>,
    bridges: Arc<Bridges>,
    limits: Limits,
    idle: IdlePolicy,
    host: Report,
    threads: Vec<JoinHandle<()>>,
}

/// How an engine ended, and what was cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopReport {
    /// Whether everything live had ended before the deadline.
    pub drained: bool,
    /// Requests that were cut off with `Closed`.
    pub requests_cut: u64,
    /// Batches that were dropped unfinished, for whatever reason, since the start.
    pub batches_abandoned: u64,
    /// Shards that did not get through every phase in time, with the last phase they reached.
    pub stuck_shards: Vec<(ShardId, Phase)>,
    /// Bridges some of whose threads were still busy when waiting ended, by name.
    pub stuck_bridges: Vec<String>,
}

impl Engine {
    pub(super) fn new(
        handle: Handle,
        board: Arc<Board>,
        bridges: Arc<Bridges>,
        limits: Limits,
        idle: IdlePolicy,
        host: Report,
    ) -> Self {
        Self { handle, board, bridges, limits, idle, host, threads: Vec::new() }
    }

    pub(super) fn adopt(&mut self, thread: JoinHandle<()>) {
        self.threads.push(thread);
    }

    /// The handle for other threads.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What its sockets stand on.
    #[must_use]
    pub fn sockets(&self) -> SocketBack {
        self.host.sockets
    }

    /// What the engine runs on and with, for a log: CPUs, kernel, idle policy, limits.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{}\nidle: {}\n{}", self.host, self.idle, self.limits.describe())
    }

    /// Stops in phases, each a barrier over all shards: refuse new work; drain until nothing is
    /// live or `drain_within` has passed; settle the rest `Closed`; say the last word on each
    /// lane; join the bridges; return. A shard that does not answer is reported, not awaited.
    ///
    /// # Panics
    ///
    /// If a shard's thread has panicked: a fault of the engine itself.
    pub fn stop(mut self, drain_within: Duration) -> StopReport {
        self.end(drain_within)
    }

    /// Serves until SIGINT or SIGTERM, then stops. A second signal ends the process at once, with
    /// the status a shell expects.
    ///
    /// # Errors
    ///
    /// When the signals cannot be had, for one because another engine has them.
    ///
    /// # Panics
    ///
    /// As [`Engine::stop`].
    pub fn run_until_signal(self, drain_within: Duration) -> std::io::Result<(Signal, StopReport)> {
        self.run_until_signal_then(drain_within, || Ok(()))
    }

    /// The same, and calls `heard` once the signals are handled: the moment from which whoever
    /// started the process may be told that it can be stopped.
    ///
    /// # Errors
    ///
    /// As [`Engine::run_until_signal`], and those of `heard`.
    ///
    /// # Panics
    ///
    /// As [`Engine::stop`].
    pub fn run_until_signal_then(
        mut self,
        drain_within: Duration,
        heard: impl FnOnce() -> std::io::Result<()>,
    ) -> std::io::Result<(Signal, StopReport)> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let signals = Signals::install(move |signal, urgency| match urgency {
            crate::runtime::signal::Urgency::Graceful => {
                let _stopping_already = sender.try_send(signal);
            }
            crate::runtime::signal::Urgency::AtOnce => std::process::exit(signal.exit_status()),
        })?;
        heard()?;
        let signal = receiver.recv().expect("the sender lives as long as the signals");
        let report = self.end(drain_within);
        drop(signals);
        Ok((signal, report))
    }

    fn end(&mut self, drain_within: Duration) -> StopReport {
        let mut report = StopReport::default();
        self.command(Phase::Draining);
        report.drained = self.board.wait_for(Phase::Drained, drain_within).is_ok();
        for phase in [Phase::Cancelled, Phase::Ended] {
            self.command(phase);
            // Those that are late stand in the report when all has been tried.
            let _late = self.board.wait_for(phase, PROMPT);
        }
        report.stuck_bridges = self.bridges.join(self.limits.bridge_join);
        self.command(Phase::Gone);
        report.stuck_shards = self.join();
        for snapshot in self.handle.last_snapshots().into_iter().flatten() {
            report.requests_cut += snapshot.requests_closed;
            report.batches_abandoned +=
                snapshot.stages.iter().map(|stage| stage.abandoned).sum::<u64>();
        }
        report
    }

    /// Ends what has come up of an engine that could not start; gives the shards that had not.
    pub(super) fn give_up(&mut self) -> Vec<ShardId> {
        let starting = |shard: &ShardId| self.board.line(shard.index()) == Phase::Starting;
        let late = self.shards().filter(starting).collect();
        self.command(Phase::Gone);
        let _stuck = self.join();
        // Those that a stage made before another one's factory failed.
        let _busy = self.bridges.join(self.limits.bridge_join);
        late
    }

    fn command(&self, phase: Phase) {
        self.handle.control_all(|| Control::Enter(phase));
    }

    fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.handle.n_shards()).map(ShardId::new)
    }

    /// Joins the threads of all shards that have ended; a shard stuck in a poll is left behind.
    fn join(&mut self) -> Vec<(ShardId, Phase)> {
        let until = clock() + PROMPT;
        while self.threads.iter().any(|thread| !thread.is_finished()) && clock() < until {
            pause();
        }
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        self.shards()
            .filter(|shard| self.handle.alive(*shard))
            .map(|shard| (shard, self.board.line(shard.index())))
            .collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.end(Duration::ZERO);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "an ordinary thread's clock, not a shard's")]
fn clock() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "an ordinary thread waits for others to end")]
fn pause() {
    std::thread::sleep(Duration::from_micros(500));
}
