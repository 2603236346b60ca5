//! Who of a queue goes next while the delay stands: the newest.
//!
//! First come, first served is fair as long as everybody is served in time. Once a queue has stood
//! for a while with its oldest too late to be of use, serving in order makes everybody late; served
//! from the other end, the newest are in time and only those are lost that were lost anyway (the
//! adaptive order of Facebook's "Fail at Scale").

use std::time::Duration;

use crate::runtime::Time;

/// From which end of a queue a batch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    OldestFirst,
    NewestFirst,
}

/// Tells whether the delay of a queue stands.
#[derive(Debug)]
pub(crate) struct StandingDelay {
    target: Duration,
    interval: Duration,
    /// When the queue was last seen empty.
    emptied: Time,
}

impl StandingDelay {
    /// A delay stands when the oldest has waited beyond `target` and the queue has not been empty
    /// for `interval`.
    pub(crate) fn new(target: Duration, interval: Duration) -> Self {
        Self { target, interval, emptied: Time::ZERO }
    }

    /// Tells the order for a queue of `depth` items whose oldest has waited for `oldest_wait`. Must
    /// be asked, or told by [`Self::emptied`], whenever the queue has become empty.
    pub(crate) fn order(&mut self, now: Time, depth: usize, oldest_wait: Duration) -> Order {
        if depth == 0 {
            self.emptied(now);
        }
        let is_standing = self.is_standing(now) && oldest_wait > self.target;
        if is_standing { Order::NewestFirst } else { Order::OldestFirst }
    }

    /// The queue is empty.
    pub(crate) fn emptied(&mut self, now: Time) {
        self.emptied = now;
    }

    /// Whether the queue has not been empty for the interval.
    pub(crate) fn is_standing(&self, now: Time) -> bool {
        now.since(self.emptied) >= self.interval
    }

    pub(crate) fn set_target(&mut self, target: Duration) {
        self.target = target;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn check(at_ms: u32, oldest_wait_ms: u32, wanted: Order) {
        let mut delay = StandingDelay::new(MS * 5, MS * 100);
        delay.order(Time::ZERO.after(MS * 1_000), 0, Duration::ZERO);
        let now = Time::ZERO.after(MS * (1_000 + at_ms));
        assert_eq!(delay.order(now, 1, MS * oldest_wait_ms), wanted, "{at_ms} {oldest_wait_ms}");
    }

    #[test]
    fn newest_go_first_only_while_a_delay_stands() {
        check(99, 50, Order::OldestFirst);
        check(100, 5, Order::OldestFirst);
        check(100, 6, Order::NewestFirst);
    }

    #[test]
    fn an_empty_queue_ends_it() {
        let mut delay = StandingDelay::new(MS * 5, MS * 100);
        let now = Time::ZERO.after(MS * 1_000);
        assert_eq!(delay.order(now, 1, MS * 50), Order::NewestFirst);
        assert_eq!(delay.order(now, 0, Duration::ZERO), Order::OldestFirst);
        assert_eq!(delay.order(now.after(MS * 50), 1, MS * 50), Order::OldestFirst);
    }
}
