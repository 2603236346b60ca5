//! Goal: the controllers do what they are for, and not what their published models are known to do.
//! Method: small queueing models in virtual time, from a seed; the same seed gives the same figures.
//! `cargo test -p forebay --lib control -- --nocapture` prints the table.

mod server;
mod overload;
mod conditioners;
mod batches;
mod permits;
mod rate;

use super::*;

#[test]
fn what_is_no_duration_is_the_nearest_one() {
    assert_eq!(seconds(-1.0), Duration::ZERO);
    assert_eq!(seconds(0.5), Duration::from_millis(500));
    assert_eq!(seconds(f64::INFINITY), Duration::MAX);
}

#[test]
fn a_limit_is_rounded_up_between_its_bounds() {
    assert_eq!([0.0, 1.0, 1.2, 9.0, f64::NAN].map(|limit| count_up(limit, 1, 8)), [1, 1, 2, 8, 1]);
}
