//! Random operations on the store and on the real memcached: the same outcomes, with times compared
//! to a few seconds and cas numbers not at all.
//!
//! Skipped, saying so, where no `memcached` is on the PATH. All goes by the meta protocol, whose
//! answers tell the most. What 1.6.18 does not know is left out (`Words::Of1_6_18`), and so are
//! seconds since the last use, which memcached only notes for some uses.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::super::super::operation::{
    Count, Counted, CountsAsUse, Delete, Description, Direction, Entry, ExpTime, Get, Operation,
    Outcome, Set, SetMode, Wanted, What, Win,
};
use super::super::{Now, Options, Store};
use super::drafts::{Cas, Draft, Words};
use super::{Key, SEED, set};

/// A server of our own, which ends with this.
struct Server {
    child: Child,
    replies: BufReader<UnixStream>,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours to end");
        self.child.wait().expect("it has ended");
    }
}

impl Server {
    /// `None` where there is none to start.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("memcached");
        let mut command = Command::new("memcached");
        // With its modern lists a thread in the background may hold an item for a moment, and a
        // number that is held does not keep its room.
        command.args(["-u", "root", "-t", "1", "-o", "no_modern", "-s"]);
        command.arg(&path).stderr(Stdio::null());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("skipped: no memcached on the PATH");
                return None;
            }
            Err(error) => panic!("memcached does not start: {error}"),
        };
        let socket = connect(&path);
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        Some(Self { child, replies: BufReader::new(socket), _folder: folder })
    }

    fn ask(&mut self, request: &[u8]) -> Vec<String> {
        self.replies.get_mut().write_all(request).expect("it takes what is sent");
        let mut line = String::new();
        self.replies.read_line(&mut line).expect("it answers");
        line.trim_end().split(' ').map(str::to_owned).collect()
    }

    fn value(&mut self, value_bytes: usize) -> Bytes {
        let mut value = vec![0; value_bytes + "\r\n".len()];
        self.replies.read_exact(&mut value).expect("the value follows");
        value.truncate(value_bytes);
        Bytes::from(value)
    }

    fn cas_of(&mut self, key: &str) -> Option<u64> {
        // Not `mg`, which might win a stale item.
        let answer = self.ask(format!("me {key}\r\n").as_bytes());
        answer.iter().find_map(|told| told.strip_prefix("cas=")?.parse().ok())
    }

    fn apply(&mut self, operation: &Operation) -> Outcome {
        let key = str::from_utf8(operation.key.as_bytes()).expect("keys of tests are texts");
        match &operation.what {
            What::Get(get) => self.get(key, get),
            What::Set(set) => self.set(key, set),
            What::Delete(delete) => self.delete(key, delete),
            What::Count(count) => self.count(key, count),
            What::Describe => self.describe(key),
        }
    }

    fn get(&mut self, key: &str, get: &Get) -> Outcome {
        let mut line = format!("mg {key}");
        line.push_str(&flag("T", get.touch.map(|sent| sent.0)));
        line.push_str(&flag("N", get.vivify.map(|sent| sent.0)));
        line.push_str(&flag("R", get.recache_below_s));
        line.push_str(if get.counts_as_use == CountsAsUse::No { " u" } else { "" });
        line.push_str(if get.value == Wanted::Yes { " v" } else { "" });
        let answer = self.ask(format!("{line} c f h s t\r\n").as_bytes());
        match answer[0].as_str() {
            "EN" => return Outcome::Miss,
            "VA" | "HD" => {}
            other => panic!("{line}: {other}"),
        }
        let value = match answer[0].as_str() {
            "VA" => self.value(answer[1].parse().expect("a size")),
            _ => Bytes::new(),
        };
        let has = |token: &str| answer.iter().skip(1).any(|told| told == token);
        Outcome::Hit(Entry {
            value,
            value_bytes: number(&answer, 's').expect("a size").try_into().expect("a small one"),
            flags: number(&answer, 'f').expect("flags").try_into().expect("32 bits"),
            cas: 0,
            ttl_s: ttl(&answer),
            idle_s: 0,
            fetched: number(&answer, 'h').expect("fetched or not") == 1,
            stale: has("X"),
            win: match (has("W"), has("Z")) {
                (true, _) => Win::Won,
                (_, true) => Win::Sent,
                _ => Win::None,
            },
        })
    }

    fn set(&mut self, key: &str, set: &Set) -> Outcome {
        let mode = match set.mode {
            SetMode::Set => 'S',
            SetMode::Add => 'E',
            SetMode::Replace => 'R',
            SetMode::Append => 'A',
            SetMode::Prepend => 'P',
        };
        let mut line = format!("ms {key} {} M{mode} F{} ", set.value.len(), set.flags);
        line.push_str(&format!("T{}", set.expires.0));
        line.push_str(&flag("C", set.if_cas));
        line.push_str(if set.invalidate { " I\r\n" } else { "\r\n" });
        let request = [line.as_bytes(), &set.value, b"\r\n"].concat();
        let answer = self.ask(&request);
        match answer[0].as_str() {
            "HD" => Outcome::Stored(0),
            "NS" => Outcome::NotStored,
            "EX" => Outcome::Exists,
            "NF" => Outcome::NotFound,
            "SERVER_ERROR" if answer.contains(&"large".to_owned()) => Outcome::TooLarge,
            _ => panic!("{line}: {answer:?}"),
        }
    }

    fn delete(&mut self, key: &str, delete: &Delete) -> Outcome {
        let mut line = format!("md {key}");
        line.push_str(&flag("C", delete.if_cas));
        line.push_str(if delete.invalidate { " I" } else { "" });
        line.push_str(&flag("T", delete.touch.map(|sent| sent.0)));
        let answer = self.ask(format!("{line}\r\n").as_bytes());
        match answer[0].as_str() {
            "HD" => Outcome::Deleted,
            "NF" => Outcome::Miss,
            "EX" => Outcome::Exists,
            _ => panic!("{line}: {answer:?}"),
        }
    }

    fn count(&mut self, key: &str, count: &Count) -> Outcome {
        let mode = match count.direction {
            Direction::Up => 'I',
            Direction::Down => 'D',
        };
        let mut line = format!("ma {key} M{mode} D{}", count.delta);
        line.push_str(&flag("C", count.if_cas));
        line.push_str(&flag("T", count.touch.map(|sent| sent.0)));
        if let Some((first, sent)) = count.initial {
            line.push_str(&format!(" N{} J{first}", sent.0));
        }
        let answer = self.ask(format!("{line} t v\r\n").as_bytes());
        match answer[0].as_str() {
            "VA" => {
                let digits = self.value(answer[1].parse().expect("a size"));
                let digits = str::from_utf8(&digits).expect("digits");
                let number = digits.parse().expect("a number");
                Outcome::Counted(Counted { number, cas: 0, ttl_s: ttl(&answer) })
            }
            "NF" => Outcome::Miss,
            "EX" => Outcome::Exists,
            "CLIENT_ERROR" if answer.contains(&"non-numeric".to_owned()) => Outcome::NotANumber,
            _ => panic!("{line}: {answer:?}"),
        }
    }

    fn describe(&mut self, key: &str) -> Outcome {
        let answer = self.ask(format!("me {key}\r\n").as_bytes());
        if answer[0] == "EN" {
            return Outcome::Described(None);
        }
        let named = |name: &str| {
            let told = answer.iter().find_map(|told| told.strip_prefix(name));
            told.unwrap_or_else(|| panic!("no {name} in {answer:?}")).to_owned()
        };
        Outcome::Described(Some(Box::new(Description {
            ttl_s: match named("exp=").parse::<i64>().expect("seconds") {
                -1 => None,
                // 1.6.18 has the difference the wrong way round.
                negative => Some(negative.unsigned_abs().try_into().expect("seconds")),
            },
            idle_s: 0,
            cas: 0,
            fetched: named("fetch=") == "yes",
            class: 0,
            n_bytes: 0,
        })))
    }
}

/// The server makes its socket a moment after it has started.
fn connect(path: &std::path::Path) -> UnixStream {
    const TRIES: u32 = 2_000;
    for _ in 0..TRIES {
        match UnixStream::connect(path) {
            Ok(socket) => return socket,
            Err(_) => wait_a_moment(),
        }
    }
    panic!("memcached has not opened its socket");
}

/// A process of somebody else's has no clock that a test could advance.
fn wait_a_moment() {
    let (reader, _writer) = UnixStream::pair().expect("two sockets");
    reader.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
    (&reader).read(&mut [0]).expect_err("nobody writes");
}

fn flag<T: std::fmt::Display>(name: &str, value: Option<T>) -> String {
    value.map(|value| format!(" {name}{value}")).unwrap_or_default()
}

/// The number behind a letter in an answer.
fn number(answer: &[String], letter: char) -> Option<u64> {
    answer.iter().skip(1).find_map(|told| told.strip_prefix(letter)?.parse().ok())
}

/// What is left; memcached's count wraps around for what has expired by the very request.
fn ttl(answer: &[String]) -> Option<u32> {
    let told = answer.iter().skip(1).find_map(|told| told.strip_prefix('t'));
    match told.expect("what is left").parse::<i64>().expect("a number") {
        -1 => None,
        wrapped if wrapped > i64::from(i32::MAX) => Some(0),
        left => Some(left.try_into().expect("seconds")),
    }
}

/// Leaves out what need not be equal.
fn normal(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Hit(entry) => Outcome::Hit(Entry { cas: 0, idle_s: 0, ttl_s: None, ..entry }),
        Outcome::Stored(_) => Outcome::Stored(0),
        Outcome::Counted(counted) => Outcome::Counted(Counted { cas: 0, ttl_s: None, ..counted }),
        Outcome::Described(Some(told)) => Outcome::Described(Some(Box::new(Description {
            ttl_s: None,
            idle_s: 0,
            cas: 0,
            class: 0,
            n_bytes: 0,
            ..*told
        }))),
        other => other,
    }
}

fn ttl_of(outcome: &Outcome) -> Option<u32> {
    match outcome {
        Outcome::Hit(entry) => entry.ttl_s,
        Outcome::Counted(counted) => counted.ttl_s,
        Outcome::Described(Some(told)) => told.ttl_s,
        _ => None,
    }
}

/// Both never expire, or at about the same time.
fn same_ttl(ours: Option<u32>, theirs: Option<u32>) -> bool {
    const APART_S_MAX: u32 = 3;
    match (ours, theirs) {
        (None, None) => true,
        (Some(ours), Some(theirs)) => ours.abs_diff(theirs) <= APART_S_MAX,
        _ => false,
    }
}

fn system_now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Now(since.as_secs().try_into().expect("before 2106"))
}

/// What 1.6.18 does otherwise, and we do not draw: its `ms` drops the item for any mode when the new
/// one is too large, its text commands only for `set`.
fn too_large(name: &str) -> Operation {
    let value = Bytes::from(vec![b'v'; 1 << 20]);
    super::on(name, What::Set(Set::new(SetMode::Set, 0, ExpTime(0), value)))
}

/// Of the operations on a key whose outcomes differ, the last so many are told.
const STORIES_TOLD: usize = 5;

/// The first difference in so many operations, if there is one; `distort` may plant one.
fn run(
    server: &mut Server,
    seed: u64,
    n_operations: u32,
    distort: fn(Outcome) -> Outcome,
) -> Result<(), String> {
    let mut store = Store::new(Options::new(64 << 20, seed));
    // So that the cas 1 is older than any.
    for first in [set("first", ""), set("first", "")] {
        server.apply(&first);
        store.apply(system_now(), &first);
    }
    let mut told: BTreeMap<Key, Vec<String>> = BTreeMap::new();
    let mut rng = fastrand::Rng::with_seed(seed);
    for step in 0..n_operations {
        if rng.u16(..500) == 0 {
            server.ask(b"flush_all\r\n");
            store.flush_all(system_now(), ExpTime(0));
        }
        let draft = Draft::random(&mut rng, 8, Words::Of1_6_18);
        let name = str::from_utf8(draft.key().as_bytes()).expect("a text");
        let (their_cas, our_cas) = match draft.cas {
            Cas::Current => (server.cas_of(name), our_cas_of(&mut store, draft.key())),
            _ => (None, None),
        };
        let (mut theirs, mut ours) = (draft.operation(their_cas), draft.operation(our_cas));
        if rng.u16(..1_000) == 0 {
            (theirs, ours) = (too_large(name), too_large(name));
        }
        let wanted = server.apply(&theirs);
        let found = distort(store.apply(system_now(), &ours));
        let same = same_ttl(ttl_of(&found), ttl_of(&wanted));
        let story = format!("{ours:?}\ncame to {found:?}\nand to  {wanted:?}\n");
        told.entry(draft.key().clone()).or_default().push(story);
        if !same || normal(found) != normal(wanted) {
            let last = told[draft.key()].rchunks(STORIES_TOLD).next().unwrap_or_default();
            return Err(format!("seed {seed}, step {step}:\n{}", last.concat()));
        }
    }
    server.ask(b"flush_all\r\n");
    Ok(())
}

fn our_cas_of(store: &mut Store, key: &Key) -> Option<u64> {
    let operation = Operation { key: key.clone(), what: What::Describe };
    match store.apply(system_now(), &operation) {
        Outcome::Described(told) => told.map(|told| told.cas),
        other => panic!("{other:?}"),
    }
}

#[test]
fn random_operations_come_to_what_memcached_says() {
    let Some(mut server) = Server::start() else { return };
    for seed in SEED..SEED + 5 {
        let run = run(&mut server, seed, 4_000, |outcome| outcome);
        run.unwrap_or_else(|difference| panic!("{difference}"));
    }
}

#[test]
fn the_comparison_with_memcached_finds_planted_faults() {
    let Some(mut server) = Server::start() else { return };
    let faults: [fn(Outcome) -> Outcome; 3] = [
        |outcome| match outcome {
            Outcome::Exists => Outcome::NotStored,
            other => other,
        },
        |outcome| match outcome {
            Outcome::Hit(entry) => Outcome::Hit(Entry { fetched: true, ..entry }),
            other => other,
        },
        |outcome| match outcome {
            Outcome::Counted(counted) if counted.ttl_s.is_some() => {
                Outcome::Counted(Counted { ttl_s: None, ..counted })
            }
            other => other,
        },
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let run = run(&mut server, SEED, 4_000, fault);
        assert!(run.is_err(), "fault {number}");
        server.ask(b"flush_all\r\n");
    }
}
