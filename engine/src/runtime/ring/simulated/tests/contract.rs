//! Goal: a ring signals as the kernel does, and a caller who breaks its rules is caught.
//! Method: one connection of two shards, at rest.

use super::super::super::{End, Kind, Op, Ring, Side, Socket, Token};
use super::pair;
use super::rig::{CHANCE, CLIENT, Rig, SERVER};
use crate::runtime::ShardId;

/// A connection with its receive under way.
fn receiving() -> (Rig, usize) {
    let (mut rig, client, ..) = pair(1, CHANCE, 1);
    (rig.keeps_open, rig.talks[client].keeps_open) = (true, true);
    rig.rest();
    assert_eq!(rig.talks[client].under_way, [Kind::Receive]);
    (rig, client)
}

#[test]
fn a_signal_comes_for_what_is_due_after_the_arming_and_for_nothing_else() {
    let (mut rig, client) = receiving();
    let id = ShardId::new(SERVER);
    let signal = |rig: &Rig| rig.world.network.borrow().signal_due(id);
    rig.talks[client].unsent = vec![1; 2];
    rig.send(client);
    rig.ring(CLIENT).enter();
    assert!(!rig.ring(SERVER).arm(), "nothing has arrived yet");
    let due = rig.world.network.borrow().next_due(id);
    assert_eq!(signal(&rig), due);
    rig.ring(SERVER).disarm();
    assert_eq!(signal(&rig), None, "nobody asked for it");
    rig.world.clock.set(due.unwrap());
    assert!(rig.ring(SERVER).arm());
    assert_eq!(signal(&rig), None, "that was there before");
}

#[test]
#[should_panic(expected = "two of Receive under way")]
fn a_second_receive_is_a_mistake() {
    let (mut rig, client) = receiving();
    rig.push(client, Op::Receive);
}

#[test]
#[should_panic(expected = "closed with operations under way")]
fn a_close_before_the_last_completion_is_a_mistake() {
    let (mut rig, client) = receiving();
    rig.close(client);
}

#[test]
#[should_panic(expected = "is in the slot of another open socket")]
fn a_slot_of_two_sockets_is_a_mistake() {
    let (mut rig, client) = receiving();
    let address = rig.address_of(0, End::Here);
    let socket = rig.ring(CLIENT).open(&address, None).unwrap();
    let token = Token::new((9 << 32) | client as u64, Kind::Connect);
    rig.ring(CLIENT).push(token, &socket, Op::Connect(address));
}

#[test]
#[should_panic(expected = "is not open")]
fn an_operation_on_a_closed_socket_is_a_mistake() {
    let (mut rig, client) = receiving();
    rig.shutdown(client, Side::Both);
    rig.rest();
    let number = rig.talks[client].socket.as_ref().unwrap().simulated();
    rig.close(client);
    let token = Token::new((7 << 32) | client as u64, Kind::Send);
    let socket = Socket::Simulated(number);
    rig.ring(CLIENT).push(token, &socket, Op::Send("x".into()));
}
