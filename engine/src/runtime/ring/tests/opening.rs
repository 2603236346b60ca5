//! Sockets that begin and end: accept, connect, close.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, TcpStream};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::*;
use super::rig::*;

#[test]
fn bytes_go_both_ways_between_two_sockets_of_a_ring() {
    on_both_backs(&usual(), |rig| {
        for address in [Address::Tcp((Ipv4Addr::LOCALHOST, 0).into()), rig.unix_address()] {
            let (listener, address) = rig.listen(address);
            rig.begin(&listener, Op::Accept);
            let socket = rig.ring.open(&address, None).unwrap();
            let client = rig.know(socket);
            rig.begin(&client, Op::Connect(address.clone()));
            rig.connected(&client).unwrap();
            let server = rig.accepted(&listener);
            assert_eq!(rig.ring.name(&client.socket, End::There).unwrap(), address);
            for end in [&client, &server] {
                rig.begin(end, Op::Receive);
            }
            for round in 0..3 {
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let words = format!("round {round}");
                    rig.begin(from, Op::Send(words.clone().into()));
                    let (bytes, n_sent) = rig.sent(from);
                    assert_eq!((&*bytes, n_sent.unwrap()), (words.as_bytes(), words.len()));
                    rig.expect(to, words.as_bytes());
                }
            }
            rig.end_receive(&server);
            rig.end_receive(&client);
            rig.close(server);
            rig.close(client);
            rig.end_listener(listener);
        }
    });
}

#[test]
fn a_connect_says_why_it_fails() {
    on_both_backs(&usual(), |rig| {
        let (listener, nobody) = rig.tcp();
        rig.close(listener);
        let check = |rig: &mut Rig, to: Address, kind| {
            let socket = rig.ring.open(&to, None).unwrap();
            let client = rig.know(socket);
            rig.begin(&client, Op::Connect(to));
            assert_eq!(rig.connected(&client).unwrap_err().kind(), kind);
            rig.close(client);
        };
        check(rig, nobody.into(), ErrorKind::ConnectionRefused);
        check(rig, rig.unix_address(), ErrorKind::NotFound);
    });
}

#[test]
fn a_connect_that_hangs_can_be_taken_back() {
    on_both_backs(&usual(), |rig| {
        // Room for one that nobody accepts; the next one's greeting is dropped.
        let address = Address::Tcp((Ipv4Addr::LOCALHOST, 0).into());
        let socket = rig.ring.listen(&ListenSpec { address, backlog: 0 }).unwrap();
        let listener = rig.know(socket);
        let address = rig.ring.name(&listener.socket, End::Here).unwrap();
        let [first, second] = [(); 2].map(|()| {
            let socket = rig.ring.open(&address, None).unwrap();
            rig.know(socket)
        });
        rig.begin(&first, Op::Connect(address.clone()));
        rig.connected(&first).unwrap();
        rig.begin(&second, Op::Connect(address));
        rig.reap_all();
        assert!(rig.said.is_empty(), "{:?}", rig.said);
        rig.begin(&second, Op::Cancel(Kind::Connect));
        rig.cancelled(&second);
        assert!(is_cancelled(&rig.connected(&second).unwrap_err()));
        rig.close(second);
        rig.close(first);
        rig.close(listener);
    });
}

#[test]
fn an_accept_takes_in_connections_until_it_is_taken_back() {
    on_both_backs(&usual(), |rig| {
        let (listener, address) = rig.tcp();
        rig.begin(&listener, Op::Accept);
        let mut peers: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        for peer in &mut peers {
            let here = rig.accepted(&listener);
            assert_eq!(
                rig.ring.name(&here.socket, End::There).unwrap(),
                peer.local_addr().unwrap().into(),
            );
            rig.close(here);
            assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "closed is closed");
        }
        rig.begin(&listener, Op::Cancel(Kind::Accept));
        rig.cancelled(&listener);
        let said = rig.next(&listener, Kind::Accept);
        assert!(!said.more && matches!(said.outcome, Outcome::Accepted(Err(_))), "{said:?}");

        let _late = TcpStream::connect(address).unwrap();
        rig.reap_all();
        assert!(rig.said.is_empty(), "accepted after the end: {:?}", rig.said);
        rig.begin(&listener, Op::Accept);
        let here = rig.accepted(&listener);
        rig.close(here);
        rig.end_listener(listener);
    });
}

#[test]
fn an_accept_ends_when_there_is_no_descriptor_left() {
    alone(|| {
        on_both_backs(&usual(), |rig| {
            let (listener, address) = rig.tcp();
            let _peer = TcpStream::connect(address).unwrap();
            let before = getrlimit(Resource::Nofile);
            // Numbers from 3 on are refused; those in use stay open.
            setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..before }).unwrap();
            for _ in 0..2 {
                rig.begin(&listener, Op::Accept);
                let said = rig.next(&listener, Kind::Accept);
                let Completion { more: false, outcome: Outcome::Accepted(Err(error)), .. } = said
                else {
                    panic!("{said:?}")
                };
                let none_left = rustix::io::Errno::MFILE.raw_os_error();
                assert_eq!(error.raw_os_error(), Some(none_left));
            }
            setrlimit(Resource::Nofile, before).unwrap();
            rig.begin(&listener, Op::Accept);
            let here = rig.accepted(&listener);
            rig.close(here);
            rig.end_listener(listener);
        });
    });
}

#[test]
fn a_socket_closes_in_order_and_leaves_no_descriptor() {
    alone(|| {
        let baseline = n_descriptors();
        on_both_backs(&usual(), |rig| {
            let before = n_descriptors();
            let (listener, address) = rig.tcp();
            rig.begin(&listener, Op::Accept);
            let mut peers: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
            let connections: Vec<_> = peers.iter().map(|_| rig.accepted(&listener)).collect();
            for here in &connections {
                rig.begin(here, Op::Receive);
            }
            rig.reap_all();
            for (here, peer) in connections.into_iter().zip(&mut peers) {
                rig.ring.shutdown(&here.socket, Side::Both).unwrap();
                assert!(rig.received(&here).1.unwrap().is_empty());
                rig.close(here);
                assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "closed is closed");
            }
            rig.end_listener(listener);
            assert!(TcpStream::connect(address).is_err(), "closed is closed");
            drop(peers);
            assert_eq!(n_descriptors(), before);
        });
        assert_eq!(n_descriptors(), baseline, "a ring has left some");
    });
}

#[test]
fn a_full_backlog_of_a_unix_socket_is_told_by_readiness_and_waited_for_by_the_ring() {
    on_both_backs(&usual(), |rig| {
        let address = rig.unix_address();
        let socket = rig.ring.listen(&ListenSpec { address: address.clone(), backlog: 0 }).unwrap();
        let listener = rig.know(socket);
        let [first, second] = [(); 2].map(|()| {
            let socket = rig.ring.open(&address, None).unwrap();
            rig.know(socket)
        });
        rig.begin(&first, Op::Connect(address.clone()));
        rig.connected(&first).unwrap();
        rig.begin(&second, Op::Connect(address));
        if rig.back == SocketBack::Ring {
            rig.begin(&listener, Op::Accept);
            let (one, other) = (rig.accepted(&listener), rig.accepted(&listener));
            rig.connected(&second).unwrap();
            rig.close(one);
            rig.close(other);
            rig.begin(&listener, Op::Cancel(Kind::Accept));
            rig.cancelled(&listener);
            rig.next(&listener, Kind::Accept);
        } else {
            assert_eq!(rig.connected(&second).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        rig.close(second);
        rig.close(first);
        rig.close(listener);
    });
}
