//! The alarm of the peers' load generator.
//!
//! tokio's own timers tick in milliseconds. A generator on them would release 50 requests at a time
//! at 50,000 a second and charge the peer for it; a kernel timer watched by the same runtime is
//! exact to some ten microseconds and costs the runtime one readiness event.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A kernel timer that one task can wait for.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    #[expect(
        deprecated,
        reason = "unsound for types that lie about their descriptor; OwnedFd does not, and the \
                  replacement is an unsafe function"
    )]
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { timer: AsyncFd::new(timer)? })
    }

    /// Waits for `delay`, at least a nanosecond: zero would disarm the timer for ever.
    pub(super) async fn wait(&self, delay: Duration) -> io::Result<()> {
        let delay = delay.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: delay.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0; 8];
            match rustix::io::read(&self.timer, &mut expirations) {
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    ready.clear_ready();
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn an_alarm_does_not_ring_early_and_rings_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let alarm = Alarm::new().unwrap();
            let clock = Clock::start();
            alarm.wait(Duration::from_micros(500)).await.unwrap();
            assert!(clock.now_ns() >= 500_000);
            alarm.wait(Duration::ZERO).await.unwrap();
        });
    }
}
