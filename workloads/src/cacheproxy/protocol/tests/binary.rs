//! Binary commands, and what memcached answers to them.

use super::rig::{Tier, answer, check, empty, full};
use crate::cacheproxy::operation::{ExpTime, Operation, Outcome, What};
use crate::cacheproxy::protocol::{Asked, Limits};

const OPAQUE: [u8; 4] = [1, 2, 3, 4];
const EXPIRES: [u8; 4] = [0, 0, 0, 30];
const FLAGS: [u8; 8] = [0, 0, 0, 7, 0, 0, 0, 30];

/// A command.
#[derive(Clone, Copy, Default)]
pub(super) struct Asking<'a> {
    pub(super) opcode: u8,
    pub(super) extras: &'a [u8],
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) cas: u64,
}

impl Asking<'_> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let n_bytes = self.extras.len() + self.key.len() + self.value.len();
        let header = header(0x80, self.opcode, [self.key.len(), self.extras.len(), n_bytes], 0);
        let mut bytes = [&header, &self.cas.to_be_bytes()[..]].concat();
        bytes.extend([self.extras, self.key, self.value].concat());
        bytes
    }
}

fn header(magic: u8, opcode: u8, [key, extras, body]: [usize; 3], status: u16) -> Vec<u8> {
    let mut bytes = vec![magic, opcode];
    bytes.extend(u16::try_from(key).unwrap().to_be_bytes());
    bytes.extend([u8::try_from(extras).unwrap(), 0]);
    bytes.extend(status.to_be_bytes());
    bytes.extend(u32::try_from(body).unwrap().to_be_bytes());
    bytes.extend(OPAQUE);
    bytes
}

fn told(opcode: u8, status: u16, cas: u64, [extras, key, value]: [&[u8]; 3]) -> Vec<u8> {
    let lengths = [key.len(), extras.len(), extras.len() + key.len() + value.len()];
    let header = header(0x81, opcode, lengths, status);
    [&header, &cas.to_be_bytes()[..], extras, key, value].concat()
}

fn asked(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    Asking { opcode, extras, key, value, cas: 0 }.bytes()
}

fn success(opcode: u8, cas: u64, value: &[u8]) -> Vec<u8> {
    told(opcode, 0, cas, [&[], &[], value])
}

fn failure(opcode: u8, status: u16, reason: &str) -> Vec<u8> {
    told(opcode, status, 0, [&[], &[], reason.as_bytes()])
}

#[test]
fn answers_reads() {
    let flags = &[0, 0, 0, 7][..];
    for (opcode, extras) in [(0x00, &[][..]), (0x09, &[]), (0x1d, &EXPIRES), (0x1e, &EXPIRES)] {
        let hit = told(opcode, 0, 35, [flags, b"", b"val"]);
        check(&asked(opcode, extras, b"bk", b""), &hit, full);
    }
    for (opcode, extras) in [(0x0c, &[][..]), (0x0d, &[]), (0x23, &EXPIRES), (0x24, &EXPIRES)] {
        let hit = told(opcode, 0, 35, [flags, b"bk", b"val"]);
        check(&asked(opcode, extras, b"bk", b""), &hit, full);
    }
    check(&asked(0x1c, &EXPIRES, b"bk", b""), &told(0x1c, 0, 35, [flags, b"", b""]), full);

    for (opcode, extras) in [(0x00, &[][..]), (0x1d, &EXPIRES), (0x1c, &EXPIRES)] {
        check(&asked(opcode, extras, b"bk", b""), &failure(opcode, 1, "Not found"), empty);
    }
    for (opcode, extras) in [(0x0c, &[][..]), (0x23, &EXPIRES)] {
        let miss = told(opcode, 1, 0, [b"", b"bk", b""]);
        check(&asked(opcode, extras, b"bk", b""), &miss, empty);
    }
    for (opcode, extras) in [(0x09, &[][..]), (0x0d, &[]), (0x1e, &EXPIRES), (0x24, &EXPIRES)] {
        check(&asked(opcode, extras, b"bk", b""), b"", empty);
    }
}

#[test]
fn answers_stores() {
    for (loud, quiet, extras) in
        [(0x01, 0x11, &FLAGS[..]), (0x03, 0x13, &FLAGS), (0x0e, 0x19, &[]), (0x0f, 0x1a, &[])]
    {
        check(&asked(loud, extras, b"bk", b"val"), &success(loud, 36, b""), full);
        check(&asked(quiet, extras, b"bk", b"val"), b"", full);
    }
    let refusals = [
        (0x02, &FLAGS[..], full as Tier, 2, "Data exists for key."),
        (0x12, &FLAGS, full, 2, "Data exists for key."),
        (0x03, &FLAGS, empty, 1, "Not found"),
        (0x13, &FLAGS, empty, 1, "Not found"),
        (0x0e, &[], empty, 5, "Not stored."),
        (0x1a, &[], empty, 5, "Not stored."),
    ];
    for (opcode, extras, tier, status, reason) in refusals {
        check(&asked(opcode, extras, b"bk", b"val"), &failure(opcode, status, reason), tier);
    }
    for (opcode, extras) in [(0x01, &FLAGS[..]), (0x12, &FLAGS), (0x03, &FLAGS), (0x19, &[])] {
        let bytes = Asking { opcode, extras, key: b"bk", value: b"val", cas: 1 }.bytes();
        check(&bytes, &failure(opcode, 2, "Data exists for key."), full);
    }
    for opcode in [0x01, 0x02, 0x03] {
        let bytes = Asking { opcode, extras: &FLAGS, key: b"bk", value: b"v", cas: 1 }.bytes();
        check(&bytes, &failure(opcode, 1, "Not found"), empty);
    }
}

#[test]
fn answers_deletes_and_counts() {
    check(&asked(0x04, b"", b"bk", b""), &success(0x04, 0, b""), full);
    check(&asked(0x14, b"", b"bk", b""), b"", full);
    check(&asked(0x14, b"", b"bk", b""), &failure(0x14, 1, "Not found"), empty);
    let bytes = Asking { opcode: 0x04, key: b"bk", cas: 1, ..Asking::default() }.bytes();
    check(&bytes, &failure(0x04, 2, "Data exists for key."), full);

    let count = [&1_u64.to_be_bytes()[..], &9_u64.to_be_bytes(), &[0xff; 4]].concat();
    check(&asked(0x05, &count, b"bn", b""), &success(0x05, 36, &6_u64.to_be_bytes()), full);
    check(&asked(0x06, &count, b"bn", b""), &success(0x06, 36, &4_u64.to_be_bytes()), full);
    check(&asked(0x15, &count, b"bn", b""), b"", full);
    check(&asked(0x16, &count, b"bn", b""), &failure(0x16, 1, "Not found"), empty);
    fn words(_: &Operation) -> Outcome {
        Outcome::NotANumber
    }
    let reason = "Non-numeric server-side value for incr or decr";
    check(&asked(0x15, &count, b"bn", b""), &failure(0x15, 6, reason), words);
}

#[test]
fn answers_what_has_no_key() {
    let noop = asked(0x0a, b"", b"", b"");
    let nooped = success(0x0a, 0, b"");
    check(&noop, &nooped, empty);
    check(&asked(0x0b, b"", b"", b""), &success(0x0b, 0, b"1.6.18"), empty);
    check(&asked(0x08, b"", b"", b""), &success(0x08, 0, b""), empty);
    check(&asked(0x08, &EXPIRES, b"", b""), &success(0x08, 0, b""), empty);
    check(&asked(0x18, b"", b"", b""), b"", empty);
    check(&[asked(0x07, b"", b"", b""), noop.clone()].concat(), &success(0x07, 0, b""), empty);
    check(&[asked(0x17, b"", b"", b""), noop.clone()].concat(), b"", empty);
    let stats = [told(0x10, 0, 0, [b"", b"pid", b"7"]), success(0x10, 0, b"")].concat();
    check(&asked(0x10, b"", b"", b""), &stats, empty);
    check(&asked(0x10, b"", b"reset", b""), &success(0x10, 0, b""), empty);
    check(&asked(0x10, b"", b"foo", b""), &failure(0x10, 1, "Not found"), empty);
    for (opcode, value) in [(0x70, &b""[..]), (0x70, b"abc"), (0x1b, b""), (0x3f, b""), (0x20, b"")]
    {
        let expected = [failure(opcode, 0x81, "Unknown command"), nooped.clone()].concat();
        check(&[asked(opcode, b"", b"", value), noop.clone()].concat(), &expected, empty);
    }
    // Where memcached would lose its place.
    let expected = [failure(0x70, 0x81, "Unknown command"), nooped].concat();
    check(&[asked(0x70, b"ex", b"key", b"value"), noop].concat(), &expected, empty);
}

#[test]
fn lengths_that_an_opcode_does_not_have_cost_the_connection() {
    let noop = asked(0x0a, b"", b"", b"");
    let key = &[b'k'; 251][..];
    type Parts<'a> = (u8, &'a [u8], &'a [u8], &'a [u8]);
    let wrong: &[Parts<'_>] = &[
        (0x00, b"", b"", b""),
        (0x00, &EXPIRES, b"k", b""),
        (0x00, b"", b"k", b"x"),
        (0x09, b"", b"", b""),
        (0x00, b"", key, b""),
        (0x01, b"", b"k", b"x"),
        (0x08, &FLAGS, b"", b""),
        (0x0a, b"", b"", b"x"),
        (0x0b, b"", b"x", b""),
        (0x0e, &EXPIRES, b"k", b""),
        (0x10, &EXPIRES, b"", b""),
        (0x1c, b"", b"k", b""),
        (0x1d, &EXPIRES, b"k", b"x"),
    ];
    for (opcode, extras, key, value) in wrong {
        let bytes = [asked(*opcode, extras, key, value), noop.clone()].concat();
        check(&bytes, &failure(*opcode, 4, "Invalid arguments"), empty);
    }
    let mut longer = asked(0x00, b"", b"abc", b"");
    longer[11] = 2;
    check(&[longer, noop.clone()].concat(), &failure(0x00, 0x81, "Unknown command"), empty);
    let bytes = [noop.clone(), b"get a\r\nget a\r\nget a\r\nget a\r\n".to_vec(), noop].concat();
    check(&bytes, &success(0x0a, 0, b""), empty);
}

#[test]
fn a_store_that_is_too_large_is_read_over_and_a_set_removes_what_is_there() {
    let noop = asked(0x0a, b"", b"", b"");
    let value = [b'v'; 101];
    for (opcode, extras) in [(0x01, &FLAGS[..]), (0x11, &FLAGS), (0x02, &FLAGS), (0x0e, &[])] {
        let bytes = [asked(opcode, extras, b"k", &value), noop.clone()].concat();
        let expected = [failure(opcode, 3, "Too large."), success(0x0a, 0, b"")].concat();
        check(&bytes, &expected, full);
        let commands = super::rig::commands(&[&bytes], super::rig::LIMITS);
        let removes = matches!(&commands[0].asked,
            Asked::One(operation) if matches!(operation.what, What::Delete(_)));
        assert_eq!(removes, matches!(opcode, 0x01 | 0x11));
    }
}

#[test]
fn an_expiry_is_never_negative() {
    let extras = [&[0; 4][..], &[0xff; 4]].concat();
    let bytes = asked(0x01, &extras, b"k", b"v");
    let commands = super::rig::commands(&[&bytes], Limits::DEFAULT);
    let Asked::One(Operation { what: What::Set(set), .. }) = &commands[0].asked else {
        panic!("no set")
    };
    assert_eq!(set.expires, ExpTime(i32::MAX));
}

#[test]
fn a_first_byte_decides_for_the_whole_connection() {
    let noop = asked(0x0a, b"", b"", b"");
    // The opcode of a noop is an end of line.
    let out = answer(&[b"version\r\n", &noop, b"\r\n"], Limits::DEFAULT, empty);
    assert_eq!(out, b"VERSION 1.6.18\r\nERROR\r\nERROR\r\n");
}
