//! The conditioner's rules by single calls: what they answer, what moves them and what does not.

use std::time::Duration;

use super::server::time;
use crate::control::Reading;
use crate::control::admission::Verdict;
use crate::control::conditioner::{Conditioner, Conditioning, Fate, Preset};
use crate::runtime::Time;

const MS: Duration = Duration::from_millis(1);
const IN_TIME: Duration = Duration::from_millis(10);
const LATE: Duration = Duration::from_millis(51);

fn conditioner(preset: Preset, degrade_levels: u8) -> Conditioner {
    let target = MS * 50;
    let options = Conditioning { preset, target, in_flight_first: 1, ..Conditioning::default() };
    Conditioner::new(&options, degrade_levels)
}

fn reading(conditioner: &Conditioner, name: &str) -> f64 {
    let mut readings: Vec<Reading> = vec![];
    conditioner.readings(&mut readings);
    readings.iter().find(|reading| reading.name == name).unwrap().value
}

/// One more call takes the last place and is answered after `sojourn`. Returns when.
fn answer(conditioner: &mut Conditioner, now: Time, sojourn: Duration) -> Time {
    let limit = conditioner.in_flight_max().unwrap();
    let verdict = conditioner.admit(now, 0, last_place(limit), || last_place(limit));
    assert!(!matches!(verdict, Verdict::Reject { .. }));
    let then = now.after(sojourn);
    conditioner.answered(then, 0, earlier(then, sojourn));
    then
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a limit of a test")]
fn last_place(limit: f64) -> usize {
    limit as usize - 1
}

/// One in the steady phase, with a bound of `limit`.
fn steady(limit: u32, degrade_levels: u8) -> (Conditioner, Time) {
    let mut conditioner = conditioner(Preset::InFlight, degrade_levels);
    let mut now = time(1.0);
    for _ in 1..limit * 2 {
        now = answer(&mut conditioner, now, IN_TIME);
    }
    now = answer(&mut conditioner, now, LATE);
    assert_eq!(conditioner.in_flight_max(), Some(f64::from(limit)));
    (conditioner, now)
}

/// Asks and withdraws, while another call of the class is there.
fn ask(conditioner: &mut Conditioner, now: Time, priority: u8, in_flight: usize) -> Verdict {
    conditioner.took_in(now, priority);
    let verdict = conditioner.admit(now, priority, in_flight, || in_flight);
    if !matches!(verdict, Verdict::Reject { .. } | Verdict::Preempt { .. }) {
        conditioner.withdrawn(priority);
    }
    conditioner.withdrawn(priority);
    verdict
}

/// When one was admitted that has taken `sojourn` at `now`.
fn earlier(now: Time, sojourn: Duration) -> Time {
    Time::from_nanos(now.as_nanos() - crate::runtime::nanos(sojourn))
}

#[test]
fn in_flight_degrades_in_even_steps_before_it_refuses() {
    let (mut conditioner, now) = steady(100, 3);
    let mut check = |in_flight, wanted| {
        assert_eq!(ask(&mut conditioner, now, 0, in_flight), wanted, "{in_flight}");
    };
    check(0, Verdict::Accept);
    check(65, Verdict::Accept);
    check(75, Verdict::Degrade(1));
    check(85, Verdict::Degrade(2));
    check(95, Verdict::Degrade(3));
    check(99, Verdict::Degrade(3));
    let refused = ask(&mut conditioner, now, 0, 100);
    let Verdict::Reject { retry_after } = refused else { panic!("{refused:?}") };
    assert!((MS..MS * 50).contains(&retry_after), "{retry_after:?}");
}

#[test]
fn without_levels_nobody_is_degraded() {
    let (mut conditioner, now) = steady(100, 0);
    assert_eq!(ask(&mut conditioner, now, 0, 99), Verdict::Accept);
}

#[test]
fn a_round_trip_in_time_adds_a_hundredth_at_any_bound() {
    for limit in [1, 30, 1_000, 10_000] {
        let (mut conditioner, mut now) = steady(limit, 0);
        for _ in 0..limit {
            now = answer(&mut conditioner, now, IN_TIME);
        }
        let risen = conditioner.in_flight_max().unwrap() / f64::from(limit);
        assert!((1.009..=1.011).contains(&risen), "{risen} at {limit}");
    }
}

#[test]
fn a_round_trip_of_late_replies_cuts_a_fifth_and_the_rest_is_owed() {
    let (mut conditioner, mut now) = steady(100, 0);
    // All were admitted before the first of them is answered.
    now = now.after(MS);
    (0..100).for_each(|_| assert_eq!(conditioner.admit(now, 0, 99, || 99), Verdict::Accept));
    (0..100).for_each(|_| conditioner.answered(now.after(LATE), 0, now));
    assert_eq!(conditioner.in_flight_max(), Some(80.0));
    now = now.after(LATE);
    for _ in 0..2_000 {
        now = answer(&mut conditioner, now, IN_TIME);
    }
    assert_eq!(conditioner.in_flight_max(), Some(80.0), "29 are owed, a hundredth per reply");
    for _ in 0..2_000 {
        now = answer(&mut conditioner, now, IN_TIME);
    }
    assert!(conditioner.in_flight_max() > Some(85.0));
}

#[test]
fn the_bound_is_at_least_one_however_many_are_late() {
    let (mut conditioner, mut now) = steady(10, 0);
    for _ in 0..1_000 {
        now = answer(&mut conditioner, now, LATE);
    }
    assert_eq!(conditioner.in_flight_max(), Some(1.0));
}

#[test]
fn a_bound_that_does_not_bind_is_frozen() {
    for sojourn in [IN_TIME, LATE] {
        let (mut conditioner, mut now) = steady(100, 0);
        for _ in 0..1_000 {
            now = now.after(MS);
            assert_eq!(conditioner.admit(now, 0, 10, || 10), Verdict::Accept);
            now = now.after(sojourn);
            conditioner.answered(now, 0, earlier(now, sojourn));
        }
        assert_eq!(conditioner.in_flight_max(), Some(100.0), "{sojourn:?}");
    }
}

#[test]
fn a_bound_that_is_dealt_out_in_shares_moves_when_a_share_is_used_up() {
    let (mut conditioner, mut now) = steady(100, 0);
    for _ in 0..100 {
        now = now.after(MS);
        conditioner.took_in(now, 0);
        conditioner.pressed(now);
        now = now.after(IN_TIME);
        conditioner.answered(now, 0, earlier(now, IN_TIME));
    }
    assert!(conditioner.in_flight_max() > Some(100.9));
}

#[test]
fn a_lower_class_has_a_third_while_a_more_important_one_presses() {
    let (mut conditioner, now) = steady(100, 0);
    let is_refused = |verdict| matches!(verdict, Verdict::Reject { .. } | Verdict::Preempt { .. });
    assert!(!is_refused(ask(&mut conditioner, now, 0, 60)));
    conditioner.took_in(now, 5);
    assert!(is_refused(ask(&mut conditioner, now, 0, 60)));
    assert!(!is_refused(ask(&mut conditioner, now, 0, 30)));
    assert!(!is_refused(ask(&mut conditioner, now, 5, 60)));
    // It has gone, and has not asked for a while.
    conditioner.withdrawn(5);
    assert!(!is_refused(ask(&mut conditioner, now.after(MS * 51), 0, 60)));
}

#[test]
fn a_class_with_nothing_in_flight_is_let_in_once_above_the_bound() {
    let (mut conditioner, now) = steady(10, 0);
    assert_eq!(conditioner.admit(now, 0, 10, || 10), Verdict::Accept);
    assert!(matches!(conditioner.admit(now, 0, 11, || 11), Verdict::Reject { .. }));
}

#[test]
fn a_new_target_is_what_counts() {
    let (mut conditioner, mut now) = steady(100, 0);
    conditioner.retarget(MS * 5);
    now = answer(&mut conditioner, now, IN_TIME);
    assert!(conditioner.in_flight_max() < Some(100.0));
    conditioner.retarget(MS * 500);
    let before = conditioner.in_flight_max();
    (0..100).for_each(|_| now = answer(&mut conditioner, now, LATE));
    assert!(conditioner.in_flight_max() > before);
}

#[test]
fn a_rate_preset_degrades_while_a_second_bucket_lasts_before_it_refuses() {
    for (levels, n_degraded) in [(0, 0), (2, 10)] {
        let mut conditioner = conditioner(Preset::Direct, levels);
        let verdicts: Vec<Verdict> =
            (0..30).map(|_| conditioner.admit(time(1.0), 0, 0, || 0)).collect();
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
        let mut conditioner = conditioner(preset, 0);
        let mut now = time(1.0);
        let mut rounds = |conditioner: &mut Conditioner, sojourn: Duration| {
            let before = {
                conditioner.admit(now, 0, 0, || 0);
                reading(conditioner, "admit_per_s")
            };
            for _ in 0..1_000 {
                now = now.after(MS);
                conditioner.answered(now, 0, earlier(now, sojourn));
            }
            (before, reading(conditioner, "admit_per_s"))
        };
        let (before, after) = rounds(&mut conditioner, MS);
        assert!(after > before, "{preset:?}: {before} to {after}");
        let (before, after) = rounds(&mut conditioner, MS * 200);
        assert!(after < before, "{preset:?}: {before} to {after}");
        assert_eq!(conditioner.in_flight_max(), None);
    }
}

#[test]
fn codel_carries_a_burst_and_drops_from_a_queue_that_stands() {
    let mut conditioner = conditioner(Preset::Codel, 2);
    let emptied = time(1.0);
    assert_eq!(conditioner.on_dequeue(emptied, MS, 0), Fate::Keep);
    assert_eq!(conditioner.on_dequeue(emptied.after(MS * 90), MS * 90, 5), Fate::Keep);
    assert_eq!(conditioner.on_dequeue(emptied.after(MS * 120), MS * 51, 5), Fate::Drop);
    assert_eq!(conditioner.on_dequeue(emptied.after(MS * 121), MS * 40, 5), Fate::Keep);
    assert_eq!(conditioner.admit(emptied.after(MS * 121), 0, 5, || 5), Verdict::Degrade(1));
    assert_eq!(conditioner.admit(emptied.after(MS * 122), 0, 0, || 0), Verdict::Accept);
    assert_eq!(conditioner.on_dequeue(emptied.after(MS * 150), MS * 60, 5), Fate::Keep);
}
