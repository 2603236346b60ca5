//! Meta commands, and what memcached answers to them.

use super::rig::{Tier, check, empty, entry, full};
use crate::cacheproxy::operation::{
    Beside, CountsAsUse, Description, Entry, ExpTime, Get, Operation, Outcome, SetMode, Wanted,
    What, Win,
};
use crate::cacheproxy::protocol::Asked;

fn rows(tier: Tier, table: &[(&str, &str)]) {
    for (asked, expected) in table {
        check(asked.as_bytes(), expected.as_bytes(), tier);
    }
}

#[test]
fn answers_misses() {
    rows(
        empty,
        &[
            ("mg k\r\n", "EN\r\n"),
            ("mg k v q\r\nmn\r\n", "MN\r\n"),
            ("mg k O12 k s v\r\n", "EN O12 kk\r\n"),
            ("mg YWJjZA== k b\r\n", "EN kYWJjZA== b\r\n"),
            ("mg YWJjZB== k b\r\n", "EN kYWJjZA== b\r\n"),
            ("me k\r\n", "EN\r\n"),
            ("me k q\r\nmn\r\n", "EN\r\nMN\r\n"),
            ("md k q\r\nmn\r\n", "NF\r\nMN\r\n"),
            ("md k k O1 s\r\n", "NF kk O1\r\n"),
            ("ma k q k O1 t c\r\nmn\r\n", "NF kk O1\r\nMN\r\n"),
            ("ms k 1 MR\r\nx\r\n", "NS\r\n"),
            ("ms k 1 MA N30\r\nx\r\n", "NS\r\n"),
            ("ms k 1 C5 q k c O1\r\nx\r\n", "NF kk c0 O1\r\n"),
            ("ms k 1 I C1 MR c\r\nx\r\n", "NF c0\r\n"),
        ],
    );
}

#[test]
fn answers_hits() {
    rows(
        full,
        &[
            ("mg k\r\n", "HD\r\n"),
            ("mg k v\r\n", "VA 3\r\nval\r\n"),
            ("mg k v q\r\n", "VA 3\r\nval\r\n"),
            ("mg YWJj k b O5 c v\r\n", "VA 3 kYWJj b O5 c35\r\nval\r\n"),
            ("mg k t s f l h k\r\n", "HD t-1 s3 f7 l0 h1 kk\r\n"),
            ("mg k sx tfoo k\r\n", "HD s3 t-1 kk\r\n"),
            ("ms k 1\r\nx\r\n", "HD\r\n"),
            ("ms k 1 c\r\nx\r\n", "HD c36\r\n"),
            ("ms k 1 k q\r\nx\r\nmn\r\n", "MN\r\n"),
            ("ms YWJj 1 k b O5 c\r\nx\r\n", "HD kYWJj b O5 c36\r\n"),
            ("ms k 1 C0 c\r\nx\r\n", "EX c0\r\n"),
            ("ms k 1 ME k\r\nx\r\n", "NS kk\r\n"),
            ("md k k\r\n", "HD kk\r\n"),
            ("md k q\r\nmn\r\n", "MN\r\n"),
            ("md k C1 k\r\n", "EX kk\r\n"),
            ("md k C0\r\n", "EX\r\n"),
            ("ma k\r\n", "HD\r\n"),
            ("ma k v c t k O7\r\n", "VA 1 c36 t-1 kk O7\r\n6\r\n"),
            ("ma k v q\r\nmn\r\n", "MN\r\n"),
            ("ma k D10 MD v\r\n", "VA 1\r\n0\r\n"),
            ("ma k M- D2 v\r\n", "VA 1\r\n3\r\n"),
            ("ma k M+ D10 v\r\n", "VA 2\r\n15\r\n"),
            ("ma k C0 v\r\n", "VA 1\r\n6\r\n"),
            ("ma k C1 q k O1 c t v\r\n", "EX kk O1\r\n"),
        ],
    );
}

#[test]
fn refuses_flags_as_memcached_does() {
    let flags = ["s", "t", "c", "f", "v", "h", "l", "u", "k", "P1", "L1", "I", "F1", "D1", "T0"];
    let many = |n: usize| flags.iter().copied().cycle().take(n).collect::<Vec<_>>().join(" ");
    let long = "1".repeat(32);
    rows(
        empty,
        &[
            ("mg\r\n", "ERROR\r\n"),
            ("ms\r\n", "ERROR\r\n"),
            ("md\r\n", "ERROR\r\n"),
            ("ma\r\n", "ERROR\r\n"),
            ("me\r\n", "CLIENT_ERROR bad command line format\r\n"),
            ("mg a s s\r\n", "CLIENT_ERROR duplicate flag\r\n"),
            ("mg a \u{7f}\r\n", "CLIENT_ERROR duplicate flag\r\n"),
            ("mg a !\r\n", "CLIENT_ERROR invalid flag\r\n"),
            ("mg a E1\r\n", "CLIENT_ERROR invalid flag\r\n"),
            ("mg a T\r\n", "CLIENT_ERROR bad token in command line format\r\n"),
            ("mg a Tx F1\r\n", "CLIENT_ERROR bad token in command line format\r\n"),
            ("mg a F-1\r\n", "CLIENT_ERROR bad command line format\r\n"),
            ("mg abc b\r\n", "CLIENT_ERROR error decoding key\r\n"),
            ("mg YW-_ b\r\n", "CLIENT_ERROR error decoding key\r\n"),
            ("mg ==== b\r\n", "CLIENT_ERROR error decoding key\r\n"),
            ("mg YW b Tx\r\n", "CLIENT_ERROR bad token in command line format\r\n"),
            ("mg YW b Fx\r\n", "CLIENT_ERROR error decoding key\r\n"),
            ("mg YW Fx b\r\n", "CLIENT_ERROR error decoding key\r\n"),
            (&format!("mg a O{long}\r\n"), "CLIENT_ERROR opaque token too long\r\n"),
            (&format!("mg a O{}\r\n", &long[1..]), &format!("EN O{}\r\n", &long[1..])),
            (&format!("mg a {}\r\n", many(17)), "CLIENT_ERROR duplicate flag\r\n"),
            (&format!("mg a {}\r\n", many(18)), "CLIENT_ERROR options flags are too long\r\n"),
            (&format!("md a {}\r\n", many(18)), "CLIENT_ERROR options flags too long\r\n"),
            (&format!("ma a {}\r\n", many(30)), "CLIENT_ERROR options flags too long\r\n"),
            ("me abc b\r\n", "CLIENT_ERROR bad command line format\r\n"),
            ("ma n Mi\r\n", "CLIENT_ERROR invalid mode for ma M token\r\n"),
            ("ma n Dx\r\n", "CLIENT_ERROR invalid or duplicate flag\r\n"),
            ("ma n q q\r\n", "CLIENT_ERROR invalid or duplicate flag\r\n"),
            ("md n x\r\n", "CLIENT_ERROR invalid or duplicate flag\r\n"),
        ],
    );
}

#[test]
fn drops_the_value_of_a_refused_set_once_its_length_is_known() {
    let refused = |line: &str, reason: &str, then: &str| {
        let asked = format!("ms a {line}\r\nx\r\nmn\r\n");
        let expected = format!("CLIENT_ERROR {reason}\r\n{then}MN\r\n");
        check(asked.as_bytes(), expected.as_bytes(), empty);
    };
    refused("S1", "bad command line format", "ERROR\r\n");
    refused("-1", "bad command line format", "ERROR\r\n");
    refused("1 MZ", "invalid mode for ms M token", "");
    refused("1 Mab", "incorrect length for M token", "");
    refused("1 M", "incorrect length for M token", "");
    refused("1 Fx", "bad command line format", "");
    refused("1 Tx", "bad token in command line format", "");
    refused("1 E9", "invalid flag", "");
    refused("1 k k", "duplicate flag", "");
    refused(&format!("1 O{}", "1".repeat(32)), "opaque token too long", "");
    refused(&format!("1 MZ O{}", "1".repeat(32)), "invalid mode for ms M token", "");
    refused(&format!("1 {}", "s ".repeat(17)), "options flags too long", "ERROR\r\n");
    check(b"ms a\r\nmn\r\n", b"CLIENT_ERROR bad command line format\r\nMN\r\n", empty);
    check(b"ms a 1 k q\r\nxy\r\nmn\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\nMN\r\n", empty);
}

#[test]
fn tells_who_is_to_fill_an_item_again() {
    fn stale(win: Win) -> Outcome {
        Outcome::Hit(Entry { stale: true, win, ttl_s: Some(29), ..entry() })
    }
    fn won(_: &Operation) -> Outcome {
        stale(Win::Won)
    }
    fn sent(_: &Operation) -> Outcome {
        stale(Win::Sent)
    }
    check(b"mg n v t k\r\n", b"VA 3 t29 kn X W\r\nval\r\n", won);
    check(b"mg n v t k\r\n", b"VA 3 t29 kn Z X\r\nval\r\n", sent);
}

#[test]
fn describes_an_item() {
    fn described(_: &Operation) -> Outcome {
        let (ttl_s, idle_s, cas, fetched) = (Some(30), 2, 16, false);
        Outcome::Described(Some(Box::new(Description {
            ttl_s,
            idle_s,
            cas,
            fetched,
            class: 1,
            n_bytes: 61,
        })))
    }
    check(b"me e x\r\n", b"ME e exp=-30 la=2 cas=16 fetch=no cls=1 size=61\r\n", described);
    check(b"me YWJj b\r\n", b"ME YWJj exp=-30 la=2 cas=16 fetch=no cls=1 size=61\r\n", described);
}

#[test]
fn flags_mean_what_they_say() {
    let what = |line: &str| match super::rig::commands(&[line.as_bytes()], super::rig::LIMITS)
        .remove(0)
        .asked
    {
        Asked::One(operation) => operation.what,
        other => panic!("{line}: {other:?}"),
    };
    let get = Get {
        value: Wanted::Yes,
        beside: Beside::All,
        touch: Some(ExpTime(30)),
        vivify: Some(ExpTime(-1)),
        recache_below_s: Some(5),
        counts_as_use: CountsAsUse::No,
    };
    assert_eq!(what("mg a v u T30 N-1 R5\r\n"), What::Get(get));
    let What::Set(set) = what("ms a 1 C5 I T9 F3 MR\r\nx\r\n") else { panic!("no set") };
    assert_eq!((set.mode, set.if_cas, set.invalidate), (SetMode::Set, Some(5), true));
    assert_eq!((set.expires, set.flags, &set.value[..]), (ExpTime(9), 3, &b"x"[..]));
    let What::Set(set) = what("ms a 1 C5 ME I\r\nx\r\n") else { panic!("no set") };
    assert_eq!((set.mode, set.if_cas, set.invalidate), (SetMode::Add, None, false));
    let What::Set(set) = what("ms a 1 C0 MA\r\nx\r\n") else { panic!("no set") };
    assert_eq!((set.mode, set.if_cas), (SetMode::Append, None));
    let What::Delete(delete) = what("md a I T9\r\n") else { panic!("no delete") };
    assert_eq!((delete.invalidate, delete.touch), (true, Some(ExpTime(9))));
    let What::Delete(delete) = what("md a T9\r\n") else { panic!("no delete") };
    assert_eq!((delete.invalidate, delete.touch), (false, None));
    let What::Count(count) = what("ma a N7 J4 D2 MD C0\r\n") else { panic!("no count") };
    assert_eq!((count.initial, count.delta, count.if_cas), (Some((4, ExpTime(7))), 2, None));
}
