//! When a batch seals: pure rules over a view of the queue.

use std::time::Duration;

use crate::runtime::Time;

/// The rule that decides when a batch seals. Whatever the rule, a full batch seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// When nothing else is ready to run on the shard, or the oldest item has seen one whole
    /// pass, whichever is first. Adds no waiting: the time others run is the window.
    Idle,
    /// When the oldest item has waited this long for company, or no running request could join.
    Linger(Duration),
}

/// Why a batch sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealReason {
    /// The item or weight limit was reached.
    Full,
    /// The oldest item had waited for the linger.
    Lingered,
    /// Nothing else was ready, or nobody could join.
    Idle,
    /// The engine is stopping.
    Closing,
}

/// What a window sees of a queue at the end of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueView {
    pub(crate) now: Time,
    pub(crate) oldest_admitted: Time,
    /// All that was ready after the oldest item came has run.
    pub(crate) oldest_saw_pass: bool,
    /// No task is ready on the shard.
    pub(crate) ready_empty: bool,
    /// Some running request does not wait for this stage yet, so it could still join.
    pub(crate) joinable: bool,
    /// The item or weight limit is reached.
    pub(crate) full: bool,
    pub(crate) closing: bool,
}

/// What the window says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Seal(SealReason),
    /// Ask again at the end of the next turn, or when this time has come.
    Hold(Time),
}

impl Window {
    pub(crate) fn decide(self, view: &QueueView) -> Verdict {
        if view.full {
            return Verdict::Seal(SealReason::Full);
        }
        if view.closing {
            return Verdict::Seal(SealReason::Closing);
        }
        let idle = view.ready_empty || view.oldest_saw_pass;
        match self {
            Self::Idle if idle => Verdict::Seal(SealReason::Idle),
            Self::Idle => Verdict::Hold(Time::NEVER),
            Self::Linger(linger) => {
                let until = view.oldest_admitted.after(linger);
                if view.now >= until {
                    Verdict::Seal(SealReason::Lingered)
                } else if idle && !view.joinable {
                    Verdict::Seal(SealReason::Idle)
                } else {
                    Verdict::Hold(until)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(window: Window, change: impl FnOnce(&mut QueueView), expected: Verdict) {
        let mut view = QueueView {
            now: Time::from_nanos(1_000),
            oldest_admitted: Time::from_nanos(900),
            oldest_saw_pass: false,
            ready_empty: false,
            joinable: true,
            full: false,
            closing: false,
        };
        change(&mut view);
        assert_eq!(window.decide(&view), expected, "{window:?} {view:?}");
    }

    const LINGER: Window = Window::Linger(Duration::from_nanos(500));

    #[test]
    fn idle_holds_while_others_run_and_seals_when_none_or_a_whole_pass_has() {
        check(Window::Idle, |_| {}, Verdict::Hold(Time::NEVER));
        check(Window::Idle, |view| view.ready_empty = true, Verdict::Seal(SealReason::Idle));
        check(Window::Idle, |view| view.oldest_saw_pass = true, Verdict::Seal(SealReason::Idle));
    }

    #[test]
    fn linger_waits_its_time_but_only_while_somebody_could_join() {
        let until = Time::from_nanos(1_400);
        check(LINGER, |_| {}, Verdict::Hold(until));
        check(LINGER, |view| view.ready_empty = true, Verdict::Hold(until));
        check(LINGER, |view| view.now = until, Verdict::Seal(SealReason::Lingered));
        check(
            LINGER,
            |view| (view.ready_empty, view.joinable) = (true, false),
            Verdict::Seal(SealReason::Idle),
        );
        check(LINGER, |view| view.joinable = false, Verdict::Hold(until));
    }

    #[test]
    fn full_and_closing_seal_under_every_window() {
        for window in [Window::Idle, LINGER] {
            check(window, |view| view.full = true, Verdict::Seal(SealReason::Full));
            check(window, |view| view.closing = true, Verdict::Seal(SealReason::Closing));
        }
    }
}
