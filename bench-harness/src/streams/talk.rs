//! What a client says in one phase, in a closed loop or as a schedule hands requests over.
//!
//! One task for each connection does both directions. Replies come in order, so the tickets of what
//! is in flight stand in a queue. A connection that breaks fails what is in flight on it and, under
//! a schedule, what is handed to it later; the other connections go on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use futures_lite::future::or;

use super::Dialogue;
use super::due::Due;
use super::line::{Line, Over};
use crate::clock::Clock;
use crate::load::{Ended, PhaseTally, Ticket};

/// What all clients of a phase share.
pub(super) struct Talks {
    pub(super) clock: Clock,
    pub(super) end_ns: u64,
    pub(super) tally: RefCell<PhaseTally>,
}

/// One client's part of a phase.
pub(super) struct Talk<D> {
    line: Rc<Line<D>>,
    talks: Rc<Talks>,
    in_flight: VecDeque<Ticket>,
    out: Vec<u8>,
}

impl<D: Dialogue> Talk<D> {
    pub(super) fn new(line: &Rc<Line<D>>, talks: &Rc<Talks>) -> Self {
        Self {
            line: Rc::clone(line),
            talks: Rc::clone(talks),
            in_flight: VecDeque::new(),
            out: Vec::new(),
        }
    }

    /// Keeps `depth` requests in flight until `n_requests` have been made or the window closes.
    pub(super) async fn in_a_loop(mut self, depth: u64, n_requests: u64) {
        let mut n_left = n_requests;
        let now_ns = self.talks.clock.now_ns();
        for _ in 0..depth.min(n_left) {
            n_left -= 1;
            self.put_request(now_ns, now_ns);
        }
        while !self.in_flight.is_empty() {
            let n_replies = match self.exchange().await {
                Ok(n_replies) => n_replies,
                Err(over) => return self.give_up(over),
            };
            let now_ns = self.talks.clock.now_ns();
            if now_ns < self.talks.end_ns {
                // Each reply brings the next request, from the moment it ended.
                for _ in 0..n_replies.min(n_left) {
                    n_left -= 1;
                    self.put_request(now_ns, now_ns);
                }
            }
        }
    }

    /// Makes the requests that a schedule hands over, until it has handed over the last.
    pub(super) async fn on_schedule(mut self, due: Rc<Due>, in_flight_max: usize) {
        let over = loop {
            while self.in_flight.len() < in_flight_max
                && let Some(intended_ns) = due.take()
            {
                let now_ns = self.talks.clock.now_ns();
                self.put_request(intended_ns, now_ns);
            }
            if self.in_flight.is_empty() && due.is_over() {
                return;
            }
            if let Err(over) = self.line.send(&mut self.out).await {
                break over;
            }
            // Without room, or with nothing more to come, only replies change anything.
            let only_replies = self.in_flight.len() >= in_flight_max || due.is_over();
            let rung = async {
                if only_replies {
                    std::future::pending::<()>().await;
                }
                due.rung().await;
                Ok(0)
            };
            if let Err(over) = or(self.exchange(), rung).await {
                break over;
            }
        };
        self.give_up(over);
        due.fail_rest(&self.talks).await;
    }

    fn put_request(&mut self, intended_ns: u64, now_ns: u64) {
        let ticket = self.talks.tally.borrow_mut().recorder.start(intended_ns, now_ns);
        self.in_flight.push_back(ticket);
        self.line.put_request(&mut self.out);
    }

    /// Sends what was put, waits for bytes, and counts the replies among them.
    async fn exchange(&mut self) -> Result<u64, Over> {
        let Self { line, talks, in_flight, out } = self;
        line.send(out).await?;
        let mut n_replies = 0;
        let mut now_ns = None;
        line.receive(|ended| {
            // Once for a chunk: its replies came together.
            let ended_ns = *now_ns.get_or_insert_with(|| talks.clock.now_ns());
            let ticket = in_flight.pop_front().expect("a reply is to a request in flight");
            talks.tally.borrow_mut().end(ticket, ended_ns, ended);
            n_replies += 1;
        })
        .await?;
        Ok(n_replies)
    }

    /// Fails what is in flight on a line that is over. What is no reply came in place of the first.
    fn give_up(&mut self, over: Over) {
        let now_ns = self.talks.clock.now_ns();
        let mut garbage = match over {
            Over::Garbage(what) => Some(what),
            Over::Lost => None,
        };
        for ticket in self.in_flight.drain(..) {
            let ended = garbage.take().map_or(Ended::Failed("connection"), Ended::Wrong);
            self.talks.tally.borrow_mut().end(ticket, now_ns, ended);
        }
    }
}
