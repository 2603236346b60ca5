//! The conditioner's rules by single calls: what they answer, what moves them and what does not.

use std::time::Duration;

use super::server::{Gate, time};
use crate::control::Reading;
use crate::control::admission::Verdict;
use crate::control::conditioner::{Conditioner, Conditioning, Fate, Preset};
use crate::control::door::{Door, Passes};
use crate::runtime::Time;
use crate::runtime::priority::Priority;

const MS: Duration = Duration::from_millis(1);
const IN_TIME: Duration = Duration::from_millis(10);
const LATE: Duration = Duration::from_millis(51);

fn gate(preset: Preset, degrade_levels: u8) -> Gate {
    let target = MS * 50;
    let options = Conditioning { preset, target, in_flight_first: 1, ..Conditioning::default() };
    Gate::new(Conditioner::new(&options, degrade_levels))
}

fn reading(gate: &Gate, name: &str) -> f64 {
    let mut readings: Vec<Reading> = vec![];
    gate.conditioner.readings(&mut readings);
    readings.iter().find(|reading| reading.name == name).unwrap().value
}

/// So many calls of a priority are in, and nobody else.
fn fill(gate: &mut Gate, priority: u8, n_calls: usize) {
    gate.door = Door::new(gate.conditioner.terms(), Passes::Unlimited);
    hold(gate, priority, n_calls);
}

/// So many calls of a priority are in beside those that are.
fn hold(gate: &Gate, priority: u8, n_calls: usize) {
    (0..n_calls).for_each(|_| gate.door.let_in(Priority::new(priority).unwrap()));
}

/// One more call takes the last place and is answered after `sojourn`. Returns when.
fn answer(gate: &mut Gate, now: Time, sojourn: Duration) -> Time {
    fill(gate, 0, last_place(bound(gate)));
    let verdict = gate.admit(now, 0, 0);
    assert!(!matches!(verdict, Verdict::Reject { .. }));
    let then = now.after(sojourn);
    gate.answered(then, 0, earlier(then, sojourn));
    then
}

fn bound(gate: &Gate) -> f64 {
    gate.conditioner.in_flight_max().unwrap()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a limit of a test")]
fn last_place(limit: f64) -> usize {
    limit as usize - 1
}

/// One in the steady phase, with a bound of `limit`.
fn steady(limit: u32, degrade_levels: u8) -> (Gate, Time) {
    let mut gate = gate(Preset::InFlight, degrade_levels);
    let mut now = time(1.0);
    for _ in 1..limit * 2 {
        now = answer(&mut gate, now, IN_TIME);
    }
    now = answer(&mut gate, now, LATE);
    assert_eq!(gate.conditioner.in_flight_max(), Some(f64::from(limit)));
    (gate, now)
}

/// What one more is told that finds so many of its class, and nobody else.
fn ask(gate: &mut Gate, now: Time, priority: u8, in_flight: usize) -> Verdict {
    fill(gate, priority, in_flight);
    gate.admit(now, priority, 0)
}

/// When one was admitted that has taken `sojourn` at `now`.
fn earlier(now: Time, sojourn: Duration) -> Time {
    Time::from_nanos(now.as_nanos() - crate::runtime::nanos(sojourn))
}

#[test]
fn in_flight_degrades_in_even_steps_before_it_refuses() {
    let (mut gate, now) = steady(100, 3);
    let mut check = |in_flight, wanted| {
        assert_eq!(ask(&mut gate, now, 0, in_flight), wanted, "{in_flight}");
    };
    check(0, Verdict::Accept);
    check(65, Verdict::Accept);
    check(75, Verdict::Degrade(1));
    check(85, Verdict::Degrade(2));
    check(95, Verdict::Degrade(3));
    check(99, Verdict::Degrade(3));
    let refused = ask(&mut gate, now, 0, 100);
    let Verdict::Reject { retry_after } = refused else { panic!("{refused:?}") };
    assert!((MS..MS * 50).contains(&retry_after), "{retry_after:?}");
}

#[test]
fn without_levels_nobody_is_degraded() {
    let (mut gate, now) = steady(100, 0);
    assert_eq!(ask(&mut gate, now, 0, 99), Verdict::Accept);
}

#[test]
fn a_round_trip_in_time_adds_a_hundredth_at_any_bound() {
    for limit in [1, 30, 1_000, 10_000] {
        let (mut gate, mut now) = steady(limit, 0);
        for _ in 0..limit {
            now = answer(&mut gate, now, IN_TIME);
        }
        let risen = gate.conditioner.in_flight_max().unwrap() / f64::from(limit);
        assert!((1.009..=1.011).contains(&risen), "{risen} at {limit}");
    }
}

#[test]
fn a_round_trip_of_late_replies_cuts_a_fifth_and_the_rest_is_owed() {
    let (mut gate, mut now) = steady(100, 0);
    // All were admitted before the first of them is answered.
    now = now.after(MS);
    fill(&mut gate, 0, 0);
    (0..100).for_each(|_| assert_eq!(gate.admit(now, 0, 0), Verdict::Accept));
    (0..100).for_each(|_| gate.answered(now.after(LATE), 0, now));
    assert_eq!(gate.conditioner.in_flight_max(), Some(80.0));
    now = now.after(LATE);
    for _ in 0..2_000 {
        now = answer(&mut gate, now, IN_TIME);
    }
    assert_eq!(gate.conditioner.in_flight_max(), Some(80.0), "29 are owed, a hundredth per reply");
    for _ in 0..2_000 {
        now = answer(&mut gate, now, IN_TIME);
    }
    assert!(gate.conditioner.in_flight_max() > Some(85.0));
}

#[test]
fn the_bound_is_at_least_one_however_many_are_late() {
    let (mut gate, mut now) = steady(10, 0);
    for _ in 0..1_000 {
        now = answer(&mut gate, now, LATE);
    }
    assert_eq!(gate.conditioner.in_flight_max(), Some(1.0));
}

#[test]
fn a_bound_that_does_not_bind_is_frozen() {
    for sojourn in [IN_TIME, LATE] {
        let (mut gate, mut now) = steady(100, 0);
        for _ in 0..1_000 {
            now = now.after(MS);
            fill(&mut gate, 0, 10);
            assert_eq!(gate.admit(now, 0, 0), Verdict::Accept);
            now = now.after(sojourn);
            gate.answered(now, 0, earlier(now, sojourn));
        }
        assert_eq!(gate.conditioner.in_flight_max(), Some(100.0), "{sojourn:?}");
    }
}

#[test]
fn a_bound_that_is_dealt_out_in_shares_moves_when_a_share_is_used_up() {
    let (mut gate, mut now) = steady(100, 0);
    for _ in 0..100 {
        now = now.after(MS);
        fill(&mut gate, 0, 1);
        gate.conditioner.took_in(now, Priority::LOWEST, &gate.door);
        gate.conditioner.pressed(now);
        gate.door.agree(gate.conditioner.terms());
        now = now.after(IN_TIME);
        gate.answered(now, 0, earlier(now, IN_TIME));
    }
    assert!(gate.conditioner.in_flight_max() > Some(100.9));
}

#[test]
fn a_lower_class_has_a_third_while_a_more_important_one_presses() {
    let (mut gate, now) = steady(100, 0);
    let is_refused = |verdict| matches!(verdict, Verdict::Reject { .. } | Verdict::Preempt { .. });
    assert!(!is_refused(ask(&mut gate, now, 0, 60)));
    // One call of a more important class is in, and asks.
    let beside = |gate: &mut Gate, now: Time, in_flight: usize| {
        fill(gate, 0, in_flight);
        assert_eq!(gate.admit(now, 5, 0), Verdict::Accept);
        is_refused(gate.admit(now, 0, 0))
    };
    assert!(beside(&mut gate, now, 60));
    assert!(!beside(&mut gate, now, 30));
    assert!(!is_refused(ask(&mut gate, now, 5, 60)));
    // It has gone, and has not asked for a while.
    fill(&mut gate, 0, 60);
    hold(&gate, 5, 1);
    gate.withdrawn(now, 5);
    assert!(is_refused(gate.admit(now.after(MS * 50), 0, 0)));
    assert!(!is_refused(gate.admit(now.after(MS * 51), 0, 0)));
}

#[test]
fn a_class_with_nothing_in_flight_is_let_in_once_above_the_bound() {
    let (mut gate, now) = steady(10, 0);
    fill(&mut gate, 5, 10);
    assert_eq!(gate.admit(now, 0, 0), Verdict::Accept);
    assert!(!matches!(gate.admit(now, 0, 0), Verdict::Accept), "one, not two");
    fill(&mut gate, 0, 11);
    assert!(matches!(gate.admit(now, 0, 0), Verdict::Reject { .. }));
}

#[test]
fn a_new_target_is_what_counts() {
    let (mut gate, mut now) = steady(100, 0);
    gate.conditioner.retarget(MS * 5);
    now = answer(&mut gate, now, IN_TIME);
    assert!(gate.conditioner.in_flight_max() < Some(100.0));
    gate.conditioner.retarget(MS * 500);
    let before = gate.conditioner.in_flight_max();
    (0..100).for_each(|_| now = answer(&mut gate, now, LATE));
    assert!(gate.conditioner.in_flight_max() > before);
}

#[test]
fn a_rate_preset_degrades_while_a_second_bucket_lasts_before_it_refuses() {
    for (levels, n_degraded) in [(0, 0), (2, 10)] {
        let mut gate = gate(Preset::Direct, levels);
        let verdicts: Vec<Verdict> = (0..30).map(|_| gate.admit(time(1.0), 0, 0)).collect();
        let levels_seen: Vec<u8> = verdicts
            .iter()
            .filter_map(|verdict| match verdict {
                Verdict::Degrade(level) => Some(*level),
                _ => None,
            })
            .collect();
        assert_eq!(verdicts[..10], [Verdict::Accept; 10], "what the bucket holds");
        assert_eq!(levels_seen.len(), n_degraded);
        assert!(
            levels_seen.is_sorted() && levels_seen.iter().all(|level| (1..=levels).contains(level))
        );
        let retry_after = MS * 100;
        assert_eq!(verdicts[29], Verdict::Reject { retry_after }, "ten a second");
    }
}

#[test]
fn a_rate_preset_raises_its_rate_when_calls_are_fast_and_cuts_it_when_they_are_late() {
    for preset in [Preset::Usits03, Preset::Direct, Preset::Pid] {
        let mut gate = gate(preset, 0);
        let mut now = time(1.0);
        let mut rounds = |gate: &mut Gate, sojourn: Duration| {
            let before = {
                gate.admit(now, 0, 0);
                reading(gate, "admit_per_s")
            };
            for _ in 0..1_000 {
                now = now.after(MS);
                hold(gate, 0, 1);
                gate.answered(now, 0, earlier(now, sojourn));
            }
            (before, reading(gate, "admit_per_s"))
        };
        let (before, after) = rounds(&mut gate, MS);
        assert!(after > before, "{preset:?}: {before} to {after}");
        let (before, after) = rounds(&mut gate, MS * 200);
        assert!(after < before, "{preset:?}: {before} to {after}");
        assert_eq!(gate.conditioner.in_flight_max(), None);
    }
}

#[test]
fn codel_carries_a_burst_and_drops_from_a_queue_that_stands() {
    let mut gate = gate(Preset::Codel, 2);
    let emptied = time(1.0);
    assert_eq!(gate.conditioner.on_dequeue(emptied, MS, 0), Fate::Keep);
    assert_eq!(gate.conditioner.on_dequeue(emptied.after(MS * 90), MS * 90, 5), Fate::Keep);
    assert_eq!(gate.conditioner.on_dequeue(emptied.after(MS * 120), MS * 51, 5), Fate::Drop);
    assert_eq!(gate.conditioner.on_dequeue(emptied.after(MS * 121), MS * 40, 5), Fate::Keep);
    assert_eq!(gate.admit(emptied.after(MS * 121), 0, 5), Verdict::Degrade(1));
    assert_eq!(gate.admit(emptied.after(MS * 122), 0, 0), Verdict::Accept);
    assert_eq!(gate.conditioner.on_dequeue(emptied.after(MS * 150), MS * 60, 5), Fate::Keep);
}
