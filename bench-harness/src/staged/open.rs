//! Requests that come whether or not the service keeps up.
//!
//! What is due goes to a free client at once. While every client that there may be waits for a
//! reply, it stands in a queue and goes to the first that has one, late by its own fault: its time
//! counts from when it was due. What finds the queue full, or is still there when the window closes,
//! was never made and is counted as dropped.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use forebay::{RequestOptions, Time};

use super::asks::Ask;
use super::book::Asker;
use super::client::Client;
use super::phase::{Drive, Live, request};
use crate::load::{Arrivals, OpenArrival, Part};
use crate::workload_file::Until;

/// Due requests that may wait for a client: as many as a driver that is not overloaded is ever
/// behind, and small beside its connections.
const WAITING_MAX: usize = 100_000;
/// Requests that one poll of the schedule starts: what is left waits for the next turn.
const STARTS_PER_TURN: usize = 1_024;

/// A due request.
#[derive(Debug, Clone, Copy)]
struct Due {
    ask: Ask,
    intended_ns: u64,
}

type Waiting = Rc<RefCell<VecDeque<Due>>>;

/// Adds the source that starts what is due.
pub(super) fn start(drive: &Rc<Drive>, arrival: OpenArrival, seed: u64, until: Until) {
    let mut schedule = Schedule {
        live: Live::new(drive),
        arrivals: Arrivals::new(arrival, seed, Part::WHOLE),
        waiting: Rc::default(),
        n_left: match until {
            Until::DurationMs(_) => u64::MAX,
            Until::Requests(total) => total,
        },
    };
    forebay::add_source(move |now| schedule.start_due(now));
}

/// A schedule under way.
struct Schedule {
    live: Live,
    arrivals: Arrivals,
    waiting: Waiting,
    n_left: u64,
}

impl Schedule {
    /// Starts what is due and tells when the next request will be; `None` after the last.
    fn start_due(&mut self, now: Time) -> Option<Time> {
        let drive = self.live.drive();
        let now_ns = drive.clock.now_ns();
        for _ in 0..STARTS_PER_TURN {
            if self.n_left == 0 || self.arrivals.next_ns() >= drive.end_ns {
                return None;
            }
            let Some(intended_ns) = self.arrivals.take_due(now_ns) else {
                let wait = Duration::from_nanos(self.arrivals.next_ns() - now_ns);
                return Some(now.after(wait));
            };
            self.n_left -= 1;
            self.offer(Due { ask: drive.fleet.draw(), intended_ns });
        }
        Some(now)
    }

    fn offer(&self, due: Due) {
        let drive = self.live.drive();
        if let Some(client) = drive.fleet.take() {
            let asking = ask_and_go_on(Live::new(drive), client, due, Rc::clone(&self.waiting));
            forebay::spawn(RequestOptions::default(), asking).detach();
        } else if self.waiting.borrow().len() < WAITING_MAX {
            self.waiting.borrow_mut().push_back(due);
        } else {
            drive.book.borrow_mut().drop_due(due.ask.class_idx);
        }
    }
}

/// A client makes a request, and then those that wait for a client.
async fn ask_and_go_on(live: Live, mut client: Client, due: Due, waiting: Waiting) {
    let drive = live.drive();
    let mut next = Some(due);
    while let Some(Due { ask, intended_ns }) = next {
        let now_ns = drive.clock.now_ns();
        request(drive, &mut client, &ask, Asker::Anybody, intended_ns, now_ns).await;
        next = next_of(&waiting, drive);
    }
    drive.fleet.put(client);
}

/// What has waited longest; when the window has closed, nothing that waits is made any more.
fn next_of(waiting: &Waiting, drive: &Drive) -> Option<Due> {
    let mut waiting = waiting.borrow_mut();
    if drive.clock.now_ns() >= drive.end_ns {
        let mut book = drive.book.borrow_mut();
        waiting.drain(..).for_each(|due| book.drop_due(due.ask.class_idx));
    }
    waiting.pop_front()
}
