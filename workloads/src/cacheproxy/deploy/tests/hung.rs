//! Goal: a server that hangs keeps what waits for it, and nothing else.
//! Method: memory above a server that stores one item and never answers again; reads that it is asked
//! for begin apart from each other, each a batch of its own, and a read of the copy in memory after them.

use super::*;
use crate::cacheproxy::downstream::Config as Servers;
use crate::cacheproxy::operation::{ExpTime, Get, Key, Set, SetMode};

/// Reads that wait for the server: more than a few hundred batches, fewer than its queue takes.
const N_WAITING: u32 = 2_000;
/// Between two of them: long enough that each leaves alone, short enough that all wait before the first
/// is given up.
const APART: Duration = Duration::from_micros(50);
/// A read of what is in memory takes turns of its shard, and no time beyond.
const IN_MEMORY_WITHIN: Duration = Duration::from_millis(1);

/// Stores whatever it is asked first, and then hangs.
async fn store_one_and_hang(listener: Listener) {
    let mut kept = Vec::new();
    while let Ok(connection) = listener.accept().await {
        if kept.is_empty() {
            connection.read().await.unwrap();
            connection.write(b"STORED\r\n".to_vec()).await.unwrap();
        }
        kept.push(connection);
    }
}

fn get(key: &str) -> Operation {
    Operation { key: Key::new(key.as_bytes()).unwrap(), what: What::Get(Get::PLAIN) }
}

#[test]
fn a_read_in_memory_waits_for_no_server_however_many_do() {
    let at: Address = "127.0.0.1:11311".parse().unwrap();
    let mut builder = Builder::new();
    let plan = Arc::new(OnceLock::new());
    let servers = Servers::of(std::slice::from_ref(&at));
    let options = owned_options(servers.limits.operation_within());
    let owned = declare_owned(&mut builder, options, Arc::clone(&plan));
    let lower = Downstream::declare(&mut builder, "l2", &servers, 1).unwrap();
    let upper = TierPlan::Embedded(Embedded::default());
    plan.set(Plan { upper, lower: Some((TierPlan::Memcached(lower), Policy::Fill)) }).unwrap();
    let mut sim = builder.simulate(SimOptions::new(1, 1)).unwrap();
    let reading = sim.handle().submit(0, RequestOptions::default(), move || async move {
        let listener = Listener::bind(&at, connection::listen_options(&Limits::default())).unwrap();
        spawn_background(store_one_and_hang(listener)).detach();
        let set = Set::new(SetMode::Set, 0, ExpTime(0), "v".into());
        let stored = owned.call(Operation { what: What::Set(set), ..get("hot") }).await.unwrap();
        assert!(matches!(stored, Outcome::Stored(_)), "{stored:?}");
        for number in 0..N_WAITING {
            let cold = get(&format!("cold{number}"));
            spawn_background(async move { drop(owned.call(cold).await) }).detach();
            sleep(APART).await;
        }
        let asked_at = now();
        let read = owned.call(get("hot")).await.unwrap();
        (read, now().since(asked_at))
    });
    let (read, took) = await_reply(&mut sim, &reading.unwrap());
    assert!(matches!(read, Outcome::Hit(_)), "{read:?}");
    assert!(took < IN_MEMORY_WITHIN, "{took:?}");
}
