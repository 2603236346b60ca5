//! Real memcacheds that are killed, stopped and started again, and scripted servers that do what no
//! memcached does. Here time is the machine's: bounds are the promised ones and room for a busy host.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use forebay::{Engine, RequestOptions, Time, now, sleep, spawn};

use super::*;
use crate::cacheproxy::memcached::Memcached;

/// What a busy host may add to a promised time.
const ROOM: Duration = Duration::from_secs(2);

fn limits() -> ServerLimits {
    ServerLimits {
        connect_ms: 200,
        answer_ms: 300,
        open_ms: 50,
        pause_max_ms: 100,
        ..ServerLimits::default()
    }
}

fn config(addresses: &[SocketAddr]) -> Config {
    let addresses: Vec<Address> = addresses.iter().copied().map(Address::from).collect();
    Config { limits: limits(), ..Config::of(&addresses) }
}

/// An engine of one shard with the servers of `config` downstream.
struct Proxy {
    engine: Engine,
    downstream: Downstream,
}

impl Proxy {
    fn start(config: &Config) -> Self {
        let mut builder = Builder::new();
        builder.quiet().shards(1);
        let downstream = Downstream::declare(&mut builder, "real", config, 1).unwrap();
        Self { engine: builder.start().unwrap(), downstream }
    }

    /// Applies operations, all at once; gives their outcomes, and holds them to the promised time.
    fn apply(&self, operations: Vec<Operation>) -> Vec<Outcome> {
        let downstream = self.downstream.clone();
        let request = move || async move {
            let began = now();
            let begin = |operation| {
                let downstream = downstream.clone();
                spawn(RequestOptions::default(), async move { downstream.apply(operation).await })
            };
            let requests: Vec<_> = operations.into_iter().map(begin).collect();
            let mut outcomes = Vec::new();
            for request in requests {
                outcomes.push(request.await.unwrap());
            }
            (outcomes, now().since(began))
        };
        let reply = self.engine.handle().submit(0, RequestOptions::default(), request).unwrap();
        let (outcomes, took) = reply.wait().unwrap();
        assert!(took <= limits().batch_within() * 2 + ROOM, "took {took:?}: {outcomes:?}");
        outcomes
    }

    fn apply_one(&self, operation: Operation) -> Outcome {
        self.apply(vec![operation]).remove(0)
    }

    /// Asks until there is an answer: the server is back.
    fn await_answer(&self, operation: Operation) -> Outcome {
        let downstream = self.downstream.clone();
        let request = move || async move {
            let give_up_at: Time = now().after(Duration::from_secs(20));
            loop {
                let outcome = downstream.apply(operation.clone()).await;
                if !matches!(outcome, Outcome::Failed(_)) || now() >= give_up_at {
                    return outcome;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let reply = self.engine.handle().submit(0, RequestOptions::default(), request).unwrap();
        reply.wait().unwrap()
    }

    fn stop(self) {
        assert!(self.engine.stop(Duration::from_secs(5)).drained);
    }
}

fn is_failure(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(_))
}

/// Reads of so many keys.
fn gets(n_keys: usize) -> Vec<Operation> {
    (0..n_keys).map(|idx| get(&format!("key-{idx}"))).collect()
}

/// Stores of so many keys.
fn sets(n_keys: usize) -> Vec<Operation> {
    (0..n_keys).map(|idx| set(&format!("key-{idx}"), format!("value-{idx}"))).collect()
}

#[test]
fn what_is_stored_is_read_small_and_large_over_several_servers() {
    let servers: Option<Vec<_>> = (0..3).map(|_| Memcached::start()).collect();
    let Some(servers) = servers else { return };
    let addresses: Vec<_> = servers.iter().map(Memcached::address).collect();
    let proxy = Proxy::start(&config(&addresses));
    let stored = proxy.apply(sets(1_000));
    assert!(stored.iter().all(|outcome| matches!(outcome, Outcome::Stored(_))));
    for (idx, outcome) in proxy.apply(gets(1_000)).iter().enumerate() {
        assert_eq!(value(outcome), Some(format!("value-{idx}").as_bytes()));
    }
    let large = vec![b'x'; 1_000_000];
    assert_eq!(proxy.apply_one(set("a key", large.clone())), Outcome::Stored(0));
    assert_eq!(value(&proxy.apply_one(get("a key"))), Some(&large[..]));
    assert_eq!(proxy.apply_one(set("larger", vec![b'x'; 1_100_000])), Outcome::TooLarge);
    assert_eq!(proxy.apply_one(get("larger")), Outcome::Miss);
    let unsayable = " ".repeat(250);
    assert_eq!(proxy.apply_one(get(&unsayable)), Outcome::Failed(Failure::Refused));
    assert_eq!(proxy.apply_one(set(&unsayable, "x")), Outcome::Failed(Failure::Refused));
    proxy.stop();
}

#[test]
fn a_server_that_is_killed_fails_only_its_own_keys_and_serves_again_when_it_is_back() {
    let (Some(stays), Some(goes)) = (Memcached::start(), Memcached::start()) else { return };
    let address = goes.address();
    let proxy = Proxy::start(&config(&[stays.address(), address]));
    let is_on = |operation: &Operation| proxy.downstream.route.server(operation.key.as_bytes()).0;
    let n_stays = gets(100).iter().filter(|operation| is_on(operation) == 0).count();
    assert!((20..80).contains(&n_stays), "{n_stays}");
    assert!(!proxy.apply(sets(100)).iter().any(is_failure));

    drop(goes);
    for _again in 0..20 {
        for (operation, outcome) in gets(100).iter().zip(proxy.apply(gets(100))) {
            assert_eq!(is_failure(&outcome), is_on(operation) == 1, "{operation:?}: {outcome:?}");
        }
        for (operation, outcome) in sets(100).iter().zip(proxy.apply(sets(100))) {
            assert_eq!(is_failure(&outcome), is_on(operation) == 1, "{operation:?}: {outcome:?}");
        }
    }
    let _back = Memcached::start_at(address).unwrap();
    let gone = (0..).map(|idx| format!("key-{idx}")).find(|key| is_on(&get(key)) == 1).unwrap();
    assert_eq!(proxy.await_answer(get(&gone)), Outcome::Miss);
    proxy.stop();
}

#[test]
fn a_server_that_is_stopped_is_waited_for_no_longer_than_promised() {
    let Some(server) = Memcached::start() else { return };
    let proxy = Proxy::start(&config(&[server.address()]));
    assert!(!proxy.apply(sets(100)).iter().any(is_failure));
    server.stop();
    for _again in 0..4 {
        assert!(proxy.apply(gets(1_000)).iter().all(is_failure));
        assert!(proxy.apply(sets(1_000)).iter().all(is_failure));
    }
    server.go_on();
    assert_eq!(value(&proxy.await_answer(get("key-0"))), Some(&b"value-0"[..]));
    proxy.stop();
}

#[test]
fn a_dead_server_is_told_as_what_it_is_whatever_clients_are_told() {
    let address = crate::cacheproxy::memcached::free_address();
    let unanswered_reads = UnansweredReads::Miss;
    let proxy = Proxy::start(&Config { unanswered_reads, ..config(&[address]) });
    for operation in [get("a"), set("a", "b")] {
        assert_eq!(proxy.apply_one(operation), Outcome::Failed(Failure::Unavailable));
    }
    proxy.stop();
}

/// Writes ever newer versions of its own key, and reads each back; gives how many were older than what
/// was written.
async fn read_own_writes(downstream: Downstream, own: String) -> usize {
    let mut n_stale = 0;
    for version in 1..=200 {
        let stored = downstream.apply(set(&own, version.to_string())).await;
        assert_eq!(stored, Outcome::Stored(0));
        let read = downstream.apply(get(&own)).await;
        let read: Option<u64> =
            value(&read).map(|value| std::str::from_utf8(value).unwrap().parse().unwrap());
        n_stale += usize::from(read != Some(version));
    }
    n_stale
}

#[test]
fn clients_of_two_shards_read_what_they_wrote_while_others_read_it_all_the_time() {
    let Some(server) = Memcached::start() else { return };
    let n_shards = std::thread::available_parallelism().map_or(1, |n_cpus| n_cpus.get().min(2));
    let mut builder = Builder::new();
    builder.quiet().shards(n_shards);
    let config = config(&[server.address()]);
    let downstream = Downstream::declare(&mut builder, "real", &config, 1).unwrap();
    let engine = builder.start().unwrap();
    let submit = |number: usize| {
        let downstream = downstream.clone();
        let request = move || async move {
            if number < 4 {
                return read_own_writes(downstream, format!("key-{number}")).await;
            }
            for _again in 0..2_000 {
                downstream.apply(get(&format!("key-{}", number % 4))).await;
            }
            0
        };
        let shard = number % 3 % n_shards;
        engine.handle().submit(shard, RequestOptions::default(), request).unwrap()
    };
    let replies: Vec<_> = (0..12).map(submit).collect();
    for reply in replies {
        assert_eq!(reply.wait().unwrap(), 0, "reads older than what was written");
    }
    assert!(engine.stop(Duration::from_secs(5)).drained);
}

/// What is done with one connection.
type Part = Box<dyn FnOnce(&mut TcpStream) + Send>;

/// A server that says to each connection in turn what the script has for it, once something was asked,
/// and then closes it. It ends with its last connection; gives all that was asked.
fn scripted(script: Vec<Part>) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server of its own, off any shard")]
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for part in script {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4_096];
            let n_bytes = stream.read(&mut buffer).unwrap();
            asked.push(String::from_utf8_lossy(&buffer[..n_bytes]).into_owned());
            part(&mut stream);
        }
        asked
    });
    (address, serving)
}

fn says(bytes: &'static [u8]) -> Part {
    Box::new(move |stream| stream.write_all(bytes).unwrap())
}

#[test]
fn a_read_that_is_cut_is_made_once_more_for_what_is_missing() {
    let (address, serving) = scripted(vec![
        says(b"VALUE a 0 1\r\nx\r\nVALUE b 0 100\r\nyyy"),
        says(b"VALUE b 0 2\r\nyy\r\nEND\r\n"),
    ]);
    let proxy = Proxy::start(&config(&[address]));
    let outcomes = proxy.apply(vec![get("a"), get("b")]);
    assert_eq!(outcomes.iter().map(value).collect::<Vec<_>>(), [Some(&b"x"[..]), Some(b"yy")]);
    assert_eq!(serving.join().unwrap(), ["get a b\r\n", "get b\r\n"]);
    proxy.stop();
}

#[test]
fn a_read_that_is_cut_twice_and_a_write_that_is_cut_once_fail() {
    let unanswered = Outcome::Failed(Failure::Unanswered);
    let (address, serving) = scripted(vec![says(b"VALUE a 0 1\r\n"), says(b"")]);
    let proxy = Proxy::start(&config(&[address]));
    assert_eq!(proxy.apply_one(get("a")), unanswered);
    assert_eq!(serving.join().unwrap().len(), 2);
    proxy.stop();

    let (address, serving) = scripted(vec![says(b"STORED\r\nSTO")]);
    let proxy = Proxy::start(&config(&[address]));
    let outcomes = proxy.apply(vec![set("a", "1"), set("b", "2"), set("c", "3")]);
    assert_eq!(outcomes, [Outcome::Stored(0), unanswered.clone(), unanswered]);
    assert_eq!(serving.join().unwrap().len(), 1);
    proxy.stop();
}

#[test]
fn one_connection_that_is_lost_opens_no_breaker() {
    let (address, serving) = scripted(vec![says(b""), says(b"STORED\r\n")]);
    // Long enough that nothing is stored before the test gives up, were it opened.
    let limits = ServerLimits { pause_ms: 1_000, pause_max_ms: 1_000, open_ms: 60_000, ..limits() };
    let proxy = Proxy::start(&Config { limits, ..config(&[address]) });
    assert_eq!(proxy.apply_one(set("a", "1")), Outcome::Failed(Failure::Unanswered));
    for _again in 0..20 {
        assert_eq!(proxy.apply_one(set("a", "1")), Outcome::Failed(Failure::Unavailable));
    }
    assert_eq!(proxy.await_answer(set("a", "1")), Outcome::Stored(0));
    serving.join().unwrap();
    proxy.stop();
}

#[test]
fn a_server_that_says_what_nobody_asked_for_is_not_believed() {
    let (address, serving) = scripted(vec![says(b"VALUE b 0 1\r\nx\r\nEND\r\n")]);
    let proxy = Proxy::start(&config(&[address]));
    assert_eq!(proxy.apply_one(get("a")), Outcome::Failed(Failure::Unanswered));
    serving.join().unwrap();
    proxy.stop();
}

#[test]
fn a_batch_that_gets_on_may_take_longer_than_one_answer() {
    let answers = |stream: &mut TcpStream| {
        for value in ["a", "b", "c"] {
            #[expect(clippy::disallowed_methods, reason = "a server of its own, off any shard")]
            std::thread::sleep(limits().answer_within().mul_f64(0.6));
            stream.write_all(format!("VALUE {value} 0 1\r\nx\r\n").as_bytes()).unwrap();
        }
        stream.write_all(b"END\r\n").unwrap();
    };
    let (address, serving) = scripted(vec![Box::new(answers)]);
    let proxy = Proxy::start(&config(&[address]));
    let outcomes = proxy.apply(vec![get("a"), get("b"), get("c")]);
    assert!(outcomes.iter().all(|outcome| value(outcome) == Some(b"x")), "{outcomes:?}");
    serving.join().unwrap();
    proxy.stop();
}

#[test]
fn a_value_that_is_too_long_is_the_failure_of_its_read_alone() {
    let Some(server) = Memcached::start() else { return };
    let limits = ServerLimits { value_bytes_max: 100_000, ..limits() };
    let proxy = Proxy::start(&Config { limits, ..config(&[server.address()]) });
    let stored = proxy.apply(vec![set("a", "1"), set("b", vec![b'x'; 900_000]), set("c", "3")]);
    assert!(!stored.iter().any(is_failure));
    let read = proxy.apply(vec![get("a"), get("b"), get("c")]);
    assert_eq!([value(&read[0]), value(&read[2])], [Some(&b"1"[..]), Some(b"3")]);
    assert_eq!(read[1], Outcome::Failed(Failure::Refused));
    proxy.stop();
}

#[test]
fn a_server_that_dribbles_is_cut_at_the_deadline_of_the_batch() {
    let dribble = |stream: &mut TcpStream| {
        for _byte in 0..200 {
            #[expect(clippy::disallowed_methods, reason = "a server of its own, off any shard")]
            std::thread::sleep(Duration::from_millis(10));
            if stream.write_all(b"V").is_err() {
                return;
            }
        }
    };
    let (address, serving) = scripted(vec![Box::new(dribble)]);
    let proxy = Proxy::start(&config(&[address]));
    assert_eq!(proxy.apply_one(get("a")), Outcome::Failed(Failure::Unanswered));
    serving.join().unwrap();
    proxy.stop();
}

/// Reads on one shard what another shard flushes meanwhile, and once more when it has been told; the
/// server answers the first read last. Gives what came of the second.
fn read_after_flush(sharing: Sharing) -> Outcome {
    let (has_read, first_read) = std::sync::mpsc::channel();
    let (read_again, reads_again) = std::sync::mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config {
        flush_all: FlushAll::Forward,
        limits: ServerLimits { answer_ms: 10_000, ..limits() },
        ..config(&[listener.local_addr().unwrap()])
    };
    #[expect(clippy::disallowed_methods, reason = "a server of its own, off any shard")]
    let serving = std::thread::spawn(move || {
        let ask = |stream: &mut TcpStream, line: &[u8]| {
            let mut asked = vec![0; line.len()];
            stream.read_exact(&mut asked).unwrap();
            assert_eq!(asked, line);
        };
        let (mut reads, _) = listener.accept().unwrap();
        ask(&mut reads, b"get a\r\n");
        has_read.send(()).unwrap();
        let (mut flushes, _) = listener.accept().unwrap();
        ask(&mut flushes, b"flush_all 0\r\n");
        flushes.write_all(b"OK\r\n").unwrap();
        reads_again.recv().unwrap();
        reads.write_all(b"VALUE a 0 1\r\nx\r\nEND\r\n").unwrap();
        let mut again = [0; 7];
        // Nobody asks again where the second read shares the first one's answer.
        if reads.read_exact(&mut again).is_ok() {
            reads.write_all(b"END\r\n").unwrap();
        }
    });
    let n_shards = std::thread::available_parallelism().map_or(1, |n_cpus| n_cpus.get().min(2));
    let mut builder = Builder::new();
    builder.quiet().shards(n_shards);
    let downstream = Downstream::declare_with(&mut builder, "real", &config, 1, sharing).unwrap();
    let engine = builder.start().unwrap();
    let request = move || async move {
        let reading = downstream.clone();
        let first = spawn(RequestOptions::default(), async move { reading.apply(get("a")).await });
        while first_read.try_recv().is_err() {
            sleep(Duration::from_millis(1)).await;
        }
        let flushing = downstream.clone();
        let last = forebay::ShardId::new(n_shards - 1);
        let flushed =
            forebay::on_shard(last, move || async move { flushing.flush_all(ExpTime(0)).await });
        assert_eq!(flushed.await.unwrap(), Ok(()));
        let mut second = std::pin::pin!(downstream.apply(get("a")));
        assert!(futures_lite::future::poll_once(&mut second).await.is_none());
        read_again.send(()).unwrap();
        first.await.unwrap();
        second.await
    };
    let reply = engine.handle().submit(0, RequestOptions::default(), request).unwrap();
    let outcome = reply.wait().unwrap();
    assert!(engine.stop(Duration::from_secs(5)).drained);
    serving.join().unwrap();
    outcome
}

#[test]
fn nobody_who_reads_after_a_flush_shares_what_was_read_before() {
    assert_eq!(read_after_flush(Sharing::EndedByWrites), Outcome::Miss);
    // Planted fault.
    assert_eq!(value(&read_after_flush(Sharing::NeverEnded)), Some(&b"x"[..]));
}

#[test]
fn servers_are_flushed_whatever_the_file_says_to_clients() {
    let servers: Option<Vec<_>> = (0..2).map(|_| Memcached::start()).collect();
    let Some(servers) = servers else { return };
    let addresses: Vec<_> = servers.iter().map(Memcached::address).collect();
    let flush = |flush_all| {
        let proxy = Proxy::start(&Config { flush_all, ..config(&addresses) });
        assert!(!proxy.apply(sets(100)).iter().any(is_failure));
        let downstream = proxy.downstream.clone();
        assert_eq!(downstream.flushing(), flush_all);
        let request = move || async move { downstream.flush_all(ExpTime(0)).await };
        let reply = proxy.engine.handle().submit(0, RequestOptions::default(), request).unwrap();
        let flushed = reply.wait().unwrap();
        let n_hits = proxy.apply(gets(100)).iter().filter_map(value).count();
        proxy.stop();
        (flushed, n_hits)
    };
    for flush_all in [FlushAll::Refuse, FlushAll::Forward] {
        assert_eq!(flush(flush_all), (Ok(()), 0), "{flush_all:?}");
    }
}
