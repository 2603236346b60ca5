//! Goal: no order of events loses bytes, frees what the ring still uses, or spins.
//! Method: the sockets of one shard on a scripted ring, whose completions are written by hand; the
//! script panics when a socket is closed with an operation under way, or when two operations of one
//! kind are. One test for each trap of a completion ring.

mod draining;
mod rig;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use rig::{Rig, errno, ready};

use super::{ConnectOptions, ConnectionOptions, ListenOptions, Outgoing};
use crate::runtime::ring::scripted::State;
use crate::runtime::ring::{Kind, Side};
use crate::runtime::shared::flag::Flag;

#[test]
fn a_dropped_read_frees_nothing_and_loses_nothing() {
    let rig = Rig::new();
    let (connection, key) = rig.connected(ConnectionOptions::default());
    {
        let mut reading = Box::pin(connection.read());
        assert!(rig.poll(reading.as_mut()).is_pending());
    }
    rig.turn();
    assert!(
        rig.script().is_under_way(key, Kind::Receive),
        "the operation goes on without a reader"
    );
    rig.script().received(key, true, b"kept");
    rig.turn();
    let chunk = ready(&rig, connection.read()).unwrap().expect("bytes");
    assert_eq!(&*chunk, b"kept");
}

#[test]
fn bytes_that_are_sent_belong_to_the_ring_until_the_send_completes() {
    let rig = Rig::new();
    let (connection, key) = rig.connected(ConnectionOptions::default());
    ready(&rig, connection.write(b"abc".to_vec())).unwrap();
    rig.turn();
    // The handle goes while the kernel reads the bytes: the send, then the receive, must end first.
    drop(connection);
    rig.turn();
    assert!(rig.script().is_under_way(key, Kind::Send));
    assert_eq!(rig.state(key), State::Open, "what was written still leaves");
    rig.script().sent(key, Ok(3));
    rig.turn();
    assert_eq!(rig.state(key), State::Shut(Side::Both));
    rig.script().received(key, false, b"");
    rig.turn();
    assert_eq!(rig.state(key), State::Closed);
}

#[test]
fn a_socket_closes_only_after_its_last_completion() {
    let rig = Rig::new();
    let (connection, key) = rig.connected(ConnectionOptions::default());
    drop(connection);
    rig.turn();
    assert_eq!(rig.state(key), State::Shut(Side::Both));
    // Data that was on its way is no end.
    rig.script().received(key, true, b"late");
    rig.turn();
    assert_eq!(rig.state(key), State::Shut(Side::Both));
    rig.script().received(key, false, b"");
    rig.turn();
    assert_eq!((rig.state(key), rig.script().n_under_way()), (State::Closed, 0));
    assert!(rig.net.is_empty());
}

#[test]
fn a_multishot_receive_that_ends_is_armed_again() {
    let rig = Rig::new();
    let (connection, key) = rig.connected(ConnectionOptions::default());
    for error in [None, Some(errno::EINTR), Some(errno::EAGAIN), Some(errno::ECANCELED)] {
        let armed = rig.script().n_pushed(key, Kind::Receive);
        match error {
            // After data, without an error.
            None => rig.script().received(key, false, b"x"),
            Some(number) => rig.script().receive_failed(key, errno::error(number)),
        }
        rig.turn();
        assert_eq!(rig.script().n_pushed(key, Kind::Receive), armed + 1, "after {error:?}");
    }
    assert_eq!(&*ready(&rig, connection.read()).unwrap().unwrap(), b"x");
}

#[test]
fn a_connection_without_buffers_waits_for_them_and_does_not_spin() {
    let rig = Rig::new();
    let (connection, key) = rig.connected(ConnectionOptions::default());
    rig.script().n_buffers = 0;
    rig.script().receive_failed(key, errno::error(errno::ENOBUFS));
    for _ in 0..5 {
        rig.turn();
    }
    assert_eq!(rig.script().n_pushed(key, Kind::Receive), 1, "armed again without a buffer");
    rig.script().n_buffers = 1;
    rig.turn();
    assert_eq!(rig.script().n_pushed(key, Kind::Receive), 2);
    rig.script().received(key, true, b"fed");
    rig.turn();
    assert_eq!(&*ready(&rig, connection.read()).unwrap().unwrap(), b"fed");
    assert_eq!(rig.net.snapshot().starved, 1);
}

#[test]
fn more_starved_connections_than_there_are_buffers_are_fed_turn_by_turn() {
    let rig = Rig::new();
    let connections: Vec<_> = (0..5).map(|_| rig.connected(ConnectionOptions::default())).collect();
    rig.script().n_buffers = 0;
    for (_, key) in &connections {
        rig.script().receive_failed(*key, errno::error(errno::ENOBUFS));
    }
    rig.turn();
    assert!(!rig.net.is_ready(), "nothing can be done without buffers");
    rig.script().n_buffers = 2;
    let mut n_turns = 0;
    while rig.script().n_under_way() < 5 {
        rig.turn();
        n_turns += 1;
        assert!(rig.script().n_under_way() == 5 || rig.net.is_ready(), "the rest is forgotten");
    }
    assert_eq!(n_turns, 3);
    assert!(!rig.net.is_ready());
}

#[test]
fn a_starved_connection_that_is_dropped_closes() {
    let rig = Rig::new();
    let (connection, key) = rig.connected(ConnectionOptions::default());
    rig.script().n_buffers = 0;
    rig.script().receive_failed(key, errno::error(errno::ENOBUFS));
    rig.turn();
    drop(connection);
    rig.turn();
    assert_eq!(rig.state(key), State::Closed);
    rig.script().n_buffers = 1;
    rig.turn();
}

#[test]
fn a_short_send_is_followed_by_its_rest_before_anything_else() {
    let rig = Rig::new();
    let (connection, key) = rig.connected(ConnectionOptions::default());
    ready(&rig, connection.write("abcdef")).unwrap();
    rig.turn();
    ready(&rig, connection.write("ghi")).unwrap();
    rig.turn();
    assert_eq!(rig.sent_so_far(key), ["abcdef"], "one send at a time keeps the order");
    rig.script().sent(key, Ok(2));
    rig.turn();
    assert_eq!(rig.sent_so_far(key).last().unwrap(), "cdef");
    // Interrupted before a byte has left.
    rig.script().sent(key, Err(errno::error(errno::EINTR)));
    rig.turn();
    assert_eq!(rig.sent_so_far(key).last().unwrap(), "cdef");
    rig.script().sent(key, Ok(4));
    rig.turn();
    assert_eq!(rig.sent_so_far(key).last().unwrap(), "ghi");
    rig.script().sent(key, Ok(3));
    rig.turn();
    ready(&rig, connection.flush()).unwrap();
}

#[test]
fn a_slot_serves_another_connection_only_when_nothing_of_the_first_is_left() {
    let rig = Rig::new();
    let (first, old) = rig.connected(ConnectionOptions::default());
    drop(first);
    rig.turn();
    let (_second, new) = rig.connected(ConnectionOptions::default());
    assert_ne!(old & 0xffff_ffff, new & 0xffff_ffff, "the slot is still the first one's");
    rig.script().received(old, false, b"");
    rig.turn();
    let (_third, third) = rig.connected(ConnectionOptions::default());
    assert_eq!(old & 0xffff_ffff, third & 0xffff_ffff, "now it may be used again");
    assert_ne!(old, third, "and a late completion would not be taken for the third one's");
}

#[test]
fn more_completions_than_a_turn_takes_are_taken_by_the_next() {
    let rig = Rig::new();
    let (connection, key) = rig
        .connected(ConnectionOptions { read_bytes_max: 1 << 20, ..ConnectionOptions::default() });
    let n_pieces = 3 * crate::limits::NET_COMPLETIONS_PER_TURN;
    rig.script().delivery = 20;
    for _ in 0..n_pieces {
        rig.script().received(key, true, &[7; 40]);
    }
    let mut n_turns = 0;
    while rig.net.is_ready() {
        rig.turn();
        n_turns += 1;
    }
    let mut n_bytes = 0;
    while n_bytes < 40 * n_pieces {
        n_bytes += ready(&rig, connection.read()).unwrap().unwrap().len();
    }
    assert_eq!((n_turns, n_bytes), (3, 40 * n_pieces));
}

#[test]
fn accepting_pauses_when_descriptors_run_out_and_goes_on_by_itself() {
    let rig = Rig::new();
    let (listener, key) = rig.listening(ListenOptions::default());
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let armed = rig.script().n_pushed(key, Kind::Accept);
        rig.script().accept_failed(key, errno::error(errno::EMFILE));
        let from = rig.now();
        // Turns for other reasons must not try again.
        rig.turn();
        rig.turn();
        assert_eq!(rig.script().n_pushed(key, Kind::Accept), armed, "it spins");
        while rig.script().n_pushed(key, Kind::Accept) == armed {
            rig.pass_time(Duration::from_millis(1));
            rig.turn();
        }
        pauses.push(rig.now().since(from).as_millis());
    }
    assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
    assert!((10..=12).contains(&pauses[0]), "{pauses:?}");
    assert!((1_000..=1_010).contains(pauses.last().unwrap()), "{pauses:?}");
    rig.script().accepted(key, true);
    rig.turn();
    ready(&rig, listener.accept()).unwrap();
    assert_eq!(rig.net.snapshot().accept_pauses, 9);
}

#[test]
fn an_accept_that_ends_without_a_reason_to_wait_is_armed_at_once() {
    let rig = Rig::new();
    let (_listener, key) = rig.listening(ListenOptions::default());
    rig.script().accepted(key, false);
    rig.turn();
    assert_eq!(rig.script().n_pushed(key, Kind::Accept), 2);
    rig.script().accept_failed(key, errno::error(errno::ECONNABORTED));
    rig.turn();
    assert_eq!(rig.script().n_pushed(key, Kind::Accept), 3);
}

#[test]
fn a_full_listener_takes_nothing_in_until_a_connection_closes() {
    let rig = Rig::new();
    let options = ListenOptions { connections_max: 2, ..ListenOptions::default() };
    let (listener, key) = rig.listening(options);
    rig.script().accepted(key, true);
    rig.script().accepted(key, true);
    rig.turn();
    assert_eq!(rig.script().n_pushed(key, Kind::Cancel), 1, "the accept is taken back");
    // One more that was on its way is kept, not refused.
    rig.script().accepted(key, true);
    rig.turn();
    rig.script().accept_failed(key, errno::error(errno::ECANCELED));
    rig.script().cancelled(key);
    rig.turn();
    rig.turn();
    assert_eq!(rig.script().n_pushed(key, Kind::Accept), 1);
    for _ in 0..2 {
        let connection = ready(&rig, listener.accept()).unwrap();
        let of = rig.key_of(&connection);
        drop(connection);
        rig.turn();
        rig.script().received(of, false, b"");
        rig.turn();
    }
    assert_eq!(rig.script().n_pushed(key, Kind::Accept), 2, "there is room again");
}

#[test]
fn a_listener_that_is_dropped_closes_what_nobody_has_accepted() {
    let rig = Rig::new();
    let (listener, key) = rig.listening(ListenOptions::default());
    rig.script().accepted(key, true);
    rig.turn();
    let waiting = rig.last_key(Kind::Receive);
    drop(listener);
    rig.turn();
    // One that is accepted while the accept is being taken back must not be left open either.
    rig.script().accepted(key, true);
    rig.turn();
    rig.script().accept_failed(key, errno::error(errno::ECANCELED));
    rig.script().cancelled(key);
    rig.script().received(waiting, false, b"");
    rig.turn();
    rig.turn();
    assert_eq!(rig.script().n_open(), 0);
    assert_eq!(rig.script().n_under_way(), 0);
}

#[test]
fn a_slow_reader_stops_being_read_and_is_read_again() {
    let rig = Rig::new();
    let options = ConnectionOptions { read_bytes_max: 100, ..ConnectionOptions::default() };
    let (connection, key) = rig.connected(options);
    for _ in 0..3 {
        rig.script().received(key, true, &[1; 40]);
    }
    rig.turn();
    assert_eq!(rig.script().n_pushed(key, Kind::Cancel), 1, "120 of 100 bytes are unread");
    rig.script().receive_failed(key, errno::error(errno::ECANCELED));
    rig.script().cancelled(key);
    rig.turn();
    assert_eq!(rig.script().n_pushed(key, Kind::Receive), 1);
    let mut n_read = 0;
    while n_read < 120 {
        n_read += ready(&rig, connection.read()).unwrap().unwrap().len();
        rig.turn();
    }
    assert_eq!(rig.script().n_pushed(key, Kind::Receive), 2);
    rig.script().received(key, true, b"more");
    rig.turn();
    assert_eq!(&*ready(&rig, connection.read()).unwrap().unwrap(), b"more");
}

#[test]
fn a_writer_waits_while_as_many_bytes_as_may_are_queued() {
    let rig = Rig::new();
    let options = ConnectionOptions { write_bytes_max: 10, ..ConnectionOptions::default() };
    let (connection, key) = rig.connected(options);
    ready(&rig, connection.write("0123456789")).unwrap();
    rig.turn();
    {
        let mut given_up = Box::pin(connection.write("never"));
        assert!(rig.poll(given_up.as_mut()).is_pending());
    }
    let mut writing = Box::pin(connection.write("abc"));
    assert!(rig.poll(writing.as_mut()).is_pending());
    rig.script().sent(key, Ok(10));
    rig.turn();
    assert!(rig.poll(writing.as_mut()).is_ready());
    rig.turn();
    assert_eq!(rig.sent_so_far(key), ["0123456789", "abc"]);
}

#[test]
fn small_writes_of_one_turn_leave_together() {
    let rig = Rig::new();
    let (connection, key) = rig.connected(ConnectionOptions::default());
    for piece in [b"ab".to_vec(), b"cd".to_vec()] {
        ready(&rig, connection.write(piece)).unwrap();
    }
    // Bytes that others own cannot grow in place.
    for piece in ["ef", "gh"] {
        ready(&rig, connection.write(piece)).unwrap();
    }
    rig.turn();
    assert_eq!(rig.sent_so_far(key), ["abcdefgh"]);
    rig.script().sent(key, Ok(8));
    for piece in ["one ", "two"] {
        ready(&rig, connection.write(piece)).unwrap();
    }
    rig.turn();
    assert_eq!(rig.sent_so_far(key).last().unwrap(), "one two");
}

#[test]
fn the_end_follows_what_was_written_and_reading_goes_on() {
    let rig = Rig::new();
    let (connection, key) = rig.connected(ConnectionOptions::default());
    ready(&rig, connection.write("last")).unwrap();
    let mut finishing = Box::pin(connection.finish());
    assert!(rig.poll(finishing.as_mut()).is_pending());
    rig.turn();
    assert_eq!(rig.state(key), State::Open);
    rig.script().sent(key, Ok(4));
    rig.turn();
    assert!(rig.poll(finishing.as_mut()).is_ready());
    assert_eq!(rig.state(key), State::Shut(Side::Write));
    let refused = ready(&rig, connection.write("more")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
    rig.script().received(key, true, b"answer");
    rig.turn();
    assert_eq!(&*ready(&rig, connection.read()).unwrap().unwrap(), b"answer");
}

#[test]
fn a_connection_that_was_reset_tells_everyone_and_closes() {
    let rig = Rig::new();
    let (connection, key) = rig.connected(ConnectionOptions::default());
    ready(&rig, connection.write("lost")).unwrap();
    rig.turn();
    rig.script().received(key, true, b"before");
    rig.script().receive_failed(key, errno::error(errno::ECONNRESET));
    rig.script().sent(key, Err(errno::error(errno::EPIPE)));
    rig.turn();
    assert_eq!(&*ready(&rig, connection.read()).unwrap().unwrap(), b"before");
    assert_eq!(ready(&rig, connection.read()).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(ready(&rig, connection.flush()).unwrap_err().kind(), ErrorKind::BrokenPipe);
    drop(connection);
    rig.turn();
    assert_eq!(rig.state(key), State::Closed);
}

#[test]
fn an_attempt_to_connect_is_taken_back_when_it_takes_too_long() {
    let rig = Rig::new();
    let within = Duration::from_millis(50);
    let options = ConnectOptions { within, ..ConnectOptions::default() };
    let address = rig::ADDRESS.parse().unwrap();
    let mut connecting = Box::pin(super::Connection::connect(&address, options));
    assert!(rig.poll(connecting.as_mut()).is_pending());
    rig.turn();
    let key = rig.last_key(Kind::Connect);
    rig.pass_time(Duration::from_millis(60));
    rig.turn();
    let std::task::Poll::Ready(Err(error)) = rig.poll(connecting.as_mut()) else { panic!() };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(connecting);
    rig.turn();
    assert_eq!(rig.state(key), State::Open, "the connect is still under way");
    rig.take_back(key, Kind::Connect);
    assert_eq!(rig.state(key), State::Reset);
}

#[test]
fn an_end_that_cannot_be_sent_is_told_to_whoever_waits_for_it() {
    let rig = Rig::new();
    let (connection, key) = rig.connected(ConnectionOptions::default());
    let mut finishing = Box::pin(connection.finish());
    assert!(rig.poll(finishing.as_mut()).is_pending());
    // The other side has reset the connection; the receive that tells so comes a turn later.
    rig.script().refuse_shutdown = Some(errno::error(errno::ENOTCONN));
    rig.turn();
    assert!(rig.was_woken());
    let std::task::Poll::Ready(Err(error)) = rig.poll(finishing.as_mut()) else { panic!() };
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    drop(finishing);
    drop(connection);
    rig.script().refuse_shutdown = Some(errno::error(errno::ENOTCONN));
    rig.turn();
    rig.take_back(key, Kind::Receive);
    assert_eq!(rig.state(key), State::Closed);
}

/// A connection that has a piece of so many bytes to send.
fn sending(rig: &Rig, n_bytes: usize) -> (super::Connection, u64) {
    let options = ConnectionOptions { write_bytes_max: n_bytes, ..ConnectionOptions::default() };
    let (connection, key) = rig.connected(options);
    ready(rig, connection.write(vec![b'7'; n_bytes])).unwrap();
    rig.turn();
    (connection, key)
}

#[test]
fn a_reader_that_takes_a_long_piece_stretch_by_stretch_is_not_taken_for_one_that_takes_nothing() {
    const STRETCH_BYTES: usize = 64 << 10;
    let rig = Rig::new();
    let (connection, key) = sending(&rig, 20 * STRETCH_BYTES);
    for _ in 0..40 {
        rig.pass_time(Duration::from_secs(14));
        rig.script().sent(key, Ok(STRETCH_BYTES / 2));
        rig.turn();
    }
    ready(&rig, connection.flush()).unwrap();
    // The next piece has its own time.
    for _ in 0..3 {
        ready(&rig, connection.write("short")).unwrap();
        rig.turn();
        rig.pass_time(Duration::from_secs(29));
        rig.script().sent(key, Ok(5));
        rig.turn();
    }
    assert_eq!(rig.net.snapshot().timed_out, 0);
}

#[test]
fn a_reader_that_takes_a_byte_now_and_then_is_cut_when_the_time_is_over() {
    let rig = Rig::new();
    let (connection, key) = sending(&rig, 20);
    rig.pass_time(Duration::from_secs(29));
    rig.script().sent(key, Ok(1));
    rig.turn();
    assert_eq!(rig.net.snapshot().timed_out, 0, "not before its time");
    rig.pass_time(Duration::from_secs(2));
    rig.turn();
    assert_eq!(rig.net.snapshot().timed_out, 1);
    assert_eq!(ready(&rig, connection.flush()).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn a_silent_connection_is_closed_at_its_time_and_one_that_speaks_is_not() {
    let rig = Rig::new();
    let options =
        ConnectionOptions { idle: Some(Duration::from_secs(10)), ..ConnectionOptions::default() };
    let (connection, key) = rig.connected(options);
    for _ in 0..5 {
        rig.pass_time(Duration::from_secs(8));
        rig.script().received(key, true, b".");
        rig.turn();
        ready(&rig, connection.read()).unwrap();
    }
    rig.pass_time(Duration::from_secs(11));
    rig.turn();
    assert_eq!(ready(&rig, connection.read()).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(rig.state(key), State::Shut(Side::Both), "nothing was lost: a proper end");
    assert_eq!(rig.net.snapshot().timed_out, 1);
}

#[test]
fn bytes_that_nobody_takes_close_their_connection_also_when_it_was_dropped() {
    for is_dropped in [false, true] {
        let rig = Rig::new();
        let (connection, key) = rig.connected(ConnectionOptions::default());
        ready(&rig, connection.write("stuck")).unwrap();
        rig.turn();
        let held = if is_dropped { None } else { Some(connection) };
        rig.turn();
        rig.pass_time(Duration::from_secs(31));
        rig.turn();
        rig.take_back(key, Kind::Receive);
        rig.take_back(key, Kind::Send);
        // A proper end would tell the other side that this was all.
        assert_eq!(rig.state(key), State::Reset, "dropped: {is_dropped}");
        if let Some(held) = held {
            assert_eq!(ready(&rig, held.flush()).unwrap_err().kind(), ErrorKind::TimedOut);
        }
    }
}

#[test]
fn a_read_with_a_deadline_fails_at_it_and_the_connection_lives_on() {
    let rig = Rig::new();
    let (connection, key) = rig.connected(ConnectionOptions::default());
    connection.read_by(Some(rig.now().after(Duration::from_millis(5))));
    let mut reading = Box::pin(connection.read());
    assert!(rig.poll(reading.as_mut()).is_pending());
    rig.pass_time(Duration::from_millis(6));
    rig.turn();
    assert!(rig.was_woken());
    let std::task::Poll::Ready(Err(error)) = rig.poll(reading.as_mut()) else { panic!() };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(reading);
    connection.read_by(None);
    rig.script().received(key, true, b"late");
    rig.turn();
    assert_eq!(&*ready(&rig, connection.read()).unwrap().unwrap(), b"late");
}

#[test]
fn everything_closes_when_the_shard_ends_whoever_holds_it() {
    let rig = Rig::new();
    let (connection, key) = rig.connected(ConnectionOptions::default());
    let (listener, listening) = rig.listening(ListenOptions::default());
    ready(&rig, connection.write("lost")).unwrap();
    rig.turn();
    rig.net.release_all();
    rig.turn();
    assert_eq!(rig.state(key), State::Open, "what was written still leaves");
    rig.take_back(listening, Kind::Accept);
    rig.net.close_all();
    rig.turn();
    rig.take_back(key, Kind::Receive);
    rig.take_back(key, Kind::Send);
    assert!(rig.net.is_empty());
    assert_eq!(rig.state(key), State::Reset);
    assert_eq!(ready(&rig, connection.read()).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert!(ready(&rig, listener.accept()).is_err());
}

/// What the sent bytes belong to asks about sockets when it is dropped, and counts its drops.
struct Nosy(Arc<Flag>, usize);

impl AsRef<[u8]> for Nosy {
    fn as_ref(&self) -> &[u8] {
        &[b'n'; LARGE][..self.1]
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        // Panics while the table is borrowed.
        assert!(!super::Net::current().is_empty());
        std::task::Wake::wake(Arc::clone(&self.0));
    }
}

const LARGE: usize = 40_000;

#[test]
fn owners_of_sent_bytes_may_use_sockets_when_they_are_dropped() {
    // Joined to the piece before; a piece of its own; one that is given up.
    for (n_bytes, fails) in [(1, false), (LARGE, false), (LARGE, true)] {
        let rig = Rig::new();
        let (connection, key) = rig.connected(ConnectionOptions::default());
        let dropped = Arc::new(Flag::default());
        let nosy = Nosy(Arc::clone(&dropped), n_bytes);
        ready(&rig, connection.write(vec![0; 10])).unwrap();
        ready(&rig, connection.write(Outgoing::from(bytes::Bytes::from_owner(nosy)))).unwrap();
        rig.turn();
        while rig.script().is_under_way(key, Kind::Send) {
            let n_bytes = rig.sent_so_far(key).last().unwrap().len();
            let result = if fails { Err(errno::error(errno::EPIPE)) } else { Ok(n_bytes) };
            rig.script().sent(key, result);
            rig.turn();
        }
        assert!(dropped.take(), "{n_bytes} bytes, fails: {fails}");
    }
}

#[test]
fn what_is_queued_when_a_connection_is_broken_off_is_dropped_once_its_socket_has_gone() {
    for is_under_way in [false, true] {
        let rig = Rig::new();
        // For the owner to ask about.
        let _listening = rig.listening(ListenOptions::default());
        let (connection, key) = rig.connected(ConnectionOptions::default());
        let dropped = Arc::new(Flag::default());
        let nosy = Nosy(Arc::clone(&dropped), LARGE);
        if is_under_way {
            ready(&rig, connection.write("before it")).unwrap();
            rig.turn();
        }
        ready(&rig, connection.write(Outgoing::from(bytes::Bytes::from_owner(nosy)))).unwrap();
        connection.abort();
        rig.turn();
        rig.take_back(key, Kind::Receive);
        if is_under_way {
            rig.take_back(key, Kind::Send);
        }
        assert_eq!(rig.state(key), State::Reset);
        assert!(dropped.take(), "under way: {is_under_way}");
    }
}
