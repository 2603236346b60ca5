//! A connection without a socket: bytes in, bytes out, and a tier that is a function.

use crate::cacheproxy::memcached::VERSION;
use crate::cacheproxy::operation::{
    Count, Direction, Entry, Key, Operation, Outcome, Set, SetMode, What, Win,
};
use crate::cacheproxy::protocol::{Asked, Command, Decoder, Limits, Stats};

/// What a tier answers.
pub(super) type Tier = fn(&Operation) -> Outcome;

/// Small, so that what is too large need not be large.
pub(super) const LIMITS: Limits = Limits { value_bytes_max: 100, line_bytes_max: 8192 };

/// All that is answered to these bytes, in these parts, by a server whose tier is this.
pub(super) fn answer(parts: &[&[u8]], limits: Limits, tier: Tier) -> Vec<u8> {
    let mut out = Vec::new();
    for command in commands(parts, limits) {
        answer_one(&command, tier, &mut out);
    }
    out
}

/// The commands in these bytes.
pub(super) fn commands(parts: &[&[u8]], limits: Limits) -> Vec<Command> {
    let mut decoder = Decoder::new(limits);
    let mut commands = Vec::new();
    for part in parts {
        let mut input = *part;
        while let Some(command) = decoder.decode(&mut input) {
            commands.push(command);
        }
        assert!(input.is_empty(), "{} bytes were left", input.len());
    }
    commands
}

fn answer_one(command: &Command, tier: Tier, out: &mut Vec<u8>) {
    let answering = &command.answering;
    match &command.asked {
        Asked::One(operation) => {
            answering.outcomes([(&operation.key, &tier(operation))], out);
        }
        Asked::Many(get, keys) => {
            let ask = |key: &Key| tier(&Operation { key: key.clone(), what: What::Get(*get) });
            let outcomes: Vec<Outcome> = keys.iter().map(ask).collect();
            answering.outcomes(keys.iter().zip(&outcomes), out);
        }
        Asked::Refused(refusal) => answering.refused(*refusal, out),
        Asked::Version => answering.version(VERSION, out),
        Asked::Stats(Stats::Reset)
        | Asked::FlushAll(_)
        | Asked::Verbosity
        | Asked::Noop
        | Asked::Quit => answering.done(out),
        Asked::Stats(_) => {
            answering.stat("pid", "7", out);
            answering.stats_end(out);
        }
    }
}

/// An empty store that takes everything and keeps nothing.
pub(super) fn empty(operation: &Operation) -> Outcome {
    match &operation.what {
        What::Set(Set { if_cas: Some(_), mode: SetMode::Set, .. }) => Outcome::NotFound,
        What::Set(Set { mode: SetMode::Set | SetMode::Add, .. }) => Outcome::Stored(9),
        What::Set(_) => Outcome::NotStored,
        What::Describe => Outcome::Described(None),
        What::Get(_) | What::Delete(_) | What::Count(_) => Outcome::Miss,
    }
}

/// A store in which every key has the value `val`, the flags 7 and the cas 35, and a number is 5.
pub(super) fn full(operation: &Operation) -> Outcome {
    match &operation.what {
        What::Get(_) => Outcome::Hit(entry()),
        What::Set(Set { if_cas: Some(_), .. }) => Outcome::Exists,
        What::Set(Set { mode: SetMode::Add, .. }) => Outcome::NotStored,
        What::Set(_) => Outcome::Stored(36),
        What::Delete(delete) if delete.if_cas.is_some_and(|cas| cas != 35) => Outcome::Exists,
        What::Delete(_) => Outcome::Deleted,
        What::Count(Count { if_cas: Some(_), .. }) => Outcome::Exists,
        What::Count(count) => {
            let number = match count.direction {
                Direction::Up => 5 + count.delta,
                Direction::Down => 5_u64.saturating_sub(count.delta),
            };
            Outcome::Counted(crate::cacheproxy::operation::Counted { number, cas: 36, ttl_s: None })
        }
        What::Describe => Outcome::Described(None),
    }
}

pub(super) fn entry() -> Entry {
    Entry {
        value: bytes::Bytes::from_static(b"val"),
        value_bytes: 3,
        flags: 7,
        cas: 35,
        ttl_s: None,
        idle_s: 0,
        fetched: true,
        stale: false,
        win: Win::None,
    }
}

/// One row of a table.
pub(super) fn check(asked: &[u8], expected: &[u8], tier: Tier) {
    let got = answer(&[asked], LIMITS, tier);
    assert_eq!(
        got.escape_ascii().to_string(),
        expected.escape_ascii().to_string(),
        "asked {}",
        asked[..asked.len().min(100)].escape_ascii()
    );
}
