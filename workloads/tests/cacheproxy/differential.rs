//! Random commands, to the service and to a real memcached: the same answers, to the byte.
//!
//! Each step sends a few commands at once, so that they are carried out side by side where they may be,
//! and then compares all answers. Seeds are printed with a difference; `FOREBAY_SEED` runs one alone.
//!
//! What a setting cannot promise is left out there. In front of servers: `flush_all`, unless the file
//! allows it, since the servers may have other clients; and whether an item has been read before, since reads go side
//! by side. With two tiers beside: who has the right to fill a stale item, since a read that finds no
//! copy above has to ask below in a way that wins it.

use std::collections::BTreeMap;
use std::net::TcpStream;

use fastrand::Rng;

use crate::alike::{self, Uses, ends_with_opcode};
use crate::corpus::{Current, KEYS, Promises, Writer, packet};
use crate::flushing::flushing;
use crate::oracle::Memcached;
use crate::rig::{Client, Server, embedded, proxy, two_tiers};

/// Steps of each seed, and commands of each step at most.
const STEPS: usize = 150;
const COMMANDS_MAX: usize = 12;
const SEEDS: u64 = 3;

fn seeds() -> Vec<u64> {
    match std::env::var("FOREBAY_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Text,
    Binary,
}

/// What is compared.
#[derive(Debug, Clone, Copy)]
struct Setting {
    promises: Promises,
    uses: Uses,
}

const ALL: Setting = Setting { promises: Promises::Everything, uses: Uses::Told };
const PROXY: Setting = Setting { promises: Promises::NoFlush, uses: Uses::SideBySide };
const TIERS: Setting = Setting { promises: Promises::NoFlush, uses: Uses::Above };

/// One side: a connection for the commands and one that looks at numbers of cas.
struct Side {
    asked: Client<TcpStream>,
    looked: Client<TcpStream>,
}

impl Side {
    /// `me` tells the cas of an item without touching it.
    fn current(&mut self) -> Current {
        let mut current = BTreeMap::new();
        for key in KEYS {
            self.looked.send(format!("me {key}\r\n").as_bytes());
            let line = self.looked.line();
            let cas = line.split(' ').find_map(|word| word.strip_prefix("cas=")?.parse().ok());
            current.extend(cas.map(|cas| (key, cas)));
        }
        current
    }

    fn step(&mut self, rng: Rng, dialect: Dialect, setting: Setting) -> (Vec<u8>, Vec<u8>) {
        const NOOP: u8 = 0x0a;
        let current = self.current();
        let mut writer = Writer::new(rng, &current, setting.promises);
        let n_commands = writer.rng.usize(1..=COMMANDS_MAX);
        match dialect {
            Dialect::Text => {
                let lines = (0..n_commands).flat_map(|_| writer.line());
                let asked: Vec<u8> = lines.chain(b"mn\r\n".iter().copied()).collect();
                self.asked.send(&asked);
                let answers = self.asked.read_until(|came| came.ends_with(b"MN\r\n"));
                (asked, alike::text(&answers, setting.uses))
            }
            Dialect::Binary => {
                let packets = (0..n_commands).flat_map(|_| writer.packet());
                let asked: Vec<u8> = packets.chain(packet(NOOP, &[], "", &[], 0)).collect();
                self.asked.send(&asked);
                let answers = self.asked.read_until(|came| ends_with_opcode(came, NOOP));
                (asked, alike::binary(&answers))
            }
        }
    }
}

/// What was said, without the most of long values.
fn brief(bytes: &[u8]) -> String {
    const SHOWN: usize = 20;
    let (mut told, mut n_alike) = (Vec::new(), 0);
    for byte in bytes {
        n_alike = if told.last() == Some(byte) { n_alike + 1 } else { 0 };
        if n_alike < SHOWN {
            told.push(*byte);
        }
    }
    told.escape_ascii().to_string()
}

/// Something done to our answers before they are compared.
type Distort = fn(Vec<u8>) -> Vec<u8>;

/// The first step that is answered differently, and how.
fn difference(
    server: &Server,
    oracle: &Memcached,
    dialect: Dialect,
    setting: Setting,
    seed: u64,
    distort: Distort,
) -> Option<String> {
    let mut ours = Side { asked: server.connect(), looked: server.connect() };
    let mut theirs = Side { asked: oracle.connect(), looked: oracle.connect() };
    // Afterwards no key has an item, and none will have the first cas of all.
    let begin = KEYS.map(|key| format!("ms {key} 1\r\n1\r\nmd {key}\r\n")).concat();
    for side in [&mut ours, &mut theirs] {
        side.looked.asks(begin.as_bytes(), &b"HD\r\n".repeat(2 * KEYS.len()));
    }
    let mut rng = Rng::with_seed(seed);
    for step in 0..STEPS {
        let of_step = rng.fork();
        let (asked, ours) = ours.step(of_step.clone(), dialect, setting);
        let (_, theirs) = theirs.step(of_step, dialect, setting);
        let ours = distort(ours);
        if ours != theirs {
            let at = ours.iter().zip(&theirs).take_while(|(ours, theirs)| ours == theirs).count();
            let [asked, ours, theirs] = [asked, ours, theirs].map(|bytes| brief(&bytes));
            return Some(format!(
                "seed {seed}, step {step}, {dialect:?}, from byte {at}\nasked {asked}\n\nours {ours}\n\ntheirs {theirs}"
            ));
        }
    }
    None
}

#[track_caller]
fn answers_alike(server: Server, oracle: &Memcached, setting: Setting) {
    for dialect in [Dialect::Text, Dialect::Binary] {
        for seed in seeds() {
            let difference = difference(&server, oracle, dialect, setting, seed, |ours| ours);
            if let Some(difference) = difference {
                panic!("{difference}");
            }
        }
    }
    server.stop();
}

#[test]
fn the_store_in_memory_answers_as_memcached() {
    let Some(oracle) = Memcached::start() else { return };
    for n_shards in [1, 2] {
        answers_alike(Server::start(embedded(), n_shards), &oracle, ALL);
    }
}

#[test]
fn the_proxy_answers_as_memcached() {
    let Some(oracle) = Memcached::start() else { return };
    let Some(backends) = backends() else { return };
    let addresses: Vec<_> = backends.iter().map(Memcached::address).collect();
    for n_shards in [1, 2] {
        answers_alike(Server::start(proxy(&addresses), n_shards), &oracle, PROXY);
    }
}

#[test]
fn the_proxy_that_forwards_a_flush_answers_as_memcached() {
    let Some(oracle) = Memcached::start() else { return };
    let Some(backends) = backends() else { return };
    let addresses: Vec<_> = backends.iter().map(Memcached::address).collect();
    let setting = Setting { promises: Promises::Everything, ..PROXY };
    answers_alike(Server::start(flushing(proxy(&addresses)), 2), &oracle, setting);
}

#[test]
fn two_tiers_answer_as_memcached() {
    let Some(oracle) = Memcached::start() else { return };
    let Some(backends) = backends() else { return };
    let addresses: Vec<_> = backends.iter().map(Memcached::address).collect();
    for n_shards in [1, 2] {
        answers_alike(Server::start(two_tiers(&addresses), n_shards), &oracle, TIERS);
    }
}

fn backends() -> Option<[Memcached; 2]> {
    Some([Memcached::start()?, Memcached::start()?])
}

#[test]
fn the_comparison_finds_planted_faults() {
    let Some(oracle) = Memcached::start() else { return };
    let server = Server::start(embedded(), 1);
    let text: [Distort; 2] = [
        |ours| String::from_utf8_lossy(&ours).replace("EXISTS", "NOT_STORED").into_bytes(),
        |ours| String::from_utf8_lossy(&ours).replace(" h1", " h0").into_bytes(),
    ];
    for distort in text {
        assert!(difference(&server, &oracle, Dialect::Text, ALL, 0, distort).is_some());
    }
    // The status of an answer that says that the item exists.
    let binary: Distort = |mut ours| {
        if ours.get(7) == Some(&2) {
            ours[7] = 5;
        }
        ours
    };
    assert!(difference(&server, &oracle, Dialect::Binary, ALL, 0, binary).is_some());
    server.stop();
}
