//! A real memcached is asked the same, and answers to the byte the same.
//!
//! Our side is an empty store: no command reads what another one has stored. Random commands from a
//! printed seed; `FOREBAY_SEED` runs one alone.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use fastrand::Rng;
use tempfile::TempDir;

use super::corpus;
use super::rig::{Tier, answer, empty};
use crate::cacheproxy::memcached::{PATIENCE, Process, eventually};
use crate::cacheproxy::operation::{Operation, Outcome, What};
use crate::cacheproxy::protocol::Limits;

const SEEDS: u64 = 3000;

/// A memcached of our own, on a socket of our own.
struct Memcached {
    socket: PathBuf,
    _process: Process,
    _folder: TempDir,
}

impl Memcached {
    /// `None`, with the reason printed, where there is none.
    fn start() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("socket");
        let process = Process::memcached(&["-s".as_ref(), socket.as_os_str()])?;
        eventually("it listens", || UnixStream::connect(&socket).is_ok());
        Some(Self { socket, _process: process, _folder: folder })
    }

    /// All that it answers until it closes, which it does at the end of what is asked.
    fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        // By a path: each question is a connection of its own, more than there are ports in a minute.
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may have closed in the middle of what is asked.
        let _closed = stream.write_all(bytes);
        let _closed = stream.shutdown(Shutdown::Write);
        let mut out = Vec::new();
        match stream.read_to_end(&mut out) {
            Ok(_) => out,
            Err(fault) if fault.kind() == ErrorKind::ConnectionReset => out,
            Err(fault) => panic!("{fault} after {}", bytes.escape_ascii()),
        }
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("FOREBAY_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    }
}

/// A kind of commands to compare by.
struct Kind {
    corpus: fn(&mut Rng) -> Vec<u8>,
    /// Takes out of an answer what no two servers have in common.
    alike: fn(Vec<u8>) -> Vec<u8>,
}

const TEXT: Kind = Kind { corpus: with_end, alike: without_cas_of_text };
const BINARY: Kind = Kind { corpus: corpus::binary, alike: without_cas_of_binary };

impl Kind {
    /// The first seed whose commands are answered differently, and how.
    fn difference(&self, memcached: &Memcached, tier: Tier) -> Option<String> {
        seeds().into_iter().find_map(|seed| {
            let asked = (self.corpus)(&mut Rng::with_seed(seed));
            let theirs = (self.alike)(memcached.ask(&asked));
            let ours = (self.alike)(answer(&[&asked], Limits::DEFAULT, tier));
            let [asked, ours, theirs] =
                [asked, ours, theirs].map(|bytes| bytes.escape_ascii().to_string());
            (ours != theirs)
                .then(|| format!("seed {seed}\nasked {asked}\nours {ours}\ntheirs {theirs}"))
        })
    }
}

/// What ends a value that lacks a byte: memcached keeps its answers back while it waits for one, and
/// loses them if its client goes.
fn with_end(rng: &mut Rng) -> Vec<u8> {
    [corpus::text(rng), b"\r\nmn\r\n".to_vec()].concat()
}

/// Every cas that a store of a meta command has told replaced by nothing, unless it is 0.
fn without_cas_of_text(answers: Vec<u8>) -> Vec<u8> {
    let is_cas = |word: &&[u8]| matches!(word, [b'c', b'1'..=b'9', ..]);
    let mut alike = Vec::new();
    for line in answers.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"HD ") {
            let words: Vec<&[u8]> = line
                .split(|byte| byte.is_ascii_whitespace())
                .map(|word| if is_cas(&word) { b"c" } else { word })
                .collect();
            alike.extend(words.join(&b' '));
        } else {
            alike.extend(line);
        }
    }
    alike
}

/// Every cas of binary answers replaced by 1, unless it is 0.
fn without_cas_of_binary(mut answers: Vec<u8>) -> Vec<u8> {
    const BODY_LENGTH: usize = 8;
    const CAS: usize = 16;
    const HEADER_BYTES: usize = 24;
    let mut rest = &mut answers[..];
    while rest.len() >= HEADER_BYTES {
        let body = u32::from_be_bytes(*rest[BODY_LENGTH..].first_chunk().unwrap());
        let cas = &mut rest[CAS..HEADER_BYTES];
        if cas != [0; 8] {
            cas.copy_from_slice(&1_u64.to_be_bytes());
        }
        rest = &mut rest[HEADER_BYTES + body as usize..];
    }
    answers
}

#[test]
fn a_real_memcached_answers_alike() {
    let Some(memcached) = Memcached::start() else { return };
    for kind in [TEXT, BINARY] {
        assert_eq!(kind.difference(&memcached, empty), None);
    }
}

#[test]
fn a_tier_that_answers_otherwise_is_found() {
    fn planted(operation: &Operation) -> Outcome {
        match operation.what {
            What::Count(_) => Outcome::NotANumber,
            _ => empty(operation),
        }
    }
    let Some(memcached) = Memcached::start() else { return };
    for kind in [TEXT, BINARY] {
        assert!(kind.difference(&memcached, planted).is_some());
    }
}
