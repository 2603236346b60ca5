//! Goal: carrying out a run side by side tells a client nothing else than command by command.
//!
//! Method: a table of what may stand beside what; and random commands, cut into runs whose commands
//! are carried out in random order on one store, and one by one on another.

use super::*;
use crate::cacheproxy::operation::{Counted, Description, Entry, Outcome};
use crate::cacheproxy::protocol::{Decoder, Limits};
use crate::cacheproxy::store::{Now, Options, Store};

const NOW: Now = Now(1_700_000_000);
const N_COMMANDS: u32 = 400;
const SEEDS: u64 = 100;
/// Enough that nothing is evicted.
const BYTES_MAX: usize = 16 << 20;

fn commands(bytes: &[u8]) -> Vec<Command> {
    let mut decoder = Decoder::new(Limits::DEFAULT);
    let mut input = bytes;
    std::iter::from_fn(|| decoder.decode(&mut input)).collect()
}

/// As many commands from the front as make one run.
fn n_together(bytes: &[u8]) -> usize {
    n_in_parts(KEYS_MAX, bytes)
}

fn n_in_parts(keys_max: usize, bytes: &[u8]) -> usize {
    let mut run = Run::of_parts(keys_max);
    for command in commands(bytes) {
        if !run.takes(&command) {
            break;
        }
        run.push(command);
    }
    run.take(KEYS_MAX).len()
}

#[test]
fn a_run_ends_before_what_depends_on_it() {
    let check = |bytes: &str, n_wanted: usize| {
        assert_eq!(n_together(bytes.as_bytes()), n_wanted, "{bytes:?}");
    };
    check("get a\r\nget a\r\nget a b\r\nmg a\r\n", 3);
    check("get a\r\nset b 0 0 1\r\nx\r\nget c\r\n", 3);
    // Reads after a change, changes after a read, changes after a change.
    check("set a 0 0 1\r\nx\r\nget a\r\n", 1);
    check("set a 0 0 1\r\nx\r\nget b a\r\n", 1);
    check("get b a\r\ndelete a\r\n", 1);
    check("incr a 1\r\nincr a 1\r\n", 1);
    check("touch a 1\r\nget a\r\n", 1);
    check("gat 1 a\r\ngat 1 b\r\ngat 1 a b\r\n", 2);
    // A meta read may win the right to fill an item, which one is told of.
    check("mg a\r\nmg a\r\n", 1);
    // What tells of the last use is changed by every use.
    check("get a\r\nme a\r\n", 1);
    check("me a\r\nget a\r\n", 1);
    check("me a\r\nget b\r\nme c\r\n", 3);
    // What needs no key.
    check("set a 0 0 1\r\nx\r\nversion\r\nmn\r\njunk\r\nget b\r\n", 5);
    // What concerns all, or is the last.
    check("get a\r\nflush_all\r\nget b\r\n", 1);
    check("flush_all\r\nget b\r\n", 1);
    check("stats\r\nget b\r\n", 1);
    check("get a\r\nquit\r\n", 1);
}

#[test]
fn a_run_is_bounded_and_a_long_get_is_one_by_itself() {
    assert_eq!(n_together("get a\r\n".repeat(COMMANDS_MAX + 1).as_bytes()), COMMANDS_MAX);
    let get_of = |n_keys| format!("get{}\r\n", " k".repeat(n_keys));
    let [allowed, long] = [get_of(KEYS_MAX), get_of(KEYS_MAX + 1)];
    assert_eq!(n_together(format!("get a\r\n{allowed}").as_bytes()), 2);
    assert_eq!(n_together(format!("get a\r\n{long}").as_bytes()), 1);
    assert_eq!(n_together(format!("{long}get a\r\n").as_bytes()), 1);
}

#[test]
fn a_run_reads_no_more_keys_than_two_parts_have() {
    let check = |keys_max, bytes: &str, n_wanted| {
        assert_eq!(n_in_parts(keys_max, bytes.as_bytes()), n_wanted, "{keys_max} {bytes:?}");
    };
    check(1, "get a\r\nmg b v\r\nget c\r\n", 2);
    check(1, "get a b\r\nget c\r\n", 1);
    check(4, "get a\r\nget a b c d e\r\n", 1);
    check(4, "get a b c d\r\nget a b c\r\nget a\r\nget b\r\n", 3);
    // What reads no value is as it was.
    check(1, "get a\r\nset b 0 0 1\r\nx\r\ndelete c\r\nincr d 1\r\nmn\r\nget e\r\nget f\r\n", 6);
}

#[test]
fn a_run_that_is_taken_leaves_nothing_to_depend_on() {
    let [set, get] = [commands(b"set a 0 0 1\r\nx\r\n"), commands(b"get a\r\n")];
    let mut run = Run::of_parts(KEYS_MAX);
    run.push(set[0].clone());
    assert!(!run.takes(&get[0]));
    assert_eq!(run.take(KEYS_MAX).len(), 1);
    assert!(run.is_empty() && run.takes(&get[0]));
}

/// Words of which commands are made: `K` becomes a key.
const LINES: &[&str] = &[
    "get K\r\n",
    "get K\r\n",
    "get K K K\r\n",
    "gets K K\r\n",
    "gat 0 K\r\n",
    "gat -1 K\r\n",
    "touch K 100\r\n",
    "set K 0 0 1\r\n7\r\n",
    "set K 1 50 2\r\n10\r\n",
    "set K 0 0 5\r\nhello\r\n",
    "add K 0 0 1\r\n3\r\n",
    "replace K 0 0 1\r\n9\r\n",
    "append K 0 0 1\r\n5\r\n",
    "prepend K 0 0 1\r\n1\r\n",
    "delete K\r\n",
    "incr K 3\r\n",
    "decr K 4 noreply\r\n",
    "mg K v t f\r\n",
    "mg K N30 v\r\n",
    "ms K 2 I\r\nxy\r\n",
    "md K I T30\r\n",
    "ma K N0 J13 v\r\n",
    "me K\r\n",
    "version\r\n",
    "flush_all\r\n",
    "mn\r\n",
];
const N_KEYS: u32 = 5;

fn random_commands(rng: &mut fastrand::Rng) -> Vec<Command> {
    let line = |rng: &mut fastrand::Rng| {
        let parts = LINES[rng.usize(..LINES.len())].split('K');
        let mut parts = parts.map(str::to_owned);
        let first = parts.next().expect("a split has a part");
        parts.fold(first, |line, part| format!("{line}key{}{part}", rng.u32(..N_KEYS)))
    };
    (0..N_COMMANDS).flat_map(|_| commands(line(rng).as_bytes())).collect()
}

/// What depends on how many changes of other keys there were before: the number of a cas, and sizes.
fn normal(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Hit(entry) => Outcome::Hit(Entry { cas: 0, ..entry }),
        Outcome::Stored(_) => Outcome::Stored(0),
        Outcome::Counted(counted) => Outcome::Counted(Counted { cas: 0, ..counted }),
        Outcome::Described(Some(told)) => Outcome::Described(Some(Box::new(Description {
            cas: 0,
            class: 0,
            n_bytes: 0,
            ..*told
        }))),
        other => other,
    }
}

/// What a client is told of a command that a store carries out.
fn carry_out(store: &mut Store, now: Now, command: &Command) -> Vec<u8> {
    let mut told = Vec::new();
    let mut apply = |operation: &Operation| normal(store.apply(now, operation));
    match &command.asked {
        Asked::One(operation) => {
            let outcome = apply(operation);
            command.answering.outcomes([(&operation.key, &outcome)], &mut told);
        }
        Asked::Many(get, keys) => {
            let asked =
                keys.iter().map(|key| Operation { key: key.clone(), what: What::Get(*get) });
            let outcomes: Vec<_> = asked.map(|operation| apply(&operation)).collect();
            command.answering.outcomes(keys.iter().zip(&outcomes), &mut told);
        }
        Asked::FlushAll(delay) => store.flush_all(now, *delay),
        // Whatever is told of the rest is told without the store.
        _ => {}
    }
    told
}

/// What takes the next command into a run.
type Takes = fn(&Run, &Command) -> bool;

/// The first command that comes to something else in a run, carried out in random order; and how many
/// commands had others beside them.
fn run(seed: u64, takes: Takes) -> Result<usize, String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let [mut in_order, mut side_by_side] = [(); 2].map(|()| Store::new(Options::new(BYTES_MAX, 0)));
    let (mut now, mut n_beside) = (NOW, 0);
    let mut coming = random_commands(&mut rng).into_iter().peekable();
    while coming.peek().is_some() {
        let mut together = Run::of_parts(KEYS_MAX);
        while let Some(command) = coming.next_if(|command| takes(&together, command)) {
            together.n_changes += usize::from(effect(&command) == Effect::Changes);
            together.commands.push(command);
        }
        let commands = together.take(KEYS_MAX);
        n_beside += commands.len() - 1;
        now = Now(now.0 + rng.u32(..3));
        let wanted: Vec<_> = commands.iter().map(|c| carry_out(&mut in_order, now, c)).collect();
        let mut order: Vec<usize> = (0..commands.len()).collect();
        rng.shuffle(&mut order);
        let mut found = vec![vec![]; commands.len()];
        for idx in order {
            found[idx] = carry_out(&mut side_by_side, now, &commands[idx]);
        }
        if let Some(idx) = (0..commands.len()).find(|idx| found[*idx] != wanted[*idx]) {
            let asked = &commands[idx].asked;
            let [found, wanted] = [&found[idx], &wanted[idx]].map(|told| told.escape_ascii());
            return Err(format!("seed {seed}: {asked:?} is told {found}, not {wanted}"));
        }
    }
    Ok(n_beside)
}

#[test]
fn the_commands_of_a_run_come_to_the_same_in_any_order() {
    for seed in 0..SEEDS {
        let n_beside = run(seed, Run::takes).unwrap_or_else(|difference| panic!("{difference}"));
        assert!(n_beside > 20, "seed {seed}: {n_beside} had others beside them");
    }
}

#[test]
fn a_run_that_takes_too_much_is_found() {
    let anything: Takes = |run, _| run.commands.len() < 2;
    let changes_beside_changes: Takes = |run, command| {
        let is_change = effect(command) == Effect::Changes;
        run.takes(command)
            || (is_change && run.commands.iter().all(|c| effect(c) == Effect::Changes))
    };
    for (idx, takes) in [anything, changes_beside_changes].into_iter().enumerate() {
        assert!((0..SEEDS).any(|seed| run(seed, takes).is_err()), "rule {idx}");
    }
}
