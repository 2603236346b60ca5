//! When the lower tier will be flushed, as clients have asked for it with a delay. Pure.
//!
//! A time once noted is never forgotten before it has come: whether a later `flush_all` has taken its
//! place, as it does at a memcached, is not known where that one failed, or reached some servers only.
//! One too many costs misses.

use std::collections::BTreeSet;

use crate::cacheproxy::store::Now;

/// Times that are told apart: a client that flushes with a delay has one or two under way.
const DUES_MAX: usize = 16;

/// Times that are still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dues {
    Each(BTreeSet<Now>),
    /// Any time from the one to the other: there were too many.
    Throughout(Now, Now),
}

impl Dues {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Each(times) if times.is_empty())
    }

    pub(super) fn note(&mut self, due: Now) {
        match self {
            Self::Each(times) => {
                times.insert(due);
                if let (Some(first), Some(last)) = (times.first(), times.last())
                    && times.len() > DUES_MAX
                {
                    *self = Self::Throughout(*first, *last);
                }
            }
            Self::Throughout(first, last) => {
                (*first, *last) = (due.min(*first), due.max(*last));
            }
        }
    }

    /// Whether one has come since this was asked before; of those that go on coming, one a second does.
    pub(super) fn take(&mut self, now: Now) -> bool {
        match self {
            Self::Each(times) => {
                let n_before = times.len();
                times.retain(|due| *due > now);
                times.len() < n_before
            }
            Self::Throughout(first, last) => {
                if now < *first {
                    return false;
                }
                *first = Now(now.0.saturating_add(1));
                if *last < *first {
                    *self = Self::default();
                }
                true
            }
        }
    }
}

impl Default for Dues {
    fn default() -> Self {
        Self::Each(BTreeSet::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_comes_once_whatever_is_noted_after_it() {
        let mut dues = Dues::default();
        for due in [10, 30, 20, 10] {
            dues.note(Now(due));
        }
        let taken: Vec<_> = (8..32).filter(|now| dues.take(Now(*now))).collect();
        assert_eq!(taken, [10, 20, 30]);
        assert!(dues.is_empty());
    }

    #[test]
    fn of_too_many_times_none_is_forgotten() {
        let mut dues = Dues::default();
        for due in (10..).step_by(10).take(DUES_MAX) {
            dues.note(Now(due));
        }
        assert!(matches!(&dues, Dues::Each(_)));
        dues.note(Now(500));
        dues.note(Now(5));
        assert!(!dues.take(Now(4)));
        assert!((5..500).all(|now| dues.take(Now(now)) && !dues.take(Now(now))));
        assert!(dues.take(Now(600)));
        assert!(dues.is_empty());
    }
}
