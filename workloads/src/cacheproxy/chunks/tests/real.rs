//! Values beyond a server's limit, pieces that vanish, and servers that fail half-way.

use forebay::{now, sleep};
use futures_util::future::join_all;

use super::*;
use crate::cacheproxy::memcached::Memcached;
use crate::cacheproxy::operation::{Count, Direction, Entry, Win};

const LARGE_BYTES: usize = 3_000_000;

/// The metadata that stands under a key.
fn metadata_at(process: &Process, text: &str) -> Metadata {
    let item = process.ask(get(text));
    match Form::of(value(&item).unwrap(), u32::MAX) {
        Form::Cut(metadata) => metadata,
        other => panic!("{text} is not in pieces: {other:?}"),
    }
}

/// The key of a piece of what stands under a key.
fn piece_of(process: &Process, text: &str, idx: u32) -> Key {
    metadata_at(process, text).piece_key(idx)
}

/// How many pieces of this metadata servers have.
fn n_pieces_left(process: &Process, metadata: &Metadata) -> usize {
    let read = |idx| Operation { key: metadata.piece_key(idx), what: What::Get(Get::PLAIN) };
    (0..metadata.n_pieces()).filter(|idx| value(&process.ask(read(*idx))).is_some()).count()
}

fn remove(process: &Process, key: Key) {
    let what = What::Delete(Delete::default());
    assert_eq!(process.ask(Operation { key, what }), Outcome::Deleted);
}

/// Stores a large value and takes one of its pieces away.
fn break_value(process: &Process, text: &str) {
    assert_eq!(process.apply(set(text, bytes(5_000))), Outcome::Stored(0));
    remove(process, piece_of(process, text, 3));
}

#[test]
fn values_beyond_the_limit_of_every_server_are_stored_read_and_appended_to() {
    let servers: Option<Vec<_>> = (0..3).map(|_| Memcached::start()).collect();
    let Some(servers) = servers else { return };
    let addresses: Vec<_> = servers.iter().map(Memcached::address).collect();
    let process = Process::start(&addresses);
    let seen = process.run(|downstream| async move {
        let config = ChunksConfig { value_bytes_max: 3_500_000, ..ChunksConfig::default() };
        let tier = Chunked::new(downstream, config, 1, this_shard());
        assert_eq!(tier.apply(set("a", bytes(LARGE_BYTES))).await, Outcome::Stored(0));
        let whole = tier.apply(get("a")).await;
        assert_eq!(value(&whole), Some(&bytes(LARGE_BYTES)[..]));
        let longer = store(SetMode::Append, "a", vec![b'x'; 500_000]);
        assert_eq!(tier.apply(longer).await, Outcome::Stored(0));
        let beyond = store(SetMode::Append, "a", "y");
        assert_eq!(tier.apply(beyond).await, Outcome::NotStored);
        tier.apply(get("a")).await
    });
    let longer = [bytes(LARGE_BYTES), vec![b'x'; 500_000]].concat();
    assert_eq!(value(&seen), Some(&longer[..]));
    process.stop();
}

#[test]
fn a_value_beyond_the_limit_is_refused_and_only_a_plain_set_takes_the_old_one_along() {
    let Some(server) = Memcached::start() else { return };
    let process = Process::start(&[server.address()]);
    let beyond = || bytes(small_pieces().value_bytes_max as usize + 1);
    assert_eq!(process.apply(set("a", bytes(5_000))), Outcome::Stored(0));
    let modes = [SetMode::Add, SetMode::Replace, SetMode::Append, SetMode::Prepend];
    for mode in modes {
        assert_eq!(process.apply(store(mode, "a", beyond())), Outcome::TooLarge);
        assert_eq!(value(&process.apply(get("a"))), Some(&bytes(5_000)[..]), "{mode:?}");
    }
    let old = metadata_at(&process, "a");
    assert_eq!(process.apply(set("a", beyond())), Outcome::TooLarge);
    assert_eq!(process.apply(get("a")), Outcome::Miss);
    assert_eq!(n_pieces_left(&process, &old), 0);
    process.stop();
}

#[test]
fn pieces_of_what_is_replaced_removed_or_not_stored_do_not_stay() {
    let Some(server) = Memcached::start() else { return };
    let process = Process::start(&[server.address()]);
    process.apply(set("a", bytes(5_000)));
    let first = metadata_at(&process, "a");
    assert_eq!(n_pieces_left(&process, &first), 10);
    process.apply(store(SetMode::Append, "a", "x"));
    let second = metadata_at(&process, "a");
    assert_eq!((n_pieces_left(&process, &first), n_pieces_left(&process, &second)), (0, 10));
    // The third write's token is not known to anybody; but nothing else is added to what there is.
    let before = n_items(&server);
    assert_eq!(process.apply(store(SetMode::Add, "a", bytes(9_000))), Outcome::NotStored);
    assert_eq!(n_items(&server), before);
    let what = What::Delete(Delete::default());
    assert_eq!(process.apply(Operation { key: key("a"), what }), Outcome::Deleted);
    assert_eq!(n_items(&server), 0);
    process.stop();
}

/// How many items a server has, as it counts them itself.
fn n_items(server: &Memcached) -> u64 {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"stats\r\n").unwrap();
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut counts = lines.filter_map(|line| line.strip_prefix("STAT curr_items ")?.parse().ok());
    counts.next().unwrap()
}

#[test]
fn a_value_with_a_piece_lost_or_exchanged_is_a_miss() {
    let Some(server) = Memcached::start() else { return };
    let process = Process::start(&[server.address()]);
    break_value(&process, "a");
    assert_eq!(process.apply(get("a")), Outcome::Miss);
    let touch = Get { value: Wanted::No, touch: Some(ExpTime(100)), ..Get::PLAIN };
    let touch = Operation { key: key("a"), what: What::Get(touch) };
    assert_eq!(process.apply(touch), Outcome::Miss);
    assert_eq!(process.apply(store(SetMode::Append, "a", "x")), Outcome::NotStored);

    process.apply(set("a", bytes(5_000)));
    let (first, second) = (piece_of(&process, "a", 1), piece_of(&process, "a", 2));
    let piece = process.ask(Operation { key: first, what: What::Get(Get::PLAIN) });
    let exchanged = Set::new(SetMode::Set, 0, ExpTime(0), value(&piece).unwrap().to_vec().into());
    process.ask(Operation { key: second, what: What::Set(exchanged) });
    assert_eq!(process.apply(get("a")), Outcome::Miss);
    process.stop();
}

#[test]
fn what_is_lost_is_added_counted_and_won_anew_like_what_was_never_there() {
    let Some(server) = Memcached::start() else { return };
    let process = Process::start(&[server.address()]);
    break_value(&process, "a");
    assert_eq!(process.apply(store(SetMode::Add, "a", bytes(6_000))), Outcome::Stored(0));
    assert_eq!(value(&process.apply(get("a"))), Some(&bytes(6_000)[..]));

    break_value(&process, "b");
    let count = Count {
        direction: Direction::Up,
        delta: 1,
        initial: Some((5, ExpTime(0))),
        if_cas: None,
        touch: None,
        beside: Beside::Flags,
    };
    let counting = Operation { key: key("b"), what: What::Count(count) };
    assert!(matches!(process.apply(counting), Outcome::Counted(counted) if counted.number == 5));

    break_value(&process, "c");
    let vivify = Get { vivify: Some(ExpTime(100)), beside: Beside::All, ..Get::PLAIN };
    let winning = || Operation { key: key("c"), what: What::Get(vivify) };
    let win = |outcome| match outcome {
        Outcome::Hit(Entry { win, value, .. }) if value.is_empty() => win,
        other => panic!("{other:?}"),
    };
    assert_eq!(win(process.apply(winning())), Win::Won);
    assert_eq!(win(process.apply(winning())), Win::Sent);

    break_value(&process, "d");
    let vivify = Some(ExpTime(100));
    let begin = Set { vivify, ..Set::new(SetMode::Append, 0, ExpTime(0), "x".into()) };
    let begin = Operation { key: key("d"), what: What::Set(begin) };
    assert_eq!(process.apply(begin), Outcome::Stored(0));
    assert_eq!(value(&process.apply(get("d"))), Some(&b"x"[..]));
    process.stop();
}

#[test]
fn touched_pieces_live_as_long_as_their_value() {
    let Some(server) = Memcached::start() else { return };
    let process = Process::start(&[server.address()]);
    let ttl_s = |key: Key| {
        let get = Get { beside: Beside::Ttl, ..Get::PLAIN };
        match process.ask(Operation { key, what: What::Get(get) }) {
            Outcome::Hit(entry) => entry.ttl_s,
            other => panic!("{other:?}"),
        }
    };
    let short = Set::new(SetMode::Set, 0, ExpTime(100), bytes(5_000).into());
    process.apply(Operation { key: key("a"), what: What::Set(short) });
    assert!(ttl_s(piece_of(&process, "a", 9)).is_some_and(|ttl_s| (100..=160).contains(&ttl_s)));
    for (wanted, seconds) in [(Wanted::No, 1_000), (Wanted::Yes, 2_000)] {
        let touch = Get { value: wanted, touch: Some(ExpTime(seconds)), ..Get::PLAIN };
        process.apply(Operation { key: key("a"), what: What::Get(touch) });
        let of_value = ttl_s(key("a")).unwrap();
        assert!(of_value > 900, "{of_value}");
        for idx in 0..10 {
            assert!(ttl_s(piece_of(&process, "a", idx)).unwrap() >= of_value);
        }
    }
    // What is written anew keeps its time.
    process.apply(store(SetMode::Append, "a", "x"));
    assert!(ttl_s(key("a")).is_some_and(|ttl_s| (1_900..=2_000).contains(&ttl_s)));
    process.stop();
}

#[test]
fn a_write_that_fails_half_way_leaves_the_old_value() {
    let (Some(stays), Some(stops)) = (Memcached::start(), Memcached::start()) else { return };
    let process = Process::start(&[stays.address(), stops.address()]);
    assert_eq!(process.apply(set("a", bytes(20_000))), Outcome::Stored(0));
    stops.stop();
    assert!(matches!(process.apply(set("a", vec![b'x'; 20_000])), Outcome::Failed(_)));
    assert!(matches!(process.apply(get("a")), Outcome::Failed(_)));
    stops.go_on();
    let seen = process.run(|downstream| async move {
        let tier = chunked(downstream, 2);
        let give_up_at = now().after(Duration::from_secs(20));
        loop {
            let outcome = tier.apply(get("a")).await;
            if !matches!(outcome, Outcome::Failed(_)) || now() >= give_up_at {
                return outcome;
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(value(&seen), Some(&bytes(20_000)[..]));
    process.stop();
}

#[test]
fn a_touch_that_reaches_the_metadata_and_not_a_piece_is_not_told_as_not_sent() {
    let (Some(stays), Some(goes)) = (Memcached::start(), Memcached::start()) else { return };
    let process = Process::start(&[stays.address(), goes.address()]);
    // Whose metadata stays, as it tells by its answer when the other has gone.
    let keys: Vec<String> = (0..20).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        assert_eq!(process.apply(set(key, bytes(20_000))), Outcome::Stored(0));
    }
    drop(goes);
    let touch = |wanted| Get { value: wanted, touch: Some(ExpTime(100)), ..Get::PLAIN };
    let mut n_touched = 0;
    for key_text in &keys {
        let has_stayed = value(&process.ask(get(key_text))).is_some();
        for wanted in [Wanted::No, Wanted::Yes] {
            let touch = Operation { key: key(key_text), what: What::Get(touch(wanted)) };
            let touched = process.apply(touch);
            if has_stayed {
                assert_eq!(touched, Outcome::Failed(Failure::Unanswered), "{key_text}");
                n_touched += 1;
            } else {
                assert!(matches!(touched, Outcome::Failed(_)), "{key_text}: {touched:?}");
            }
        }
    }
    assert!((1..40).contains(&n_touched), "{n_touched}");
    process.stop();
}

#[test]
fn what_one_process_appends_at_once_is_there_in_the_order_of_the_calls() {
    let Some(server) = Memcached::start() else { return };
    let process = Process::start(&[server.address()]);
    process.apply(set("log", ""));
    let line = |number: u32| number.to_le_bytes().repeat(16);
    let outcomes = process.run(move |downstream| async move {
        let tier = chunked(downstream, 1);
        let append = |number| tier.apply(store(SetMode::Append, "log", line(number)));
        join_all((0..40).map(append)).await
    });
    assert_eq!(outcomes, vec![Outcome::Stored(0); 40]);
    let lines: Vec<u8> = (0..40).flat_map(line).collect();
    assert_eq!(value(&process.apply(get("log"))), Some(&lines[..]));
    process.stop();
}

#[test]
fn a_read_between_two_writes_of_its_process_finds_what_the_first_wrote() {
    let Some(server) = Memcached::start() else { return };
    let process = Process::start(&[server.address()]);
    let large = |number: u8| vec![number; 5_000];
    let outcomes = process.run(move |downstream| async move {
        let tier = chunked(downstream, 1);
        let write_and_read = |number| {
            let operations = [set("hot", large(number)), get("hot"), get("hot")];
            operations.map(|operation| tier.apply(operation))
        };
        join_all((0..40).flat_map(write_and_read)).await
    });
    for (number, of_write) in (0..).zip(outcomes.chunks(3)) {
        assert_eq!(of_write[0], Outcome::Stored(0));
        for read in &of_write[1..] {
            assert!(value(read) == Some(&large(number)[..]), "{number}");
        }
    }
    process.stop();
}
