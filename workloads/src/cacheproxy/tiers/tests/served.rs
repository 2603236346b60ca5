//! A tier of servers that speak: what their protocol and their settings allow must end every doubt.

use std::time::Duration;

use forebay::net::{Address, ListenOptions, Listener};
use forebay::{now, spawn_background};
use futures_util::future::join_all;

use super::*;
use crate::cacheproxy::downstream::{Config, Downstream};

/// Where servers listen in the simulation.
const PORTS: [u16; 2] = [11_777, 11_778];
/// Servers take many turns.
const STEPS_MAX: u64 = 100 * super::STEPS_MAX;

/// A server that has nothing: it hears and answers nothing for a while, then each line by its first
/// word.
async fn serve(at: Address, mute_for: Duration) {
    let listener = Listener::bind(&at, ListenOptions::default()).unwrap();
    let begun = now();
    while let Ok(connection) = listener.accept().await {
        spawn_background(async move {
            // What has no end yet: bytes arrive cut anywhere.
            let mut said = String::new();
            while let Ok(Some(chunk)) = connection.read().await {
                said += &String::from_utf8_lossy(&chunk);
                let told: String = lines(&mut said).iter().map(|line| answer(line)).collect();
                let is_mute = now().since(begun) < mute_for;
                if !is_mute && connection.write(told.into_bytes()).await.is_err() {
                    break;
                }
            }
        })
        .detach();
    }
}

/// Takes the lines that are whole.
fn lines(said: &mut String) -> Vec<String> {
    let rest = said.rfind("\r\n").map_or(0, |end| end + 2);
    let whole: String = said.drain(..rest).collect();
    whole.split("\r\n").map(str::to_owned).collect()
}

fn answer(line: &str) -> &'static str {
    match line.split(' ').next() {
        Some("flush_all") => "OK\r\n",
        Some("set") => "STORED\r\n",
        Some("ms") => "HD\r\n",
        Some("me" | "mg") => "EN\r\n",
        Some("md") => "NF\r\n",
        Some("delete" | "touch") => "NOT_FOUND\r\n",
        Some("get") => "END\r\n",
        // A value.
        _ => "",
    }
}

/// Does `work` before a tier of servers that are mute for so long, configured as usual.
fn before_servers<F>(mute_for: &[Duration], work: F)
where
    F: AsyncFnOnce(Downstream) + Send + 'static,
{
    let address = |port: &u16| format!("127.0.0.1:{port}").parse::<Address>().unwrap();
    let servers: Vec<_> = PORTS.iter().map(address).zip(mute_for.iter().copied()).collect();
    let addresses: Vec<_> = servers.iter().map(|(at, _)| at.clone()).collect();
    let mut builder = Builder::new();
    let downstream = Downstream::declare(&mut builder, "tier", &Config::of(&addresses), 1).unwrap();
    let mut sim = builder.simulate(SimOptions::new(1, 1)).unwrap();
    let start = move || async move {
        for (at, mute_for) in servers {
            spawn_background(serve(at, mute_for)).detach();
        }
        work(downstream).await;
    };
    let reply = sim.handle().submit(0, RequestOptions::default().also_draining(), start).unwrap();
    let mut done = None;
    let ended = sim.run_until(STEPS_MAX, |_sim| {
        done = reply.try_take();
        done.is_some()
    });
    assert!(ended, "it has no end");
    done.expect("it has ended").unwrap_or_else(|error| panic!("{error}"));
}

fn above_memory(upper: Downstream) -> Tiers {
    let clock = Clock::set();
    let lower = Tier::embedded(store(ITEM_BYTES_MAX), clock);
    Tiers::new(Tier::Memcached(upper), lower, Policy::Fill, clock)
}

/// As usual they refuse clients to flush.
#[test]
fn servers_above_that_no_client_may_flush_are_flushed_when_they_were_passed_by() {
    before_servers(&[Duration::ZERO], async |downstream| {
        let tiers = above_memory(downstream);
        assert!(!tiers.upper.may_flush_all());
        tiers.ledger.borrow_mut().pass_by();
        tiers.nothing_is_left().await.unwrap();
    });
}

#[test]
fn doubts_of_every_key_end_once_servers_below_answer_again() {
    before_servers(&[Duration::from_secs(3)], async |downstream| {
        let clock = Clock::set();
        let upper = Tier::embedded(store(ITEM_BYTES_MAX), clock);
        let tiers = Tiers::new(upper, Tier::Memcached(downstream), Policy::Fill, clock);
        let keys = [key("clean"), key("not clean")];
        let writes = keys.each_ref().map(|key| set(key, "value"));
        // Both in one batch: the next comes into the pause that follows.
        let outcomes = join_all(writes.iter().map(|write| tiers.ask(write))).await;
        assert_eq!(outcomes, [const { Outcome::Failed(Failure::Unanswered) }; 2]);
        assert!(keys.iter().all(|key| tiers.is_doubted(key)));
        // Nobody was told of it, but somebody may have gone before he was told.
        let unsayable = Key::new(&[b' '; 200]).unwrap();
        let write = tiers.ledger.borrow_mut().begin_write(&unsayable, now());
        tiers.ledger.borrow_mut().give_up_write(&unsayable, write);
        sleep(Duration::from_secs(3)).await;
        tiers.nothing_is_left().await.unwrap();
    });
}

#[test]
fn a_key_that_servers_above_cannot_be_told_leaves_no_doubt() {
    before_servers(&[Duration::ZERO], async |downstream| {
        let tiers = above_memory(downstream);
        let key = Key::new(&[b' '; 200]).unwrap();
        assert!(matches!(tiers.ask(&set(&key, "value")).await, Outcome::Stored(_)));
        assert_eq!(tiers.n_doubts(), 0);
        assert!(matches!(tiers.ask(&plain_get(&key)).await, Outcome::Hit(_)));
        tiers.nothing_is_left().await.unwrap();
    });
}

#[test]
fn a_server_that_hangs_keeps_no_doubts_of_another() {
    const N_KEYS: usize = 2_000;
    let for_ever = Duration::from_secs(100_000);
    before_servers(&[Duration::ZERO, for_ever], async |downstream| {
        let tiers = above_memory(downstream);
        let keys = (0..N_KEYS).map(|number| key(&format!("key{number:04}")));
        for key in keys.clone() {
            let mut ledger = tiers.ledger.borrow_mut();
            ledger.doubts.note(&key, doubts::Cause::Old, doubts::Ticket(0)).unwrap();
        }
        // As many as it takes for each key to be tried once, were there one batch to a step.
        tiers.work_off_steps(16).await;
        let hung: Vec<_> = keys.filter(|key| tiers.is_doubted(key)).collect();
        assert!((N_KEYS / 3..N_KEYS * 2 / 3).contains(&hung.len()), "{}", hung.len());
        for key in hung {
            let Tier::Memcached(servers) = &tiers.upper else { panic!("they are servers") };
            let outcome = servers.apply(plain_get(&key)).await;
            assert!(matches!(outcome, Outcome::Failed(_)), "{key:?} is of the other: {outcome:?}");
        }
    });
}
