//! Goal: what is written is what memcached reads, and no byte of a server's is believed too easily.
//!
//! Method: tables of operations with the bytes that they become, and of replies with what they come
//! to, each fed whole and cut at every byte; replies with random damage; and random batches against
//! the real server in every dialect, held against a model of it.

mod oracle;

use bytes::Bytes;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

use super::text_reply::untold;
use super::*;
use crate::cacheproxy::operation::{
    Beside, Count, Counted, Delete, Direction, Entry, ExpTime, Failure, Get, Outcome, Set, What,
    Win,
};

pub(super) fn key(text: &'static [u8]) -> Key {
    Key::new(text).unwrap()
}

pub(super) fn about(text: &'static [u8], what: What) -> Operation {
    Operation { key: key(text), what }
}

fn get(text: &'static [u8]) -> Operation {
    about(text, What::Get(Get::PLAIN))
}

fn read(text: &'static [u8], beside: Beside) -> Operation {
    about(text, What::Get(Get { beside, ..Get::PLAIN }))
}

fn set(mode: SetMode) -> Set {
    Set::new(mode, 7, ExpTime(60), Bytes::from_static(b"hello"))
}

fn count(direction: Direction, delta: u64) -> Count {
    Count { direction, delta, initial: None, if_cas: None, touch: None, beside: Beside::Flags }
}

fn hit(value: &'static [u8], flags: u32) -> Entry {
    let value_bytes = u32::try_from(value.len()).unwrap();
    Entry { value: Bytes::from_static(value), value_bytes, flags, ..untold() }
}

const REFUSED: Outcome = Outcome::Failed(Failure::Refused);

/// Everything that comes of bytes that arrive in pieces of `n_bytes`.
fn decode_in(
    mut replies: Replies,
    bytes: &[u8],
    n_bytes: usize,
) -> Result<Vec<(usize, Outcome)>, Malformed> {
    let mut outcomes = Vec::new();
    for piece in [&[][..]].into_iter().chain(bytes.chunks(n_bytes)) {
        let mut input = piece;
        while let Some(outcome) = replies.decode(&mut input)? {
            outcomes.push(outcome);
        }
        if !input.is_empty() {
            assert!(replies.is_done(), "{} bytes were left", input.len());
            return Err(Malformed::NotAsked);
        }
    }
    assert_eq!(replies.n_due(), 0, "came to {outcomes:?}");
    assert!(replies.is_done());
    Ok(outcomes)
}

/// Holds what is sent against `sent`, and what comes of `replied` against `wanted`.
fn check(
    dialect: Dialect,
    operations: &[Operation],
    sent: &[u8],
    replied: &[u8],
    wanted: &[Outcome],
) {
    let mut out = Vec::new();
    encode(dialect, operations, &mut out);
    assert_eq!(out.escape_ascii().to_string(), sent.escape_ascii().to_string());
    for n_bytes in 1..=replied.len().max(1) {
        let replies = encode(dialect, operations, &mut Vec::new());
        let outcomes = decode_in(replies, replied, n_bytes).unwrap();
        let wanted: Vec<_> = wanted.iter().cloned().enumerate().collect();
        assert_eq!(outcomes, wanted, "in pieces of {n_bytes}");
    }
}

/// Holds that `replied` is taken for no reply, wherever it is cut.
fn check_malformed(dialect: Dialect, operations: &[Operation], replied: &[u8], wanted: Malformed) {
    for n_bytes in 1..=replied.len() {
        let replies = encode(dialect, operations, &mut Vec::new());
        assert_eq!(decode_in(replies, replied, n_bytes), Err(wanted), "in pieces of {n_bytes}");
    }
}

#[test]
fn plain_gets_share_a_line_and_what_was_not_told_of_has_missed() {
    check(
        Dialect::Text,
        &[get(b"a"), get(b"b"), get(b"a"), get(b"c")],
        b"get a b a c\r\n",
        b"VALUE b 3 2\r\n\r\n\r\nVALUE a 0 0\r\n\r\nEND\r\n",
        &[Outcome::Miss, Outcome::Hit(hit(b"\r\n", 3)), Outcome::Hit(hit(b"", 0)), Outcome::Miss],
    );
}

#[test]
fn what_follows_the_last_reply_is_left_for_the_next_batch() {
    let mut first = encode(Dialect::Text, &[get(b"a")], &mut Vec::new());
    let mut second = encode(Dialect::Text, &[about(b"b", What::Describe)], &mut Vec::new());
    let mut input = &b"VALUE a 0 1\r\nx\r\nEND\r\nEN\r\n"[..];
    assert_eq!(first.decode(&mut input), Ok(Some((0, Outcome::Hit(hit(b"x", 0))))));
    assert!(!first.is_done(), "the end of the line is still due");
    assert_eq!(first.decode(&mut input), Ok(None));
    assert!(first.is_done());
    assert_eq!(second.decode(&mut input), Ok(Some((0, Outcome::Described(None)))));
}

#[test]
fn a_line_of_gets_ends_where_another_command_stands_and_where_it_is_long_enough() {
    check(
        Dialect::Text,
        &[
            get(b"a"),
            read(b"b", Beside::Cas),
            about(b"c", What::Delete(Delete::default())),
            get(b"d"),
        ],
        b"get a\r\ngets b\r\ndelete c\r\nget d\r\n",
        b"VALUE a 0 1\r\nx\r\nEND\r\nVALUE b 0 1 9\r\ny\r\nEND\r\nDELETED\r\nEND\r\n",
        &[
            Outcome::Hit(hit(b"x", 0)),
            Outcome::Hit(Entry { cas: 9, ..hit(b"y", 0) }),
            Outcome::Deleted,
            Outcome::Miss,
        ],
    );
    let many = vec![get(&[b'k'; 250]); 100];
    let mut out = Vec::new();
    encode(Dialect::Text, &many, &mut out);
    let longest = out.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
    assert!(longest.is_some_and(|n_bytes| (1_750..2_048).contains(&n_bytes)), "{longest:?}");
}

#[test]
fn stores_counts_and_touches_are_lines_of_their_own() {
    let cas = Set { if_cas: Some(u64::MAX), ..set(SetMode::Set) };
    let touch = Get { value: Wanted::No, touch: Some(ExpTime(-1)), ..Get::PLAIN };
    let gat = Get { touch: Some(ExpTime(9)), ..Get::PLAIN };
    check(
        Dialect::Text,
        &[
            about(b"a", What::Set(set(SetMode::Set))),
            about(b"a", What::Set(set(SetMode::Add))),
            about(b"a", What::Set(cas)),
            about(b"a", What::Set(set(SetMode::Append))),
            about(b"a", What::Count(count(Direction::Down, u64::MAX))),
            about(b"a", What::Get(touch)),
            about(b"a", What::Get(gat)),
        ],
        b"set a 7 60 5\r\nhello\r\nadd a 7 60 5\r\nhello\r\n\
          cas a 7 60 5 18446744073709551615\r\nhello\r\nappend a 7 60 5\r\nhello\r\n\
          decr a 18446744073709551615\r\ntouch a -1\r\ngat 9 a\r\n",
        b"STORED\r\nNOT_STORED\r\nEXISTS\r\nSERVER_ERROR object too large for cache\r\n\
          18446744073709551615\r\nTOUCHED\r\nVALUE a 7 1\r\nx\r\nEND\r\n",
        &[
            Outcome::Stored(0),
            Outcome::NotStored,
            Outcome::Exists,
            Outcome::TooLarge,
            Outcome::Counted(Counted { number: u64::MAX, cas: 0, ttl_s: None }),
            Outcome::Hit(untold()),
            Outcome::Hit(hit(b"x", 7)),
        ],
    );
}

#[test]
fn what_text_has_no_words_for_goes_as_meta() {
    let cas = Set { beside: Beside::Cas, ..set(SetMode::Replace) };
    let made =
        Count { initial: Some((5, ExpTime(0))), beside: Beside::Ttl, ..count(Direction::Up, 2) };
    check(
        Dialect::Text,
        &[
            get(b"a b"),
            read(b"a", Beside::Ttl),
            about(b"a", What::Set(cas)),
            about(b"a", What::Count(made)),
            about(b"a", What::Delete(Delete { invalidate: true, ..Delete::default() })),
            about(b"a", What::Describe),
        ],
        b"mg YSBi v f b\r\nmg a v k f c t\r\nms a 5 F7 T60 MR c\r\nhello\r\n\
          ma a v D2 N0 J5 c t\r\nmd a I\r\nme a\r\n",
        b"VA 1 f0 b\r\nx\r\nVA 1 ka f0 c4 t30 X W\r\ny\r\nHD c11\r\nVA 2 c12 t-1\r\n42\r\nHD\r\n\
          ME a exp=-30 la=2 cas=12 fetch=yes cls=1 size=62\r\n",
        &[
            Outcome::Hit(hit(b"x", 0)),
            Outcome::Hit(Entry {
                cas: 4,
                ttl_s: Some(30),
                stale: true,
                win: Win::Won,
                ..hit(b"y", 0)
            }),
            Outcome::Stored(11),
            Outcome::Counted(Counted { number: 42, cas: 12, ttl_s: None }),
            Outcome::Deleted,
            Outcome::Described(Some(Box::new(crate::cacheproxy::operation::Description {
                ttl_s: Some(30),
                idle_s: 2,
                cas: 12,
                fetched: true,
                class: 1,
                n_bytes: 62,
            }))),
        ],
    );
}

#[test]
fn an_error_line_is_the_outcome_of_its_own_operation_only() {
    check(
        Dialect::Text,
        &[get(b"a"), get(b"b"), about(b"c", What::Describe), get(b"d")],
        b"get a b\r\nme c\r\nget d\r\n",
        b"VALUE a 0 1\r\nx\r\nSERVER_ERROR out of memory writing get response\r\nERROR\r\nEND\r\n",
        &[Outcome::Hit(hit(b"x", 0)), REFUSED, REFUSED, Outcome::Miss],
    );
    let newer = Set { vivify: Some(ExpTime(5)), ..set(SetMode::Set) };
    check(
        Dialect::Meta,
        &[about(b"a", What::Set(newer)), get(b"a")],
        b"ms a 5 F7 T60 N5\r\nhello\r\nmg a v k f\r\n",
        b"CLIENT_ERROR invalid flag\r\nEN ka\r\n",
        &[REFUSED, Outcome::Miss],
    );
}

#[test]
fn a_read_that_is_refused_for_whatever_reason_is_no_outcome_of_a_store() {
    let lines = ["SERVER_ERROR out of memory", "SERVER_ERROR object too large for cache", "ERROR"];
    let touch = Get { value: Wanted::No, touch: Some(ExpTime(9)), ..Get::PLAIN };
    for line in lines {
        let reply = format!("{line}\r\n{line}\r\n{line}\r\n{line}\r\n");
        check(
            Dialect::Text,
            &[get(b"a"), get(b"b"), about(b"a", What::Get(touch)), read(b"a", Beside::All)],
            b"get a b\r\ntouch a 9\r\nmg a v k f c t h l\r\n",
            &reply.as_bytes()[..3 * (line.len() + 2)],
            &[REFUSED, REFUSED, REFUSED, REFUSED],
        );
    }
    for status in [2, 3, 5, 6, 0x20, 0x82] {
        let mut frame = *b"\x81\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0bad";
        frame[7] = status;
        let mut replies = encode(Dialect::Binary, &[get(b"k")], &mut Vec::new());
        assert_eq!(replies.decode(&mut &frame[..]), Ok(Some((0, REFUSED))), "{status}");
    }
}

#[test]
fn a_value_that_is_too_long_is_read_over_and_refused_alone() {
    let of_text =
        b"VALUE a 0 4\r\n1234\r\nVALUE b 0 5\r\n12345\r\nEND\r\nVA 5 kc f0 c1\r\n12345\r\nEND\r\n";
    let meta = Get { beside: Beside::Ttl, ..Get::PLAIN };
    let operations = [get(b"a"), get(b"b"), about(b"c", What::Get(meta)), get(b"d")];
    let mut of_binary = Vec::new();
    for (idx, value) in [(0, &[b'1'; 4][..]), (1, &[b'1'; 600]), (2, b"2")] {
        let n_body = u16::try_from(4 + value.len()).unwrap().to_be_bytes();
        of_binary.extend([0x81, 0, 0, 0, 4, 0, 0, 0, 0, 0, n_body[0], n_body[1], 0, 0, 0, idx]);
        of_binary.extend([&[0; 12], value].concat());
    }
    for n_bytes in 1..of_text.len() {
        let replies = encode(Dialect::Text, &operations, &mut Vec::new()).bounded(4);
        let outcomes = decode_in(replies, of_text, n_bytes).unwrap();
        let wanted = [Outcome::Hit(hit(b"1234", 0)), REFUSED, REFUSED, Outcome::Miss];
        assert_eq!(outcomes, (0..).zip(wanted).collect::<Vec<_>>(), "{n_bytes} at a time");

        let gets = [get(b"a"), get(b"b"), get(b"c")];
        let replies = encode(Dialect::Binary, &gets, &mut Vec::new()).bounded(4);
        let outcomes = decode_in(replies, &of_binary, n_bytes).unwrap();
        let wanted = [Outcome::Hit(hit(b"1111", 0)), REFUSED, Outcome::Hit(hit(b"2", 0))];
        assert_eq!(outcomes, (0..).zip(wanted).collect::<Vec<_>>(), "{n_bytes} at a time");
    }
}

#[test]
fn a_frame_is_told_apart_by_its_index_and_what_binary_cannot_say_is_not_sent() {
    let operations =
        [get(b"k"), about(b"k", What::Describe), about(b"k", What::Set(set(SetMode::Add)))];
    let sent = b"\x80\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0k\
        \x80\x02\0\x01\x08\0\0\0\0\0\0\x0e\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\x3ckhello";
    let found = b"\x81\0\0\0\x04\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x09\0\0\0\x07hi";
    let exists = b"\x81\x02\0\0\0\0\0\x02\0\0\0\x03\0\0\0\x02\0\0\0\0\0\0\0\0bad";
    check(
        Dialect::Binary,
        &operations,
        sent,
        &[&found[..], exists].concat(),
        &[Outcome::Hit(Entry { cas: 9, ..hit(b"hi", 7) }), REFUSED, Outcome::NotStored],
    );
    check_malformed(Dialect::Binary, &operations, &exists[..24], Malformed::OtherKey);
}

#[test]
fn a_key_that_is_too_long_in_base64_is_not_sent() {
    check(
        Dialect::Meta,
        &[get(&[b' '; 188]), get(b"a")],
        b"mg a v k f\r\n",
        b"EN\r\n",
        &[REFUSED, Outcome::Miss],
    );
    let mut out = Vec::new();
    encode(Dialect::Text, &[get(&[b' '; 186])], &mut out);
    assert_eq!(out.len(), b"mg  v f b\r\n".len() + 248);
    for dialect in [Dialect::Text, Dialect::Meta, Dialect::Binary] {
        for bytes in [&[b' '; 186][..], &[b' '; 187], &[b' '; 188], &[b'a'; 250]] {
            let key = Key::new(bytes).unwrap();
            let delete = Operation { key: key.clone(), what: What::Delete(Delete::default()) };
            let mut out = Vec::new();
            encode(dialect, &[delete], &mut out);
            assert_eq!(dialect.can_say(&key), !out.is_empty(), "{dialect:?}, {key:?}");
        }
    }
}

#[test]
fn a_reply_that_cannot_be_due_ends_the_connection() {
    let check = |operation: Operation, replied: &[u8], wanted| {
        check_malformed(Dialect::Text, &[operation], replied, wanted);
    };
    check(get(b"a"), b"VALUE b 0 1\r\n", Malformed::OtherKey);
    check(get(b"a"), b"VALUE a 0 -1\r\n", Malformed::NotAReply);
    check(get(b"a"), b"VALUE a 0 2\r\nx\r\n\r", Malformed::NotAReply);
    check(get(b"a"), b"VALUE a 0 1\r\nx\r\nVALUE a 0 1\r\n", Malformed::OtherKey);
    check(get(b"a"), b"STORED\r\n", Malformed::NotAReply);
    check(get(b"a"), b"END\n", Malformed::NotAReply);
    check(get(b"a"), b"END\r\nE", Malformed::NotAsked);
    check(get(b"a"), &[b'E'; 1_025], Malformed::LineTooLong);
    check(read(b"a", Beside::All), b"VA 1 kb\r\n", Malformed::OtherKey);
    check(read(b"a", Beside::All), b"HD\r\n", Malformed::NotAReply);
    check(about(b"a", What::Describe), b"ME b exp=-1\r\n", Malformed::OtherKey);
    check(about(b"a", What::Count(count(Direction::Up, 1))), b"12x\r\n", Malformed::NotAReply);
    // The server may have read the value as a command.
    let store = about(b"a", What::Set(set(SetMode::Set)));
    check(store.clone(), b"ERROR\r\n", Malformed::NotAReply);
    check(store, b"CLIENT_ERROR bad data chunk\r\n", Malformed::NotAReply);
}

#[test]
fn damaged_replies_are_refused_or_answer_everything_once() {
    let operations = [get(b"a"), get(b"b"), read(b"c", Beside::All), get(b"d")];
    let good =
        b"VALUE a 0 1\r\nx\r\nVALUE b 0 1\r\ny\r\nEND\r\nVA 1 kc f0 c4 t30 h1 l0\r\ny\r\nEND\r\n";
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut below = |end: usize| usize::try_from(random.next_u64()).unwrap() % end;
    let (mut n_refused, mut n_answered) = (0, 0);
    for _case in 0..20_000 {
        let mut bytes = good.to_vec();
        for _damage in 0..=below(3) {
            let at = below(bytes.len());
            match below(3) {
                0 => bytes[at] = u8::try_from(below(256)).unwrap(),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\r\n 019-"[below(7)]),
            }
        }
        let mut replies = encode(Dialect::Text, &operations, &mut Vec::new());
        let (mut input, mut n_outcomes) = (&bytes[..], 0);
        let end = loop {
            match replies.decode(&mut input) {
                Ok(Some((idx, _outcome))) => {
                    assert_eq!(idx, n_outcomes);
                    n_outcomes += 1;
                }
                end => break end,
            }
        };
        assert_eq!(replies.n_due(), operations.len() - n_outcomes);
        if end.is_err() { n_refused += 1 } else { n_answered += 1 }
    }
    assert!(n_refused > 1_000 && n_answered > 1_000, "{n_refused} refused, {n_answered} answered");
}
