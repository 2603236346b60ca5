//! Counts what became of requests, each thread for itself.
//!
//! A shared recorder would cost every request of a peer a contended lock and make our side look
//! good for free. So the thread on which a request ends counts it, start and end together, in its
//! own recorder; the recorders are merged when the threads have stopped. A request that a closing
//! window leaves unfinished is started there and never finished.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::dump::LoopKind;
use crate::load::{Outcome, Recorder};

/// How a request ended that did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The reply is wrong.
    Wrong(String),
    /// A call failed, with its kind.
    Failed(&'static str),
    /// A queue was full.
    Shed,
}

/// The reply of a request: checked and right, or a fault.
pub(super) type Reply = Result<(), Fault>;

/// The interval in which requests count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Which phase of the process it is; a thread that sees a new one starts a new tally.
    pub(super) phase_idx: usize,
    pub(super) kind: LoopKind,
    pub(super) deadline_ns: Option<u64>,
    /// When it closes; never for a phase that ends after a number of requests.
    pub(super) end_ns: u64,
}

/// What one thread has seen of one phase.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    phase_idx: usize,
    pub(super) recorder: Recorder,
    pub(super) errors: BTreeMap<&'static str, u64>,
    /// The first wrong reply, in words.
    pub(super) first_wrong: Option<String>,
    pub(super) last_end_ns: u64,
}

thread_local! {
    static TALLY: RefCell<Option<Tally>> = const { RefCell::new(None) };
}

impl Tally {
    pub(super) fn new(window: &Window) -> Self {
        Self {
            phase_idx: window.phase_idx,
            recorder: Recorder::new(window.kind, window.deadline_ns, 0),
            errors: BTreeMap::new(),
            first_wrong: None,
            last_end_ns: 0,
        }
    }

    /// Adds what another thread has seen, if it is of the same phase.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.phase_idx != other.phase_idx {
            return;
        }
        self.recorder.merge(&other.recorder);
        for (kind, n) in &other.errors {
            *self.errors.entry(kind).or_insert(0) += n;
        }
        if self.first_wrong.is_none() {
            self.first_wrong.clone_from(&other.first_wrong);
        }
        self.last_end_ns = self.last_end_ns.max(other.last_end_ns);
    }

    fn ended(&mut self, window: &Window, times: Times, reply: Reply) {
        let ticket = self.recorder.start(times.intended_ns, times.started_ns);
        if times.ended_ns > window.end_ns {
            return;
        }
        self.last_end_ns = self.last_end_ns.max(times.ended_ns);
        let outcome = match reply {
            Ok(()) => {
                self.recorder.note_checked(true);
                Outcome::Completed
            }
            Err(Fault::Wrong(what)) => {
                self.recorder.note_checked(false);
                self.first_wrong.get_or_insert(what);
                self.count("wrong");
                Outcome::Failed
            }
            Err(Fault::Failed(kind)) => {
                self.count(kind);
                Outcome::Failed
            }
            Err(Fault::Shed) => {
                self.count("shed");
                Outcome::Shed
            }
        };
        self.recorder.finish(ticket, times.ended_ns, outcome);
    }

    fn count(&mut self, kind: &'static str) {
        *self.errors.entry(kind).or_insert(0) += 1;
    }
}

/// When a request should have started, did, and ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) intended_ns: u64,
    pub(super) started_ns: u64,
    pub(super) ended_ns: u64,
}

/// Counts a request that ended on the calling thread.
#[inline]
pub(super) fn note(window: &Window, times: Times, reply: Reply) {
    with(window, |tally| tally.ended(window, times, reply));
}

/// Counts a due request that the generator could not start.
pub(super) fn note_dropped(window: &Window) {
    with(window, |tally| tally.recorder.drop_due());
}

/// Takes what the calling thread has seen.
pub(super) fn take() -> Option<Tally> {
    TALLY.take()
}

fn with(window: &Window, change: impl FnOnce(&mut Tally)) {
    TALLY.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|tally| tally.phase_idx != window.phase_idx) {
            *slot = Some(Tally::new(window));
        }
        change(slot.as_mut().expect("the line above has filled it"));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window =
        Window { phase_idx: 1, kind: LoopKind::Closed, deadline_ns: None, end_ns: 100 };

    fn ended(window: &Window, ended_ns: u64, reply: Reply) {
        note(window, Times { intended_ns: 1, started_ns: 1, ended_ns }, reply);
    }

    #[test]
    fn what_ends_after_the_window_stays_in_flight() {
        ended(&WINDOW, 100, Ok(()));
        ended(&WINDOW, 101, Ok(()));
        ended(&WINDOW, 50, Err(Fault::Wrong("7 is not 8".to_owned())));
        let tally = take().unwrap();
        let counts = tally.recorder.counts();
        assert_eq!((counts.started, counts.completed, counts.failed), (3, 1, 1));
        assert_eq!((counts.in_flight(), counts.verified, counts.mismatched), (1, 1, 1));
        assert_eq!(tally.first_wrong.as_deref(), Some("7 is not 8"));
        assert_eq!(tally.last_end_ns, 100);
    }

    #[test]
    fn a_new_phase_throws_the_warm_up_away() {
        ended(&WINDOW, 10, Err(Fault::Failed("store")));
        let next = Window { phase_idx: 2, ..WINDOW };
        ended(&next, 10, Ok(()));
        let tally = take().unwrap();
        assert_eq!(tally.recorder.counts().offered, 1);
        assert!(tally.errors.is_empty());
    }

    #[test]
    fn threads_add_up_and_only_within_a_phase() {
        let on_a_thread = |window: Window| {
            std::thread::scope(|scope| {
                let thread = scope.spawn(move || {
                    ended(&window, 20, Err(Fault::Failed("store")));
                    ended(&window, 30, Err(Fault::Shed));
                    take().unwrap()
                });
                thread.join().unwrap()
            })
        };
        let mut whole = Tally::new(&WINDOW);
        whole.merge(&on_a_thread(WINDOW));
        whole.merge(&on_a_thread(WINDOW));
        whole.merge(&on_a_thread(Window { phase_idx: 0, ..WINDOW }));
        assert_eq!(whole.recorder.counts().offered, 4);
        assert_eq!(whole.errors, BTreeMap::from([("shed", 2), ("store", 2)]));
        assert_eq!(whole.last_end_ns, 30);
    }
}
