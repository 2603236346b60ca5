//! How long a connection waits for its client.
//!
//! Only the time in which we wait for the client counts: one that waits for us, for a server that is
//! slow or for its answers to leave, is not silent. A stop hears whoever has begun to speak to the end
//! of that command, and whoever says one command after the other until the stop's own time is over;
//! it ends whoever has nothing more to say. That takes a moment of silence, since a command may be on
//! its way.

use std::io;
use std::time::Duration;

use forebay::net::{Chunk, Connection};
use forebay::{Draining, Time, draining, draining_since, now};
use futures_lite::future::{or, pending, poll_once};

use crate::cacheproxy::config::Limits;
use crate::cacheproxy::protocol::Decoder;

/// How long a client may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// At any time; for ever if there is none.
    idle: Option<Duration>,
    /// Between two commands, during a stop.
    last_word: Duration,
    /// How long a stop hears clients, silent or not.
    stop: Duration,
}

/// Where in its commands a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    Between,
    Within,
}

impl Patience {
    pub(super) fn of(limits: &Limits) -> Self {
        let millis = |ms: u32| Duration::from_millis(ms.into());
        Self {
            idle: (limits.idle_ms > 0).then(|| millis(limits.idle_ms)),
            last_word: millis(limits.last_word_ms),
            stop: millis(limits.drain_ms),
        }
    }

    /// When a client that is silent since then is given up.
    fn ends_at(&self, silent_since: Time, stop_began: Option<Time>, speech: Speech) -> Time {
        let after = |since: Time, most: Option<Duration>| most.map(|most| since.after(most));
        let idle = after(silent_since, self.idle).unwrap_or(Time::NEVER);
        let Some(began) = stop_began else { return idle };
        let last_word = match speech {
            Speech::Between => silent_since.max(began).after(self.last_word),
            Speech::Within => Time::NEVER,
        };
        idle.min(last_word).min(began.after(self.stop))
    }
}

/// Hears one client, and of a stop.
pub(super) struct Hearing<'a> {
    connection: &'a Connection,
    patience: Patience,
    stop: Draining,
}

impl<'a> Hearing<'a> {
    pub(super) fn of(connection: &'a Connection, patience: Patience) -> Self {
        Self { connection, patience, stop: draining() }
    }

    /// What the client says next; `None` where the connection is at its end.
    pub(super) async fn next(&mut self, decoder: &Decoder) -> Option<Chunk> {
        let speech = if decoder.is_between() { Speech::Between } else { Speech::Within };
        let mut silent_since = now();
        loop {
            let stop_began = draining_since();
            let ends_at = self.patience.ends_at(silent_since, stop_began, speech);
            // Most connections have no bound for most of their time, and set none.
            if ends_at != Time::NEVER {
                self.connection.read_by(Some(ends_at));
            }
            // One that never pauses would be read for ever: what has come is read before the time is
            // looked at.
            if stop_began.is_some() && ends_at <= now() {
                return None;
            }
            match self.heard(stop_began).await {
                Heard::Said(chunk) => return chunk,
                Heard::Stop => {}
                // A connection that breaks is its client's to notice: there is nobody else to tell.
                Heard::Nothing(error) if error.kind() != io::ErrorKind::TimedOut => return None,
                Heard::Nothing(_) if stop_began.is_some() => return None,
                Heard::Nothing(_) => {
                    self.until_all_has_left().await?;
                    silent_since = now();
                }
            }
        }
    }

    async fn heard(&mut self, stop_began: Option<Time>) -> Heard {
        let read = async {
            match self.connection.read().await {
                Ok(chunk) => Heard::Said(chunk),
                Err(error) => Heard::Nothing(error),
            }
        };
        let told = async {
            match stop_began {
                None => (&mut self.stop).await,
                Some(_) => pending().await,
            }
            Heard::Stop
        };
        or(read, told).await
    }

    /// Waits while what the client was told is leaving, which has its own bound in time. `None` if all
    /// of it had left before, so that the client was idle, or if it cannot leave.
    async fn until_all_has_left(&self) -> Option<()> {
        match poll_once(self.connection.flush()).await {
            Some(_) => None,
            None => self.connection.flush().await.ok(),
        }
    }
}

/// What there was to hear.
enum Heard {
    /// `None` at the end of the stream.
    Said(Option<Chunk>),
    Nothing(io::Error),
    /// A stop has begun.
    Stop,
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn silence_is_reckoned_from_the_last_byte_and_a_stop_from_its_begin() {
        let millis = Duration::from_millis;
        let endless = Patience { idle: None, last_word: millis(100), stop: millis(5_000) };
        let cut = Patience { idle: Some(millis(1_000)), ..endless };
        let check = |patience: Patience, since, stop: Option<u64>, speech, wanted| {
            let found = patience.ends_at(ms(since), stop.map(ms), speech);
            assert_eq!(found, wanted, "{patience:?} {since} {stop:?} {speech:?}");
        };
        let (between, within) = (Speech::Between, Speech::Within);
        for speech in [between, within] {
            check(endless, 70, None, speech, Time::NEVER);
            check(cut, 70, None, speech, ms(1_070));
        }
        // Silent before the stop, spoken since, and until its very end.
        check(endless, 70, Some(10_000), between, ms(10_100));
        check(endless, 10_070, Some(10_000), between, ms(10_170));
        check(endless, 14_950, Some(10_000), between, ms(15_000));
        // Half a command is heard to its end, unless the client is idle meanwhile.
        check(endless, 70, Some(10_000), within, ms(15_000));
        check(cut, 10_070, Some(10_000), within, ms(11_070));
        check(cut, 10_070, Some(10_000), between, ms(10_170));
    }
}
