//! Random commands on a few keys, in every protocol, so that each finds what others have left.
//!
//! A seed gives the same commands to both sides, but for the numbers of cas: each side has its own, so
//! a command names the item whose current one it takes.
//!
//! Left out is what 1.6.18 does by mistake or by chance: a number to count with that begins with a
//! minus (it looks beyond the end of larger ones), a new expiry for a number that grows (which the old
//! item gets), a quiet `ma` that makes its number (which is answered all the same), flags of `mg`
//! in another order than they are done in here (1.6.18 does and tells them one after the other), a
//! number that is counted with while the answer to an earlier read of it waits to leave (it does not
//! keep its room then), expiries that end while a test runs.

use std::collections::BTreeMap;

use fastrand::Rng;

/// The keys of all commands.
pub(crate) const KEYS: [&str; 5] =
    ["k0", "k1", "k2", "k3", "a-longer-key-than-fits-into-a-small-one"];
/// Those that are counted with, where others have the long values.
const COUNTED_APART: [&str; 2] = ["k0", "k1"];
/// A cas that no item has.
const OTHER_CAS: u64 = u64::MAX;

/// The current cas of each key on one side.
pub(crate) type Current = BTreeMap<&'static str, u64>;

/// Makes commands for one side.
pub(crate) struct Writer<'a> {
    pub(crate) rng: Rng,
    pub(crate) current: &'a Current,
    pub(crate) promises: Promises,
    /// Whether a value may be on its way, so that numbers are not counted with.
    has_read: bool,
}

/// Which commands are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promises {
    /// All.
    Everything,
    /// None that flushes: the items of servers downstream are not ours alone.
    NoFlush,
    /// None that flushes, and those that count on other keys than long values. What begins with a number
    /// and a space, as 1.6.18 puts it behind a number that has become shorter, counts as that number to
    /// it, however much follows; values in pieces are never numbers.
    NoFlushLongApart,
}

fn one_of<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

/// Expiries that do not come while a test runs, or that have.
const EXPIRIES: &[i32] = &[0, 0, 0, 500, 2_592_000, 3_000_000, i32::MAX, -1];
const DELTAS: &[u64] = &[0, 1, 1, 3, 90, u64::MAX];
const VALUES: &[&str] = &[
    "",
    "0",
    "7",
    "9",
    "10",
    "99",
    "100",
    " 7",
    "9 ",
    "+5",
    "007",
    "7x",
    "apple",
    "18446744073709551615",
    "18446744073709551616",
];

impl<'a> Writer<'a> {
    pub(crate) fn new(rng: Rng, current: &'a Current, promises: Promises) -> Self {
        Self { rng, current, promises, has_read: false }
    }

    fn key(&mut self) -> &'static str {
        one_of(&mut self.rng, &KEYS)
    }

    fn keys(&mut self) -> String {
        let n_keys = self.rng.usize(1..7);
        (0..n_keys).map(|_| format!(" {}", self.key())).collect()
    }

    /// Sometimes the right one. Draws as often whichever it is.
    fn cas(&mut self, key: &str) -> u64 {
        let current = self.current.get(key).copied().unwrap_or(OTHER_CAS);
        one_of(&mut self.rng, &[current, current, current, OTHER_CAS, 1])
    }

    fn expiry(&mut self) -> i32 {
        one_of(&mut self.rng, EXPIRIES)
    }

    fn value(&mut self, key: &str) -> Vec<u8> {
        match self.rng.u32(..40) {
            0..5 if self.is_apart(key) => self.word(),
            0 => vec![b'x'; self.rng.usize(..100_000)],
            // More than either may store.
            1 if self.rng.u8(..10) == 0 => vec![b'x'; 2 << 20],
            2..5 => vec![b'x'; self.rng.usize(..2_000)],
            _ => self.word(),
        }
    }

    /// A short value.
    fn word(&mut self) -> Vec<u8> {
        one_of(&mut self.rng, VALUES).as_bytes().to_vec()
    }

    /// Whether this key is only for short values.
    fn is_apart(&self, key: &str) -> bool {
        self.promises == Promises::NoFlushLongApart && COUNTED_APART.contains(&key)
    }

    fn may_count(&self, key: &str) -> bool {
        let is_counted = self.promises != Promises::NoFlushLongApart || self.is_apart(key);
        is_counted && !self.has_read
    }

    /// One command of text or meta.
    pub(crate) fn line(&mut self) -> Vec<u8> {
        if self.promises == Promises::Everything && self.rng.u8(..) == 0 {
            return b"flush_all\r\n".to_vec();
        }
        let mut line = match self.rng.u32(..20) {
            0..3 => self.read().into_bytes(),
            3..7 => return self.store(),
            7..10 => self.change().into_bytes(),
            10..13 => {
                self.has_read = true;
                format!("mg {}{}", self.key(), self.flags(MG)).into_bytes()
            }
            13..16 => return self.meta_store(),
            16 => format!("md {}{}", self.key(), self.flags(MD)).into_bytes(),
            _ => self.meta_count().into_bytes(),
        };
        line.extend(b"\r\n");
        line
    }

    fn read(&mut self) -> String {
        self.has_read = true;
        let (verb, keys, expiry) =
            (one_of(&mut self.rng, &["get", "gets", "gat", "gats"]), self.keys(), self.expiry());
        match verb {
            "get" | "gets" => format!("{verb}{keys}"),
            _ => format!("{verb} {expiry}{keys}"),
        }
    }

    fn noreply(&mut self) -> &'static str {
        one_of(&mut self.rng, &["", "", "", " noreply"])
    }

    fn store(&mut self) -> Vec<u8> {
        const VERBS: &[&str] = &["set", "set", "add", "replace", "append", "prepend", "cas"];
        let (verb, key) = (one_of(&mut self.rng, VERBS), self.key());
        let (value, expiry, cas) = (self.value(key), self.expiry(), self.cas(key));
        let flags = one_of(&mut self.rng, &[0, 7, u32::MAX]);
        let cas = if verb == "cas" { format!(" {cas}") } else { String::new() };
        let noreply = self.noreply();
        let line = format!("{verb} {key} {flags} {expiry} {}{cas}{noreply}\r\n", value.len());
        [line.as_bytes(), &value, b"\r\n"].concat()
    }

    fn change(&mut self) -> String {
        let (key, noreply, expiry) = (self.key(), self.noreply(), self.expiry());
        let delta = one_of(&mut self.rng, DELTAS);
        match self.rng.u32(..6) {
            0 => format!("touch {key} {expiry}{noreply}"),
            2..5 if self.may_count(key) => format!("incr {key} {delta}{noreply}"),
            5 if self.may_count(key) => format!("decr {key} {delta}{noreply}"),
            _ => format!("delete {key}{noreply}"),
        }
    }

    /// Or `me`, where nothing may be counted.
    fn meta_count(&mut self) -> String {
        let (key, describes) = (self.key(), self.rng.u32(..3) == 0);
        if describes || !self.may_count(key) {
            return format!("me {key}");
        }
        format!("ma {key}{}", self.flags(MA))
    }

    fn meta_store(&mut self) -> Vec<u8> {
        let key = self.key();
        let (value, cas) = (self.value(key), self.rng.u8(..));
        let mut flags = self.flags(MS);
        let current = self.cas(key);
        if cas < 50 {
            flags.push_str(&format!(" C{current}"));
        }
        [format!("ms {key} {}{flags}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat()
    }

    /// Some of these flags, none twice.
    fn flags(&mut self, flags: &[&[&str]]) -> String {
        let chosen = flags.iter().filter_map(|alike| {
            let flag = one_of(&mut self.rng, alike);
            (self.rng.u8(..3) == 0).then(|| format!(" {flag}"))
        });
        chosen.collect()
    }

    /// One binary command.
    pub(crate) fn packet(&mut self) -> Vec<u8> {
        let key = self.key();
        let opcodes = if self.may_count(key) { &[OPCODES, COUNTING].concat() } else { OPCODES };
        let opcode = one_of(&mut self.rng, opcodes);
        self.has_read |= READING.contains(&opcode);
        let (value, expiry) = (self.value(key), self.expiry().to_be_bytes());
        let current = self.cas(key);
        let cas = if self.rng.u8(..) < 50 { current } else { 0 };
        let delta = one_of(&mut self.rng, DELTAS).to_be_bytes();
        let first = self.rng.u64(..200).to_be_bytes();
        let (extras, value) = match opcode {
            0x01..=0x03 | 0x11..=0x13 => ([&[0, 0, 0, 7], &expiry[..]].concat(), value),
            0x05 | 0x06 | 0x15 | 0x16 => ([&delta, &first, &expiry[..]].concat(), Vec::new()),
            0x0e | 0x0f | 0x19 | 0x1a => (Vec::new(), value),
            0x1c | 0x1d | 0x1e | 0x23 | 0x24 => (expiry.to_vec(), Vec::new()),
            _ => (Vec::new(), Vec::new()),
        };
        packet(opcode, &extras, key, &value, cas)
    }
}

/// A binary command.
pub(crate) fn packet(opcode: u8, extras: &[u8], key: &str, value: &[u8], cas: u64) -> Vec<u8> {
    const REQUEST: u8 = 0x80;
    const OPAQUE: [u8; 4] = [1, 2, 3, 4];
    let n_bytes = u32::try_from(extras.len() + key.len() + value.len()).unwrap();
    let mut bytes = vec![REQUEST, opcode];
    bytes.extend(u16::try_from(key.len()).unwrap().to_be_bytes());
    bytes.extend([u8::try_from(extras.len()).unwrap(), 0, 0, 0]);
    bytes.extend(n_bytes.to_be_bytes());
    bytes.extend(OPAQUE);
    bytes.extend(cas.to_be_bytes());
    bytes.extend([extras, key.as_bytes(), value].concat());
    bytes
}

/// Those that carry a key, but for those that count.
const OPCODES: &[u8] = &[
    0x00, 0x01, 0x02, 0x03, 0x04, 0x09, 0x0c, 0x0d, 0x0e, 0x0f, 0x11, 0x12, 0x13, 0x14, 0x19, 0x1a,
    0x1c, 0x1d, 0x1e, 0x23, 0x24,
];
const COUNTING: &[u8] = &[0x05, 0x06, 0x15, 0x16];
const READING: &[u8] = &[0x00, 0x09, 0x0c, 0x0d, 0x1c, 0x1d, 0x1e, 0x23, 0x24];

/// Flags of which one in each list may be there.
const MG: &[&[&str]] = &[
    &["T0", "T500", "T3000000", "T-1"],
    &["N0", "N500"],
    &["R0", "R1000", "R-1"],
    &["v"],
    &["f"],
    &["s"],
    &["k"],
    &["t"],
    &["c"],
    &["h"],
    &["l"],
    &["Oabc"],
    &["q"],
    &["u"],
];
const MS: &[&[&str]] = &[
    &["MS", "ME", "MR", "MA", "MP", "Madd", "M?"],
    &["T0", "T500", "T3000000", "T-1"],
    &["F7", "F4294967295"],
    &["I"],
    &["c"],
    &["k"],
    &["Oabc"],
    &["q"],
];
const MD: &[&[&str]] = &[&["I"], &["T0", "T500"], &["k"], &["Oabc"], &["q"], &["C1"]];
const MA: &[&[&str]] = &[
    &["MI", "MD", "M+", "M-", "Mx"],
    &["D3", "D90", "D18446744073709551615"],
    &["N0", "N500", "q"],
    &["J13"],
    &["v"],
    &["t"],
    &["c"],
    &["k"],
    &["Oabc"],
];
