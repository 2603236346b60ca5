//! Clients that are slow, silent or many are bounded, and the others do not notice.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use forebay_workloads::staged::files::FileId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::child::{Ended, in_child};
use crate::rig::{SEED, Server, assert_is_file, config, eventually};

#[test]
fn a_head_that_does_not_come_in_time_is_cut_off_however_steadily_it_comes() {
    const WITHIN: Duration = Duration::from_millis(200);
    let mut config = config();
    config.limits.head_ms = 200;
    let server = Server::start(&config);
    let mut silent = server.connect();
    let mut steady = server.connect();
    let begun = Instant::now();
    let head = b"GET /front HTTP/1.1\r\nhost: here\r\nx: ".iter().chain(std::iter::repeat(&b'y'));
    for byte in head {
        if steady.0.get_mut().write_all(&[*byte]).is_err() {
            break;
        }
        assert!(begun.elapsed() < 50 * WITHIN, "it goes on for ever");
        std::thread::sleep(WITHIN / 40);
    }
    assert!(begun.elapsed() >= WITHIN, "cut after {:?}", begun.elapsed());
    steady.is_ended();
    silent.is_ended();
    server.serves_on();
    server.stop();
}

#[test]
fn who_asks_too_late_on_a_kept_connection_sees_its_end_and_no_reset() {
    let mut config = config();
    config.limits.head_ms = 100;
    let server = Server::start(&config);
    let mut client = server.connect();
    client.ask("/front");
    assert_is_file(&client.reply(), FileId::FRONT);
    let mut rest = Vec::new();
    client.send(b"GET /fro");
    // The server ends its side, and hears what was on its way.
    for late in [&b"nt HTTP/1.1\r\n"[..], b"host: here\r\n\r\n"] {
        assert_eq!(client.0.read_to_end(&mut rest).map_err(|error| error.kind()), Ok(0));
        // After a reset the second would fail.
        client.0.get_mut().write_all(late).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(client);
    server.serves_on();
    server.stop();
}

#[test]
fn a_connection_ends_after_its_last_request() {
    let mut config = config();
    config.limits.requests_per_connection_max = 3;
    let server = Server::start(&config);
    let mut client = server.connect();
    for number in 1..=3 {
        client.ask("/front");
        let reply = client.reply();
        assert_is_file(&reply, FileId::FRONT);
        assert_eq!(reply.closes(), number == 3, "request {number}");
    }
    client.is_ended();
    server.stop();
}

#[test]
fn a_body_that_does_not_come_in_the_requests_time_is_refused_and_cut_off() {
    let mut config = config();
    config.limits.request_ms = 100;
    let server = Server::start(&config);
    let mut client = server.connect();
    client.send(b"GET /front HTTP/1.1\r\nhost: here\r\ncontent-length: 10\r\n\r\nhello");
    assert_eq!(client.reply().status, 408);
    client.is_ended();
    server.serves_on();
    server.stop();
}

#[test]
fn a_body_in_time_is_read_and_the_page_comes() {
    let server = Server::start(&config());
    let mut client = server.connect();
    for n_bytes in [0, 1, 100_000, 1 << 20] {
        client.send(
            format!("GET /front HTTP/1.1\r\nhost: here\r\ncontent-length: {n_bytes}\r\n\r\n")
                .as_bytes(),
        );
        client.send(&vec![b'x'; n_bytes]);
        assert_is_file(&client.reply(), FileId::FRONT);
    }
    server.stop();
}

#[test]
fn a_client_that_does_not_read_is_held_back_and_then_cut_off() {
    const REPLIES: usize = 100;
    let mut config = config();
    config.limits.write_ms = 200;
    let server = Server::start(&config);
    let mut greedy = server.connect();
    let large = FileId::new(0, 3, 9).unwrap();
    for _ in 0..REPLIES {
        greedy.ask(&large.to_string());
    }
    eventually("it is cut off", || server.shard().net.timed_out == 1);
    eventually("its socket is closed", || server.shard().net.open == 1);
    let sent = server.shard().net.sent_bytes;
    let asked = (REPLIES * large.n_bytes()) as u64;
    assert!(sent < asked / 2, "{sent} of {asked} bytes: the kernel's own buffers hold less");
    server.serves_on();
    server.stop();
}

#[test]
fn a_last_reply_comes_whole_to_a_slow_client_that_has_sent_more_than_was_read() {
    let server = Server::start(&config());
    let large = FileId::new(0, 3, 9).unwrap();
    let mut client = server.connect();
    let head = format!("GET {large} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
    client.send(head.as_bytes());
    client.send(&vec![b'x'; 200_000]);
    let mut reply = Vec::new();
    let mut part = vec![0; 50_000];
    loop {
        std::thread::sleep(Duration::from_millis(5));
        match client.0.read(&mut part) {
            Ok(0) => break,
            Ok(n_bytes) => reply.extend_from_slice(&part[..n_bytes]),
            // A host that is paused interrupts a read that has a timeout.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("{error} after {} bytes", reply.len()),
        }
    }
    let head_bytes = reply.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(reply.len() - head_bytes, large.n_bytes());
    assert!(large.content(SEED).is_at(0, &reply[head_bytes..]));
    server.stop();
}

#[test]
fn connections_beyond_the_bound_wait_until_others_close() {
    let mut config = config();
    config.limits.connections_max = 2;
    let server = Server::start(&config);
    let mut inside = [server.connect(), server.connect()];
    for client in &mut inside {
        client.ask("/front");
        assert_is_file(&client.reply(), FileId::FRONT);
    }
    let mut outside = server.connect();
    outside.ask("/front");
    outside.0.get_mut().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let waits = std::io::BufRead::fill_buf(&mut outside.0).unwrap_err().kind();
    assert!(matches!(waits, ErrorKind::WouldBlock | ErrorKind::Interrupted), "{waits}: it waits");
    outside.0.get_mut().set_read_timeout(Some(crate::rig::PATIENCE)).unwrap();
    drop(inside);
    assert_is_file(&outside.reply(), FileId::FRONT);
    server.stop();
}

/// Opens files until `n_left` descriptors are left.
fn take_all_descriptors_but(n_left: usize) -> Vec<std::fs::File> {
    let null = || std::fs::File::open("/dev/null").ok();
    let mut taken: Vec<_> = std::iter::from_fn(null).collect();
    taken.truncate(taken.len() - n_left);
    taken
}

#[test]
fn descriptors_that_run_out_keep_new_clients_waiting_and_nobody_else() {
    let ended = in_child(|| {
        // Before the accept is armed: it keeps to the limit that it has found.
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(100), ..limit }).unwrap();
        let server = Server::start(&config());
        let mut inside = server.connect();
        inside.ask("/front");
        assert_is_file(&inside.reply(), FileId::FRONT);
        // The next connection's own end fits, the server's does not.
        let taken = take_all_descriptors_but(1);
        let mut outside = server.connect();
        outside.ask("/front");
        eventually("accepting pauses", || server.shard().net.accept_pauses >= 2);
        inside.ask("/front");
        assert_is_file(&inside.reply(), FileId::FRONT);
        // What is not kept cannot be read: there is no descriptor for it, and that is said.
        inside.ask("/file/dir00000/class0_1");
        let refused = inside.reply();
        assert_eq!((refused.status, refused.header("x-reason")), (503, Some("exhausted")));
        drop(taken);
        assert_is_file(&outside.reply(), FileId::FRONT);
        inside.ask("/file/dir00000/class0_1");
        assert_is_file(&inside.reply(), FileId::new(0, 0, 1).unwrap());
        server.stop();
        "recovered".to_owned()
    });
    assert_eq!(ended, Ended::Said("recovered".to_owned()));
}
