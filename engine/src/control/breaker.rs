//! A circuit breaker: a downstream that fails is left alone for a while, then tried with one batch.
//!
//! ```text
//!              half of the batches of the window failed
//!   Closed ───────────────────────────────────────────────▶ Open
//!     ▲  ▲                                          time up │ ▲
//!     │  └── the probe succeeded ──── HalfOpen ◀────────────┘ │ the probe failed
//!     │                                  └────────────────────┘
//! ```
//!
//! Counted per batch, since a batch is what the downstream sees. A batch tells when it ends in which
//! state it was sent, so that those sent before the circuit opened cannot pass for its probe.

use std::time::Duration;

use super::Reading;
use crate::runtime::Time;

/// When a stage leaves its downstream alone. The defaults are those of Hystrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Failed batches in percent of all in the window that open the circuit. Default 50.
    pub failures_percent: u32,
    /// Batches in the window before that is asked at all. Default 20.
    pub calls_min: u32,
    /// How far back batches count. Default 10 s.
    pub window: Duration,
    /// How long the downstream is left alone before one batch tries it. Default 5 s.
    pub open_for: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            failures_percent: 50,
            calls_min: 20,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
        }
    }
}

/// What the breaker says to a batch that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Send it.
    Send,
    /// Send this one: it is the probe, and no other is sent before it has ended.
    Probe,
    /// Send none. What calls meanwhile is refused.
    Shut {
        /// When to ask again; `NEVER` while a probe is out.
        until: Time,
    },
}

/// What a batch was sent as; it is given back when the batch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    Ordinary,
    Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Circuit {
    Closed,
    Open { until: Time },
    Probing,
}

/// Parts of the window, so that old batches leave it a tenth at a time.
const PARTS: usize = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    n_ended: u32,
    n_failed: u32,
}

/// The breaker of one downstream.
#[derive(Debug)]
pub(crate) struct Breaker {
    options: BreakerOptions,
    circuit: Circuit,
    parts: [Part; PARTS],
    /// The part that counts now, numbered from the engine's start.
    part: u64,
}

impl Breaker {
    pub(crate) fn new(options: &BreakerOptions) -> Self {
        let circuit = Circuit::Closed;
        Self { options: options.clone(), circuit, parts: [Part::default(); PARTS], part: 0 }
    }

    /// Whether a batch may be sent now. Changes nothing: the batch that is sent says so.
    pub(crate) fn may_send(&self, now: Time) -> Gate {
        match self.circuit {
            Circuit::Closed => Gate::Send,
            Circuit::Open { until } if now >= until => Gate::Probe,
            Circuit::Open { until } => Gate::Shut { until },
            Circuit::Probing => Gate::Shut { until: Time::NEVER },
        }
    }

    /// Whether batches are sent as if there were no breaker.
    pub(crate) fn is_closed(&self) -> bool {
        self.circuit == Circuit::Closed
    }

    /// A batch that [`Self::may_send`] let through was sent.
    pub(crate) fn sent(&mut self, now: Time) -> Sending {
        match self.may_send(now) {
            Gate::Send => Sending::Ordinary,
            // Open → Probing
            Gate::Probe => {
                self.circuit = Circuit::Probing;
                Sending::Probe
            }
            Gate::Shut { until } => panic!("sent past a breaker that is shut until {until:?}"),
        }
    }

    /// A batch came back with its values.
    pub(crate) fn succeeded(&mut self, now: Time, sending: Sending) {
        match (self.circuit, sending) {
            // Probing → Closed
            (Circuit::Probing, Sending::Probe) => {
                self.circuit = Circuit::Closed;
                self.parts = [Part::default(); PARTS];
            }
            (Circuit::Closed, Sending::Ordinary) => self.current(now).n_ended += 1,
            _ => {}
        }
    }

    /// A batch failed, expired, panicked or was given up.
    pub(crate) fn failed(&mut self, now: Time, sending: Sending) {
        match (self.circuit, sending) {
            // Probing → Open
            (Circuit::Probing, Sending::Probe) => self.open(now),
            (Circuit::Closed, Sending::Ordinary) => {
                let part = self.current(now);
                part.n_ended += 1;
                part.n_failed += 1;
                // Closed → Open
                if self.fails_too_often() {
                    self.open(now);
                }
            }
            _ => {}
        }
    }

    /// A batch has ended, and nothing can be said of the downstream: it was not asked, or given up at a
    /// stop.
    pub(crate) fn learned_nothing(&mut self, now: Time, sending: Sending) {
        // Probing → Open: no probe is out any more.
        if (self.circuit, sending) == (Circuit::Probing, Sending::Probe) {
            self.open(now);
        }
    }

    pub(crate) fn readings(&self, out: &mut Vec<Reading>) {
        let openness = match self.circuit {
            Circuit::Closed => 0.0,
            Circuit::Probing => 0.5,
            Circuit::Open { .. } => 1.0,
        };
        out.push(Reading::new("breaker_open", openness));
    }

    fn open(&mut self, now: Time) {
        self.circuit = Circuit::Open { until: now.after(self.options.open_for) };
    }

    fn fails_too_often(&self) -> bool {
        let sum =
            |count: fn(&Part) -> u32| self.parts.iter().map(|part| u64::from(count(part))).sum();
        let (n_ended, n_failed): (u64, u64) = (sum(|part| part.n_ended), sum(|part| part.n_failed));
        n_ended >= u64::from(self.options.calls_min)
            && n_failed * 100 >= n_ended * u64::from(self.options.failures_percent)
    }

    /// The part of the window that counts at `now`; those that have left it begin anew.
    fn current(&mut self, now: Time) -> &mut Part {
        let width = (crate::runtime::nanos(self.options.window) / PARTS as u64).max(1);
        let part = (now.as_nanos() / width).max(self.part);
        for passed in (self.part + 1..=part).take(PARTS) {
            self.parts[Self::place(passed)] = Part::default();
        }
        self.part = part;
        &mut self.parts[Self::place(part)]
    }

    #[allow(clippy::cast_possible_truncation, reason = "a remainder of 10")]
    fn place(part: u64) -> usize {
        (part % PARTS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u32) -> Time {
        Time::ZERO.after(SECOND * seconds)
    }

    fn breaker() -> Breaker {
        Breaker::new(&BreakerOptions::default())
    }

    /// Sends and ends batches at `now`, those that fail last.
    fn run(breaker: &mut Breaker, now: Time, n_succeed: usize, n_fail: usize) {
        let batches: Vec<Sending> = (0..n_succeed + n_fail).map(|_| breaker.sent(now)).collect();
        for (idx, sending) in batches.into_iter().enumerate() {
            if idx < n_succeed {
                breaker.succeeded(now, sending);
            } else {
                breaker.failed(now, sending);
            }
        }
    }

    #[test]
    fn opens_when_half_of_enough_batches_have_failed() {
        let check = |n_succeed, n_fail, wanted| {
            let mut breaker = breaker();
            run(&mut breaker, at(1), n_succeed, n_fail);
            assert_eq!(breaker.may_send(at(1)), wanted, "{n_succeed} {n_fail}");
        };
        check(11, 10, Gate::Send);
        check(0, 19, Gate::Send);
        check(10, 10, Gate::Shut { until: at(6) });
        check(0, 20, Gate::Shut { until: at(6) });
    }

    #[test]
    fn failures_that_have_left_the_window_do_not_count() {
        let mut breaker = breaker();
        run(&mut breaker, at(1), 0, 19);
        run(&mut breaker, at(11), 0, 19);
        assert_eq!(breaker.may_send(at(11)), Gate::Send);
        run(&mut breaker, at(12), 0, 1);
        assert_eq!(breaker.may_send(at(12)), Gate::Shut { until: at(17) });
    }

    #[test]
    fn one_probe_decides() {
        let mut breaker = breaker();
        run(&mut breaker, at(1), 0, 20);
        assert_eq!(breaker.may_send(at(6)), Gate::Probe);
        let probe = breaker.sent(at(6));
        assert_eq!(breaker.may_send(at(7)), Gate::Shut { until: Time::NEVER });
        breaker.failed(at(7), probe);
        assert_eq!(breaker.may_send(at(11)), Gate::Shut { until: at(12) });
        let probe = breaker.sent(at(12));
        breaker.succeeded(at(13), probe);
        assert_eq!(breaker.may_send(at(13)), Gate::Send);
    }

    #[test]
    fn a_batch_sent_before_it_opened_is_not_its_probe() {
        let mut breaker = breaker();
        let early = breaker.sent(at(1));
        run(&mut breaker, at(1), 0, 20);
        let _probe = breaker.sent(at(6));
        breaker.succeeded(at(7), early);
        assert_eq!(breaker.may_send(at(7)), Gate::Shut { until: Time::NEVER });
    }

    #[test]
    fn a_batch_that_nothing_can_be_said_of_counts_for_nothing_and_leaves_no_probe_out() {
        let mut breaker = breaker();
        for _again in 0..100 {
            let sending = breaker.sent(at(1));
            breaker.learned_nothing(at(1), sending);
        }
        assert_eq!(breaker.may_send(at(1)), Gate::Send);
        run(&mut breaker, at(1), 0, 20);
        assert_eq!(breaker.may_send(at(1)), Gate::Shut { until: at(6) });
        let probe = breaker.sent(at(6));
        breaker.learned_nothing(at(7), probe);
        assert_eq!(breaker.may_send(at(7)), Gate::Shut { until: at(12) });
    }

    #[test]
    fn what_failed_before_it_closed_is_forgotten() {
        let mut breaker = breaker();
        run(&mut breaker, at(1), 0, 20);
        let probe = breaker.sent(at(6));
        breaker.succeeded(at(6), probe);
        run(&mut breaker, at(6), 0, 19);
        assert_eq!(breaker.may_send(at(6)), Gate::Send);
    }
}
