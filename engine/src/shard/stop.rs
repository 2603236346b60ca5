//! The way to the end: each phase entered on command, reached when its condition holds.
//!
//! ```text
//!   Running ─▶ Draining ─▶ Drained ─▶ Cancelled ─▶ Ended ─▶ Gone
//!             refuse new   nothing    what was     a last   the driver
//!             work         is live    left is      word on  returns
//!                                     settled      each lane
//! ```
//!
//! Whoever stops the engine commands a phase only when every shard has reached the one before, or
//! its time is up; until then each shard goes on serving the others.

use super::Shard;
use crate::error::RequestError;
use crate::runtime::lane::Envelope;
use crate::runtime::shared::board::Phase;

/// Passes that a shard which ends still runs, so that what was cancelled can end.
const LAST_PASSES: usize = 64;

impl Shard {
    pub(super) fn enter_phase(&self, phase: Phase) {
        if phase <= self.phase.get() && self.phase.get() != Phase::Starting {
            return;
        }
        self.phase.set(phase);
        match phase {
            Phase::Draining => {
                self.tasks.refuse_new();
                self.tasks.end_sources();
                self.net.drain_listeners();
            }
            Phase::Cancelled => {
                self.tasks.close();
                for stage in self.stages().iter() {
                    stage.settle_all();
                }
                self.tasks.cancel_all(RequestError::Closed);
            }
            Phase::Ended => {
                let peers: Vec<_> = self.mesh.peers().collect();
                for peer in peers {
                    self.core.outbox().post(peer, Envelope::End);
                }
            }
            _ => {}
        }
    }

    /// Reports the phase whose condition has come to hold; tells whether the shard is to return.
    pub(super) fn step_phase(&self) -> bool {
        let reached = match self.phase.get() {
            Phase::Starting | Phase::Running => return false,
            Phase::Draining if self.is_drained() => Phase::Drained,
            Phase::Draining => Phase::Draining,
            Phase::Cancelled if self.is_drained() => Phase::Cancelled,
            Phase::Ended if self.mesh.all_ended() && self.core.outbox().is_empty() => Phase::Ended,
            Phase::Gone => {
                // Barriers do not wait for a shard that will not come.
                self.shown.board.reach(self.id().index(), Phase::Gone);
                return true;
            }
            _ => return false,
        };
        if reached != self.shown.board.line(self.id().index()) {
            self.shown.board.reach(self.id().index(), reached);
        }
        false
    }

    /// The end of a shard, drained or not: whoever still waits for something here is told, as far
    /// as that takes no other shard.
    pub(crate) fn bury(&self) {
        self.enter(|| {
            self.tasks.close();
            self.tasks.end_sources();
            for stage in self.stages().iter() {
                stage.settle_all();
            }
            self.tasks.cancel_all(RequestError::Closed);
            // Each task needs one poll to end, and what awaits it another; a task that wakes
            // itself for ever must not keep the shard.
            for _ in 0..LAST_PASSES {
                self.tasks.end_detached();
                self.core.ready().take_yielded();
                for _ in 0..self.core.ready().len() {
                    self.core.ready().pop().map(crate::runtime::ready::Runnable::run);
                }
            }
            self.net.release_all();
        });
    }

    /// Whether nothing lives here and nothing waits to leave.
    fn is_drained(&self) -> bool {
        let idle = |stage: &std::rc::Rc<dyn crate::stage::AnyStage>| {
            stage.depth() == 0 && stage.permits().0 == 0
        };
        self.tasks.live() == 0
            && self.stages.borrow().iter().all(idle)
            && self.core.outbox().is_empty()
            && !self.mesh.has_incoming()
            && !self.mesh.has_held()
            && !self.net.has_unaccepted()
            && !self.net.has_unsent()
    }
}
