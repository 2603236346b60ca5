//! A tier for tests: a store that is reached late, gives way while it works, and fails by a seed.
//!
//! As with servers, what changes a key is done in the order of its calls, reads overtake, and what was
//! not answered may be done late: up to [`LATE_MAX`] after its caller gave up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use forebay::{Time, now};
use futures_lite::future::yield_now;
use hashbrown::HashMap;

use super::clock::Clock;
use super::operation::{ExpTime, Failure, Key, Operation, Outcome, What};
use super::store::Store;

/// Most times that an operation gives way on its way there, and again on its way back.
const YIELDS_MAX: u8 = 3;
/// The longest time after which something is done that was not answered.
pub(super) const LATE_MAX: Duration = Duration::from_millis(900);

/// A store behind a way that may be closed.
#[derive(Debug)]
pub(super) struct Scripted {
    store: RefCell<Store>,
    clock: Clock,
    rng: RefCell<fastrand::Rng>,
    failing_per_mille: Cell<u16>,
    is_closed: Cell<bool>,
    /// Who waits to change a key, the first before the others.
    lines: RefCell<HashMap<Key, VecDeque<u64>>>,
    n_changes: Cell<u64>,
    late: RefCell<Vec<(Time, Operation)>>,
    n_under_way: Cell<usize>,
    n_under_way_max: Cell<usize>,
}

/// What becomes of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    NotSent,
    /// Sent, and not answered: not done, done, or done later.
    Lost,
    DoneAndLost,
    Late,
}

impl Scripted {
    pub(super) fn new(store: Store, clock: Clock, seed: u64) -> Self {
        Self {
            store: RefCell::new(store),
            clock,
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            failing_per_mille: Cell::new(0),
            is_closed: Cell::new(false),
            lines: RefCell::default(),
            n_changes: Cell::new(0),
            late: RefCell::default(),
            n_under_way: Cell::new(0),
            n_under_way_max: Cell::new(0),
        }
    }

    /// From now on so many operations of a thousand fail, in one of several ways.
    pub(super) fn fail(&self, per_mille: u16) {
        self.failing_per_mille.set(per_mille);
    }

    /// From now on nothing is sent any more.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
    }

    /// It can be reached again.
    pub(super) fn open(&self) {
        self.is_closed.set(false);
    }

    /// What the store has, whether or not anybody can reach it.
    pub(super) fn store(&self) -> &RefCell<Store> {
        self.do_what_is_late();
        &self.store
    }

    /// Most operations that were under way at the same time.
    pub(super) fn n_under_way_max(&self) -> usize {
        self.n_under_way_max.get()
    }

    /// How often it has been asked for a change.
    pub(super) fn n_changes(&self) -> u64 {
        self.n_changes.get()
    }

    /// Does an operation, or fails. Dropped half-way, it is done, now or later, or not.
    pub(super) async fn apply(&self, operation: &Operation) -> Outcome {
        let fate = self.fate();
        if fate == Fate::NotSent {
            return Outcome::Failed(Failure::Unavailable);
        }
        let mut call = Call::new(self, operation);
        self.give_way().await;
        while !call.is_first() {
            yield_now().await;
        }
        self.do_what_is_late();
        let outcome = match fate {
            Fate::Lost | Fate::Late => Outcome::Failed(Failure::Unanswered),
            _ => self.store.borrow_mut().apply(self.clock.now(), operation),
        };
        call.leave_line();
        self.give_way().await;
        if fate == Fate::Late {
            self.do_later(operation);
        }
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
        self.do_what_is_late();
        if matches!(fate, Fate::Answered | Fate::DoneAndLost) {
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
        [Fate::NotSent, Fate::Lost, Fate::DoneAndLost, Fate::Late][rng.usize(..4)]
    }

    async fn give_way(&self) {
        let n_yields = self.rng.borrow_mut().u8(..=YIELDS_MAX);
        for _ in 0..n_yields {
            yield_now().await;
        }
    }

    fn do_later(&self, operation: &Operation) {
        let late_ms = u64::try_from(LATE_MAX.as_millis()).expect("less than a second");
        let late = Duration::from_millis(self.rng.borrow_mut().u64(..=late_ms));
        self.late.borrow_mut().push((now().after(late), operation.clone()));
    }

    fn do_what_is_late(&self) {
        let mut late = self.late.borrow_mut();
        let due = late.extract_if(.., |(due, _)| *due <= now());
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(due, _)| *due);
        for (_, operation) in due {
            self.store.borrow_mut().apply(self.clock.now(), &operation);
        }
    }
}

/// An operation under way.
struct Call<'a> {
    scripted: &'a Scripted,
    operation: &'a Operation,
    /// Its place among the changes of its key, until it is done.
    number: Option<u64>,
}

impl<'a> Call<'a> {
    fn new(scripted: &'a Scripted, operation: &'a Operation) -> Self {
        let n_under_way = scripted.n_under_way.get() + 1;
        scripted.n_under_way.set(n_under_way);
        scripted.n_under_way_max.set(scripted.n_under_way_max.get().max(n_under_way));
        let may_overtake = match &operation.what {
            What::Get(get) => get.may_be_shared(),
            _ => false,
        };
        let number = (!may_overtake).then(|| {
            let number = scripted.n_changes.get();
            scripted.n_changes.set(number + 1);
            let mut lines = scripted.lines.borrow_mut();
            lines.entry(operation.key.clone()).or_default().push_back(number);
            number
        });
        Self { scripted, operation, number }
    }

    fn is_first(&self) -> bool {
        let Some(number) = self.number else { return true };
        self.scripted.lines.borrow()[&self.operation.key].front() == Some(&number)
    }

    fn leave_line(&mut self) {
        let Some(number) = self.number.take() else { return };
        let mut lines = self.scripted.lines.borrow_mut();
        let line = lines.get_mut(&self.operation.key).expect("it stands there");
        line.retain(|other| *other != number);
        if line.is_empty() {
            lines.remove(&self.operation.key);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.scripted.n_under_way.set(self.scripted.n_under_way.get() - 1);
        let is_undone = self.number.is_some();
        self.leave_line();
        if is_undone && self.scripted.rng.borrow_mut().bool() {
            self.scripted.do_later(self.operation);
        }
    }
}
