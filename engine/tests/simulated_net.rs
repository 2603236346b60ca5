//! Goal: connections of simulated shards carry what was written, tell of what went wrong, and leave
//! no socket behind, whatever the network does.
//! Method: echo servers on every shard and clients on every shard, for each of many seeds; in some
//! campaigns all connections break off or fall silent at a drawn moment. Each seed runs twice and
//! must give the same turns and completions.
//!
//! One seed again: `FOREBAY_SIM_SEED=17 cargo test -p forebay --test simulated_net`.
//! More seeds: `FOREBAY_SIM_SEEDS=300 cargo test -p forebay --release --test simulated_net`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io;
use std::time::Duration;

use forebay::net::{Address, ConnectOptions, Connection, ListenOptions, Listener};
use forebay::sim::{SimOptions, Simulation};
use forebay::{Builder, Phase, Reply, RequestOptions, sleep, spawn_background};

const N_SHARDS: usize = 2;

fn seeds() -> Vec<u64> {
    let read = |name| std::env::var(name).ok().map(|text: String| text.parse().expect("a number"));
    match (read("FOREBAY_SIM_SEED"), read("FOREBAY_SIM_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, n_seeds) => (0..n_seeds.unwrap_or(30)).collect(),
    }
}

fn address() -> Address {
    "127.0.0.1:7".parse().unwrap()
}

/// Sends back what comes until the end comes.
async fn echo(connection: Connection) -> io::Result<()> {
    while let Some(chunk) = connection.read().await? {
        connection.write(chunk).await?;
    }
    connection.finish().await
}

async fn serve() {
    let listener = Listener::bind(&address(), ListenOptions::default()).unwrap();
    while let Ok(connection) = listener.accept().await {
        spawn_background(async move { drop(echo(connection).await) }).detach();
    }
}

/// Whether all came back; what came must be what was sent.
async fn ask(n_bytes: usize) -> io::Result<bool> {
    let connection = Connection::connect(&address(), ConnectOptions::default()).await?;
    let sent: Vec<u8> = (0..n_bytes).map(|n| n.to_le_bytes()[0]).collect();
    let mut came = Vec::new();
    for part in sent.chunks(1_000) {
        connection.write(part.to_vec()).await?;
    }
    connection.finish().await?;
    while let Some(chunk) = connection.read().await? {
        came.extend_from_slice(&chunk);
    }
    assert!(sent.starts_with(&came), "{} of {} bytes, others", came.len(), sent.len());
    Ok(came.len() == sent.len())
}

type Asked = Reply<Option<io::Result<bool>>>;

/// A client that gives up after a minute.
fn client(sim: &Simulation, n_bytes: usize) -> Asked {
    let shard = usize::try_from(sim.draw(N_SHARDS as u64)).unwrap();
    let request = move || {
        futures_lite::future::or(async move { Some(ask(n_bytes).await) }, async {
            sleep(Duration::from_secs(60)).await;
            None
        })
    };
    sim.handle().submit(shard, RequestOptions::default(), request).unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Resets,
    Silence,
    /// Both drawn at any time, few sockets, frozen shards.
    All,
    /// One shard ends at once.
    Kill,
}

fn advance(sim: &mut Simulation, steps: u64) -> bool {
    for _ in 0..steps {
        let more = sim.step();
        assert_eq!(sim.violation(), None);
        if !more {
            return false;
        }
    }
    true
}

/// Runs one campaign; gives the digest, and how many clients were answered in full.
fn run(seed: u64, trouble: Trouble) -> (u64, usize) {
    const N_CLIENTS: usize = 12;
    let mut options = SimOptions::new(seed, N_SHARDS);
    let window_bytes = [20, 700, 4_000, 64 << 10][usize::try_from(seed % 4).unwrap()];
    options.net_window_bytes = window_bytes;
    if trouble == Trouble::All {
        (options.reset_per_mille, options.silence_per_mille, options.sockets_max) = (30, 30, 9);
    }
    let mut sim = Builder::new().simulate(options).unwrap();
    let serving = [0, 1].map(|shard| {
        let server = || async { spawn_background(serve()).detach() };
        sim.handle().submit(shard, RequestOptions::default(), server).unwrap()
    });
    advance(&mut sim, 200);
    assert!(serving.iter().all(|reply| reply.try_take().is_some()));
    let mut replies = Vec::new();
    for _ in 0..N_CLIENTS {
        let (n_bytes, steps) = (sim.draw(9_000.min(window_bytes as u64 * 10)), sim.draw(40));
        replies.push(client(&sim, usize::try_from(n_bytes).unwrap()));
        advance(&mut sim, steps);
        if trouble == Trouble::All && sim.draw(4) == 0 {
            let time = Duration::from_micros(sim.draw(200_000));
            sim.freeze(usize::try_from(n_bytes % 2).unwrap(), time);
        }
    }
    let steps = sim.draw(600);
    advance(&mut sim, steps);
    match trouble {
        Trouble::Resets => sim.reset_connections(),
        Trouble::Silence => sim.silence_connections(),
        Trouble::Kill => sim.kill(1),
        Trouble::None | Trouble::All => {}
    }
    assert!(!advance(&mut sim, 2_000_000), "no rest");
    let is_whole = |reply: &Asked| match reply.try_take().expect("at rest") {
        // Its shard was killed.
        Err(_) if trouble == Trouble::Kill => false,
        Ok(Some(Ok(whole))) => {
            assert!(whole || trouble != Trouble::None, "cut short");
            whole
        }
        other => {
            assert!(trouble != Trouble::None, "{other:?}");
            false
        }
    };
    let n_whole = replies.iter().filter(|reply| is_whole(reply)).count();
    for phase in [Phase::Draining, Phase::Cancelled, Phase::Ended, Phase::Gone] {
        sim.enter_phase(phase);
        assert!(!advance(&mut sim, 200_000), "no rest in {phase:?}");
    }
    assert!((0..N_SHARDS).all(|shard| sim.is_gone(shard)));
    assert_eq!(sim.unsettled(), None);
    (sim.digest(), n_whole)
}

fn check(trouble: Trouble) -> usize {
    let mut n_whole = 0;
    for seed in seeds() {
        eprintln!("seed {seed} of {trouble:?}");
        let first = run(seed, trouble);
        assert_eq!(first, run(seed, trouble), "the same seed gave another run");
        n_whole += first.1;
    }
    n_whole
}

#[test]
fn every_byte_comes_back() {
    assert!(check(Trouble::None) > 0);
}

#[test]
fn connections_that_break_off_are_told_and_closed() {
    check(Trouble::Resets);
}

#[test]
fn silent_connections_end_with_their_clients() {
    check(Trouble::Silence);
}

#[test]
fn drawn_trouble_and_few_sockets_leave_nothing_behind() {
    assert!(check(Trouble::All) > 0);
}

#[test]
fn the_end_of_a_shard_is_told_to_the_clients_of_the_other() {
    check(Trouble::Kill);
}
