//! Random batches against the real memcached, in every dialect: ordinary operations held against a
//! model of the items, and whatever a client may ask, after which all must still be in step.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::mem::discriminant;
use std::net::TcpStream;

use super::*;
use crate::cacheproxy::memcached::Memcached;
use crate::cacheproxy::operation::CountsAsUse;

const KEYS: [&[u8]; 4] = [b"plain", b"with blank", b"\r\n\xff", b"other"];

/// What the model knows of the items.
type Model = BTreeMap<Key, Vec<u8>>;

/// A random operation.
fn operation(random: &mut impl FnMut(usize) -> usize) -> Operation {
    let key = KEYS[random(KEYS.len())];
    let n_bytes = [0, 1, 100, 70_000][random(4)];
    let set = |mode| {
        let value = Bytes::from(vec![b'1'; n_bytes]);
        What::Set(Set::new(mode, 5, ExpTime(0), value))
    };
    let beside = [Beside::Flags, Beside::Cas][random(2)];
    let what = match random(8) {
        0 | 1 => What::Get(Get { beside, ..Get::PLAIN }),
        2 => What::Get(Get { touch: Some(ExpTime(100)), beside, ..Get::PLAIN }),
        3 => set(SetMode::Set),
        4 => set(SetMode::Add),
        5 => set(SetMode::Replace),
        6 => What::Delete(Delete::default()),
        _ => What::Count(Count { beside, ..count(Direction::Up, 1) }),
    };
    about(key, what)
}

/// What has to come of an operation, the cas left open.
fn apply(model: &mut Model, operation: &Operation) -> Outcome {
    let key = &operation.key;
    match &operation.what {
        What::Get(_) => match model.get(key) {
            Some(value) => Outcome::Hit(Entry {
                value: Bytes::from(value.clone()),
                value_bytes: u32::try_from(value.len()).unwrap(),
                ..untold()
            }),
            None => Outcome::Miss,
        },
        What::Set(set) => {
            let applies = match set.mode {
                SetMode::Add => !model.contains_key(key),
                SetMode::Replace => model.contains_key(key),
                _ => true,
            };
            if !applies {
                return Outcome::NotStored;
            }
            model.insert(key.clone(), set.value.to_vec());
            Outcome::Stored(0)
        }
        What::Delete(_) => model.remove(key).map_or(Outcome::Miss, |_value| Outcome::Deleted),
        What::Count(_) => {
            let Some(value) = model.get_mut(key) else { return Outcome::Miss };
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
            let Some(number) = number else { return Outcome::NotANumber };
            *value = (number + 1).to_string().into_bytes();
            Outcome::Counted(Counted { number: number + 1, cas: 0, ttl_s: None })
        }
        What::Describe => unreachable!("not among the random ones"),
    }
}

/// The outcome without what the model leaves open.
fn bare(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Hit(entry) => {
            let (value, value_bytes) = (entry.value, entry.value_bytes);
            Outcome::Hit(Entry { value, value_bytes, ..untold() })
        }
        Outcome::Stored(_cas) => Outcome::Stored(0),
        Outcome::Counted(counted) => {
            Outcome::Counted(Counted { number: counted.number, cas: 0, ttl_s: None })
        }
        other => other,
    }
}

fn ask(stream: &mut TcpStream, dialect: Dialect, operations: &[Operation]) -> Vec<Outcome> {
    let mut out = Vec::new();
    let mut replies = encode(dialect, operations, &mut out);
    let mut writer = stream.try_clone().unwrap();
    let mut outcomes = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&out).unwrap());
        let mut buffer = [0; 4_096];
        while !replies.is_done() {
            let n_bytes = stream.read(&mut buffer).unwrap();
            assert!(n_bytes > 0, "the server hung up on {operations:?}");
            let mut input = &buffer[..n_bytes];
            while let Some((idx, outcome)) = replies.decode(&mut input).unwrap() {
                assert_eq!(idx, outcomes.len());
                outcomes.push(outcome);
            }
        }
    });
    outcomes
}

#[test]
fn a_real_memcached_does_what_is_asked_in_every_dialect() {
    let Some(server) = Memcached::start() else { return };
    for dialect in [Dialect::Text, Dialect::Meta, Dialect::Binary] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let flush: Vec<_> =
            KEYS.iter().map(|key| about(key, What::Delete(Delete::default()))).collect();
        ask(&mut stream, dialect, &flush);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let mut below = |end: usize| usize::try_from(random.next_u64()).unwrap() % end;
        let mut model = Model::new();
        for _batch in 0..60 {
            let n_operations = 1 + below(40);
            let operations: Vec<_> = (0..n_operations).map(|_| operation(&mut below)).collect();
            let outcomes = ask(&mut stream, dialect, &operations);
            for (operation, outcome) in operations.iter().zip(outcomes) {
                let wanted = apply(&mut model, operation);
                assert_eq!(bare(outcome), wanted, "{dialect:?} {operation:?}");
            }
        }
    }
}

#[test]
fn a_real_memcached_tells_what_stands_beside_a_value() {
    let Some(server) = Memcached::start() else { return };
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let store = Set { beside: Beside::Cas, ..set(SetMode::Set) };
    let told = ask(
        &mut stream,
        Dialect::Text,
        &[
            about(b"un clean", What::Set(store)),
            read(b"un clean", Beside::All),
            about(b"un clean", What::Delete(Delete { invalidate: true, ..Delete::default() })),
            read(b"un clean", Beside::All),
            read(b"un clean", Beside::All),
            get(b"un clean"),
            about(b"nothing", What::Describe),
        ],
    );
    let [
        Outcome::Stored(cas),
        Outcome::Hit(first),
        Outcome::Deleted,
        Outcome::Hit(won),
        Outcome::Hit(sent),
        ..,
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert!(*cas > 0 && first.cas == *cas && !first.fetched && first.win == Win::None, "{first:?}");
    assert_eq!((first.flags, &first.value[..]), (7, &b"hello"[..]));
    assert!(first.ttl_s.is_some_and(|left| (58..=60).contains(&left)), "{first:?}");
    assert!(won.stale && won.win == Win::Won && won.fetched && won.cas > *cas, "{won:?}");
    assert_eq!(sent.win, Win::Sent);
    assert_eq!(told[6], Outcome::Described(None));
}

/// Any operation that a client can bring about, with values from the edges.
fn any_operation(random: &mut impl FnMut(usize) -> usize) -> Operation {
    let keys: [&[u8]; 5] = [b"k", b"un clean", b"\r\nflush_all\r\n", &[b' '; 250], &[b'k'; 250]];
    let key = keys[random(5)];
    let edges = [i32::MIN, -1, 0, 1, 2_592_000, 2_592_001, i32::MAX];
    let seconds = |random: &mut dyn FnMut(usize) -> usize| ExpTime(edges[random(7)]);
    let some_seconds =
        |random: &mut dyn FnMut(usize) -> usize| (random(3) == 0).then(|| seconds(random));
    let number = |random: &mut dyn FnMut(usize) -> usize| [0, 1, u64::MAX][random(3)];
    let some_number =
        |random: &mut dyn FnMut(usize) -> usize| (random(3) == 0).then(|| number(random));
    let beside = [Beside::Flags, Beside::Cas, Beside::Ttl, Beside::All][random(4)];
    let what = match random(5) {
        0 => What::Get(Get {
            value: [Wanted::No, Wanted::Yes][random(2)],
            beside,
            touch: some_seconds(random),
            vivify: some_seconds(random),
            recache_below_s: some_seconds(random).map(|seconds| seconds.0),
            counts_as_use: [CountsAsUse::No, CountsAsUse::Yes][random(2)],
        }),
        1 => {
            let modes =
                [SetMode::Set, SetMode::Add, SetMode::Replace, SetMode::Append, SetMode::Prepend];
            let values = [&b""[..], b"1", b"\r\nquit\r\n", &[b'v'; 2 << 20]];
            What::Set(Set {
                mode: modes[random(5)],
                flags: [0, u32::MAX][random(2)],
                expires: seconds(random),
                value: Bytes::from_static(if random(20) == 0 {
                    values[3]
                } else {
                    values[random(3)]
                }),
                if_cas: some_number(random),
                invalidate: random(3) == 0,
                vivify: some_seconds(random),
                beside,
            })
        }
        2 => What::Delete(Delete {
            if_cas: some_number(random),
            invalidate: random(2) == 0,
            touch: some_seconds(random),
        }),
        3 => What::Count(Count {
            direction: [Direction::Up, Direction::Down][random(2)],
            delta: number(random),
            initial: (random(2) == 0).then(|| (number(random), seconds(random))),
            if_cas: some_number(random),
            touch: some_seconds(random),
            beside,
        }),
        _ => What::Describe,
    };
    about(key, what)
}

#[test]
fn nothing_that_a_client_asks_puts_a_real_memcached_out_of_step() {
    let Some(server) = Memcached::start() else { return };
    for dialect in [Dialect::Text, Dialect::Meta, Dialect::Binary] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let mut random = Xoshiro256PlusPlus::seed_from_u64(11);
        let mut below = |end: usize| usize::try_from(random.next_u64()).unwrap() % end;
        let store = set(SetMode::Set);
        ask(&mut stream, dialect, &[about(b"last", What::Set(store))]);
        let mut kinds = Vec::new();
        for _batch in 0..200 {
            let mut operations: Vec<_> = (0..20).map(|_| any_operation(&mut below)).collect();
            operations.push(get(b"last"));
            let outcomes = ask(&mut stream, dialect, &operations);
            assert_eq!(bare(outcomes[20].clone()), Outcome::Hit(hit(b"hello", 0)), "{dialect:?}");
            for outcome in &outcomes {
                let kind = discriminant(outcome);
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
        }
        assert!(kinds.len() >= 8, "{dialect:?} saw {} kinds of outcomes", kinds.len());
    }
}
