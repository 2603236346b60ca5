//! Several callers at once, polled in random order: every read is one that could have been made at
//! some moment while it lasted, given what had been acknowledged and what had been read before.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hashbrown::HashMap;

use super::*;

const N_KEYS: usize = 2;
const N_CALLERS: usize = 6;
const N_POLLS: u32 = 6_000;
/// A call gives way less often than this, with everybody before it on its key.
const ROUNDS_MAX: u32 = 500;
/// What every key has to begin with.
const FIRST: u64 = 0;

/// What is tried.
#[derive(Debug, Clone, Copy)]
struct Trial {
    policy: Policy,
    upper: Kind,
    lower: Kind,
    upper_failing_per_mille: u16,
    lower_failing_per_mille: u16,
    /// How often the upper tier is passed by, as if there were too many doubts.
    passed_by_per_mille: u16,
    /// How often a client flushes the lower tier.
    flushed_per_mille: u16,
    /// How often a caller is dropped instead of being polled.
    dropped_per_mille: u16,
    planted: Planted,
}

const QUIET: Trial = Trial {
    policy: Policy::Fill,
    upper: Kind::Scripted,
    lower: Kind::Scripted,
    upper_failing_per_mille: 0,
    lower_failing_per_mille: 0,
    passed_by_per_mille: 0,
    flushed_per_mille: 0,
    dropped_per_mille: 0,
    planted: Planted::Nothing,
};

const TROUBLED: Trial = Trial {
    upper_failing_per_mille: 300,
    lower_failing_per_mille: 50,
    passed_by_per_mille: 2,
    dropped_per_mille: 20,
    ..QUIET
};

const FLUSHED: Trial = Trial { flushed_per_mille: 5, ..QUIET };

/// A poll's number: the time of these tests.
type Moment = u32;
/// What a key has; `None` is nothing.
type Value = Option<u64>;

/// A store or a removal.
#[derive(Debug, Clone, Copy)]
struct Write {
    value: Value,
    began: Moment,
    /// It cannot take effect after this.
    over_by: Moment,
    /// It has taken effect, as somebody was told or has read.
    in_force_by: Moment,
}

#[derive(Debug, Clone)]
struct Read {
    value: Value,
    /// All that was read: the value is what was stored or appended last.
    text: Bytes,
    began: Moment,
    ended: Moment,
}

/// What was done with one key.
#[derive(Debug)]
struct History {
    writes: Vec<Write>,
    reads: Vec<Read>,
}

const NEVER: Moment = Moment::MAX;

impl History {
    fn new() -> Self {
        let first = Write { value: Some(FIRST), began: 0, over_by: 0, in_force_by: 0 };
        Self { writes: vec![first], reads: vec![] }
    }

    /// The first read that no moment explains.
    fn impossible_read(&mut self) -> Option<Read> {
        for write in self.writes.iter_mut().filter(|write| write.value.is_some()) {
            let seen = self.reads.iter().filter(|read| read.value == write.value);
            let seen_by = seen.map(|read| read.ended).min().unwrap_or(NEVER);
            write.in_force_by = write.in_force_by.min(seen_by);
        }
        let mut texts = HashMap::new();
        // A write is done once, so whoever reads it last has read the same before it.
        let torn = self.reads.iter().find(|read| {
            let before: &mut &Bytes = texts.entry(read.value).or_insert(&read.text);
            **before != read.text
        });
        torn.or_else(|| self.reads.iter().find(|read| !self.explains(read))).cloned()
    }

    /// Whether a write may be the one that was read, with none that is surely later in force already.
    fn explains(&self, read: &Read) -> bool {
        let is_replaced = |old: &Write| {
            self.writes
                .iter()
                .any(|write| write.began > old.over_by && write.in_force_by < read.began)
        };
        let mut written = self.writes.iter().filter(|write| write.value == read.value);
        written.any(|write| write.began < read.ended && !is_replaced(write))
    }
}

/// An operation that somebody waits for.
struct Call<'a> {
    future: Pin<Box<dyn Future<Output = Outcome> + 'a>>,
    key_idx: usize,
    began: Moment,
    /// Which write of its key it is.
    write_idx: Option<usize>,
}

/// A client's flush that is under way, and which write of each key it is.
struct Flush<'a> {
    future: Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>,
    write_idx: [usize; N_KEYS],
}

/// Everybody, at one moment.
struct Field<'a> {
    tiers: &'a Tiers,
    trial: Trial,
    rng: fastrand::Rng,
    now: Moment,
    calls: [Option<Call<'a>>; N_CALLERS],
    /// What ends doubts.
    working_off: Option<Pin<Box<dyn Future<Output = ()> + 'a>>>,
    flushing: Option<Flush<'a>>,
    histories: [History; N_KEYS],
    n_dropped: u32,
}

impl<'a> Field<'a> {
    fn new(tiers: &'a Tiers, trial: Trial, seed: u64) -> Self {
        Self {
            tiers,
            trial,
            rng: fastrand::Rng::with_seed(seed),
            now: 0,
            calls: Default::default(),
            working_off: None,
            flushing: None,
            histories: std::array::from_fn(|_| History::new()),
            n_dropped: 0,
        }
    }

    /// Lets somebody begin, go on, or vanish.
    fn step(&mut self) {
        self.now += 1;
        if self.rng.u16(..1_000) < self.trial.passed_by_per_mille {
            self.tiers.ledger.borrow_mut().pass_by();
        }
        let caller = self.rng.usize(..=N_CALLERS);
        if caller == N_CALLERS {
            self.go_on_flushing();
            self.work_off();
            return;
        }
        let Some(call) = self.calls[caller].take() else {
            self.calls[caller] = Some(self.begin());
            return;
        };
        if self.rng.u16(..1_000) < self.trial.dropped_per_mille {
            self.n_dropped += 1;
            self.note(&call, None);
            return;
        }
        self.go_on(caller, call);
    }

    /// Begins what ends doubts, goes on with it, or drops it.
    fn work_off(&mut self) {
        let tiers = self.tiers;
        let begin = || Box::pin(async move { tiers.work_off().await }) as Pin<Box<_>>;
        let mut step = self.working_off.take().unwrap_or_else(begin);
        if self.rng.u16(..1_000) < self.trial.dropped_per_mille {
            return;
        }
        if step.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.working_off = Some(step);
        }
    }

    /// Begins a client's flush, unless one is under way.
    fn begin_flush(&mut self) {
        if self.flushing.is_some() {
            return;
        }
        self.now += 1;
        let (tiers, began) = (self.tiers, self.now);
        let write_idx = self.histories.each_mut().map(|history| {
            let write = Write { value: None, began, over_by: NEVER, in_force_by: NEVER };
            history.writes.push(write);
            history.writes.len() - 1
        });
        let future = Box::pin(async move { flush(tiers, ExpTime(0)).await });
        self.flushing = Some(Flush { future, write_idx });
    }

    fn go_on_flushing(&mut self) {
        let Some(mut flush) = self.flushing.take() else { return };
        let Poll::Ready(flushed) =
            flush.future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            self.flushing = Some(flush);
            return;
        };
        for (history, idx) in self.histories.iter_mut().zip(flush.write_idx) {
            let write = &mut history.writes[idx];
            match flushed {
                Ok(()) => (write.over_by, write.in_force_by) = (self.now, self.now),
                // It may be done yet.
                Err(Failure::Unanswered) => {}
                Err(_) => write.over_by = self.now,
            }
        }
    }

    fn go_on(&mut self, caller: usize, mut call: Call<'a>) {
        match call.future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => self.note(&call, Some(&outcome)),
            Poll::Pending => self.calls[caller] = Some(call),
        }
    }

    fn begin(&mut self) -> Call<'a> {
        let key_idx = self.rng.usize(..N_KEYS);
        let key = key(&format!("key{key_idx}"));
        let write = match self.rng.u8(..10) {
            0..2 => Some((Some(u64::from(self.now)), set(&key, self.now.to_string()))),
            2 => {
                let value = format!(",{}", self.now).into();
                let set = Set::new(SetMode::Append, 0, ExpTime(0), value);
                let what = What::Set(set);
                Some((Some(u64::from(self.now)), Operation { key: key.clone(), what }))
            }
            3 => {
                let what = What::Delete(Delete::default());
                Some((None, Operation { key: key.clone(), what }))
            }
            _ => None,
        };
        let writes = &mut self.histories[key_idx].writes;
        let (write_idx, operation) = match write {
            Some((value, operation)) => {
                writes.push(Write { value, began: self.now, over_by: NEVER, in_force_by: NEVER });
                (Some(writes.len() - 1), operation)
            }
            None => (None, self.random_read(key)),
        };
        let tiers = self.tiers;
        let future = Box::pin(async move { tiers.ask(&operation).await });
        Call { future, key_idx, began: self.now, write_idx }
    }

    /// One that a copy may answer, one that it may not, or one that moves the expiry as well.
    fn random_read(&mut self, key: Key) -> Operation {
        let get = match self.rng.u8(..6) {
            0 => Get { beside: Beside::Cas, ..Get::PLAIN },
            1 => Get { touch: Some(ExpTime(0)), ..Get::PLAIN },
            _ => Get::PLAIN,
        };
        Operation { key, what: What::Get(get) }
    }

    /// Writes down what came of a call; `None` if its caller has gone.
    fn note(&mut self, call: &Call<'_>, outcome: Option<&Outcome>) {
        let history = &mut self.histories[call.key_idx];
        if let Some(write) = call.write_idx.map(|idx| &mut history.writes[idx]) {
            match outcome {
                // It may still be done.
                None | Some(Outcome::Failed(Failure::Unanswered)) => {}
                Some(Outcome::Stored(_) | Outcome::Deleted | Outcome::Miss) => {
                    (write.over_by, write.in_force_by) = (self.now, self.now);
                }
                Some(_) => write.over_by = self.now,
            }
            return;
        }
        let (value, text) = match outcome {
            Some(Outcome::Hit(entry)) => {
                let text = str::from_utf8(&entry.value).unwrap();
                let last = text.rsplit(',').next().expect("there is a first part");
                (Some(last.parse().expect("a moment")), entry.value.clone())
            }
            Some(Outcome::Miss) => (None, Bytes::new()),
            Some(Outcome::Failed(_)) | None => return,
            Some(other) => panic!("a read came to {other:?}"),
        };
        history.reads.push(Read { value, text, began: call.began, ended: self.now });
    }

    /// Lets everybody come to an end.
    fn finish(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.now += 1;
            self.go_on_flushing();
            self.work_off();
            for caller in 0..N_CALLERS {
                if let Some(call) = self.calls[caller].take() {
                    self.go_on(caller, call);
                }
            }
        }
        assert!(self.calls.iter().all(Option::is_none), "somebody waits for ever");
        assert!(self.flushing.is_none(), "a flush has no end");
        self.working_off = None;
    }
}

/// What was read that nobody could have read, if anything was.
async fn run(seed: u64, trial: Trial) -> Result<(), String> {
    let clock = Clock::set();
    let [upper, lower] =
        [trial.upper, trial.lower].map(|kind| tier(kind, store(ITEM_BYTES_MAX), clock, seed));
    let mut tiers = Tiers::new(upper, lower, trial.policy, clock);
    // Even where nothing new comes above there is something to keep right.
    tiers.policy = Policy::Fill;
    for key_idx in 0..N_KEYS {
        let key = key(&format!("key{key_idx}"));
        tiers.ask(&set(&key, FIRST.to_string())).await;
    }
    tiers.policy = trial.policy;
    tiers.plant(trial.planted);
    let mut field = Field::new(&tiers, trial, seed);
    for _ in 0..N_POLLS {
        if field.rng.u16(..100) == 0 {
            let often = [0, trial.upper_failing_per_mille, 1_000];
            let n_kinds = if trial.upper_failing_per_mille == 0 { 1 } else { often.len() };
            fail(&tiers.upper, often[field.rng.usize(..n_kinds)]);
            fail(&tiers.lower, trial.lower_failing_per_mille);
        }
        if field.rng.u8(..20) == 0 {
            sleep(Duration::from_millis(field.rng.u64(..200))).await;
        }
        if trial.flushed_per_mille > 0 {
            flush_now_and_then(&mut field).await;
        }
        field.step();
    }
    fail(&tiers.upper, 0);
    fail(&tiers.lower, 0);
    field.finish();
    assert_eq!(field.n_dropped > 0, trial.dropped_per_mille > 0);
    for (key_idx, history) in field.histories.iter_mut().enumerate() {
        assert!(history.reads.len() > 50, "seed {seed}: {} reads", history.reads.len());
        if let Some(read) = history.impossible_read() {
            return Err(format!("seed {seed}, {trial:?}: key{key_idx} was never {read:?}"));
        }
    }
    drop(field);
    nobody_is_in_the_way(&tiers, clock).await
}

/// Begins a flush, or lets time go by in which the upper tier may be flushed for one.
async fn flush_now_and_then(field: &mut Field<'_>) {
    match field.rng.u16(..1_000) {
        drawn if drawn < field.trial.flushed_per_mille => {
            // A store takes what is as old as a flush for newer.
            sleep(Duration::from_secs(2)).await;
            field.begin_flush();
        }
        drawn if drawn < 10 * field.trial.flushed_per_mille => sleep(GRACE).await,
        _ => {}
    }
}

/// With all tiers there and nobody else no doubt is left, and every copy is right.
async fn nobody_is_in_the_way(tiers: &Tiers, clock: Clock) -> Result<(), String> {
    tiers.nothing_is_left().await?;
    for key in (0..N_KEYS).map(|key_idx| key(&format!("key{key_idx}"))) {
        tiers.ask(&plain_get(&key)).await;
        let copy = peek(&tiers.upper, clock, &key).map(|entry| entry.value);
        let item = peek(&tiers.lower, clock, &key).map(|entry| entry.value);
        if copy.is_some() && copy != item {
            return Err(format!("the copy of {key:?} is {copy:?}, its item {item:?}"));
        }
    }
    Ok(())
}

/// Runs every shape of two tiers, each from a few seeds.
fn check(trial: Trial) {
    for policy in [Policy::Fill, Policy::Bulk] {
        for upper in [Kind::Scripted, Kind::Embedded] {
            for lower in [Kind::Scripted, Kind::Embedded] {
                for seed in seeds(6) {
                    let trial = Trial { policy, upper, lower, ..trial };
                    let read = on_a_shard(seed, async move || run(seed, trial).await);
                    read.unwrap_or_else(|impossible| panic!("{impossible}"));
                }
            }
        }
    }
}

#[test]
fn what_was_acknowledged_or_read_is_read_from_then_on() {
    check(QUIET);
}

#[test]
fn callers_that_vanish_leave_no_old_copy() {
    check(Trial { dropped_per_mille: 50, ..QUIET });
}

#[test]
fn tiers_that_fail_and_callers_that_vanish_leave_no_old_copy() {
    check(TROUBLED);
}

#[test]
fn an_upper_tier_that_was_passed_by_has_no_old_copy() {
    check(Trial { passed_by_per_mille: 2, dropped_per_mille: 10, ..QUIET });
}

#[test]
fn a_clients_flush_leaves_no_old_copy() {
    check(Trial { dropped_per_mille: 10, ..FLUSHED });
}

#[test]
fn every_planted_fault_is_found() {
    let is_found =
        |trial| (0..20).any(|seed| on_a_shard(seed, async move || run(seed, trial).await).is_err());
    for planted in [NO_DOUBTS, ALONE, OLD_COPIES] {
        assert!(is_found(Trial { planted, ..QUIET }), "{planted:?} with tiers that answer");
    }
    let passed_by = Trial { passed_by_per_mille: 2, ..QUIET };
    for trial in [passed_by, FLUSHED] {
        let trial = Trial { planted: NO_FLUSH, ..trial };
        assert!(is_found(trial), "without the flush above: {trial:?}");
    }
    for planted in [NO_DOUBTS, Planted::NoGrace] {
        assert!(is_found(Trial { planted, ..TROUBLED }), "{planted:?} with tiers that fail");
    }
}

#[test]
fn the_judgement_knows_what_may_be_read() {
    let write = |value, began, over_by, in_force_by| Write { value, began, over_by, in_force_by };
    let check = |read: Read, is_possible: bool| {
        let mut history = History::new();
        history.writes.push(write(Some(1), 10, 20, 20));
        history.writes.push(write(Some(2), 30, 40, NEVER));
        history.reads.push(read.clone());
        assert_eq!(history.impossible_read().is_none(), is_possible, "{read:?}");
    };
    let read = |value, began, ended| Read { value, text: Bytes::new(), began, ended };
    // While the first is written, both it and the one before.
    check(read(Some(FIRST), 15, 25), true);
    check(read(Some(1), 15, 25), true);
    check(read(Some(FIRST), 21, 25), false);
    check(read(Some(1), 5, 9), false);
    // The second was not acknowledged: it may be there or not, for ever.
    check(read(Some(1), 50, 60), true);
    check(read(Some(2), 50, 60), true);
    check(read(Some(2), 25, 29), false);
}
