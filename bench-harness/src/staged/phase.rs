//! One phase under way, from its first request to the end of its last.
//!
//! Whoever asks (a loop, the schedule's source, a request) holds a [`Live`]; when the last one is
//! gone the phase is over. A request that is dropped before it ended, by a panic, counts as failed.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::future::or;

use super::asks::Ask;
use super::book::{Asker, Begun, Book};
use super::client::{Client, Got};
use super::fleet::Fleet;
use super::{closed, open};
use crate::clock::Clock;
use crate::load::{OpenArrival, end_ns};
use crate::subject::CellError;
use crate::workload_file::{Arrival, Phase, Until};

/// How long a phase may take beyond its window and its clients' patience: a host that is busy.
const DRAIN_MAX: Duration = Duration::from_secs(20);
/// Longest phase that ends after a number of requests.
const COUNTED_PHASE_MAX: Duration = Duration::from_secs(600);

/// A phase that is driven.
pub(super) struct Drive {
    pub(super) clock: Clock,
    pub(super) end_ns: u64,
    pub(super) fleet: Rc<Fleet>,
    pub(super) book: RefCell<Book>,
    n_live: Cell<usize>,
    waker: Cell<Option<Waker>>,
}

/// Runs a phase until all that began in it has ended. `schedule` is that of an open one.
pub(super) async fn run(
    phase: &Phase,
    schedule: Option<OpenArrival>,
    seed: u64,
    fleet: &Rc<Fleet>,
) -> Result<Book, CellError> {
    let n_clients = closed::n_clients(&phase.arrival);
    let drive = Rc::new(Drive {
        clock: Clock::start(),
        end_ns: end_ns(phase.until),
        fleet: Rc::clone(fleet),
        book: RefCell::new(Book::new(phase, fleet.town.classes.len(), n_clients)),
        n_live: Cell::new(0),
        waker: Cell::new(None),
    });
    match schedule {
        Some(arrival) => open::start(&drive, arrival, seed, phase.until),
        None => closed::start(&drive, phase)?,
    }
    let window = match phase.until {
        Until::DurationMs(ms) => Duration::from_millis(ms),
        Until::Requests(_) => COUNTED_PHASE_MAX,
    };
    let longest = window + fleet.town.timeout + DRAIN_MAX;
    let hung = async {
        forebay::sleep(longest).await;
        let (n_live, name) = (drive.n_live.get(), &phase.name);
        Err(CellError::Failed(format!("{n_live} clients still wait in {name} after {longest:?}")))
    };
    let over = async {
        drive.over().await;
        Ok(())
    };
    or(over, hung).await?;
    let drive = Rc::into_inner(drive).expect("nothing of a phase is live when it is over");
    let mut book = drive.book.into_inner();
    book.tally.close();
    Ok(book)
}

/// The schedule of a phase: its own, or a share of what the service has shown that it can do.
pub(super) fn schedule(
    arrival: &Arrival,
    capacity_per_s: Option<f64>,
) -> Result<Option<OpenArrival>, CellError> {
    let Arrival::Relative { percent } = arrival else { return Ok(arrival.open()) };
    let capacity_per_s = capacity_per_s.filter(|capacity| *capacity > 0.0).ok_or_else(|| {
        let why = "the warm-up before it has shown no goodput, of which a share could be offered";
        CellError::Failed(why.to_owned())
    })?;
    let wanted = capacity_per_s * crate::dump::to_f64(*percent) / 100.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and saturates"
    )]
    let rate_per_s = (wanted.round() as u64).max(1);
    Ok(Some(OpenArrival::Poisson { rate_per_s }))
}

impl Drive {
    async fn over(&self) {
        poll_fn(|cx| {
            if self.n_live.get() == 0 {
                return Poll::Ready(());
            }
            self.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Something of a phase that has not ended.
pub(super) struct Live {
    drive: Option<Rc<Drive>>,
}

impl Live {
    pub(super) fn new(drive: &Rc<Drive>) -> Self {
        drive.n_live.set(drive.n_live.get() + 1);
        Self { drive: Some(Rc::clone(drive)) }
    }

    pub(super) fn drive(&self) -> &Rc<Drive> {
        self.drive.as_ref().expect("it is there until this is dropped")
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let drive = self.drive.take().expect("dropped once");
        drive.n_live.set(drive.n_live.get() - 1);
        let waker = (drive.n_live.get() == 0).then(|| drive.waker.take()).flatten();
        // Who is woken takes the phase apart: nobody else may hold it.
        drop(drive);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Makes one request and counts it; gives the time of its end.
pub(super) async fn request(
    drive: &Drive,
    client: &mut Client,
    ask: &Ask,
    asker: Asker,
    intended_ns: u64,
    now_ns: u64,
) -> u64 {
    let begun = drive.book.borrow_mut().start(ask.class_idx, asker, intended_ns, now_ns);
    let mut in_flight = InFlight { drive, begun: Some(begun) };
    let got = client.ask(ask).await;
    in_flight.end(got)
}

/// A request in flight. Dropped before it has ended, it counts as failed.
struct InFlight<'a> {
    drive: &'a Drive,
    begun: Option<Begun>,
}

impl InFlight<'_> {
    fn end(&mut self, got: Got) -> u64 {
        let ended_ns = self.drive.clock.now_ns();
        if let Some(begun) = self.begun.take() {
            self.drive.book.borrow_mut().end(&begun, ended_ns, got);
        }
        ended_ns
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.end(Got::Lost("dropped"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_capacity_is_a_rate_and_without_any_it_is_an_error() {
        let of = |percent, capacity| schedule(&Arrival::Relative { percent }, capacity);
        let rate = |percent, capacity| of(percent, Some(capacity)).unwrap().unwrap().rate_per_s();
        assert_eq!(rate(400, 499.8), 1_999);
        assert_eq!(rate(50, 1_000.0), 500);
        assert_eq!(rate(1, 1.0), 1);
        for capacity in [None, Some(0.0)] {
            assert!(of(100, capacity).unwrap_err().to_string().contains("no goodput"));
        }
        let arrival = Arrival::Poisson { rate_per_s: 7 };
        assert_eq!(schedule(&arrival, None).unwrap().unwrap().rate_per_s(), 7);
        let closed = Arrival::Closed { in_flight: 1, think_time_ns: 0 };
        assert_eq!(schedule(&closed, Some(9.0)).unwrap(), None);
    }
}
