//! A tier for tests: a store that is reached late, gives way while it works, and fails by a seed.

use std::cell::{Cell, RefCell};

use futures_lite::future::yield_now;

use super::clock::Clock;
use super::operation::{ExpTime, Failure, Operation, Outcome};
use super::store::Store;

/// Most times that an operation gives way on its way there, and again on its way back.
const YIELDS_MAX: u8 = 3;

/// A store behind a way that may be closed.
#[derive(Debug)]
pub(super) struct Scripted {
    store: RefCell<Store>,
    clock: Clock,
    rng: RefCell<fastrand::Rng>,
    failing_per_mille: Cell<u16>,
    is_closed: Cell<bool>,
}

/// What becomes of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    NotSent,
    /// Sent, and not answered; done there or not.
    Lost,
    DoneAndLost,
}

impl Scripted {
    pub(super) fn new(store: Store, clock: Clock, seed: u64) -> Self {
        Self {
            store: RefCell::new(store),
            clock,
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            failing_per_mille: Cell::new(0),
            is_closed: Cell::new(false),
        }
    }

    /// From now on so many operations of a thousand fail, in one of three ways.
    pub(super) fn fail(&self, per_mille: u16) {
        self.failing_per_mille.set(per_mille);
    }

    /// From now on nothing is sent any more.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
    }

    /// What the store has, whether or not anybody can reach it.
    pub(super) fn store(&self) -> &RefCell<Store> {
        &self.store
    }

    /// Does an operation, or fails. Dropped half-way, it is done or not.
    pub(super) async fn apply(&self, operation: &Operation) -> Outcome {
        let fate = self.fate();
        if fate == Fate::NotSent {
            return Outcome::Failed(Failure::Unavailable);
        }
        self.give_way().await;
        let outcome = match fate {
            Fate::Lost => Outcome::Failed(Failure::Unanswered),
            _ => self.store.borrow_mut().apply(self.clock.now(), operation),
        };
        self.give_way().await;
        match fate {
            Fate::DoneAndLost => Outcome::Failed(Failure::Unanswered),
            _ => outcome,
        }
    }

    /// Makes all items nothing, or fails.
    pub(super) async fn flush_all(&self, delay: ExpTime) -> Result<(), Failure> {
        let fate = self.fate();
        if fate == Fate::NotSent {
            return Err(Failure::Unavailable);
        }
        self.give_way().await;
        if fate != Fate::Lost {
            self.store.borrow_mut().flush_all(self.clock.now(), delay);
        }
        self.give_way().await;
        if fate == Fate::Answered { Ok(()) } else { Err(Failure::Unanswered) }
    }

    fn fate(&self) -> Fate {
        if self.is_closed.get() {
            return Fate::NotSent;
        }
        let mut rng = self.rng.borrow_mut();
        if rng.u16(..1_000) >= self.failing_per_mille.get() {
            return Fate::Answered;
        }
        [Fate::NotSent, Fate::Lost, Fate::DoneAndLost][rng.usize(..3)]
    }

    async fn give_way(&self) {
        let n_yields = self.rng.borrow_mut().u8(..=YIELDS_MAX);
        for _ in 0..n_yields {
            yield_now().await;
        }
    }
}
