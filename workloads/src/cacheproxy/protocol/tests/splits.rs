//! However the bytes are cut, the same commands come of them.

use fastrand::Rng;

use super::corpus;
use super::rig::{LIMITS, commands};
use crate::cacheproxy::protocol::Command;

const SEEDS: u64 = 400;

/// Commands that reach every stage of the decoder.
const COMMANDS: &[&[u8]] = &[
    b"get a\r\nget a b  c\r\nset a 0 0 3\r\nval\r\nmn\r\n",
    b"set a 0 0 3\r\nvalxx\r\nms YWJj 3 b k Oabc\r\nval\r\n\r\nversion\n",
    b"set a 0 0 101 noreply\r\nvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv\
      vvvvvvvvvvvvvvvvvvvvvvvvvvvvvv\r\nmn\r\nset a 0 0 0\r\n\r\nquit\r\nmn\r\n",
];

fn assert_same(whole: &[Command], parts: &[&[u8]], what: &str) {
    let cut = commands(parts, LIMITS);
    assert_eq!(cut, whole, "{what}: {:?}", parts.iter().map(|p| p.len()).collect::<Vec<_>>());
}

/// At every byte, at every two bytes that are near, and byte by byte.
fn check_splits(bytes: &[u8], what: &str) {
    let whole = commands(&[bytes], LIMITS);
    for at in 0..=bytes.len() {
        let (first, rest) = bytes.split_at(at);
        assert_same(&whole, &[first, rest], what);
        for width in 1..rest.len().min(8) {
            assert_same(&whole, &[first, &rest[..width], &rest[width..]], what);
        }
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_same(&whole, &single, what);
}

#[test]
fn the_same_commands_come_of_every_cut() {
    for bytes in COMMANDS {
        check_splits(bytes, "a command of the list");
    }
    for seed in 0..SEEDS {
        let mut rng = Rng::with_seed(seed);
        check_splits(&corpus::text(&mut rng), &format!("text of seed {seed}"));
        check_splits(&corpus::binary(&mut rng), &format!("binary of seed {seed}"));
    }
}

#[test]
fn long_lines_are_the_same_in_parts() {
    for length in [2047, 2048, 2049, 2050, 8191, 8192, 8193, 8194] {
        for verb in [&b"get "[..], b"gat 0 ", b"set ", b"                  gets "] {
            let mut bytes = [verb, &b"k ".repeat(length)].concat();
            bytes.truncate(length);
            bytes.extend(b"\nmn\r\n");
            let whole = commands(&[&bytes], LIMITS);
            for n_bytes in [1, 7, 100, 2047, 2048, 2049, 4096] {
                let parts: Vec<&[u8]> = bytes.chunks(n_bytes).collect();
                assert_same(&whole, &parts, &format!("{length} bytes in parts of {n_bytes}"));
            }
        }
    }
}

#[test]
fn junk_is_the_same_in_parts_and_never_panics() {
    for seed in 0..SEEDS {
        let mut rng = Rng::with_seed(seed);
        let n_bytes = rng.usize(..300);
        let mut bytes: Vec<u8> = (0..n_bytes).map(|_| rng.u8(..)).collect();
        if rng.bool() {
            bytes
                .splice(..0, [0x80, rng.u8(..0x26), 0, rng.u8(..3), rng.u8(..9), 0, 0, 0, 0, 0, 0]);
        }
        check_splits(&bytes, &format!("junk of seed {seed}"));
    }
}

#[test]
fn a_decoder_that_forgets_what_it_carried_is_found() {
    for bytes in COMMANDS {
        let whole = commands(&[bytes], LIMITS);
        let found = (1..bytes.len()).any(|at| {
            let (first, rest) = bytes.split_at(at);
            [commands(&[first], LIMITS), commands(&[rest], LIMITS)].concat() != whole
        });
        assert!(found, "no cut of {}", bytes.escape_ascii());
    }
}
