//! Bytes that come in, and how a shard sleeps until they do.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use rustix::net::sockopt;

use super::super::*;
use super::rig::*;

#[test]
fn more_arrives_than_all_buffers_hold() {
    on_both_backs(&small(4), |rig| {
        let (here, mut peer) = rig.with_unix_peer();
        let bytes = pattern(10_000);
        rig.begin(&here, Op::Receive);
        peer.write_all(&bytes).unwrap();
        rig.expect(&here, &bytes);
        // The piece that was lost sight of is the next to come.
        peer.write_all(b"and on").unwrap();
        rig.expect(&here, b"and on");
        rig.end_receive(&here);
        rig.close(here);
    });
}

#[test]
fn connections_without_a_buffer_end_with_that_and_go_on_when_taken_up_again() {
    on_both_backs(&small(2), |rig| {
        let mut connections: Vec<_> = (0..10).map(|_| rig.with_unix_peer()).collect();
        for (idx, (here, peer)) in connections.iter_mut().enumerate() {
            peer.write_all(&[byte(idx)]).unwrap();
            rig.ring.push(Token::new(here.key, Kind::Receive), &here.socket, Op::Receive);
        }
        rig.ring.enter();
        let mut n_starved = 0;
        for (idx, (here, _)) in connections.iter().enumerate() {
            loop {
                match rig.received(here) {
                    (true, Ok(chunk)) => break assert_eq!(*chunk, [byte(idx)]),
                    (false, Err(error)) if is_starved(&error) => {
                        n_starved += 1;
                        assert!(n_starved < 100, "no buffers, again and again");
                        rig.begin(here, Op::Receive);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        match rig.back {
            SocketBack::Ring => assert!(n_starved > 0, "two buffers were enough for ten"),
            _ => assert_eq!(n_starved, 0, "buffers are taken when they are needed"),
        }
        for (here, _peer) in connections {
            rig.end_receive(&here);
            rig.close(here);
        }
    });
}

#[test]
fn a_socket_with_always_more_keeps_no_other_waiting() {
    const PIECES_MAX: usize = 200;
    on_both_backs(&small(256), |rig| {
        let (full, mut flood) = rig.with_unix_peer();
        let (quiet, mut peer) = rig.with_unix_peer();
        // Some thousand pieces.
        flood.write_all(&pattern(100_000)).unwrap();
        peer.write_all(b"!").unwrap();
        for end in [&full, &quiet] {
            rig.ring.push(Token::new(end.key, Kind::Receive), &end.socket, Op::Receive);
        }
        rig.ring.enter();
        let mut pieces = Vec::new();
        let is_quiet = |said: &Completion| said.token.key() == quiet.key;
        let mut n_reaps = 0;
        while !pieces.iter().any(is_quiet) {
            n_reaps += 1;
            assert!(n_reaps <= PIECES_MAX, "nothing of the quiet one, {} pieces", pieces.len());
            let before = pieces.len();
            rig.ring.reap(4, &mut pieces);
            assert!(pieces.len() <= before + 4, "{} reaped at once", pieces.len() - before);
            assert!(pieces.len() <= PIECES_MAX, "{} pieces of the other", pieces.len());
            rig.ring.recycle();
        }
        assert!(pieces.iter().all(|said| said.more), "{pieces:?}");
        for end in [&full, &quiet] {
            rig.begin(end, Op::Cancel(Kind::Receive));
            rig.cancelled(end);
            while rig.received(end).0 {}
        }
        rig.close(full);
        rig.close(quiet);
    });
}

#[test]
fn the_end_of_a_stream_is_an_empty_chunk_after_its_bytes() {
    on_both_backs(&usual(), |rig| {
        let (here, mut peer) = rig.with_tcp_peer();
        peer.write_all(b"last words").unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        rig.begin(&here, Op::Receive);
        rig.expect(&here, b"last words");
        let (more, result) = rig.received(&here);
        assert!(!more && result.unwrap().is_empty());
        // The other direction goes on.
        rig.begin(&here, Op::Send("and mine".into()));
        assert_eq!(rig.sent(&here).1.unwrap(), 8);
        rig.ring.shutdown(&here.socket, Side::Write).unwrap();
        let mut words = String::new();
        peer.read_to_string(&mut words).unwrap();
        assert_eq!(words, "and mine");
        rig.close(here);
    });
}

#[test]
fn a_reset_is_an_error_of_the_receive() {
    on_both_backs(&usual(), |rig| {
        let (here, peer) = rig.with_tcp_peer();
        rig.begin(&here, Op::Receive);
        rig.reap_all();
        sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        drop(peer);
        let (more, result) = rig.received(&here);
        assert!(!more);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
        rig.close(here);
    });
}

#[test]
fn ending_both_directions_ends_a_receive_without_bytes() {
    on_both_backs(&usual(), |rig| {
        let (tcp, _peer) = rig.with_tcp_peer();
        let (unix, _other) = rig.with_unix_peer();
        for here in [tcp, unix] {
            rig.begin(&here, Op::Receive);
            rig.reap_all();
            rig.ring.shutdown(&here.socket, Side::Both).unwrap();
            let (more, result) = rig.received(&here);
            assert!(!more && result.unwrap().is_empty());
            rig.close(here);
        }
    });
}

#[test]
fn a_receive_that_is_taken_back_loses_nothing() {
    on_both_backs(&usual(), |rig| {
        let (here, mut peer) = rig.with_unix_peer();
        rig.begin(&here, Op::Receive);
        peer.write_all(b"before").unwrap();
        rig.expect(&here, b"before");
        rig.end_receive(&here);
        peer.write_all(b"between").unwrap();
        rig.reap_all();
        assert!(rig.said.is_empty(), "received after the end: {:?}", rig.said);
        rig.begin(&here, Op::Receive);
        rig.expect(&here, b"between");
        rig.end_receive(&here);
        rig.close(here);
    });
}

#[test]
fn taking_back_what_is_not_under_way_completes_alone() {
    on_both_backs(&usual(), |rig| {
        let (here, _peer) = rig.with_unix_peer();
        for kind in [Kind::Accept, Kind::Connect, Kind::Receive, Kind::Send] {
            rig.begin(&here, Op::Cancel(kind));
            rig.cancelled(&here);
            rig.reap_all();
            assert!(rig.said.is_empty(), "{:?}", rig.said);
        }
        // Nor does it take back another operation of the socket.
        rig.begin(&here, Op::Receive);
        rig.begin(&here, Op::Cancel(Kind::Send));
        rig.cancelled(&here);
        rig.reap_all();
        assert!(rig.said.is_empty(), "{:?}", rig.said);
        rig.end_receive(&here);
        rig.close(here);
    });
}

#[test]
fn arming_tells_what_came_before_it_and_the_signal_what_comes_after() {
    on_both_backs(&usual(), |rig| {
        let (here, mut peer) = rig.with_unix_peer();
        rig.begin(&here, Op::Receive);
        rig.reap_all();
        assert!(!rig.is_signalled(0), "nothing has happened");

        peer.write_all(b"before").unwrap();
        assert!(rig.ring.arm(), "what came before is there");
        rig.ring.disarm();
        rig.expect(&here, b"before");
        rig.reap_all();

        assert!(!rig.ring.arm(), "all has been reaped");
        assert!(!rig.is_signalled(0), "nothing has come since");
        peer.write_all(b"after").unwrap();
        assert!(rig.is_signalled(PATIENCE_S), "asleep for good");
        rig.ring.disarm();
        assert!(!rig.is_signalled(0), "awake and still signalled");
        assert!(rig.ring.arm(), "the signal was for something");
        rig.ring.disarm();
        rig.expect(&here, b"after");
        rig.end_receive(&here);
        rig.close(here);
    });
}

/// One of few connections, as a byte.
fn byte(idx: usize) -> u8 {
    u8::try_from(idx).expect("few connections")
}
