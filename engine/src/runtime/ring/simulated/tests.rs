//! Goal: what crosses the simulated network is what crosses a real one, no more and no less.
//! Method: two shards whose operations are begun and taken in by hand, for each of many seeds; the
//! last seed printed is the one that failed.

mod contract;
mod rig;

use super::super::{End, Kind, ListenSpec, Op, Ring};
use super::NetChance;
use crate::runtime::ShardId;
use rig::{CHANCE, CLIENT, Rig, SERVER, seeds};

const PIPE: i32 = 32;
const FILES: i32 = 24;
const RESET: i32 = 104;
const REFUSED: i32 = 111;
const CANCELED: i32 = 125;

/// A server that accepts and one client, both with bytes to send.
fn pair(seed: u64, chance: NetChance, n_bytes: usize) -> (Rig, usize, Vec<u8>, Vec<u8>) {
    let mut rig = Rig::new(seed, chance);
    let n_there = 1 + rig.draw(n_bytes);
    let (here, there) = (rig.bytes(n_bytes), rig.bytes(n_there));
    rig.greeting.clone_from(&there);
    let (listener, address) = rig.listen("127.0.0.1:0", 4);
    rig.push(listener, Op::Accept);
    let client = rig.connect(&address, here.clone());
    (rig, client, here, there)
}

/// The same, kept open by both, after some turns.
fn open_pair(seed: u64) -> (Rig, usize, Vec<u8>, Vec<u8>) {
    let (mut rig, client, here, there) = pair(seed, CHANCE, 20_000);
    rig.keeps_open = true;
    rig.talks[client].keeps_open = true;
    while rig.talks.len() < 3 || rig.talks[client].connected.is_none() {
        assert!(rig.turn());
    }
    for _ in 0..rig.draw(60) {
        rig.turn();
    }
    (rig, client, here, there)
}

#[test]
fn bytes_arrive_whole_and_in_order_and_the_end_after_them() {
    let (mut n_starved, mut n_receives) = (0, 0);
    for seed in seeds(200) {
        let window_bytes = [1, 7, 600, 5_000][usize::try_from(seed % 4).unwrap()];
        let n_bytes = 1 + window_bytes * 5;
        let (mut rig, client, here, there) =
            pair(seed, NetChance { window_bytes, ..CHANCE }, n_bytes);
        rig.rest();
        let server = client + 1;
        assert!(rig.talks[client].received == there, "seed {seed}");
        assert!(rig.talks[server].received == here, "seed {seed}");
        for talk in [client, server] {
            assert_eq!(rig.talks[talk].end, Some(Ok(())), "seed {seed}: {talk}");
            assert_eq!(rig.talks[talk].send_error, None, "seed {seed}: {talk}");
            n_starved += rig.talks[talk].n_starved;
            n_receives += rig.talks[talk].ended.iter().filter(|k| **k == Kind::Receive).count();
            rig.close(talk);
        }
        rig.cancel_and_close(0);
        for shard in [SERVER, CLIENT] {
            assert_eq!(rig.world.network.borrow().n_open(ShardId::new(shard)), 0);
        }
    }
    // What the layer above must bear does happen.
    assert!(n_starved > 100 && n_receives > 1_000, "{n_starved} {n_receives}");
}

#[test]
fn a_reset_is_seen_by_both() {
    for seed in seeds(200) {
        let (mut rig, client, here, there) = open_pair(seed);
        let now = rig.world.clock.get();
        rig.world.network.borrow_mut().reset_connections(now);
        rig.rest();
        for (talk, sent) in [(client, &there), (client + 1, &here)] {
            let talk = &mut rig.talks[talk];
            assert_eq!(talk.end, Some(Err(RESET)), "seed {seed}: {talk:?}");
            assert!(sent.starts_with(&talk.received), "seed {seed}");
            assert!(matches!(talk.send_error, None | Some(RESET)), "seed {seed}: {talk:?}");
            assert!(talk.under_way.is_empty(), "seed {seed}: {talk:?}");
            talk.unsent = b"more".to_vec();
        }
        rig.send(client);
        rig.rest();
        assert_eq!(rig.talks[client].send_error, Some(RESET), "seed {seed}");
    }
}

#[test]
fn drawn_resets_come_at_their_rate() {
    let is_reset = |seed| {
        let (mut rig, client, ..) = pair(seed, NetChance { reset_per_mille: 50, ..CHANCE }, 3_000);
        rig.rest();
        let ends = [client, client + 1].map(|talk| rig.talks.get(talk).and_then(|talk| talk.end));
        assert!(ends.iter().all(Option::is_some), "seed {seed}: {ends:?}");
        ends.contains(&Some(Err(RESET)))
    };
    let n_reset = seeds(200).filter(|seed| is_reset(*seed)).count();
    assert!((10..190).contains(&n_reset), "{n_reset}");
}

#[test]
fn silence_is_never_reported() {
    for seed in seeds(200) {
        let (mut rig, client, here, there) = open_pair(seed);
        let now = rig.world.clock.get();
        rig.world.network.borrow_mut().silence_connections(now);
        if seed % 3 == 0 {
            rig.cancel_and_close(client + 1);
        }
        rig.rest();
        assert!(there.starts_with(&rig.talks[client].received), "seed {seed}");
        assert!(here.starts_with(&rig.talks[client + 1].received), "seed {seed}");
        let talk = &rig.talks[client];
        assert_eq!((talk.end, talk.send_error), (None, None), "seed {seed}: {talk:?}");
        assert!(talk.under_way.contains(&Kind::Receive), "seed {seed}: {talk:?}");
        // Others may be made.
        let address = rig.address_of(0, End::Here);
        let next = rig.connect(&address, b"hello".to_vec());
        rig.rest();
        assert_eq!(rig.talks[next].connected, Some(Ok(())), "seed {seed}");
    }
}

#[test]
fn a_cancel_always_completes_both() {
    let mut n_cancelled = 0;
    for seed in seeds(200) {
        let (mut rig, client, ..) = pair(seed, CHANCE, 30_000);
        rig.holds = true;
        for _ in 0..rig.draw(40) {
            rig.turn();
        }
        rig.talks.iter_mut().for_each(|talk| talk.quiet = true);
        let kinds = [Kind::Accept, Kind::Connect, Kind::Receive, Kind::Send];
        let asked = [(0, kinds[0]), (client, kinds[1 + rig.draw(3)])];
        for (talk, kind) in asked {
            rig.push(talk, Op::Cancel(kind));
        }
        rig.rest();
        for (talk, kind) in asked {
            let talk = &rig.talks[talk];
            assert!(!talk.under_way.contains(&kind), "seed {seed}: {kind:?} {talk:?}");
            assert!(talk.ended.contains(&Kind::Cancel), "seed {seed}: {talk:?}");
        }
        let client = &rig.talks[client];
        let errors = [client.send_error, client.end.and_then(Result::err)];
        n_cancelled += errors.iter().filter(|error| **error == Some(CANCELED)).count();
    }
    assert!(n_cancelled > 20, "{n_cancelled}");
}

#[test]
fn a_full_window_holds_the_sender_until_the_reader_reads() {
    for seed in seeds(200) {
        let (mut rig, client, here, _) = pair(seed, CHANCE, 3 * CHANCE.window_bytes);
        rig.holds = true;
        rig.rest();
        let server = client + 1;
        let held = rig.talks[client].n_sent;
        assert!(held <= CHANCE.window_bytes, "seed {seed}: {held}");
        assert!(rig.talks[client].under_way.contains(&Kind::Send), "seed {seed}");
        rig.talks[server].holds = false;
        rig.receive(server);
        rig.rest();
        assert!(rig.talks[server].received == here, "seed {seed}");
    }
}

#[test]
fn a_closed_listener_refuses() {
    for seed in seeds(200) {
        let (mut rig, client, ..) = pair(seed, CHANCE, 10);
        let address = rig.address_of(0, End::Here);
        for _ in 0..rig.draw(6) {
            rig.turn();
        }
        rig.cancel_and_close(0);
        let late = rig.connect(&address, vec![1]);
        rig.rest();
        assert_eq!(rig.talks[late].connected, Some(Err(REFUSED)), "seed {seed}");
        // The first was refused, or broken off in the queue, or accepted in time.
        let first = &rig.talks[client];
        match (first.connected, first.end) {
            (Some(Err(REFUSED)), None) | (Some(Ok(())), Some(Ok(()) | Err(RESET))) => {}
            other => panic!("seed {seed}: {other:?}"),
        }
        rig.close(client);
        rig.close(late);
    }
}

#[test]
fn a_full_backlog_holds_connects_until_the_next_accept() {
    for seed in seeds(100) {
        let mut rig = Rig::new(seed, CHANCE);
        let (listener, address) = rig.listen("127.0.0.1:80", 1);
        let clients: Vec<usize> = (0..5).map(|_| rig.connect(&address, vec![1])).collect();
        rig.rest();
        let connected = |rig: &Rig| {
            clients.iter().filter(|talk| rig.talks[**talk].connected == Some(Ok(()))).count()
        };
        assert_eq!(connected(&rig), 2, "seed {seed}: one more than the backlog, as on Linux");
        rig.push(listener, Op::Accept);
        rig.rest();
        assert_eq!(connected(&rig), 5, "seed {seed}");
    }
}

#[test]
fn an_accept_beyond_the_sockets_of_a_shard_ends_and_loses_nobody() {
    for seed in seeds(100) {
        let mut rig = Rig::new(seed, NetChance { sockets_max: 2, ..CHANCE });
        let (listener, address) = rig.listen("127.0.0.1:80", 8);
        rig.push(listener, Op::Accept);
        let clients = [0, 1].map(|n| rig.connect(&address, vec![n]));
        assert!(rig.ring(CLIENT).open(&address, None).is_err());
        rig.rest();
        assert_eq!(rig.talks[listener].accept_error, Some(FILES), "seed {seed}");
        let server = rig.talks.len() - 1;
        rig.close(server);
        rig.push(listener, Op::Accept);
        rig.rest();
        for client in clients {
            assert_eq!(rig.talks[client].connected, Some(Ok(())), "seed {seed}");
        }
        assert_eq!(rig.talks.len(), server + 2, "seed {seed}");
    }
}

#[test]
fn closing_with_unread_bytes_resets_the_other_side() {
    for seed in seeds(100) {
        let (mut rig, client, ..) = pair(seed, CHANCE, 100);
        (rig.holds, rig.keeps_open) = (true, true);
        rig.talks[client].keeps_open = true;
        rig.rest();
        rig.close(client + 1);
        rig.rest();
        assert_eq!(rig.talks[client].end, Some(Err(RESET)), "seed {seed}");
    }
}

#[test]
fn a_send_finds_out_that_the_other_side_has_closed() {
    for seed in seeds(100) {
        let (mut rig, client, ..) = pair(seed, CHANCE, 100);
        rig.keeps_open = true;
        rig.talks[client].keeps_open = true;
        rig.rest();
        rig.cancel_and_close(client + 1);
        rig.rest();
        assert_eq!(rig.talks[client].end, Some(Ok(())), "seed {seed}");
        rig.talks[client].unsent = vec![0; 10];
        rig.send(client);
        rig.rest();
        assert_eq!(rig.talks[client].send_error, Some(PIPE), "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_order() {
    let run = |seed| {
        let (mut rig, ..) = pair(seed, CHANCE, 5_000);
        let address = rig.address_of(0, End::Here);
        for n in 0..5 {
            rig.connect(&address, vec![n; 99]);
        }
        rig.rest();
        let digest = rig.world.network.borrow().digest();
        (digest, rig.log)
    };
    let mut digests = std::collections::BTreeSet::new();
    for seed in seeds(50) {
        let first = run(seed);
        assert_eq!(first, run(seed), "seed {seed}");
        digests.insert(first.0);
    }
    assert!(digests.len() >= 50 || std::env::var_os("FOREBAY_SIM_SEED").is_some());
}

#[test]
fn listeners_on_one_address_share_and_a_path_has_one() {
    let mut rig = Rig::new(1, CHANCE);
    let (first, address) = rig.listen("0.0.0.0:80", 50);
    let (second, _) = rig.listen("0.0.0.0:80", 50);
    assert_eq!(address.to_string(), "0.0.0.0:80");
    let to = "127.0.0.1:80".parse().unwrap();
    for _ in 0..20 {
        rig.connect(&to, vec![]);
    }
    for listener in [first, second] {
        rig.push(listener, Op::Accept);
    }
    rig.rest();
    let of = |key| rig.log.iter().filter(|line| line.contains(&format!(" {key} Accept"))).count();
    assert!(of(first) > 2 && of(second) > 2, "{} {}", of(first), of(second));
    let [free, other] = [0, 1].map(|_| rig.listen("127.0.0.1:0", 1).1);
    assert_ne!(free, other);
    let (unix, path) = rig.listen("unix:/run/service", 1);
    let again = ListenSpec { address: path.clone(), backlog: 1 };
    assert!(rig.ring(SERVER).listen(&again).is_err());
    let client = rig.connect(&path, vec![]);
    rig.push(unix, Op::Accept);
    rig.rest();
    assert_eq!(rig.address_of(client, End::There), path);
    assert_eq!(rig.address_of(client, End::Here).to_string(), "unix:");
}

#[test]
fn a_shard_that_is_gone_ends_its_connections() {
    for seed in seeds(100) {
        let (mut rig, client, ..) = open_pair(seed);
        let now = rig.world.clock.get();
        rig.world.network.borrow_mut().end_shard(ShardId::new(SERVER), now);
        rig.rest();
        assert!(rig.talks[client].end.is_some(), "seed {seed}");
        let address = "127.0.0.1:32768".parse().unwrap();
        let late = rig.connect(&address, vec![]);
        rig.rest();
        assert_eq!(rig.talks[late].connected, Some(Err(REFUSED)), "seed {seed}");
        rig.close(client + 1);
    }
}
