//! Bytes that go out, and come back to their owner when they have.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;

use rustix::net::sockopt;

use super::super::*;
use super::rig::*;

/// Bytes that both kernel buffers of a Unix pair together do not hold.
const LARGE: usize = 1 << 20;

#[test]
fn a_large_send_completes_when_a_slow_reader_has_let_all_of_it_leave() {
    on_both_backs(&usual(), |rig| {
        let (here, mut peer) = rig.with_unix_peer();
        sockopt::set_socket_send_buffer_size(here.socket.kernel(), 16 << 10).unwrap();
        let bytes = pattern(LARGE);
        rig.begin(&here, Op::Send(bytes.clone().into()));
        let mut read = Vec::new();
        let mut room = [0; 20_000];
        while read.len() < LARGE {
            rig.reap_all();
            let all_left = LARGE - read.len() < 64 << 10;
            assert!(all_left || rig.said.is_empty(), "came back after {} bytes", read.len());
            let n_read = peer.read(&mut room).unwrap();
            read.extend_from_slice(&room[..n_read]);
        }
        assert!(read == bytes, "other bytes than were sent");
        let (back, n_sent) = rig.sent(&here);
        assert_eq!(n_sent.unwrap(), LARGE);
        assert!(*back == *bytes, "other bytes came back");
        rig.close(here);
    });
}

#[test]
fn a_send_that_is_taken_back_tells_how_much_has_left() {
    on_both_backs(&usual(), |rig| {
        let (here, mut peer) = rig.with_unix_peer();
        rig.begin(&here, Op::Send(pattern(LARGE).into()));
        rig.reap_all();
        assert!(rig.said.is_empty(), "{:?}", rig.said);
        // None of the second one's bytes find room.
        rig.begin(&here, Op::Cancel(Kind::Send));
        rig.cancelled(&here);
        let (back, n_sent) = rig.sent(&here);
        let n_sent = n_sent.unwrap();
        assert!(n_sent > 0 && n_sent < LARGE && back.len() == LARGE, "{n_sent} sent");
        rig.begin(&here, Op::Send("no room".into()));
        rig.begin(&here, Op::Cancel(Kind::Send));
        rig.cancelled(&here);
        assert!(is_cancelled(&rig.sent(&here).1.unwrap_err()));
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
