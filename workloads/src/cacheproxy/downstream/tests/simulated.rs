//! Shards in virtual time before a server that answers reads late, with what stood there when they
//! came: the server that a shared read is most dangerous with.
//!
//! One seed again: `FOREBAY_SIM_SEED=17 cargo test -p forebay-workloads simulated`; more of them:
//! `FOREBAY_SIM_SEEDS=300`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use forebay::net::{Connection, ListenOptions, Listener};
use forebay::sim::{SimOptions, Simulation};
use forebay::{Reply, RequestOptions, sleep, spawn_background};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

use super::*;

const N_SHARDS: usize = 3;
const N_KEYS: usize = 3;
const N_CLIENTS: usize = 15;
const OPERATIONS_EACH: u64 = 30;
const STEPS_MAX: u64 = 3_000_000;

fn seeds() -> Vec<u64> {
    let read = |name| std::env::var(name).ok().map(|text: String| text.parse().expect("a number"));
    match (read("FOREBAY_SIM_SEED"), read("FOREBAY_SIM_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, n_seeds) => (0..n_seeds.unwrap_or(12)).collect(),
    }
}

/// What a campaign has seen.
#[derive(Debug, Default)]
struct Seen {
    /// By key: the newest version whose write was acknowledged.
    acknowledged: [AtomicU64; N_KEYS],
    /// Reads that gave an older version than was acknowledged when they began.
    n_stale: AtomicUsize,
    n_hits: AtomicUsize,
    n_failed: AtomicUsize,
    n_outcomes: AtomicUsize,
    /// Reads of the first key that the server had under way at once, at most.
    hot_at_once: AtomicUsize,
    /// The longest that an operation took.
    longest_us: AtomicU64,
}

fn below(random: &mut Xoshiro256PlusPlus, end: u64) -> u64 {
    random.next_u64() % end
}

fn bump(counter: &AtomicUsize) {
    counter.fetch_add(1, Relaxed);
}

/// A memcached that knows `get` and `set`, on one shard.
#[derive(Debug, Default)]
struct Server {
    items: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
    hot: Cell<usize>,
}

impl Server {
    async fn serve(self: Rc<Self>, listener: Listener, seed: u64, seen: Arc<Seen>) {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        while let Ok(connection) = listener.accept().await {
            let (server, seen) = (Rc::clone(&self), Arc::clone(&seen));
            let random = Xoshiro256PlusPlus::seed_from_u64(random.next_u64());
            let answering = async move { server.answer(&connection, random, &seen).await };
            spawn_background(answering).detach();
        }
    }

    async fn answer(&self, connection: &Connection, mut random: Xoshiro256PlusPlus, seen: &Seen) {
        let mut asked = Vec::new();
        while let Ok(Some(chunk)) = connection.read().await {
            asked.extend_from_slice(&chunk);
            while let Some((n_bytes, told, n_hot)) = self.command(&asked) {
                asked.drain(..n_bytes);
                if told.ends_with(b"END\r\n") {
                    self.hot.set(self.hot.get() + n_hot);
                    seen.hot_at_once.fetch_max(self.hot.get(), Relaxed);
                    // The answer is as old as this when it leaves.
                    sleep(Duration::from_micros(below(&mut random, 3_000))).await;
                    self.hot.set(self.hot.get() - n_hot);
                }
                if connection.write(told).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The first command of `asked`: its bytes, its reply, and how often it reads the hot key.
    fn command(&self, asked: &[u8]) -> Option<(usize, Vec<u8>, usize)> {
        let end = asked.windows(2).position(|pair| pair == b"\r\n")?;
        let words: Vec<&[u8]> = asked[..end].split(|byte| *byte == b' ').collect();
        if words[0] == b"get" {
            let mut told = Vec::new();
            for key in &words[1..] {
                if let Some(value) = self.items.borrow().get(*key) {
                    told.extend_from_slice(&[b"VALUE ", *key, b" 0 "].concat());
                    told.extend_from_slice(format!("{}\r\n", value.len()).as_bytes());
                    told.extend_from_slice(&[value, &b"\r\n"[..]].concat());
                }
            }
            told.extend_from_slice(b"END\r\n");
            let n_hot = words[1..].iter().filter(|key| **key == b"key-0").count();
            return Some((end + 2, told, n_hot));
        }
        assert_eq!(words[0], b"set");
        let n_value: usize = std::str::from_utf8(words[4]).unwrap().parse().unwrap();
        let value = asked.get(end + 2..end + 4 + n_value)?;
        self.items.borrow_mut().insert(words[1].to_vec(), value[..n_value].to_vec());
        Some((end + 4 + n_value, b"STORED\r\n".to_vec(), 0))
    }
}

/// A client, which alone writes the key of its number, if there is one, and reads all.
struct Client {
    downstream: Downstream,
    number: usize,
    random: Xoshiro256PlusPlus,
    seen: Arc<Seen>,
}

impl Client {
    async fn run(mut self) {
        for version in 1..=OPERATIONS_EACH {
            let began = forebay::now();
            let outcome = if self.number < N_KEYS && below(&mut self.random, 3) == 0 {
                self.write(version).await
            } else {
                self.read().await
            };
            let took_us = u64::try_from(forebay::now().since(began).as_micros()).unwrap();
            self.seen.longest_us.fetch_max(took_us, Relaxed);
            bump(&self.seen.n_outcomes);
            match outcome {
                Outcome::Hit(_) => bump(&self.seen.n_hits),
                Outcome::Failed(_) => bump(&self.seen.n_failed),
                Outcome::Miss | Outcome::Stored(_) => {}
                other => panic!("nobody asked for {other:?}"),
            }
            sleep(Duration::from_micros(below(&mut self.random, 2_000))).await;
        }
    }

    async fn write(&self, version: u64) -> Outcome {
        let writing = set(&format!("key-{}", self.number), version.to_string());
        let outcome = self.downstream.apply(writing).await;
        if matches!(outcome, Outcome::Stored(_)) {
            self.seen.acknowledged[self.number].fetch_max(version, Relaxed);
        }
        outcome
    }

    async fn read(&mut self) -> Outcome {
        let read = usize::try_from(below(&mut self.random, N_KEYS as u64)).unwrap();
        let least = self.seen.acknowledged[read].load(Relaxed);
        let outcome = self.downstream.apply(get(&format!("key-{read}"))).await;
        let version: u64 = match value(&outcome) {
            Some(value) => std::str::from_utf8(value).unwrap().parse().unwrap(),
            None => 0,
        };
        let is_answer = matches!(outcome, Outcome::Hit(_) | Outcome::Miss);
        if is_answer && version < least {
            bump(&self.seen.n_stale);
        }
        outcome
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// Connections break off and fall silent at drawn moments.
    Connections,
}

fn limits() -> ServerLimits {
    ServerLimits {
        connect_ms: 20,
        answer_ms: 50,
        open_ms: 10,
        pause_max_ms: 40,
        ..ServerLimits::default()
    }
}

type Running = Pin<Box<dyn Future<Output = ()>>>;

fn submit(
    sim: &Simulation,
    shard: usize,
    start: impl FnOnce() -> Running + Send + 'static,
) -> Reply<()> {
    sim.handle().submit(shard, RequestOptions::default(), start).unwrap()
}

/// Runs clients on every shard to their end; gives what they saw, and the digest of the run.
fn run(seed: u64, sharing: Sharing, trouble: Trouble) -> (Arc<Seen>, u64) {
    let mut options = SimOptions::new(seed, N_SHARDS);
    if trouble == Trouble::Connections {
        (options.reset_per_mille, options.silence_per_mille) = (30, 10);
    }
    let address: Address = "127.0.0.1:11211".parse().unwrap();
    let config = Config { limits: limits(), ..Config::of(std::slice::from_ref(&address)) };
    let mut builder = Builder::new();
    builder.seed(seed);
    let declared = Downstream::declare_with(&mut builder, "sim", &config, seed, sharing);
    let downstream = declared.unwrap();
    let mut sim = builder.simulate(options).unwrap();
    let seen = Arc::new(Seen::default());
    let server_seen = Arc::clone(&seen);
    let serving = submit(&sim, 0, move || {
        let listener = Listener::bind(&address, ListenOptions::default()).unwrap();
        let server = Rc::<Server>::default().serve(listener, seed, server_seen);
        Box::pin(async move { spawn_background(server).detach() })
    });
    assert!(sim.run_until(10_000, |_sim| serving.try_take().is_some()));
    let start = |number| {
        let (downstream, seen) = (downstream.clone(), Arc::clone(&seen));
        let random = Xoshiro256PlusPlus::seed_from_u64(seed * 1_000 + number as u64);
        let client = Client { downstream, number, random, seen };
        submit(&sim, number % N_SHARDS, move || Box::pin(client.run()))
    };
    let mut running: Vec<_> = (0..N_CLIENTS).map(start).collect();
    let ended = sim.run_until(STEPS_MAX, |_sim| {
        running.retain(|reply| match reply.try_take() {
            None => true,
            Some(end) => end.is_err_and(|error| panic!("seed {seed}: {error}")),
        });
        running.is_empty()
    });
    assert!(ended, "seed {seed}: {} clients have no end", running.len());
    assert_eq!(sim.violation(), None, "seed {seed}");
    (seen, sim.digest())
}

#[test]
fn nobody_reads_what_is_older_than_what_was_acknowledged() {
    for seed in seeds() {
        let (seen, digest) = run(seed, Sharing::EndedByWrites, Trouble::None);
        assert_eq!(seen.n_stale.load(Relaxed), 0, "seed {seed}");
        assert_eq!(seen.n_failed.load(Relaxed), 0, "seed {seed}");
        assert!(seen.n_hits.load(Relaxed) > 50, "seed {seed}: {seen:?}");
        if seed == 0 {
            assert_eq!(run(seed, Sharing::EndedByWrites, Trouble::None).1, digest);
        }
    }
}

#[test]
fn a_write_that_ends_no_sharing_is_found_and_one_that_ends_it_on_its_own_shard_only() {
    for sharing in [Sharing::NeverEnded, Sharing::EndedHere] {
        let is_found = |seed| run(seed, sharing, Trouble::None).0.n_stale.load(Relaxed) > 0;
        assert!((0..40).any(is_found), "{sharing:?} was not found");
    }
}

#[test]
fn every_operation_has_one_outcome_in_time_whatever_becomes_of_its_connection() {
    let mut n_failed = 0;
    for seed in seeds() {
        let (seen, _digest) = run(seed, Sharing::EndedByWrites, Trouble::Connections);
        let n_operations = N_CLIENTS * usize::try_from(OPERATIONS_EACH).unwrap();
        assert_eq!(seen.n_outcomes.load(Relaxed), n_operations, "seed {seed}");
        assert_eq!(seen.n_stale.load(Relaxed), 0, "seed {seed}");
        // Polls of up to 20 µs each make a shard's timers late.
        let promised = limits().batch_within() * 2 + Duration::from_millis(5);
        let longest = Duration::from_micros(seen.longest_us.load(Relaxed));
        assert!(longest <= promised, "seed {seed}: {longest:?}");
        assert!(seen.n_hits.load(Relaxed) > 0, "seed {seed}: {seen:?}");
        n_failed += seen.n_failed.load(Relaxed);
    }
    assert!(n_failed > 0, "no trouble in any seed");
}

#[test]
fn a_hot_key_is_under_way_once_a_shard_unless_a_write_has_ended_the_sharing() {
    for seed in seeds() {
        let (seen, _digest) = run(seed, Sharing::NeverEnded, Trouble::None);
        let at_once = seen.hot_at_once.load(Relaxed);
        assert!((1..=N_SHARDS).contains(&at_once), "seed {seed}: {at_once} at once");
    }
}
