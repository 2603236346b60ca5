//! What a turn takes in from outside, each kind bounded.

use super::Shard;
use crate::error::RequestError;
use crate::limits::TIMERS_PER_TURN;
use crate::runtime::ShardId;
use crate::runtime::core::Due;
use crate::runtime::guard::contain;
use crate::runtime::lane::Envelope;
use crate::runtime::shared::{Control, Message};

/// What came in.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) messages: usize,
    pub(super) fired: usize,
    pub(super) parcels: Vec<ShardId>,
}

impl Taken {
    pub(super) fn anything(&self) -> bool {
        self.messages > 0 || self.fired > 0 || !self.parcels.is_empty()
    }
}

impl Shard {
    pub(super) fn take_in(&self) -> Taken {
        let messages = self.take_messages();
        let fired = self.fire_timers();
        let parcels = self.take_parcels();
        self.tasks.poll_sources(self.core.now());
        Taken { messages, fired, parcels }
    }

    fn take_messages(&self) -> usize {
        let mut messages = self.messages.take();
        let max = self.core.half().intake(self.core.limits().intake_max);
        self.core.outside().inbox().take(max, &mut messages);
        let n_messages = messages.len();
        for message in messages.drain(..) {
            match message {
                Message::Wake(task) => self.core.ready().push(task),
                // The closure only spawns; what it carries is the user's all the same.
                Message::Submit(start) => {
                    contain(start);
                }
                Message::Control(control) => self.obey(control),
            }
        }
        *self.messages.borrow_mut() = messages;
        n_messages
    }

    fn obey(&self, control: Control) {
        match control {
            Control::Enter(phase) => self.enter_phase(phase),
            Control::Publish => self.publish(),
            Control::List(reply) => {
                let _asker_gone = reply.send(self.tasks.list());
            }
            Control::Cancel(request) => {
                self.tasks.cancel(request, RequestError::Cancelled);
            }
            Control::PeerGone => {
                for peer in self.mesh.newly_gone() {
                    self.tasks.lose_peer(peer);
                    for stage in self.stages().iter() {
                        stage.lose_peer(peer);
                    }
                }
            }
            Control::Adjust { stage, adjustment, reply } => {
                let stages = self.stages();
                let stage = stages.iter().find(|other| other.name() == stage);
                let _asker_gone = reply.send(stage.map(|stage| stage.adjust(adjustment)));
            }
            Control::TakeLog(reply) => {
                let _asker_gone = reply.send(self.take_log());
            }
        }
    }

    fn fire_timers(&self) -> usize {
        let mut fired = self.fired.take();
        self.core.advance_wheel(TIMERS_PER_TURN, &mut fired);
        let n_fired = fired.len();
        for due in fired.drain(..) {
            match due {
                Due::Wake(waker) => waker.wake(),
                Due::Request(request) => {
                    self.tasks.cancel(request, RequestError::Expired);
                }
                Due::Call { rank, slot } => self.stages.borrow()[usize::from(rank)].expire(slot),
                Due::Socket(socket) => self.net.on_time(socket),
                Due::Batch { rank, batch } => {
                    self.stages.borrow()[usize::from(rank)].overrun(batch);
                }
            }
        }
        *self.fired.borrow_mut() = fired;
        n_fired
    }

    fn take_parcels(&self) -> Vec<ShardId> {
        let parcels = self.mesh.take_incoming();
        let mut from = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            from.push(parcel.from);
            self.metrics.parcels_received.add(1);
            for envelope in parcel.envelopes {
                self.mesh.book_arrival(parcel.from, &envelope);
                self.open(parcel.from, envelope);
            }
        }
        from
    }

    /// Hands an envelope to whom it is for.
    pub(super) fn open(&self, from: ShardId, envelope: Envelope) {
        let stage = |rank: u16| std::rc::Rc::clone(&self.stages.borrow()[usize::from(rank)]);
        match envelope {
            Envelope::Calls { rank, calls, .. } => stage(rank).receive_calls(from, calls),
            Envelope::Replies { rank, replies, level, .. } => {
                stage(rank).receive_replies(from, replies, level);
            }
            Envelope::Cancels { rank, slots } => stage(rank).receive_cancels(from, &slots),
            Envelope::Request { token, start } => {
                contain(|| start(token));
            }
            Envelope::RequestReply { token, reply } => self.tasks.take_reply(token, reply),
            Envelope::RequestCancel { token } => self.tasks.cancel_served(from, token),
            Envelope::End => {}
        }
    }
}
