//! The turn: one round of a shard, in fixed order.
//!
//! ```text
//!   reap     completions of sockets; whom they concern becomes ready         (bounded)
//!   intake   messages, timers, parcels, sources          (bounded, round-robin over lanes)
//!   pass     the tasks that were ready when it began     (cut after slice_us, goes on next turn)
//!   seal     windows that are due; what they sealed runs at once, and then whom it answered
//!            before it had to wait
//!   send     one parcel to each other shard
//!   submit   operations on sockets, by entering the net ring once
//! ```
//!
//! The clock is read when the turn begins and after each poll; decisions use the reading of the
//! turn's begin during the pass, of the pass's end after it, and of the end of the batches in what
//! their callers go on to do.

use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use super::stopwatch::Stopwatch;
use crate::limits::{NET_HOLD, PUBLISH_EVERY};
use crate::runtime::Time;
use crate::runtime::guard::contain;
use crate::runtime::hosted::{Next, TurnRecord};
use crate::runtime::lane::Envelope;
use crate::runtime::ready::Runnable;
use crate::runtime::shared::board::Phase;
use crate::stage::TurnView;

impl Shard {
    /// Runs one turn; this shard is the current one of the thread.
    pub(super) fn run_turn(&self) -> Next {
        let began = self.core.read_clock();
        let reaped = self.net.reap();
        let taken = self.take_in();
        self.core.ready().take_yielded();
        let polled = self.run_pass(began);
        let passed = self.core.end_pass();
        let (sealed, ask_again) = self.seal();
        let last = self.run_last_step(passed);
        let ask_again = if last.ask_again { Time::ZERO } else { ask_again };
        let sent = self.send_parcels();
        self.net.submit();
        self.metrics.turns.add(1);
        let worked = polled > 0 || last.polled > 0 || sent || reaped > 0 || taken.anything();
        if let Some(log) = &mut *self.log.borrow_mut() {
            log.push(TurnRecord {
                shard: self.id(),
                began,
                passed,
                reaped,
                messages: taken.messages,
                parcels: taken.parcels,
                polled,
                fired: taken.fired,
                sealed,
                ran: last.ran,
                answered: last.answered,
                live: self.tasks.live(),
            });
        }
        if self.step_phase() {
            self.publish();
            return Next::Ended;
        }
        if worked {
            self.metrics.count_busy(last.ended.since(began));
            if passed >= self.publish_at.get() {
                self.publish();
            }
        }
        self.next(ask_again.min(self.tasks.next_source()))
    }

    /// Runs the tasks of the pass until it is over or the slice is.
    fn run_pass(&self, began: Time) -> usize {
        let ready = self.core.ready();
        if self.pass_left.get() == 0 {
            self.core.begin_pass();
            self.pass_left.set(ready.len());
        }
        let slice_end = began.after(self.slice());
        let mut watch = Stopwatch::new(began);
        let mut submitted = began;
        let (mut polled, mut cut) = (0, false);
        while self.pass_left.get() > 0 && !cut {
            let idx = self.core.half().pick(self.pass_left.get());
            if idx > 0 {
                ready.bring_forward(idx);
            }
            if ready.comes_to_yielded() && self.net.has_listed() {
                // What was written must not wait for those who give way because they take long.
                self.net.submit();
                submitted = watch.read_at();
            }
            let Some(task) = ready.pop() else { break };
            self.pass_left.set(self.pass_left.get() - 1);
            self.poll(task, &mut watch);
            polled += 1;
            cut = self.core.half().cuts_pass(polled, watch.read_at() >= slice_end);
            if watch.read_at().since(submitted) >= NET_HOLD && self.net.has_listed() {
                // What is written early in a long pass must not wait for whoever comes late in it.
                self.net.submit();
                submitted = watch.read_at();
            }
        }
        watch.close(self.core.half(), &self.metrics);
        self.metrics.polls.add(polled as u64);
        if self.pass_left.get() == 0 || ready.is_empty() {
            self.pass_left.set(0);
            self.completed_pass.set(self.core.pass());
        }
        polled
    }

    /// Polls one task and books how long it took.
    fn poll(&self, task: Runnable, watch: &mut Stopwatch) {
        watch.begin(task.metadata());
        task.run();
        self.core.ready().end_poll();
        watch.end(self.core.half(), &self.metrics);
    }

    /// Seals what is due. Gives the batches formed, and when a stage wants to be asked again.
    fn seal(&self) -> (Vec<(usize, usize)>, Time) {
        let stages = self.stages.borrow();
        let turn = TurnView {
            ready_empty: self.core.ready().is_empty(),
            completed_pass: self.completed_pass.get(),
            live_requests: self.tasks.live(),
        };
        let (mut sealed, mut ask_again) = (Vec::new(), Time::NEVER);
        let logging = self.log.borrow().is_some();
        for (rank, stage) in stages.iter().enumerate() {
            if !stage.has_queued() {
                continue;
            }
            let items = stage.metrics().items();
            ask_again = ask_again.min(Rc::clone(stage).seal(&turn));
            let formed = stage.metrics().items() - items;
            if formed > 0 && logging {
                sealed.push((rank, usize::try_from(formed).unwrap_or(usize::MAX)));
            }
        }
        (sealed, ask_again)
    }

    /// Runs what was sealed, and then the callers that it has answered, for at most a slice: their
    /// tasks are still in the cache, where a round through the ready queue would find them cold.
    /// Each runs once; what it asks now is sealed by a later turn, so nobody else waits for ever.
    fn run_last_step(&self, passed: Time) -> LastStep {
        let (half, ready) = (self.core.half(), self.core.ready());
        let mut watch = Stopwatch::new(passed);
        ready.begin_last_step();
        // Batches were put before whatever was ready; settling may have added behind.
        let n_sealed = self.core.take_sealed();
        for _ in 0..n_sealed {
            let Some(batch) = ready.pop() else { break };
            self.poll(batch, &mut watch);
        }
        watch.close(half, &self.metrics);
        // Callers see how long their batch has run.
        let ran = if n_sealed > 0 { self.core.end_batches() } else { passed };
        let slice_end = ran.after(self.slice());
        let (mut answered, mut cut) = (0, false);
        while !cut && let Some(task) = ready.pop_answered() {
            self.poll(task, &mut watch);
            answered += 1;
            cut = half.cuts_last_step(answered, watch.read_at() >= slice_end);
        }
        ready.end_last_step();
        watch.close(half, &self.metrics);
        let polled = n_sealed + answered;
        self.metrics.polls.add(polled as u64);
        // A batch that ran may have called another stage, or given its permit back to a queue
        // that had to wait for it; a caller may have gone on to its next call. No stage has been
        // asked since.
        let ask_again = n_sealed > 0 && self.has_queued();
        LastStep { ran, answered, polled, ask_again, ended: watch.read_at() }
    }

    fn slice(&self) -> Duration {
        Duration::from_micros(self.core.limits().slice_us)
    }

    /// Sends what the turn has collected: one parcel to each other shard.
    fn send_parcels(&self) -> bool {
        let stages = self.stages.borrow();
        let mut sent = false;
        for peer in self.mesh.peers() {
            let (mut envelopes, waiting) =
                split_by_credit(self.core.outbox().take(peer), self.mesh.credits(peer));
            let mut credits =
                self.mesh.credits(peer) - envelopes.iter().map(Envelope::credits).sum::<usize>();
            for stage in stages.iter() {
                envelopes.extend(stage.take_replies(peer));
                envelopes.extend(stage.take_cancels(peer));
                if let Some(calls) = stage.take_calls(peer, credits) {
                    credits -= calls.credits();
                    envelopes.push(calls);
                }
            }
            if !waiting.is_empty() {
                self.core.outbox().put_back(peer, waiting);
            }
            if self.mesh.send(peer, envelopes) {
                self.metrics.parcels_sent.add(1);
                sent = true;
            }
        }
        for peer in self.mesh.gone() {
            // Replies to whoever has gone, and what was posted before that was known.
            let undeliverable = self.core.outbox().take(peer);
            contain(|| drop(undeliverable));
        }
        sent | self.answer_to_self()
    }

    /// Requests and replies a shard has posted to itself: the same envelopes, without a lane.
    fn answer_to_self(&self) -> bool {
        let envelopes = self.core.outbox().take(self.id());
        if envelopes.is_empty() {
            return false;
        }
        for envelope in envelopes {
            self.open(self.id(), envelope);
        }
        true
    }

    fn next(&self, wanted: Time) -> Next {
        let more = !self.core.ready().is_empty()
            || self.pass_left.get() > 0
            || self.mesh.has_incoming()
            || self.mesh.has_held()
            || self.net.is_ready()
            || self.core.outside().inbox().is_pending();
        let stages = self.stages.borrow();
        let arm_at = stages.iter().map(|stage| stage.arm_deadlines()).min();
        if more {
            return Next::Again;
        }
        let until = wanted
            .min(arm_at.unwrap_or(Time::NEVER))
            .min(self.core.next_due().unwrap_or(Time::NEVER));
        if until <= self.core.now() {
            return Next::Again;
        }
        let pending = self.tasks.live() > 0
            || self.core.timers() > self.net.timers()
            || self.phase.get() != Phase::Running
            || stages.iter().any(|stage| stage.has_calls());
        Next::Wait { until, pending }
    }

    fn has_queued(&self) -> bool {
        self.stages.borrow().iter().any(|stage| stage.has_queued())
    }

    pub(super) fn publish(&self) {
        let now = self.core.now();
        self.publish_at.set(now.after(PUBLISH_EVERY));
        self.shown.snapshot.put(now, self.snapshot());
    }
}

/// What the last step of a turn has come to.
struct LastStep {
    /// The time read when the batches had run.
    ran: Time,
    /// Callers that were answered and run.
    answered: usize,
    /// Those, and the batches before them.
    polled: usize,
    /// A stage has something to seal that it has not been asked about.
    ask_again: bool,
    /// The last reading of the clock.
    ended: Time,
}

/// Parts envelopes into those that may leave with `credits` and those that wait, in order.
fn split_by_credit(envelopes: Vec<Envelope>, credits: usize) -> (Vec<Envelope>, Vec<Envelope>) {
    let mut left = credits;
    let (mut leaving, mut waiting) = (Vec::new(), Vec::new());
    for envelope in envelopes {
        if envelope.credits() <= left {
            left -= envelope.credits();
            leaving.push(envelope);
        } else {
            waiting.push(envelope);
        }
    }
    (leaving, waiting)
}
