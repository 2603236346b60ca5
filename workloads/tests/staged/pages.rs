//! Every page comes back as it was made, in the order in which it was asked.

use forebay::{Placement, affinity};
use forebay_workloads::staged::files::{self, FileId};
use forebay_workloads::staged::page::PageId;

use crate::rig::{Server, assert_is_file, assert_is_page, config};

/// The stages' ranks.
const CACHE: usize = 0;
const FILE: usize = 1;

#[test]
fn every_file_comes_back_as_it_was_made_and_is_read_once() {
    let mut config = config();
    config.files.directories = 2;
    let server = Server::start(&config);
    let mut client = server.connect();
    for _ in 0..2 {
        for id in files::all(2) {
            client.ask(&id.to_string());
            assert_is_file(&client.reply(), id);
        }
    }
    let shard = server.stop().remove(0);
    assert_eq!(shard.stages[FILE].items, 72, "the second round is kept in memory");
    assert_eq!(shard.stages[CACHE].items, 72 * 3, "two lookups of each, one entry");
}

#[test]
fn a_cache_without_room_costs_reads_and_no_page() {
    let mut config = config();
    config.cache.bytes_max = 1;
    let server = Server::start(&config);
    let mut client = server.connect();
    for _ in 0..3 {
        client.ask("/front");
        assert_is_file(&client.reply(), FileId::FRONT);
    }
    assert_eq!(server.stop()[0].stages[FILE].items, 3);
}

#[test]
fn a_cache_on_the_shard_that_owns_the_key_gives_every_shard_the_same_bytes() {
    if affinity::current_thread_cpus().unwrap().len() < 2 {
        eprintln!("skipped: two shards need two CPUs");
        return;
    }
    let server = Server::start_with(&config(), 2, |builder| {
        builder.options_mut("cache").unwrap().placement = Placement::Owner;
    });
    // The kernel spreads connections over the shards; each asks for all.
    for _ in 0..8 {
        let mut client = server.connect();
        for id in files::all(1) {
            client.ask(&id.to_string());
            assert_is_file(&client.reply(), id);
        }
    }
    let shards = server.stop();
    let sent_away: u64 = shards.iter().map(|shard| shard.stages[CACHE].sent_away).sum();
    assert!(sent_away > 0, "some keys belong to the other shard");
}

#[test]
fn a_dynamic_page_is_a_function_of_its_number() {
    let config = config();
    let server = Server::start(&config);
    for id in [PageId(0), PageId(7), PageId(u64::MAX)] {
        let reply = server.get(&id.to_string());
        assert_is_page(&reply, id, config.dynamic.page_bytes);
        assert_eq!(reply.header("x-degraded"), None);
    }
    server.stop();
}

#[test]
fn requests_sent_at_once_are_answered_in_their_order_and_once() {
    let config = config();
    let server = Server::start(&config);
    let mut client = server.connect();
    let pages: Vec<PageId> = (0..20).map(PageId).collect();
    let ids: Vec<FileId> = files::all(1).take(20).collect();
    let mut requests = String::new();
    for (page, id) in pages.iter().zip(&ids) {
        for target in [page.to_string(), id.to_string(), "/nothing".to_owned()] {
            requests += &format!("GET {target} HTTP/1.1\r\nhost: here\r\n\r\n");
        }
    }
    client.send(requests.as_bytes());
    for (page, id) in pages.iter().zip(&ids) {
        assert_is_page(&client.reply(), *page, config.dynamic.page_bytes);
        assert_is_file(&client.reply(), *id);
        assert_eq!(client.reply().status, 404);
    }
    client.finish();
    client.is_ended();
    server.stop();
}

#[test]
fn a_client_that_closes_its_side_after_asking_is_answered() {
    let config = config();
    let server = Server::start(&config);
    let mut client = server.connect();
    client.ask("/dynamic/1");
    client.ask("/front");
    client.finish();
    assert_is_page(&client.reply(), PageId(1), config.dynamic.page_bytes);
    assert_is_file(&client.reply(), FileId::FRONT);
    client.is_ended();
    server.stop();
}

#[test]
fn a_head_alone_is_answered_with_a_head_alone() {
    let server = Server::start(&config());
    let mut client = server.connect();
    client.send(
        b"HEAD /front HTTP/1.1\r\nhost: here\r\n\r\nGET /nothing HTTP/1.1\r\nhost: here\r\n\r\n",
    );
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut client.0, &mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut rest = String::new();
    while !rest.contains("404") {
        assert_ne!(std::io::BufRead::read_line(&mut client.0, &mut rest).unwrap(), 0, "{rest}");
    }
    assert!(rest.contains("content-length: 1024\r\n"), "{rest}");
    server.stop();
}
