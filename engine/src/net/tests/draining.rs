//! Listeners that drain: who has connected is handed out, whatever happens meanwhile.

use std::io::ErrorKind;
use std::time::Duration;

use super::ListenOptions;
use super::rig::{Rig, errno, ready};
use crate::runtime::ring::Kind;
use crate::runtime::ring::scripted::State;

/// What stands in the line of a listener: so many connections.
fn in_line(rig: &Rig, n: usize) {
    rig.script().line.extend((0..n).map(|_| Ok(())));
}

/// Lets a drain that has begun take the accept back, if there is one under way.
fn drain(rig: &Rig, key: u64) {
    rig.net.drain_listeners();
    rig.turn();
    rig.take_back(key, Kind::Accept);
}

#[test]
fn a_listener_that_drains_hands_out_everybody_who_has_connected_and_then_closes() {
    let rig = Rig::new();
    let (listener, key) = rig.listening(ListenOptions::default());
    rig.script().accepted(key, true);
    rig.turn();
    in_line(&rig, 2);
    rig.net.drain_listeners();
    rig.turn();
    assert_eq!(rig.script().n_turned_away, 0, "what is under way may bring one more");
    rig.script().accepted(key, true);
    rig.take_back(key, Kind::Accept);
    assert_eq!(rig.script().n_turned_away, 1);
    assert!(rig.script().line.is_empty());
    assert_eq!(rig.state(key), State::Closed, "nobody can connect any more");
    let mut connections = Vec::new();
    for _ in 0..4 {
        assert!(rig.net.has_unaccepted(), "a stop waits for {} of 4", connections.len());
        connections.push(ready(&rig, listener.accept()).unwrap());
    }
    assert!(!rig.net.has_unaccepted());
    let ended = ready(&rig, listener.accept()).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::ConnectionAborted);
    for connection in &connections {
        assert_eq!(rig.state(rig.key_of(connection)), State::Open);
    }
}

#[test]
fn whoever_waits_for_a_connection_hears_that_none_will_come() {
    let rig = Rig::new();
    let (listener, key) = rig.listening(ListenOptions::default());
    let mut accepting = Box::pin(listener.accept());
    assert!(rig.poll(accepting.as_mut()).is_pending());
    drain(&rig, key);
    assert!(rig.was_woken());
    assert!(matches!(rig.poll(accepting.as_mut()), std::task::Poll::Ready(Err(_))));
    drop(accepting);
    drop(listener);
    assert!(rig.net.is_empty() && !rig.net.has_unaccepted());
}

#[test]
fn a_full_listener_that_drains_takes_the_rest_in_as_others_close() {
    let rig = Rig::new();
    let options = ListenOptions { connections_max: 1, ..ListenOptions::default() };
    let (listener, key) = rig.listening(options);
    in_line(&rig, 2);
    drain(&rig, key);
    for _ in 0..2 {
        let connection = ready(&rig, listener.accept()).unwrap();
        assert!(rig.poll(Box::pin(listener.accept()).as_mut()).is_pending(), "it is full");
        assert!(rig.net.has_unaccepted());
        let of = rig.key_of(&connection);
        drop(connection);
        rig.turn();
        rig.script().received(of, false, b"");
        rig.turn();
    }
    assert!(ready(&rig, listener.accept()).is_err());
    assert_eq!(rig.script().n_turned_away, 1);
}

#[test]
fn a_listener_that_drains_waits_for_descriptors_and_passes_over_who_has_gone() {
    let rig = Rig::new();
    let (listener, key) = rig.listening(ListenOptions::default());
    for number in [errno::ECONNABORTED, errno::EMFILE] {
        rig.script().line.push_back(Err(errno::error(number)));
    }
    in_line(&rig, 1);
    drain(&rig, key);
    assert_eq!((rig.script().line.len(), rig.net.snapshot().accept_pauses), (1, 1));
    assert!(rig.net.has_unaccepted());
    rig.pass_time(Duration::from_millis(12));
    rig.turn();
    ready(&rig, listener.accept()).unwrap();
    assert!(ready(&rig, listener.accept()).is_err());
}

#[test]
fn a_listener_that_is_dropped_while_it_drains_closes_all_the_same() {
    let rig = Rig::new();
    let (listener, key) = rig.listening(ListenOptions::default());
    rig.script().accepted(key, true);
    rig.turn();
    let waiting = rig.last_key(Kind::Receive);
    in_line(&rig, 1);
    rig.net.drain_listeners();
    drop(listener);
    rig.turn();
    rig.take_back(key, Kind::Accept);
    rig.script().received(waiting, false, b"");
    rig.turn();
    assert!(!rig.net.has_unaccepted());
    assert_eq!(rig.script().n_open(), 0);
    assert_eq!(rig.script().n_under_way(), 0);
}
