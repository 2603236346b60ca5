//! Overload: four times what the downstream can do.

use std::time::Duration;

use forebay::{Conditioning, Preset, Priority, ShedReason, Window};

use crate::downstream::{Behaviour, Call, End, MS, goodput, load, simulate};

const LOWEST: Priority = Priority::LOWEST;
const TIME: Duration = Duration::from_secs(4);
const SETTLED: Duration = Duration::from_secs(2);
/// A call is of use within this.
const DEADLINE: Duration = Duration::from_millis(60);
const TARGET: Duration = Duration::from_millis(40);

fn conditioned(preset: Preset) -> Option<Conditioning> {
    // Degraded from nowhere on: these tests want to see refusals.
    Some(Conditioning { preset, target: TARGET, degrade_from: 1.0, ..Conditioning::default() })
}

/// Four times the capacity of 1,000/s, one item a batch.
fn overloaded(seed: u64, conditioning: Option<Conditioning>) -> Vec<Call> {
    let (mut sim, stage) = simulate(seed, 1, Behaviour::sound(MS), |options| {
        options.items_max = 1;
        options.conditioning = conditioning;
    });
    load(&mut sim, stage, &[(LOWEST, 4_000)], TIME, Duration::from_secs(20))
}

#[test]
fn overload_costs_no_goodput_with_a_conditioner_and_all_of_it_without() {
    let with = goodput(&overloaded(1, conditioned(Preset::InFlight)), DEADLINE, SETTLED, TIME);
    let without = goodput(&overloaded(1, None), DEADLINE, SETTLED, TIME);
    // What a sleep and a turn add to a millisecond of service is lost: some 5 %.
    assert!(with > 900.0, "{with}/s with");
    assert!(without < 50.0, "{without}/s without: the check could not fail");
}

#[test]
fn what_is_refused_is_told_at_once_and_when_to_try_again() {
    let calls = overloaded(2, conditioned(Preset::InFlight));
    let shed: Vec<&Call> =
        calls.iter().filter(|call| call.end == End::Shed(ShedReason::Conditioner)).collect();
    assert!(shed.len() * 2 > calls.len(), "{} of {}", shed.len(), calls.len());
    assert!(shed.iter().all(|call| call.took < MS));
}

#[test]
fn every_preset_keeps_replies_in_time_where_nothing_does_not() {
    let late = |calls: &[Call]| {
        let answered = calls.iter().filter(|call| matches!(call.end, End::Answered { .. }));
        let (n_late, n_all) = answered.fold((0, 0), |(late, all), call| {
            (late + usize::from(call.took > TARGET * 2), all + 1)
        });
        n_late as f64 / f64::from(n_all)
    };
    for preset in [Preset::InFlight, Preset::Usits03, Preset::Direct, Preset::Pid, Preset::Codel] {
        let share = late(&overloaded(3, conditioned(preset)));
        assert!(share < 0.1, "{preset:?}: {share} late");
    }
    assert!(late(&overloaded(3, None)) > 0.9);
}

#[test]
fn less_is_tried_before_nothing() {
    let (mut sim, stage) = simulate(4, 1, Behaviour::sound(MS), |options| {
        options.items_max = 1;
        options.conditioning = Some(Conditioning { target: TARGET, ..Conditioning::default() });
    });
    // Twice the capacity: half of it fits when the other half takes a quarter.
    let calls = load(&mut sim, stage, &[(LOWEST, 1_600)], TIME, Duration::from_secs(20));
    let degraded = calls.iter().filter(|call| call.end == End::Answered { level: 1 }).count();
    let shed = calls.iter().filter(|call| matches!(call.end, End::Shed(_))).count();
    assert!(degraded * 4 > calls.len(), "{degraded} of {} degraded", calls.len());
    assert!(shed * 10 < calls.len(), "{shed} of {} shed although less would do", calls.len());
    assert_eq!(sim.snapshot(0).stages[0].degraded, degraded as u64);
}

#[test]
fn the_important_keep_their_goodput_while_others_are_shed_and_none_starves() {
    let high = Priority::HIGHEST;
    let (mut sim, stage) = simulate(5, 1, Behaviour::sound(MS), |options| {
        options.items_max = 1;
        options.conditioning = conditioned(Preset::InFlight);
    });
    let offered = [(LOWEST, 3_600), (high, 400)];
    let calls = load(&mut sim, stage, &offered, TIME, Duration::from_secs(20));
    let of = |priority| -> Vec<Call> {
        calls.iter().filter(|call| call.priority == priority).copied().collect()
    };
    let important = goodput(&of(high), DEADLINE, SETTLED, TIME);
    let other = goodput(&of(LOWEST), DEADLINE, SETTLED, TIME);
    assert!(important > 390.0, "{important} of 400/s");
    assert!(other > 300.0, "{other}/s: the rest of the capacity is theirs");
}

#[test]
fn a_static_bound_and_a_static_rate_refuse_what_goes_beyond() {
    let (mut sim, stage) = simulate(6, 1, Behaviour::sound(MS), |options| {
        options.items_max = 1;
        options.in_flight_max = 5;
    });
    let calls = load(&mut sim, stage, &[(LOWEST, 4_000)], MS * 500, Duration::from_secs(20));
    let longest = calls.iter().map(|call| call.took).max().unwrap();
    assert!(longest < MS * 7, "five in flight take five services: {longest:?}");
    let in_flight =
        |call: &Call| matches!(call.end, End::Shed(ShedReason::InFlight { in_flight: 5 }));
    assert!(calls.iter().filter(|call| in_flight(call)).count() > 1_000);

    let (mut sim, stage) = simulate(6, 1, Behaviour::sound(MS / 100), |options| {
        options.admitted_per_s = Some(100);
    });
    let calls = load(&mut sim, stage, &[(LOWEST, 1_000)], MS * 2_000, Duration::from_secs(20));
    let answered = calls.iter().filter(|call| matches!(call.end, End::Answered { .. })).count();
    assert!((200..=211).contains(&answered), "{answered} in 2 s at 100/s and a burst of 10");
}

#[test]
fn under_a_standing_delay_the_newest_go_first() {
    // A queue that stands and is not bounded by anything: only the order helps.
    let check = |newest_first: bool| {
        let (mut sim, stage) = simulate(7, 1, Behaviour::sound(MS), |options| {
            options.items_max = 1;
            options.window = Window::Idle;
            options.newest_first_after = newest_first.then_some(MS * 40);
        });
        let calls = load(&mut sim, stage, &[(LOWEST, 1_500)], TIME, Duration::from_secs(20));
        goodput(&calls, DEADLINE, SETTLED, TIME)
    };
    let (newest, oldest) = (check(true), check(false));
    assert!(newest > 700.0, "{newest}/s with the newest first");
    assert!(oldest < 50.0, "{oldest}/s in order of arrival: everybody is late");
}
