//! Goal: a client that sends many commands in whatever pieces has every answer once, in order, as a
//! store alone gives it; one that has asked before a stop is answered before its connection ends; and
//! one that does not read is cut off.
//!
//! Method: two shards in virtual time with an embedded store each; a client whose commands are cut at
//! random bytes; what it reads is held against the commands carried out one by one on one store.

mod hung;
mod stopping;

use std::rc::Rc;
use std::time::Duration;

use forebay::net::{ConnectOptions, Connection, Listener};
use forebay::sim::{SimOptions, Simulation};
use forebay::{Phase, Reply, RequestOptions, draining, draining_since, now, sleep};
use futures_lite::future::or;

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

/// Opcodes with the extras and the value that their commands have; a key where the last word says so.
const PACKETS: &[(u8, &[u8], &[u8], Keyed)] = &[
    (0x00, b"", b"", Keyed::Yes),
    (0x01, b"\0\0\0\x07\0\0\0\0", b"hello", Keyed::Yes),
    (0x01, b"\0\0\0\0\0\0\0\0", b"10", Keyed::Yes),
    (0x02, b"\0\0\0\0\0\0\0\0", b"3", Keyed::Yes),
    (0x04, b"", b"", Keyed::Yes),
    (0x05, b"\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x05\0\0\0\0", b"", Keyed::Yes),
    (0x08, b"", b"", Keyed::No),
    (0x09, b"", b"", Keyed::Yes),
    (0x0a, b"", b"", Keyed::No),
    (0x0b, b"", b"", Keyed::No),
    (0x0d, b"", b"", Keyed::Yes),
    (0x0e, b"", b"5", Keyed::Yes),
    (0x11, b"\0\0\0\0\0\0\0\0", b"quiet", Keyed::Yes),
    (0x12, b"\0\0\0\0\0\0\0\0", b"quiet", Keyed::Yes),
    (0x14, b"", b"", Keyed::Yes),
    (0x1d, b"\0\0\0\0", b"", Keyed::Yes),
    (0x55, b"", b"", Keyed::No),
];
const HEAD_BYTES: usize = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyed {
    Yes,
    No,
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Text,
    Binary,
}

impl Speaks {
    fn random_bytes(self, rng: &mut fastrand::Rng) -> Vec<u8> {
        match self {
            Self::Text => random_lines(rng),
            Self::Binary => (0..N_COMMANDS).flat_map(|_| random_packet(rng)).collect(),
        }
    }

    /// A command that is not whole.
    const fn half(self) -> &'static [u8] {
        match self {
            Self::Text => b"get key",
            Self::Binary => b"\x80\0\0\x01",
        }
    }

    /// Without the numbers of cas, of which each shard has its own.
    fn normal(self, mut told: Vec<u8>) -> Vec<u8> {
        let mut rest = match self {
            Self::Text => &mut [][..],
            Self::Binary => &mut told[..],
        };
        while rest.len() >= HEAD_BYTES {
            rest[16..HEAD_BYTES].fill(0);
            let body_bytes = u32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
            let n_bytes = (HEAD_BYTES + body_bytes).min(rest.len());
            rest = &mut rest[n_bytes..];
        }
        told
    }
}

fn random_packet(rng: &mut fastrand::Rng) -> Vec<u8> {
    let (opcode, extras, value, keyed) = PACKETS[rng.usize(..PACKETS.len())];
    let key = match keyed {
        Keyed::Yes => format!("key{}", rng.u32(..N_KEYS)),
        Keyed::No => String::new(),
    };
    let body = [extras, key.as_bytes(), value].concat();
    let short = |part: &[u8]| u8::try_from(part.len()).unwrap();
    let mut packet = vec![0x80, opcode, 0, short(key.as_bytes()), short(extras), 0, 0, 0];
    packet.extend([0, 0, 0, short(&body)]);
    packet.extend(rng.u32(..).to_be_bytes());
    packet.resize(HEAD_BYTES, 0);
    packet.extend(body);
    packet
}

fn random_lines(rng: &mut fastrand::Rng) -> Vec<u8> {
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
    let upper = TierPlan::Embedded(Embedded::default());
    serving_tiers(seed, limits, Plan { upper, lower: None })
}

fn serving_tiers(seed: u64, limits: Limits, plan: Plan) -> (Simulation, Address) {
    let address: Address = "127.0.0.1:11211".parse().unwrap();
    let mut builder = Builder::new();
    builder.seed(seed);
    let plan = Arc::new(OnceLock::from(plan));
    let owned = declare_owned(&mut builder, owned_options(Duration::ZERO), plan);
    let cache = Cache::new(owned, None, UnansweredReads::Fail);
    let mut sim = builder.simulate(SimOptions::new(seed, N_SHARDS)).unwrap();
    let at = address.clone();
    let listening = sim.handle().submit(0, RequestOptions::default(), move || async move {
        let listener = Listener::bind(&at, connection::listen_options(&limits)).unwrap();
        let site = Rc::new(Site::new(cache, limits));
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

/// What comes of a client of the service that connects from the other shard. A stop waits for it.
fn client<T, F>(
    sim: &mut Simulation,
    address: Address,
    client: impl FnOnce(Connection) -> F + Send + 'static,
) -> Reply<T>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let connected = move || async move {
        client(Connection::connect(&address, ConnectOptions::default()).await.unwrap()).await
    };
    sim.handle().submit(1, RequestOptions::default().also_draining(), connected).unwrap()
}

const fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms as u64)
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

/// What the service answers to these bytes, sent in random pieces.
fn told(seed: u64, speaks: Speaks, bytes: Vec<u8>, n_bytes: usize) -> Vec<u8> {
    let (mut sim, address) = serving(seed, Limits::default());
    let mut rng = fastrand::Rng::with_seed(seed);
    let asking = sim.handle().submit(1, RequestOptions::default(), move || async move {
        let connection = Connection::connect(&address, ConnectOptions::default()).await.unwrap();
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
        connection.write(speaks.half().to_vec()).await.unwrap();
        read(&connection, n_bytes).await
    });
    await_reply(&mut sim, &asking.unwrap())
}

#[test]
fn commands_in_random_pieces_are_answered_once_and_in_order_as_a_store_answers() {
    for (seed, speaks) in (0..SEEDS).flat_map(|seed| [(seed, Speaks::Text), (seed, Speaks::Binary)])
    {
        let bytes = speaks.random_bytes(&mut fastrand::Rng::with_seed(seed));
        let wanted = expected(&bytes);
        let told = speaks.normal(told(seed, speaks, bytes, wanted.len()));
        let wanted = speaks.normal(wanted);
        let same = told.iter().zip(&wanted).take_while(|(one, other)| one == other).count();
        let here = |bytes: &[u8]| bytes[same.min(bytes.len())..].escape_ascii().to_string();
        assert!(told == wanted, "seed {seed}, {speaks:?}: {}\nnot {}", here(&told), here(&wanted));
    }
}

/// Nobody is idle who still takes in answers, however slowly; whoever is silent then is.
#[test]
fn a_slow_reader_is_not_idle_before_it_has_all_answers() {
    const VALUE_BYTES: usize = 60_000;
    const N_GETS: usize = 30;
    let limits = Limits { idle_ms: 50, ..Limits::default() };
    let (mut sim, address) = serving(1, limits);
    let asking = client(&mut sim, address, move |connection| async move {
        let head = format!("set a 0 0 {VALUE_BYTES}\r\n");
        let set = [head.as_bytes(), &[b'x'; VALUE_BYTES], b"\r\n"].concat();
        connection.write(set).await.unwrap();
        connection.write(b"get a\r\n".repeat(N_GETS)).await.unwrap();
        let mut n_bytes = 0;
        while let Ok(Some(chunk)) = connection.read().await {
            n_bytes += chunk.len();
            sleep(millis(limits.idle_ms) * 3).await;
        }
        n_bytes
    });
    let answer_bytes = format!("VALUE a 0 {VALUE_BYTES}\r\n\r\nEND\r\n").len() + VALUE_BYTES;
    let n_wanted = b"STORED\r\n".len() + N_GETS * answer_bytes;
    assert_eq!(await_reply(&mut sim, &asking), n_wanted);
}

#[test]
fn silence_between_and_within_commands_is_cut() {
    for begun in [&b"mn\r\n"[..], b"mn\r\nget", b"mn\r\nset a 0 0 9\r\nx", b"mn\r\n\x80\x01"] {
        let limits = Limits { idle_ms: 50, ..Limits::default() };
        let (mut sim, address) = serving(1, limits);
        let asking = client(&mut sim, address, move |connection| async move {
            let connected_at = now();
            connection.write(begun.to_vec()).await.unwrap();
            (read(&connection, usize::MAX).await, now().since(connected_at))
        });
        let (told, lived_for) = await_reply(&mut sim, &asking);
        assert_eq!(told, b"MN\r\n");
        assert!(lived_for < millis(limits.idle_ms) * 2, "{lived_for:?}");
    }
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
    let asking = client(&mut sim, address, move |connection| async move {
        let head = format!("set a 0 0 {VALUE_BYTES}\r\n");
        let set = [head.as_bytes(), &[b'x'; VALUE_BYTES], b"\r\n"].concat();
        connection.write(set).await.unwrap();
        connection.write(b"get a\r\n".repeat(N_GETS)).await.unwrap();
        sleep(write_within * 3).await;
        read(&connection, usize::MAX).await.len()
    });
    let n_read = await_reply(&mut sim, &asking);
    assert!(n_read < N_GETS * VALUE_BYTES / 10, "{n_read} bytes were read");
}

/// A shard may have keys and no listener: of a Unix socket's, only the first has one.
#[test]
fn what_has_expired_is_returned_on_every_shard() {
    const N_KEYS: u32 = 50;
    let (mut sim, address) = serving(1, Limits::default());
    let asking = client(&mut sim, address, move |connection| async move {
        let sets = (0..N_KEYS).map(|n| format!("set k{n} 0 1 1 noreply\r\nx\r\n"));
        connection.write(sets.collect::<String>()).await.unwrap();
        sleep(Duration::from_secs(10)).await;
        connection.write(b"stats\r\n".to_vec()).await.unwrap();
        read(&connection, 500).await
    });
    let told = String::from_utf8(await_reply(&mut sim, &asking)).unwrap();
    assert!(
        told.contains("STAT total_items 50\r\n") && told.contains("STAT curr_items 0\r\n"),
        "{told}"
    );
}

/// After a flush below, copies come again when those above have been dropped, also on shards without a
/// listener.
#[test]
fn two_tiers_are_put_right_on_every_shard() {
    const N_KEYS: usize = 50;
    let embedded = || TierPlan::Embedded(Embedded::default());
    let plan = Plan { upper: embedded(), lower: Some((embedded(), Policy::Fill)) };
    let (mut sim, address) = serving_tiers(1, Limits::default(), plan);
    let asking = client(&mut sim, address, move |connection| async move {
        let sets: String =
            (0..N_KEYS).map(|n| format!("set k{n} 0 0 1 noreply\r\nx\r\n")).collect();
        connection.write(format!("{sets}flush_all\r\nget k0 k1 k2\r\n")).await.unwrap();
        let flushed = read(&connection, b"OK\r\nEND\r\n".len()).await;
        assert_eq!(flushed, b"OK\r\nEND\r\n");
        sleep(Duration::from_secs(10)).await;
        connection.write(format!("{sets}stats\r\n")).await.unwrap();
        read(&connection, 500).await
    });
    let told = String::from_utf8(await_reply(&mut sim, &asking)).unwrap();
    // Twice in each tier.
    let n_items = format!("STAT total_items {}\r\n", 4 * N_KEYS);
    assert!(told.contains(&n_items), "{told}");
}

#[test]
fn an_item_that_finds_room_in_no_shard_is_refused_before_anybody_is_served() {
    let start = |embedded: Embedded| {
        let mut builder = Builder::new();
        let plan = Plan { upper: TierPlan::Embedded(embedded), lower: None };
        let options = owned_options(Duration::ZERO);
        declare_owned(&mut builder, options, Arc::new(OnceLock::from(plan)));
        builder.simulate(SimOptions::new(1, N_SHARDS)).map(|_sim| ())
    };
    let item_bytes_max = 1 << 20;
    let all = (N_SHARDS * bytes_min_for(1 << 20)) as u64;
    start(Embedded { bytes_max: all, item_bytes_max }).unwrap();
    let error = start(Embedded { bytes_max: all - 1, item_bytes_max }).unwrap_err().to_string();
    let remedy = format!("lower it, or give `bytes_max` at least {all} for {N_SHARDS} shards");
    assert!(error.contains("`item_bytes_max` (1048576)") && error.contains(&remedy), "{error}");
}
