//! How many keys are read at once for one client: few where values are large.
//!
//! What was read is held until its client has taken it, so a client that is slow holds as much as was
//! read for it at once. How large that is nobody knows before: so the largest value that any client of
//! the shard has lately read stands for all. It is forgotten in time, since one large value must not
//! make parts of all gets for ever.

use std::cell::Cell;
use std::time::Duration;

use forebay::Time;

use crate::cacheproxy::operation::Outcome;
use crate::cacheproxy::run::KEYS_MAX;

/// Bytes that the values of a part come to, if none is larger than those lately read: some of the
/// largest that memcached has by default.
const PART_BYTES: usize = 4 << 20;
/// Keys of a part where nothing has been read lately: enough that such a one comes to little when values
/// are large, and that the second part can be whole soon when they are small.
const UNKNOWN_KEYS: usize = 8;
/// How long a value is remembered, at least; at most twice as long.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What a shard has seen of the sizes of values.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Bytes of the largest value since then; 0 if nothing has been read.
    largest: Cell<usize>,
    since: Cell<Time>,
    /// The same of the time before.
    largest_before: Cell<usize>,
}

impl Parts {
    /// Sees what came of an operation of a client. A miss tells as much as a small value.
    pub(super) fn note(&self, outcome: &Outcome) {
        let n_bytes = match outcome {
            Outcome::Hit(entry) => entry.value.len().max(1),
            Outcome::Miss => 1,
            _ => return,
        };
        if n_bytes > self.largest.get() {
            self.largest.set(n_bytes);
        }
    }

    /// Most keys that are read at once now.
    pub(super) fn keys_max(&self, now: Time) -> usize {
        let seen_for = now.since(self.since.get());
        if seen_for >= REMEMBERED {
            let largest = self.largest.take();
            self.largest_before.set(if seen_for < REMEMBERED * 2 { largest } else { 0 });
            self.since.set(now);
        }
        match self.largest.get().max(self.largest_before.get()) {
            0 => UNKNOWN_KEYS,
            n_bytes => (PART_BYTES / n_bytes).clamp(1, KEYS_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    fn saw(parts: &Parts, n_bytes: usize) {
        parts.largest.set(parts.largest.get().max(n_bytes));
    }

    #[test]
    fn large_values_are_read_a_few_at_once_and_small_ones_many() {
        let check = |n_bytes: usize, n_wanted: usize| {
            let parts = Parts::default();
            saw(&parts, n_bytes);
            assert_eq!(parts.keys_max(at(1)), n_wanted, "{n_bytes} bytes");
        };
        check(0, UNKNOWN_KEYS);
        check(1, KEYS_MAX);
        check(PART_BYTES / KEYS_MAX, KEYS_MAX);
        check(PART_BYTES / KEYS_MAX + 1, KEYS_MAX - 1);
        check(1 << 20, 4);
        check(PART_BYTES, 1);
        check(PART_BYTES + 1, 1);
    }

    #[test]
    fn a_miss_is_known_to_be_small() {
        let parts = Parts::default();
        parts.note(&Outcome::Stored(0));
        assert_eq!(parts.keys_max(at(1)), UNKNOWN_KEYS);
        parts.note(&Outcome::Miss);
        assert_eq!(parts.keys_max(at(1)), KEYS_MAX);
    }

    #[test]
    fn a_large_value_is_remembered_for_a_while_and_no_longer() {
        let parts = Parts::default();
        saw(&parts, 1 << 20);
        let minutes = [at(59), at(60), at(119)];
        assert_eq!(minutes.map(|now| parts.keys_max(now)), [4; 3]);
        saw(&parts, 1);
        assert_eq!(parts.keys_max(at(120)), KEYS_MAX);
        saw(&parts, 1 << 20);
        assert_eq!(parts.keys_max(at(121)), 4);
        assert_eq!(parts.keys_max(at(240)), UNKNOWN_KEYS, "nothing was read for a minute");
    }
}
