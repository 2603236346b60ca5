//! The bounds of sockets in time: one timer for each at most.

use super::{SlotKey, State, Table};
use crate::runtime::Time;
use crate::runtime::core::Due;
use crate::runtime::wheel::TimerId;

impl Table {
    /// A timer of the socket has fired.
    pub(in crate::net) fn on_time(&mut self, key: SlotKey) {
        let now = self.core.now();
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.timer = None;
        self.timers -= 1;
        if let State::Stream(stream) = &mut slot.state {
            let wakes = stream.due() <= now;
            if stream.on_time(now) {
                self.metrics.timed_out.add(1);
            }
            if wakes {
                self.after.wake([stream.reader.take(), stream.writer.take()]);
            }
        }
        self.list(key);
    }

    /// Sees to it that a timer stands for the socket's nearest bound. It may stand too early: the
    /// bounds move away with each byte, and moving the timer along would cost more than one look.
    pub(in crate::net) fn watch_time(&mut self, key: SlotKey) {
        let Ok(stream) = self.stream(key) else { return };
        let due = stream.due();
        if due < Time::NEVER {
            self.arm(key, due);
        }
    }

    pub(super) fn arm(&mut self, key: SlotKey, due: Time) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.timer.is_some_and(|(_, armed)| armed <= due) {
            return;
        }
        let timer = self.core.arm(due, Due::Socket(key.bits()));
        let before = slot.timer.replace((timer, due));
        self.timers += 1;
        self.disarm(before);
    }

    pub(super) fn disarm(&mut self, timer: Option<(TimerId, Time)>) {
        if let Some((timer, _)) = timer {
            self.core.disarm(timer);
            self.timers -= 1;
        }
    }
}
