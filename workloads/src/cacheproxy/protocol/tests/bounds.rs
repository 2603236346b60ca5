//! What a client may make a connection hold, and what an idle one holds.

use fastrand::Rng;

use super::rig::{LIMITS, commands};
use crate::cacheproxy::protocol::{Asked, Decoder, Limits};

#[test]
fn a_decoder_is_small_and_holds_nothing_between_commands() {
    assert!(size_of::<Decoder>() <= 64);
    let mut decoder = Decoder::new(Limits::DEFAULT);
    for part in [&b"get "[..], b"a\r\nset a 0 0 5\r\nva", b"lue", b"\r\n", b"\x80"] {
        let mut input = part;
        while decoder.decode(&mut input).is_some() {}
    }
    assert!(!decoder.is_between(), "a line has begun");
    assert!(decoder.held_bytes() > 0);
    assert!(decoder.decode(&mut &b"\n"[..]).is_some());
    assert!(decoder.is_between());
    assert_eq!(decoder.held_bytes(), 0);
}

#[test]
fn a_promised_value_takes_no_memory_before_it_comes() {
    let mut decoder = Decoder::new(Limits { value_bytes_max: u32::MAX, ..LIMITS });
    assert!(decoder.decode(&mut &b"set a 0 0 2000000000\r\n"[..]).is_none());
    assert!(decoder.held_bytes() <= 16 * 1024 + 512, "{}", decoder.held_bytes());
    let mut n_sent = 0;
    for _ in 0..100 {
        let part = [b'v'; 3000];
        n_sent += part.len();
        assert!(decoder.decode(&mut &part[..]).is_none());
        let n_max = (2 * n_sent).max(16 * 1024) + 512;
        assert!(decoder.held_bytes() <= n_max, "{} for {n_sent}", decoder.held_bytes());
    }
}

#[test]
fn a_line_without_end_is_held_up_to_its_bound() {
    for (beginning, n_max) in [(&b"set "[..], 2 * 2048 + 1), (b"get ", 2 * 8192 + 1)] {
        let mut decoder = Decoder::new(LIMITS);
        assert!(decoder.decode(&mut &beginning[..]).is_none());
        let refused = (0..1000).find_map(|_| {
            assert!(decoder.held_bytes() <= n_max, "{}", decoder.held_bytes());
            decoder.decode(&mut &[b'x'; 100][..])
        });
        let refused = refused.expect("the line was taken for ever");
        assert!(refused.closes());
        assert!(decoder.decode(&mut &[b'x'; 100_000][..]).is_none());
        assert_eq!(decoder.held_bytes(), 0);
    }
}

#[test]
fn junk_never_makes_a_decoder_hold_more_than_its_bounds() {
    let n_max = 2 * (LIMITS.line_bytes_max.max(LIMITS.value_bytes_max) as usize) + 1024;
    for seed in 0..200 {
        let mut rng = Rng::with_seed(seed);
        let mut decoder = Decoder::new(LIMITS);
        for _ in 0..50 {
            let n_bytes = rng.usize(..600);
            let part: Vec<u8> = (0..n_bytes).map(|_| rng.u8(b' '..)).collect();
            let mut input = &part[..];
            while decoder.decode(&mut input).is_some() {}
            assert!(decoder.held_bytes() <= n_max, "seed {seed}: {}", decoder.held_bytes());
        }
    }
}

#[test]
fn a_value_that_comes_in_parts_is_the_value() {
    let value: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let bytes = [&b"set a 0 0 100000\r\n"[..], &value, b"\r\n"].concat();
    for n_bytes in [1, 4096, 16_000, 65_536, 200_000] {
        let parts: Vec<&[u8]> = bytes.chunks(n_bytes).collect();
        let commands = commands(&parts, Limits::DEFAULT);
        let [command] = &commands[..] else { panic!("{} commands", commands.len()) };
        let Asked::One(operation) = &command.asked else { panic!("{command:?}") };
        let crate::cacheproxy::operation::What::Set(set) = &operation.what else {
            panic!("{operation:?}")
        };
        assert_eq!(set.value, value);
    }
}
