//! What the server has no room or time for is refused at once, in words, and counted once.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use forebay::Conditioning;
use forebay_workloads::staged::config::{Class, Spread};
use forebay_workloads::staged::page::PageId;

use crate::rig::{Server, assert_is_page, config, eventually};

const DYNAMIC: usize = 2;

#[test]
fn a_full_queue_refuses_and_each_request_is_answered_and_counted_once() {
    const CLIENTS: u64 = 40;
    let mut config = config();
    config.dynamic.spread = Spread::Fixed;
    config.dynamic.service_us = 20_000;
    let server = Server::start_with(&config, 1, |builder| {
        builder.options_mut("dynamic").unwrap().queue_max = 4;
    });
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.ask(&PageId(number as u64).to_string());
    }
    let mut by_status: BTreeMap<u16, u64> = BTreeMap::new();
    for (number, client) in clients.iter_mut().enumerate() {
        let reply = client.reply();
        *by_status.entry(reply.status).or_default() += 1;
        if reply.status == 200 {
            assert_is_page(&reply, PageId(number as u64), config.dynamic.page_bytes);
        } else {
            assert_eq!(reply.header("x-reason"), Some("queue_full"), "{}", reply.head);
            let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!(wait >= 1, "{}", reply.head);
            assert!(!reply.closes(), "a refusal costs the client no connection");
        }
        client.finish();
        client.is_ended();
    }
    let stage = server.stop()[0].stages[DYNAMIC].clone();
    let of_status = |status| by_status.get(&status).copied().unwrap_or_default();
    assert_eq!(of_status(200) + of_status(503), CLIENTS, "{by_status:?}");
    assert!(of_status(200) >= 4 && of_status(503) > 0, "{by_status:?}");
    assert_eq!((stage.items, stage.shed), (of_status(200), of_status(503)));
    assert_eq!(stage.calls, stage.items, "what was queued was sent");
    assert_eq!((stage.failed, stage.refused, stage.expired, stage.settled_twice), (0, 0, 0, 0));
}

#[test]
fn the_class_that_a_request_names_decides_whose_turn_comes_first() {
    const EACH: u64 = 10;
    let mut config = config();
    config.dynamic.spread = Spread::Fixed;
    config.dynamic.service_us = 20_000;
    let class = |name: &str, priority| Class {
        name: name.to_owned(),
        priority,
        share_percent: 50,
        ..config.classes[0].clone()
    };
    config.classes = vec![class("low", 0), class("high", 9)];
    let server = Server::start(&config);
    let (told, telling) = mpsc::channel();
    for number in 0..2 * EACH {
        // Those of low priority have all asked before the first of the others does; half of them by
        // a class that there is not, which is as good as none.
        let class = match number {
            0..5 => "x-class: low\r\n",
            5..EACH => "x-class: nothing\r\n",
            _ => "x-class: high\r\n",
        };
        let (mut client, told) = (server.connect(), told.clone());
        client.send(format!("GET /dynamic/{number} HTTP/1.1\r\n{class}host: a\r\n\r\n").as_bytes());
        let n_asked = number + 1;
        eventually("it waits or is made", || server.shard().stages[DYNAMIC].calls == n_asked);
        thread::spawn(move || told.send((number, client.reply().status)));
    }
    let order: Vec<(u64, u16)> = (0..2 * EACH).map(|_| telling.recv().unwrap()).collect();
    assert!(order.iter().all(|(_, status)| *status == 200), "{order:?}");
    let last_high = order.iter().rposition(|(number, _)| *number >= EACH).unwrap();
    let overtaken = order[last_high..].iter().filter(|(number, _)| *number < EACH).count();
    assert!(overtaken >= 4, "nine to one of them go first: {order:?}");
    server.stop();
}

#[test]
fn a_request_whose_time_is_up_is_told_so_then() {
    const WITHIN: Duration = Duration::from_millis(100);
    let mut config = config();
    config.limits.request_ms = 100;
    config.dynamic.spread = Spread::Fixed;
    config.dynamic.service_us = 400_000;
    let server = Server::start(&config);
    let begun = Instant::now();
    let reply = server.get("/dynamic/1");
    assert_eq!((reply.status, reply.header("x-reason")), (504, Some("deadline")), "{}", reply.head);
    assert!(begun.elapsed() >= WITHIN, "told after {:?}", begun.elapsed());
    server.serves_on();
    assert_eq!(server.stop()[0].stages[DYNAMIC].expired, 1);
}

#[test]
fn a_pressed_stage_gives_smaller_pages_that_say_so() {
    let config = config();
    let server = Server::start_with(&config, 1, |builder| {
        // Everything counts as pressed.
        let conditioning = Conditioning { degrade_from: 0.0, ..Conditioning::default() };
        builder.options_mut("dynamic").unwrap().conditioning = Some(conditioning);
    });
    let reply = server.get("/dynamic/9");
    assert_eq!(reply.header("x-degraded"), Some("1"), "{}", reply.head);
    assert_is_page(&reply, PageId(9), config.dynamic.degraded_bytes);
    server.serves_on();
    assert_eq!(server.stop()[0].stages[DYNAMIC].degraded, 1);
}
