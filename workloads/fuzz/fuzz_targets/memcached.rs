//! Feeds the memcached decoder any bytes, whole and in any parts, and asks for the same commands.
//!
//! The first eight bytes of an input say how the others are cut. What is held is bounded at every
//! part, and every command is answered with every outcome that it can have, so that no answer panics.
//! The codec's files are taken into this crate rather than its crate depended on: they need four small
//! crates, while the workloads bring a database and a ring that would be instrumented too.
//!
//! ```text
//! cargo fuzz run memcached -- -max_len=4096 -max_total_time=300
//! ```
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, unused_imports, reason = "not all of it is asked here")]
mod cacheproxy;

use cacheproxy::operation::{Counted, Entry, Failure, Key, Outcome, What, Win};
use cacheproxy::protocol::{Asked, Command, Decoder, Limits};

const LIMITS: Limits = Limits { value_bytes_max: 600, line_bytes_max: 3000 };

/// Twice what may arrive of a line or a value, what a value's first part is given, and what is around
/// it.
const HELD_BYTES_MAX: usize = 2 * LIMITS.line_bytes_max as usize + 1024;

/// Bytes of an input that say how the others are cut.
const CUTS_BYTES: usize = 8;

/// Longest part that the others are cut into.
const PART_BYTES_MAX: u64 = 40;

fuzz_target!(|input: &[u8]| {
    let Some((cuts, bytes)) = input.split_first_chunk::<CUTS_BYTES>() else { return };
    let whole = decode([bytes]);
    let parts = decode(Parts { bytes, state: u64::from_le_bytes(*cuts) });
    assert_eq!(whole, parts);
    whole.iter().for_each(answer);
});

fn decode<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<Command> {
    let mut decoder = Decoder::new(LIMITS);
    let mut commands = Vec::new();
    for mut part in parts {
        while let Some(command) = decoder.decode(&mut part) {
            commands.push(command);
        }
        assert!(part.is_empty());
        assert!(decoder.held_bytes() <= HELD_BYTES_MAX, "holds {}", decoder.held_bytes());
        assert!(!decoder.is_between() || decoder.held_bytes() == 0);
    }
    commands
}

/// The parts of some bytes.
struct Parts<'a> {
    bytes: &'a [u8],
    state: u64,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.bytes.is_empty() {
            return None;
        }
        // Knuth's generator; its high bits are the good ones.
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let n_bytes = 1 + (self.state >> 33) % PART_BYTES_MAX;
        let n_bytes = usize::try_from(n_bytes).map_or(1, |n_bytes| n_bytes.min(self.bytes.len()));
        let (part, rest) = self.bytes.split_at(n_bytes);
        self.bytes = rest;
        Some(part)
    }
}

fn answer(command: &Command) {
    let mut out = Vec::new();
    let answering = &command.answering;
    match &command.asked {
        Asked::One(operation) => {
            for outcome in outcomes(&operation.what) {
                answering.outcomes([(&operation.key, &outcome)], &mut out);
            }
        }
        Asked::Many(_, keys) => {
            let outcomes = outcomes(&What::Get(Default::default()));
            let answered: Vec<(&Key, &Outcome)> =
                keys.iter().zip(outcomes.iter().cycle()).collect();
            answering.outcomes(answered, &mut out);
        }
        Asked::Refused(refusal) => answering.refused(*refusal, &mut out),
        Asked::Version => answering.version("1", &mut out),
        Asked::Stats(_) => {
            answering.stat("name", "value", &mut out);
            answering.stats_end(&mut out);
        }
        Asked::FlushAll(_) | Asked::Verbosity | Asked::Noop | Asked::Quit => {
            answering.done(&mut out);
        }
    }
}

/// What may come of an operation.
fn outcomes(what: &What) -> Vec<Outcome> {
    let own = match what {
        What::Get(_) => vec![Outcome::Miss, Outcome::Hit(entry())],
        What::Set(_) => {
            vec![Outcome::Stored(1), Outcome::NotStored, Outcome::Exists, Outcome::NotFound]
        }
        What::Delete(_) => vec![Outcome::Deleted, Outcome::Miss, Outcome::Exists],
        What::Count(_) => {
            let counted = Counted { number: u64::MAX, cas: u64::MAX, ttl_s: Some(u32::MAX) };
            vec![Outcome::Counted(counted), Outcome::Miss, Outcome::NotANumber]
        }
        What::Describe => vec![Outcome::Described(None)],
    };
    let any = [Outcome::TooLarge, Outcome::NoMemory, Outcome::Failed(Failure::Unanswered)];
    own.into_iter().chain(any).collect()
}

fn entry() -> Entry {
    Entry {
        value: Bytes::from_static(b"value"),
        value_bytes: 5,
        flags: u32::MAX,
        cas: u64::MAX,
        ttl_s: Some(u32::MAX),
        idle_s: u32::MAX,
        fetched: true,
        stale: true,
        win: Win::Won,
    }
}
