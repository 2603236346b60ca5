//! Random commands, to the service and to a real memcached: the same answers, to the byte.
//!
//! Each step sends a few commands at once, so that they are carried out side by side where they may be,
//! and then compares all answers. Seeds are printed with a difference; `FOREBAY_SEED` runs one alone.
//!
//! What a setting cannot promise is left out there. In front of servers: `flush_all`, unless the file
//! allows it, since the servers may have other clients; and whether an item has been read before, since
//! reads go side by side, and since pieces are read where only their item is asked for. With two tiers
//! beside: who has the right to fill a stale item, since a read that finds no copy above has to ask below
//! in a way that wins it.
//!
//! Two settings have fewer seeds. A service for bulk writes brings nothing into its upper tier: there
//! another service, which reads through the same two, does so before each step, and what it reads is
//! compared as well. And values in pieces: none of them is a number, which long ones of 1.6.18 may be.

use std::net::{SocketAddr, TcpStream};

use fastrand::Rng;
use forebay_workloads::cacheproxy::{ChunkedTier, Orchestration, Service, TierConfig};

use crate::alike::{self, Uses, ends_with_opcode};
use crate::corpus::{Current, KEYS, Promises, Writer, packet};
use crate::flushing::flushing;
use crate::memcached::Memcached;
use crate::rig::{Client, Server, chunked, connect, embedded, proxy, stat, tiers_of, two_tiers};

/// Steps of each seed, and commands of each step at most.
const STEPS: usize = 150;
const COMMANDS_MAX: usize = 12;
const SEEDS: u64 = 3;
/// Of settings that are mostly what others are.
const SEEDS_BESIDE: u64 = 2;

fn seeds(n_seeds: u64) -> Vec<u64> {
    match std::env::var("FOREBAY_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..n_seeds).collect(),
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
const PIECES: Setting = Setting { promises: Promises::NoFlushLongApart, uses: Uses::SideBySide };
const TIERS: Setting = Setting { promises: Promises::NoFlush, uses: Uses::Above };

/// Where a side is reached.
#[derive(Debug, Clone, Copy)]
struct Way {
    asked: SocketAddr,
    /// Who reads all keys before each step.
    read: Option<SocketAddr>,
}

/// One side: a connection for the commands and one that looks at numbers of cas; and perhaps one that
/// reads.
struct Side {
    asked: Client<TcpStream>,
    looked: Client<TcpStream>,
    read: Option<Client<TcpStream>>,
}

impl Side {
    fn connect(way: Way) -> Self {
        let Way { asked, read } = way;
        Self { asked: connect(asked), looked: connect(asked), read: read.map(connect) }
    }

    /// The items as whoever reads them sees them.
    fn read_all(&mut self) -> Vec<u8> {
        let Some(read) = &mut self.read else { return Vec::new() };
        read.send(format!("get {}\r\n", KEYS.join(" ")).as_bytes());
        read.read_until(|came| came.ends_with(b"END\r\n"))
    }

    /// `me` tells the cas of an item without touching it.
    fn current(&mut self) -> Current {
        let asked = KEYS.map(|key| format!("me {key}\r\n")).concat() + "mn\r\n";
        self.looked.send(asked.as_bytes());
        let told = self.looked.read_until(|came| came.ends_with(b"MN\r\n"));
        let told = String::from_utf8(told).unwrap();
        let cas_of = |line: &str| {
            line.split(' ').find_map(|word| word.strip_prefix("cas=")?.parse::<u64>().ok())
        };
        KEYS.into_iter()
            .zip(told.lines().map(cas_of))
            .filter_map(|(key, cas)| Some((key, cas?)))
            .collect()
    }

    fn step(&mut self, rng: Rng, dialect: Dialect, setting: Setting) -> (Vec<u8>, Vec<u8>) {
        const NOOP: u8 = 0x0a;
        let read = self.read_all();
        let current = self.current();
        let mut writer = Writer::new(rng, &current, setting.promises);
        let n_commands = writer.rng.usize(1..=COMMANDS_MAX);
        match dialect {
            Dialect::Text => {
                let lines = (0..n_commands).flat_map(|_| writer.line());
                let asked: Vec<u8> = lines.chain(b"mn\r\n".iter().copied()).collect();
                self.asked.send(&asked);
                let answers = self.asked.read_until(|came| came.ends_with(b"MN\r\n"));
                (asked, [read, alike::text(&answers, setting.uses)].concat())
            }
            Dialect::Binary => {
                let packets = (0..n_commands).flat_map(|_| writer.packet());
                let asked: Vec<u8> = packets.chain(packet(NOOP, &[], "", &[], 0)).collect();
                self.asked.send(&asked);
                let answers = self.asked.read_until(|came| ends_with_opcode(came, NOOP));
                (asked, [read, alike::binary(&answers)].concat())
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
    way: Way,
    oracle: &Memcached,
    dialect: Dialect,
    setting: Setting,
    seed: u64,
    distort: Distort,
) -> Option<String> {
    let oracle = oracle.address();
    let mut ours = Side::connect(way);
    let mut theirs = Side::connect(Way { asked: oracle, read: way.read.map(|_| oracle) });
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
    let way = Way { asked: server.address(), read: None };
    alike_through(way, oracle, setting, SEEDS);
    server.stop();
}

#[track_caller]
fn alike_through(way: Way, oracle: &Memcached, setting: Setting, n_seeds: u64) {
    for dialect in [Dialect::Text, Dialect::Binary] {
        for seed in seeds(n_seeds) {
            let difference = difference(way, oracle, dialect, setting, seed, |ours| ours);
            if let Some(difference) = difference {
                panic!("{difference}");
            }
        }
    }
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
        answers_alike(Server::start(patient(proxy(&addresses)), n_shards), &oracle, PROXY);
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
        answers_alike(Server::start(patient(two_tiers(&addresses)), n_shards), &oracle, TIERS);
    }
}

#[test]
fn bulk_writes_answer_as_memcached_and_leave_no_old_copies() {
    let Some(oracle) = Memcached::start() else { return };
    let Some(tiers) = backends() else { return };
    let tiers = tiers.each_ref().map(Memcached::address);
    let writes = Server::start(patient(tiers_of(Orchestration::L1L2Batch, tiers)), 2);
    let reads = Server::start(patient(tiers_of(Orchestration::L1L2, tiers)), 2);
    let way = Way { asked: writes.address(), read: Some(reads.address()) };
    alike_through(way, &oracle, TIERS, SEEDS_BESIDE);
    writes.stop();
    reads.stop();
}

#[test]
fn values_in_pieces_are_answered_as_memcached_answers_whole_ones() {
    let Some(oracle) = Memcached::start() else { return };
    let Some(backends) = backends() else { return };
    let addresses = backends.each_ref().map(Memcached::address);
    let server = Server::start(patient(chunked(&addresses)), 2);
    let way = Way { asked: server.address(), read: None };
    alike_through(way, &oracle, PIECES, SEEDS_BESIDE);
    let n_items: u64 = addresses.iter().map(|backend| stat(*backend, "curr_items")).sum();
    assert!(n_items > KEYS.len() as u64, "nothing was cut");
    server.stop();
}

fn backends() -> Option<[Memcached; 2]> {
    Some([Memcached::start()?, Memcached::start()?])
}

/// The service with servers that may stand still with the whole machine: what is compared is what they
/// answer, and not whether they do.
fn patient(mut service: Service) -> Service {
    const WAIT_MS: u32 = 10_000;
    for tier in std::iter::once(&mut service.l1).chain(service.l2.as_mut()) {
        if let TierConfig::Memcached(config)
        | TierConfig::Chunked(ChunkedTier { memcached: config, .. }) = tier
        {
            (config.limits.connect_ms, config.limits.answer_ms) = (WAIT_MS, WAIT_MS);
        }
    }
    service
}

#[test]
fn the_comparison_finds_planted_faults() {
    let Some(oracle) = Memcached::start() else { return };
    let server = Server::start(embedded(), 1);
    let way = Way { asked: server.address(), read: None };
    let text: [Distort; 2] = [
        |ours| String::from_utf8_lossy(&ours).replace("EXISTS", "NOT_STORED").into_bytes(),
        |ours| String::from_utf8_lossy(&ours).replace(" h1", " h0").into_bytes(),
    ];
    for distort in text {
        assert!(difference(way, &oracle, Dialect::Text, ALL, 0, distort).is_some());
    }
    // The status of an answer that says that the item exists.
    let binary: Distort = |mut ours| {
        if ours.get(7) == Some(&2) {
            ours[7] = 5;
        }
        ours
    };
    assert!(difference(way, &oracle, Dialect::Binary, ALL, 0, binary).is_some());
    server.stop();
}

#[test]
fn the_comparison_finds_a_copy_that_is_older_than_its_item() {
    let Some(oracle) = Memcached::start() else { return };
    let Some(tiers) = backends() else { return };
    let tiers = tiers.each_ref().map(Memcached::address);
    // It writes below and knows of no copies.
    let writes = Server::start(proxy(&tiers[1..]), 1);
    let reads = Server::start(tiers_of(Orchestration::L1L2, tiers), 1);
    let way = Way { asked: writes.address(), read: Some(reads.address()) };
    assert!(difference(way, &oracle, Dialect::Text, TIERS, 0, |ours| ours).is_some());
    writes.stop();
    reads.stop();
}
