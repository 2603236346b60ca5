//! A stop finishes what was asked or refuses it in words, and cuts nothing off silently.

use std::io::{BufReader, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use forebay::{Handle, Phase, RequestOptions};
use forebay_workloads::staged::config::Spread;
use forebay_workloads::staged::files::{self, FileId};
use forebay_workloads::staged::page::PageId;

use crate::rig::{
    Client, PATIENCE, Reply, Server, assert_is_file, assert_is_page, config, eventually,
};

const DYNAMIC: usize = 2;

/// Begins a stop on another thread, and returns when the shard has heard of it.
fn begin_stop(server: Server) -> thread::JoinHandle<()> {
    let handle = server.engine.handle().clone();
    let stopping = thread::spawn(move || drop(server.stop()));
    eventually("draining begins", || has_heard(&handle));
    stopping
}

fn has_heard(handle: &Handle) -> bool {
    handle.phase(0) >= Phase::Draining
}

#[track_caller]
fn assert_refused(reply: &Reply) {
    assert_eq!((reply.status, reply.header("x-reason")), (503, Some("closing")), "{}", reply.head);
    assert!(reply.closes() && reply.header("retry-after") == Some("1"), "{}", reply.head);
}

#[test]
fn a_request_under_way_is_finished_and_its_connection_closed() {
    let mut config = config();
    config.dynamic.spread = Spread::Fixed;
    config.dynamic.service_us = 300_000;
    let server = Server::start(&config);
    let mut client = server.connect();
    client.ask("/dynamic/1");
    eventually("it is made", || server.shard().stages[DYNAMIC].permits_out == 1);
    let stopping = begin_stop(server);
    let reply = client.reply();
    assert_is_page(&reply, PageId(1), config.dynamic.page_bytes);
    assert!(reply.closes(), "{}", reply.head);
    client.is_ended();
    stopping.join().unwrap();
}

#[test]
fn a_request_that_was_on_its_way_is_refused_in_words() {
    let mut config = config();
    config.limits.last_word_ms = 2_000;
    let server = Server::start(&config);
    let mut client = server.connect();
    client.ask("/front");
    assert_is_file(&client.reply(), FileId::FRONT);
    let mut fresh = server.connect();
    eventually("both are accepted", || server.shard().net.accepted == 2);
    let stopping = begin_stop(server);
    for client in [&mut client, &mut fresh] {
        client.ask("/front");
        assert_refused(&client.reply());
        client.is_ended();
    }
    stopping.join().unwrap();
}

/// The planted fault of the test above: without the last word the request is lost.
#[test]
fn without_a_last_word_such_a_request_would_be_cut_off() {
    let mut config = config();
    config.limits.last_word_ms = 0;
    let server = Server::start(&config);
    let mut client = server.connect();
    client.ask("/front");
    assert_is_file(&client.reply(), FileId::FRONT);
    let stopping = begin_stop(server);
    stopping.join().unwrap();
    client.ask("/front");
    assert_eq!(client.reply_or_end(), None);
}

#[test]
fn idle_connections_do_not_hold_a_stop_up() {
    let server = Server::start(&config());
    let mut idle: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for client in &mut idle[..10] {
        client.ask("/front");
        assert_is_file(&client.reply(), FileId::FRONT);
    }
    eventually("all are accepted", || server.shard().net.accepted == 20);
    let begun = Instant::now();
    server.stop();
    // A last word of 100 ms, and time for a busy machine; not the 30 s of an idle connection.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    idle.iter_mut().for_each(Client::is_ended);
}

#[test]
fn a_reply_that_has_begun_comes_whole_however_slowly_it_is_read() {
    const REPLIES: usize = 100;
    let server = Server::start(&config());
    let mut client = server.connect();
    let large = FileId::new(0, 3, 9).unwrap();
    for _ in 0..REPLIES {
        client.ask(&large.to_string());
    }
    // More than the kernel's buffers hold: the server waits in the middle of a reply.
    let mut seen = 0;
    eventually("the server waits for its client", || {
        let before = server.shard().net.sent_bytes;
        thread::sleep(Duration::from_millis(100));
        before > 0 && server.shard().net.sent_bytes == before
    });
    let stopping = begin_stop(server);
    thread::sleep(Duration::from_millis(200));
    while let Some(reply) = client.reply_or_end() {
        assert_is_file(&reply, large);
        seen += 1;
    }
    assert!((1..REPLIES).contains(&seen), "{seen} replies: it stopped on the way");
    stopping.join().unwrap();
}

/// One client that asks for one page after the other until it is told to go; counts what it got.
fn ask_until_told_to_go(mut client: Client, seed: usize) -> Result<u32, String> {
    let ids: Vec<FileId> = files::all(1).take(27).collect();
    let mut n_pages = 0;
    for n in seed.. {
        let (page, id) = (PageId(n as u64), ids[n % ids.len()]);
        let is_page = n % 5 == 0;
        client.ask(&if is_page { page.to_string() } else { id.to_string() });
        let Some(reply) = client.reply_or_end() else {
            return Err(format!("request {n} was cut off after {n_pages} pages"));
        };
        match reply.status {
            200 if is_page => assert_is_page(&reply, page, 8_192),
            200 => assert_is_file(&reply, id),
            _ => assert_refused(&reply),
        }
        n_pages += u32::from(reply.status == 200);
        if reply.closes() {
            client.is_ended();
            return Ok(n_pages);
        }
    }
    unreachable!("it counts for ever")
}

#[test]
fn a_stop_under_load_answers_everything_that_was_asked() {
    const CLIENTS: usize = 16;
    let mut config = config();
    // Clients take turns on few cores: each gets the core back in time.
    config.limits.last_word_ms = 2_000;
    config.dynamic.service_us = 500;
    let server = Server::start(&config);
    let (told, telling) = mpsc::channel();
    for seed in 0..CLIENTS {
        let (client, told) = (server.connect(), told.clone());
        thread::spawn(move || told.send(ask_until_told_to_go(client, seed)));
    }
    eventually("they are at it", || server.shard().requests_ended > 500);
    server.stop();
    for _ in 0..CLIENTS {
        let n_pages = telling.recv_timeout(PATIENCE).unwrap().unwrap();
        assert!(n_pages > 0);
    }
}

/// Asks on a connection of its own; `None` when none can be made any more.
fn ask_anew(address: SocketAddr) -> Option<Reply> {
    match TcpStream::connect(address) {
        Ok(socket) => {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut client = Client(BufReader::new(socket));
            client.ask("/front");
            Some(client.reply())
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            None
        }
    }
}

#[track_caller]
fn assert_answered(reply: &Reply) {
    if reply.status == 200 { assert_is_file(reply, FileId::FRONT) } else { assert_refused(reply) }
}

#[test]
fn who_has_connected_when_a_stop_begins_and_was_not_accepted_is_answered() {
    const CLIENTS: usize = 100;
    let mut config = config();
    config.limits.last_word_ms = 2_000;
    let server = Server::start(&config);
    // What comes now stands in the kernel, or was accepted for a task that has not run.
    let (begun, has_begun) = mpsc::channel();
    let (let_go, may_go) = mpsc::channel::<()>();
    let stuck = move || async move {
        begun.send(()).unwrap();
        may_go.recv_timeout(PATIENCE).unwrap();
    };
    let stuck = server.engine.handle().submit(0, RequestOptions::default(), stuck).unwrap();
    has_begun.recv_timeout(PATIENCE).unwrap();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.ask("/front");
    }
    let stopping = thread::spawn(move || drop(server.stop()));
    // The shard finds both at once, whichever comes first: the end of what it did, and the stop.
    thread::sleep(Duration::from_millis(50));
    let_go.send(()).unwrap();
    for client in &mut clients {
        assert_answered(&client.reply());
    }
    drop(clients);
    stuck.wait().unwrap();
    stopping.join().unwrap();
}

#[test]
fn who_connects_while_a_stop_begins_is_answered_or_refused_by_the_kernel() {
    const ROUNDS: usize = 10;
    const CLIENTS: usize = 4;
    let mut config = config();
    config.limits.last_word_ms = 2_000;
    for _ in 0..ROUNDS {
        let server = Server::start(&config);
        let address = server.address;
        let come_until_refused = move || {
            let replies = std::iter::from_fn(|| ask_anew(address));
            replies.inspect(assert_answered).count()
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(come_until_refused)).collect();
        eventually("they come", || server.shard().net.accepted > 50);
        server.stop();
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    }
}
