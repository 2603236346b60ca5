//! When pieces expire, and how an item that is written anew keeps its time.
//!
//! Pure. Pieces have to outlive their metadata: metadata without pieces is a value lost too early,
//! pieces without metadata are but memory that somebody else needs more.

use crate::cacheproxy::operation::ExpTime;

/// Up to so many seconds an expiry counts from now, beyond it from the epoch.
const RELATIVE_S_MAX: i32 = 30 * 24 * 60 * 60;
/// How much longer pieces live than their metadata, which is written after them, perhaps to a server
/// whose clock is behind. A write takes seconds, and clocks of servers differ by less.
const OUTLIVE_S: i32 = 60;

/// The expiry of the pieces of a value that expires then.
pub(super) fn of_pieces(value: ExpTime) -> ExpTime {
    ExpTime(match value.0 {
        0 => 0,
        ..0 => value.0,
        // What would be told as a time of the epoch never expires: eviction finds it.
        1..=RELATIVE_S_MAX if value.0 > RELATIVE_S_MAX - OUTLIVE_S => 0,
        _ => value.0.saturating_add(OUTLIVE_S),
    })
}

/// The expiry that leaves an item the seconds that it has; `epoch_s` tells the second of the epoch,
/// and is asked only if it has more than can be told from now.
pub(super) fn left(ttl_s: Option<u32>, epoch_s: impl FnOnce() -> u64) -> ExpTime {
    let Some(ttl_s) = ttl_s else { return ExpTime(0) };
    match i32::try_from(ttl_s) {
        // Less than a second is left; 0 would be for ever.
        Ok(0) => ExpTime(1),
        Ok(ttl_s @ 1..=RELATIVE_S_MAX) => ExpTime(ttl_s),
        _ => ExpTime(i32::try_from(epoch_s() + u64::from(ttl_s)).unwrap_or(i32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_never_expire_before_their_value() {
        let check = |value: i32, pieces: i32| {
            assert_eq!(of_pieces(ExpTime(value)), ExpTime(pieces), "{value}");
        };
        check(0, 0);
        check(-1, -1);
        check(i32::MIN, i32::MIN);
        check(1, 61);
        check(RELATIVE_S_MAX - OUTLIVE_S, RELATIVE_S_MAX);
        check(RELATIVE_S_MAX - OUTLIVE_S + 1, 0);
        check(RELATIVE_S_MAX, 0);
        check(RELATIVE_S_MAX + 1, RELATIVE_S_MAX + 1 + OUTLIVE_S);
        check(i32::MAX, i32::MAX);
    }

    #[test]
    fn what_is_left_is_told_so_that_it_is_understood() {
        let check = |ttl_s: Option<u32>, expires: i32| {
            assert_eq!(left(ttl_s, || 1_700_000_000), ExpTime(expires), "{ttl_s:?}");
        };
        check(None, 0);
        check(Some(0), 1);
        check(Some(1), 1);
        check(Some(30 * 86_400), RELATIVE_S_MAX);
        check(Some(30 * 86_400 + 1), 1_700_000_000 + RELATIVE_S_MAX + 1);
        check(Some(u32::MAX), i32::MAX);
    }
}
