//! Goal: a source is polled when it asked to be, from the moment it is added.
//! Method: simulated shards, where time passes only when a shard waits: an idle shard that forgot
//! its new source would sleep far beyond the times asserted here.

use std::sync::mpsc;
use std::time::Duration;

use forebay::sim::SimOptions;
use forebay::{Builder, RequestOptions, Time};

#[test]
fn a_source_added_on_an_idle_shard_is_polled_at_once_and_then_when_it_asked() {
    let mut sim = Builder::new().simulate(SimOptions::new(3, 1)).unwrap();
    let (polls, polled) = mpsc::channel::<Time>();
    let added = sim
        .handle()
        .submit(0, RequestOptions::default(), move || async move {
            let mut left = 4;
            forebay::add_source(move |now| {
                polls.send(now).unwrap();
                left -= 1;
                (left > 0).then(|| now.after(Duration::from_millis(3)))
            });
            forebay::now()
        })
        .unwrap();
    while sim.step() {}
    let added_at = added.wait().unwrap();
    let times: Vec<Duration> = polled.try_iter().map(|at| at.since(added_at)).collect();
    assert_eq!(times.len(), 4, "{times:?}");
    assert!(times[0] < Duration::from_millis(1), "{times:?}");
    for pair in times.windows(2) {
        let gap = pair[1].saturating_sub(pair[0]);
        assert!((3..5).contains(&gap.as_millis()), "{times:?}");
    }
}
