//! Bytes that go out, and come back to their owner when they have.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;

use rustix::net::sockopt;

use super::super::*;
use super::rig::*;

/// Bytes that both kernel buffers of a Unix pair together do not hold.
const LARGE: usize = 1 << 20;

#[test]
fn a_large_send_tells_what_has_left_as_a_slow_reader_makes_room() {
    on_both_backs(&usual(), |rig| {
        let (here, mut peer) = rig.with_unix_peer();
        sockopt::set_socket_send_buffer_size(here.socket.kernel(), 16 << 10).unwrap();
        let bytes = pattern(LARGE);
        let mut read = Vec::new();
        let mut room = [0; 20_000];
        let (mut n_sent, mut n_sends) = (0, 0);
        while n_sent < LARGE {
            rig.begin(&here, Op::Send(bytes[n_sent..].to_vec().into()));
            rig.reap_all();
            while rig.said.is_empty() {
                let n_read = peer.read(&mut room).unwrap();
                read.extend_from_slice(&room[..n_read]);
                rig.reap_all();
            }
            let (back, n_more) = rig.sent(&here);
            assert!(*back == bytes[n_sent..], "other bytes came back");
            n_sent += n_more.unwrap();
            n_sends += 1;
        }
        assert!(n_sends > 2, "{n_sends} sends for {LARGE} bytes: it tells only at the end");
        rig.close(here);
        peer.read_to_end(&mut read).unwrap();
        assert!(read == bytes, "other bytes than were sent");
    });
}

#[test]
fn a_send_that_finds_no_room_can_be_taken_back() {
    on_both_backs(&usual(), |rig| {
        let (here, mut peer) = rig.with_unix_peer();
        let mut n_sent = 0;
        loop {
            rig.begin(&here, Op::Send(pattern(LARGE).into()));
            rig.reap_all();
            if rig.said.is_empty() {
                break;
            }
            n_sent += rig.sent(&here).1.unwrap();
        }
        rig.begin(&here, Op::Cancel(Kind::Send));
        rig.cancelled(&here);
        let (back, result) = rig.sent(&here);
        assert_eq!(back.len(), LARGE);
        assert!(is_cancelled(&result.unwrap_err()));
        rig.close(here);
        let mut read = Vec::new();
        peer.read_to_end(&mut read).unwrap();
        assert_eq!(read.len(), n_sent);
    });
}

#[test]
fn a_send_to_a_peer_that_is_gone_is_an_error_and_no_signal() {
    const SIGPIPE: i32 = 13;
    // Ignored by default here: caught, it would show.
    let (mut signals, handler) = UnixStream::pair().unwrap();
    signals.set_nonblocking(true).unwrap();
    let handler = signal_hook::low_level::pipe::register(SIGPIPE, handler).unwrap();
    on_both_backs(&usual(), |rig| {
        let (tcp, peer) = rig.with_tcp_peer();
        let (unix, other) = rig.with_unix_peer();
        drop((peer, other));
        for here in [tcp, unix] {
            let error = loop {
                rig.begin(&here, Op::Send("anybody?".into()));
                if let (bytes, Err(error)) = rig.sent(&here) {
                    assert_eq!(*bytes, *b"anybody?");
                    break error;
                }
            };
            let kinds = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(kinds.contains(&error.kind()), "{error}");
            // Once the reset has been told, it is a broken pipe.
            rig.begin(&here, Op::Send("nobody".into()));
            assert_eq!(rig.sent(&here).1.unwrap_err().kind(), ErrorKind::BrokenPipe);
            rig.close(here);
        }
    });
    let signal = signals.read(&mut [0]);
    assert!(signal.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "SIGPIPE");
    signal_hook::low_level::unregister(handler);
}
