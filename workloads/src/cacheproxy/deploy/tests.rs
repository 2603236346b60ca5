//! Goal: a client that sends many commands in whatever pieces has every answer once, in order, as a
//! store alone gives it; one that has asked before a stop is answered before its connection ends; and
//! one that does not read is cut off.
//!
//! Method: two shards in virtual time with an embedded store each; a client whose commands are cut at
//! random bytes; what it reads is held against the commands carried out one by one on one store.

use std::rc::Rc;
use std::time::Duration;

use forebay::net::{ConnectOptions, Connection, Listener};
use forebay::sim::{SimOptions, Simulation};
use forebay::{Phase, Reply, RequestOptions, sleep};

use super::*;
use crate::cacheproxy::downstream::UnansweredReads;
use crate::cacheproxy::operation::{Operation, Outcome, What};
use crate::cacheproxy::protocol::{Asked, Command, Decoder};
use crate::cacheproxy::stats;
use crate::cacheproxy::store::Now;

const N_SHARDS: usize = 2;
const N_COMMANDS: u32 = 300;
const SEEDS: u64 = 8;
const STEPS_MAX: u64 = 3_000_000;
const NOW: Now = Now(1_700_000_000);

/// Words of which commands are made: `K` becomes a key. None tells a cas or a time.
const LINES: &[&str] = &[
    "get K\r\n",
    "get K K K\r\n",
    "set K 7 0 5\r\nhello\r\n",
    "set K 0 0 2\r\n10\r\n",
    "add K 0 0 1\r\n3\r\n",
    "append K 0 0 1\r\n5\r\n",
    "delete K\r\n",
    "delete K noreply\r\n",
    "incr K 3\r\n",
    "mg K v f k\r\n",
    "ms K 2\r\nxy\r\n",
    "mn\r\n",
    "junk\r\n",
    "version\r\n",
    "flush_all\r\n",
];
const N_KEYS: u32 = 6;

fn random_bytes(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = String::new();
    for _ in 0..N_COMMANDS {
        for (idx, part) in LINES[rng.usize(..LINES.len())].split('K').enumerate() {
            if idx > 0 {
                bytes.push_str(&format!("key{}", rng.u32(..N_KEYS)));
            }
            bytes.push_str(part);
        }
    }
    bytes.into_bytes()
}

/// What a store alone answers to these commands.
fn expected(bytes: &[u8]) -> Vec<u8> {
    let mut store = Store::new(Options::new(16 << 20, 0));
    let mut decoder = Decoder::new(Limits::default().protocol());
    let (mut input, mut told) = (bytes, Vec::new());
    while let Some(command) = decoder.decode(&mut input) {
        tell(&mut store, &command, &mut told);
    }
    told
}

fn tell(store: &mut Store, command: &Command, told: &mut Vec<u8>) {
    let answering = &command.answering;
    match &command.asked {
        Asked::One(operation) => {
            answering.outcomes([(&operation.key, &store.apply(NOW, operation))], told);
        }
        Asked::Many(get, keys) => {
            let asked =
                keys.iter().map(|key| Operation { key: key.clone(), what: What::Get(*get) });
            let outcomes: Vec<Outcome> = asked.map(|one| store.apply(NOW, &one)).collect();
            answering.outcomes(keys.iter().zip(&outcomes), told);
        }
        Asked::FlushAll(delay) => {
            store.flush_all(NOW, *delay);
            answering.done(told);
        }
        Asked::Version => answering.version(stats::VERSION, told),
        Asked::Refused(refusal) => answering.refused(*refusal, told),
        Asked::Verbosity | Asked::Noop | Asked::Quit | Asked::Stats(_) => answering.done(told),
    }
}

/// The service on a simulated engine, listening on its first shard.
fn serving(seed: u64, limits: Limits) -> (Simulation, Address) {
    let address: Address = "127.0.0.1:11211".parse().unwrap();
    let mut builder = Builder::new();
    builder.seed(seed);
    let embedded = TierPlan::Embedded(Embedded::default());
    let plan = Arc::new(OnceLock::from(Plan { upper: embedded, lower: None }));
    let owned = declare_owned(&mut builder, owned_options(Duration::ZERO), plan);
    let cache = Cache::new(owned, None, UnansweredReads::Fail);
    let mut sim = builder.simulate(SimOptions::new(seed, N_SHARDS)).unwrap();
    let at = address.clone();
    let listening = sim.handle().submit(0, RequestOptions::default(), move || async move {
        let listener = Listener::bind(&at, connection::listen_options(&limits)).unwrap();
        let site = Rc::new(Site { cache, limits, clock: Clock::set() });
        spawn_background(connection::accept(listener, site)).detach();
    });
    await_reply(&mut sim, &listening.unwrap());
    (sim, address)
}

fn await_reply<T>(sim: &mut Simulation, reply: &Reply<T>) -> T {
    let mut taken = None;
    let ended = sim.run_until(STEPS_MAX, |_sim| {
        taken = reply.try_take();
        taken.is_some()
    });
    assert!(ended, "it has no end");
    taken.expect("it has ended").unwrap_or_else(|error| panic!("{error}"))
}

/// Reads until there are so many bytes, or the connection ends.
async fn read(connection: &Connection, n_bytes: usize) -> Vec<u8> {
    let mut told = Vec::new();
    while told.len() < n_bytes {
        let Ok(Some(chunk)) = connection.read().await else { break };
        told.extend_from_slice(&chunk);
    }
    told
}

#[test]
fn commands_in_random_pieces_are_answered_once_and_in_order_as_a_store_answers() {
    for seed in 0..SEEDS {
        let (mut sim, address) = serving(seed, Limits::default());
        let mut rng = fastrand::Rng::with_seed(seed);
        let bytes = random_bytes(&mut rng);
        let wanted = expected(&bytes);
        let n_bytes = wanted.len();
        let asking = sim.handle().submit(1, RequestOptions::default(), move || async move {
            let connection =
                Connection::connect(&address, ConnectOptions::default()).await.unwrap();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(rng.usize(1..400).min(rest.len()));
                connection.write(piece.to_vec()).await.unwrap();
                if rng.bool() {
                    sleep(Duration::from_micros(rng.u64(..2_000))).await;
                }
                rest = later;
            }
            // One that is not whole, so that nothing more may come.
            connection.write(b"get key".to_vec()).await.unwrap();
            read(&connection, n_bytes).await
        });
        let told = await_reply(&mut sim, &asking.unwrap());
        let same = told.iter().zip(&wanted).take_while(|(one, other)| one == other).count();
        let here = |bytes: &[u8]| bytes[same.min(bytes.len())..].escape_ascii().to_string();
        assert!(told == wanted, "seed {seed}: {}\nnot {}", here(&told), here(&wanted));
    }
}

#[test]
fn a_stop_answers_what_was_asked_and_closes_who_is_silent_within_a_command() {
    let (mut sim, address) = serving(1, Limits::default());
    let asking =
        sim.handle().submit(1, RequestOptions::default().also_draining(), move || async move {
            let connection =
                Connection::connect(&address, ConnectOptions::default()).await.unwrap();
            connection.write(b"set a 0 0 1\r\nx\r\nget a\r\nget ".to_vec()).await.unwrap();
            read(&connection, usize::MAX).await
        });
    let asking = asking.unwrap();
    // A command may be on its way: nobody is closed before there is a stop.
    assert!(!sim.run_until(50_000, |_sim| false));
    assert!(asking.try_take().is_none());
    sim.enter_phase(Phase::Draining);
    assert_eq!(await_reply(&mut sim, &asking), b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n");
}

/// Answers that nobody reads are bounded by the pieces that a connection may have written, not by
/// what was asked: the service stops reading, and cuts the client off when its time is over.
#[test]
fn a_client_that_does_not_read_is_cut_off_before_it_has_all_answers() {
    const VALUE_BYTES: usize = 60_000;
    const N_GETS: usize = 500;
    let limits = Limits { write_ms: 50, ..Limits::default() };
    let write_within = Duration::from_millis(limits.write_ms.into());
    let (mut sim, address) = serving(1, limits);
    let asking = sim.handle().submit(1, RequestOptions::default(), move || async move {
        let connection = Connection::connect(&address, ConnectOptions::default()).await.unwrap();
        let head = format!("set a 0 0 {VALUE_BYTES}\r\n");
        let set = [head.as_bytes(), &[b'x'; VALUE_BYTES], b"\r\n"].concat();
        connection.write(set).await.unwrap();
        connection.write(b"get a\r\n".repeat(N_GETS)).await.unwrap();
        sleep(write_within * 3).await;
        read(&connection, usize::MAX).await.len()
    });
    let n_read = await_reply(&mut sim, &asking.unwrap());
    assert!(n_read < N_GETS * VALUE_BYTES / 10, "{n_read} bytes were read");
}
