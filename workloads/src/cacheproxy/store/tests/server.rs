//! A memcached of our own, spoken to by the meta protocol in a few lines of blocking code.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use bytes::Bytes;

use super::super::super::memcached::{Memcached, PATIENCE};
use super::super::super::operation::{
    Count, Counted, CountsAsUse, Delete, Description, Direction, Entry, Get, Operation, Outcome,
    Set, SetMode, Wanted, What, Win,
};

/// A connection to a server of our own.
pub(super) struct Server {
    replies: BufReader<TcpStream>,
    _memcached: Memcached,
}

impl Server {
    /// `None` where there is none to start.
    pub(super) fn start() -> Option<Self> {
        let memcached = Memcached::start()?;
        let socket = TcpStream::connect(memcached.address()).expect("it listens");
        socket.set_nodelay(true).expect("a socket's option");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Some(Self { replies: BufReader::new(socket), _memcached: memcached })
    }

    pub(super) fn ask(&mut self, request: &[u8]) -> Vec<String> {
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

    pub(super) fn cas_of(&mut self, key: &str) -> Option<u64> {
        // Not `mg`, which might win a stale item.
        let answer = self.ask(format!("me {key}\r\n").as_bytes());
        answer.iter().find_map(|told| told.strip_prefix("cas=")?.parse().ok())
    }

    /// The numbers of `stats`.
    pub(super) fn stats(&mut self) -> BTreeMap<String, u64> {
        let mut stats = BTreeMap::new();
        let mut told = self.ask(b"stats\r\n");
        while let [_, name, number] = &told[..] {
            if let Ok(number) = number.parse() {
                stats.insert(name.clone(), number);
            }
            // The next line of the same answer.
            told = self.ask(b"");
        }
        stats
    }

    pub(super) fn apply(&mut self, operation: &Operation) -> Outcome {
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
