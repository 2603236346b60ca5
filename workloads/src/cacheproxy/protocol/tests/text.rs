//! Lines of text, and what memcached answers to them.

use super::rig::{LIMITS, Tier, answer, check, empty, full};
use crate::cacheproxy::operation::{Failure, Outcome, What};

const FORMAT: &str = "CLIENT_ERROR bad command line format\r\n";

fn rows(tier: Tier, table: &[(&str, &str)]) {
    for (asked, expected) in table {
        check(asked.as_bytes(), expected.as_bytes(), tier);
    }
}

#[test]
fn answers_lines_that_ask_nothing_of_a_key() {
    rows(
        empty,
        &[
            ("version\r\n", "VERSION 1.6.18\r\n"),
            ("version x y\r\n", "VERSION 1.6.18\r\n"),
            (" version\r\n", "VERSION 1.6.18\r\n"),
            ("version\n", "VERSION 1.6.18\r\n"),
            ("version\0 x\r\n", "VERSION 1.6.18\r\n"),
            ("version\rx\r\n", "ERROR\r\n"),
            ("version\r\r\n", "ERROR\r\n"),
            ("\tversion\r\n", "ERROR\r\n"),
            ("VERSION\r\n", "ERROR\r\n"),
            ("\r\n", "ERROR\r\n"),
            ("\n", "ERROR\r\n"),
            (" \r\n", "ERROR\r\n"),
            ("v\r\n", "ERROR\r\n"),
            ("mz\r\n", "ERROR\r\n"),
            ("mn\r\n", "MN\r\n"),
            ("mn extra\r\n", "MN\r\n"),
            ("verbosity\r\n", "ERROR\r\n"),
            ("verbosity 0\r\n", "OK\r\n"),
            ("verbosity x\r\n", FORMAT),
            ("verbosity 0 1\r\n", "OK\r\n"),
            ("verbosity 0 1 2\r\n", "ERROR\r\n"),
            ("verbosity 0 noreply\r\nmn\r\n", "MN\r\n"),
            ("verbosity noreply\r\nmn\r\n", "MN\r\n"),
            ("flush_all\r\n", "OK\r\n"),
            ("flush_all 1\r\n", "OK\r\n"),
            ("flush_all -1\r\n", "OK\r\n"),
            ("flush_all x\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
            ("flush_all noreply\r\nmn\r\n", "MN\r\n"),
            ("flush_all 1 noreply\r\nmn\r\n", "MN\r\n"),
            ("flush_all x noreply\r\nmn\r\n", "MN\r\n"),
            ("flush_all 1 2\r\n", "OK\r\n"),
            ("flush_all 1 2 3\r\n", "ERROR\r\n"),
            ("stats\r\n", "STAT pid 7\r\nEND\r\n"),
            ("stats reset\r\n", "RESET\r\n"),
            ("stats reset x\r\n", "RESET\r\n"),
            ("stats foo\r\n", "ERROR\r\n"),
            ("quit\r\nversion\r\n", ""),
            ("quit x\r\nversion\r\n", ""),
        ],
    );
}

#[test]
fn answers_reads() {
    let too_long = format!("get a {} b\r\nmn\r\n", "k".repeat(251));
    let longest = format!("get {}\r\n", "k".repeat(250));
    rows(
        empty,
        &[
            ("get\r\n", "ERROR\r\n"),
            ("get \r\n", "ERROR\r\n"),
            ("get a\r\n", "END\r\n"),
            ("get a\0b\r\n", "END\r\n"),
            ("bget a\r\n", "END\r\n"),
            ("get\ta\r\n", "ERROR\r\n"),
            ("gets\r\n", "ERROR\r\n"),
            ("getsx a\r\n", "ERROR\r\n"),
            ("gat\r\n", "ERROR\r\n"),
            ("gat 1\r\n", "END\r\n"),
            ("gat x a\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
            ("gats 0x a\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
            ("gat -1 zz\r\n", "END\r\n"),
            (&longest, "END\r\n"),
            (&too_long, "CLIENT_ERROR bad command line format\r\nMN\r\n"),
        ],
    );
    rows(
        full,
        &[
            ("get a\r\n", "VALUE a 7 3\r\nval\r\nEND\r\n"),
            ("get  a\r\n", "VALUE a 7 3\r\nval\r\nEND\r\n"),
            ("gets a\r\n", "VALUE a 7 3 35\r\nval\r\nEND\r\n"),
            ("gat 0 a\r\n", "VALUE a 7 3\r\nval\r\nEND\r\n"),
            (
                "gats 0 a  noreply\r\n",
                "VALUE a 7 3 35\r\nval\r\nVALUE noreply 7 3 35\r\nval\r\nEND\r\n",
            ),
            ("touch a 0\r\n", "TOUCHED\r\n"),
        ],
    );
}

#[test]
fn answers_stores() {
    rows(
        empty,
        &[
            ("set a 0 0 1\r\nx\r\n", "STORED\r\n"),
            ("set a 0 0 0\r\n\r\n", "STORED\r\n"),
            ("set a 0 0 1\nx\r\nmn\r\n", "STORED\r\nMN\r\n"),
            ("set a 0 0 1 noreply\r\nx\r\nmn\r\n", "MN\r\n"),
            ("set a 0 0 1 noreplyx\r\nx\r\nmn\r\n", "STORED\r\nMN\r\n"),
            ("set a 0 0 1 noreply x\r\nx\r\nmn\r\n", "ERROR\r\nERROR\r\nMN\r\n"),
            ("set a 0 0\r\nx\r\nmn\r\n", "ERROR\r\nERROR\r\nMN\r\n"),
            ("set a\0b 0 0 1\r\nx\r\n", "ERROR\r\nERROR\r\n"),
            ("set a 0 0 x\r\nmn\r\n", &format!("{FORMAT}MN\r\n")),
            ("set a 0 0 x noreply\r\nmn\r\n", "MN\r\n"),
            ("set a 0 0 noreply\r\nmn\r\n", "MN\r\n"),
            ("set a x 0 1\r\nmn\r\n", &format!("{FORMAT}MN\r\n")),
            ("set a -1 0 1\r\nx\r\nmn\r\n", &format!("{FORMAT}ERROR\r\nMN\r\n")),
            ("set a 4294967295 0 1\r\nx\r\n", "STORED\r\n"),
            ("set a 0 0 -1\r\nmn\r\n", &format!("{FORMAT}MN\r\n")),
            ("set a 0 0 2147483647\r\nmn\r\n", &format!("{FORMAT}MN\r\n")),
            ("set a 0 0 2147483646\r\nmn\r\n", &format!("{FORMAT}MN\r\n")),
            ("set a 0 0 4294967297\r\nx\r\nmn\r\n", "STORED\r\nMN\r\n"),
            ("set a 0 0 1\r\nxyz\r\nmn\r\n", "CLIENT_ERROR bad data chunk\r\nERROR\r\nMN\r\n"),
            ("set a 0 0 1 noreply\r\nxyz\r\nmn\r\n", "ERROR\r\nMN\r\n"),
            ("add a 0 0 1\r\nx\r\n", "STORED\r\n"),
            ("replace a 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
            ("append a 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
            ("prepend a 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
            ("append a x 0 1\r\nmn\r\n", &format!("{FORMAT}MN\r\n")),
            ("cas a 0 0 1\r\nx\r\nmn\r\n", "ERROR\r\nERROR\r\nMN\r\n"),
            ("cas a 0 0 1 0\r\nx\r\n", "NOT_FOUND\r\n"),
            ("cas a 0 0 1 x\r\nmn\r\n", &format!("{FORMAT}MN\r\n")),
            ("cas a 0 0 1 -5\r\nx\r\nmn\r\n", &format!("{FORMAT}ERROR\r\nMN\r\n")),
            ("cas a 0 0 1 5 noreply\r\nx\r\nmn\r\n", "MN\r\n"),
        ],
    );
    rows(
        full,
        &[
            ("cas a 0 0 1 5\r\nx\r\n", "EXISTS\r\n"),
            ("add a 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
            ("append a 0 0 1\r\nx\r\n", "STORED\r\n"),
        ],
    );
}

#[test]
fn answers_the_rest_about_a_key() {
    const USAGE: &str = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
    const DELTA: &str = "CLIENT_ERROR invalid numeric delta argument\r\n";
    rows(
        empty,
        &[
            ("delete\r\n", "ERROR\r\n"),
            ("delete a\r\n", "NOT_FOUND\r\n"),
            ("delete noreply\r\n", "NOT_FOUND\r\n"),
            ("delete a 0\r\n", "NOT_FOUND\r\n"),
            ("delete a 1\r\n", USAGE),
            ("delete a noreply\r\nmn\r\n", "MN\r\n"),
            ("delete a 0 noreply\r\nmn\r\n", "MN\r\n"),
            ("delete a noreply 0\r\n", USAGE),
            ("delete a 1 noreply\r\nmn\r\n", "MN\r\n"),
            ("delete a 1 2 3\r\n", "ERROR\r\n"),
            ("incr a 1\r\n", "NOT_FOUND\r\n"),
            ("incr a\r\n", "ERROR\r\n"),
            ("incr a x\r\n", DELTA),
            ("incr a -1\r\n", DELTA),
            ("incr a x noreply\r\nmn\r\n", "MN\r\n"),
            ("incr a 1 2 3\r\n", "ERROR\r\n"),
            ("decr a 99999999999999999999\r\n", DELTA),
            ("decr a 18446744073709551615\r\n", "NOT_FOUND\r\n"),
            ("touch a 1\r\n", "NOT_FOUND\r\n"),
            ("touch a x\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
            ("touch a\r\n", "ERROR\r\n"),
            ("touch a x noreply\r\nmn\r\n", "MN\r\n"),
            ("touch a 1 2 3\r\n", "ERROR\r\n"),
        ],
    );
    rows(
        full,
        &[
            ("delete a\r\n", "DELETED\r\n"),
            ("incr a 3\r\n", "8\r\n"),
            ("decr a 3\r\n", "2\r\n"),
            ("decr a 3 noreply\r\nmn\r\n", "MN\r\n"),
        ],
    );
}

#[test]
fn refuses_keys_that_are_too_long() {
    let key = "k".repeat(251);
    let lines = ["get K", "set K 0 0 1", "delete K", "incr K 1", "touch K 1", "mg K", "md K"];
    for line in lines.into_iter().chain(["ma K", "me K", "ms K 1", "ms K"]) {
        check(format!("{}\r\n", line.replace('K', &key)).as_bytes(), FORMAT.as_bytes(), empty);
    }
    let asked = format!("set {key} 0 0 1 noreply\r\nx\r\ndelete {key} noreply\r\nmn\r\n");
    check(asked.as_bytes(), b"ERROR\r\nMN\r\n", empty);
}

#[test]
fn a_store_that_is_too_large_is_read_over_and_a_set_removes_what_is_there() {
    const TOO_LARGE: &str = "SERVER_ERROR object too large for cache\r\nMN\r\n";
    fn removed(operation: &crate::cacheproxy::operation::Operation) -> Outcome {
        assert!(matches!(operation.what, What::Delete(_)), "{operation:?}");
        Outcome::Deleted
    }
    fn nothing(operation: &crate::cacheproxy::operation::Operation) -> Outcome {
        panic!("asked a tier: {operation:?}")
    }
    let value = "v".repeat(101);
    for (head, tier) in [
        ("set a 0 0 101", removed as Tier),
        ("ms a 101", removed),
        ("ms a 101 ME q k O1", removed),
        ("add a 0 0 101", nothing),
        ("replace a 0 0 101", nothing),
        ("append a 0 0 101", nothing),
        ("cas a 0 0 101 5", nothing),
    ] {
        let asked = format!("{head}\r\n{value}\r\nmn\r\n");
        check(asked.as_bytes(), TOO_LARGE.as_bytes(), tier);
    }
    let asked = format!("set a 0 0 101 noreply\r\n{value}\r\nmn\r\n");
    check(asked.as_bytes(), b"MN\r\n", removed);
}

#[test]
fn tells_of_a_tier_that_failed_instead_of_a_part_of_the_keys() {
    fn half(operation: &crate::cacheproxy::operation::Operation) -> Outcome {
        match operation.key.as_bytes() {
            b"bad" => Outcome::Failed(Failure::Unanswered),
            _ => full(operation),
        }
    }
    const FAILED: &str = "SERVER_ERROR downstream did not answer\r\n";
    rows(
        half,
        &[
            ("mn\r\nget a bad c\r\n", &format!("MN\r\n{FAILED}")),
            ("get bad\r\n", FAILED),
            ("set bad 0 0 1\r\nx\r\n", FAILED),
            ("set bad 0 0 1 noreply\r\nx\r\nmn\r\n", "MN\r\n"),
            ("mg bad v q O1\r\n", FAILED),
        ],
    );
}

#[test]
fn what_is_no_outcome_of_a_read_is_told_as_refused_and_not_as_a_miss() {
    const REFUSED: &str = "SERVER_ERROR downstream refused\r\n";
    for tier in [|_: &_| Outcome::Deleted, |_: &_| Outcome::NoMemory] {
        rows(tier, &[("get a\r\n", REFUSED), ("gets a b\r\nmn\r\n", &format!("{REFUSED}MN\r\n"))]);
    }
}

#[test]
fn a_line_that_does_not_end_costs_the_connection() {
    let junk = "x".repeat(2049);
    let expected = b"CLIENT_ERROR line too long\r\n";
    check(junk.as_bytes(), expected, empty);
    check(format!("{junk}\r\nmn\r\n").as_bytes(), expected, empty);
    check(format!("{}\nmn\r\n", "x".repeat(2048)).as_bytes(), b"ERROR\r\nMN\r\n", empty);
    check(&[b' '; 2048], b"", empty);
}

#[test]
fn a_list_of_keys_may_be_longer_than_other_lines() {
    for verb in ["get", "gets", "gat 0", "  gats 0"] {
        let line = format!("{verb}{}", " abc".repeat(1000));
        check(format!("{line}\r\nmn\r\n").as_bytes(), b"END\r\nMN\r\n", empty);
    }
    let line = format!("get{}\r\nmn\r\n", " abc".repeat(2100));
    check(line.as_bytes(), b"CLIENT_ERROR line too long\r\n", empty);
    // In parts, too, and then as soon as it is too long.
    let endless = vec![b' '; 5000];
    let out = answer(&[b"get", &endless, &endless, b"\r\nmn\r\n"], LIMITS, empty);
    assert_eq!(out, b"CLIENT_ERROR line too long\r\n");
}
