//! What has been written to each key, and which writes a get may still show.
//!
//! Whoever reads must not see an older write than one that had been acknowledged before the get was
//! sent. Which of two writes is the older is known only if one had been acknowledged before the other
//! began; of two that were under way together the service may have done either first. So a write that
//! has been acknowledged *replaces* all those that had been acknowledged before it began, and the
//! *floor* of a key is the first write that is not replaced: no get that is sent from then on may
//! show a lower one.
//!
//! ```text
//! begin 1 ── ack 1        begin 3 ──────────── ack 3
//!               begin 2 ────────── ack 2                 floor: 1, 1, 2 (1 replaced), 2, then 2:
//!                                                        3 began before 2 was acknowledged
//! ```
//!
//! Where writes overlap that is less than could be told, and never more: what it calls wrong is wrong.

use std::collections::BTreeMap;

use super::contents::{KeyIdx, Version};

/// What was written to each key, as far as a get can still show it.
#[derive(Debug)]
pub(super) struct Ledger {
    keys: Vec<Page>,
    /// The writes that stand of each key of which there is more than one.
    standing: BTreeMap<KeyIdx, Vec<Write>>,
}

/// One key.
#[derive(Debug, Clone, Copy, Default)]
struct Page {
    /// The last write that has begun.
    begun: Version,
    /// The first write that a get may show which is sent now.
    floor: Version,
}

/// A write that is not replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Write {
    version: Version,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It may be done at any time.
    InFlight,
    /// Nobody knows whether it was done, or may be yet.
    Failed,
    /// When it was acknowledged this was the last write that had begun.
    Acknowledged { begun: Version },
}

impl Ledger {
    pub(super) fn new(n_keys: u32) -> Self {
        Self { keys: vec![Page::default(); n_keys as usize], standing: BTreeMap::new() }
    }

    /// Begins a write, which may be a delete.
    pub(super) fn begin(&mut self, key: KeyIdx) -> Version {
        let page = &mut self.keys[key.0 as usize];
        let standing = self.standing.entry(key).or_insert_with(|| {
            // The only one that stood had been acknowledged before this began.
            let state = State::Acknowledged { begun: page.begun };
            vec![Write { version: page.floor, state }]
        });
        page.begun = Version(page.begun.0 + 1);
        standing.push(Write { version: page.begun, state: State::InFlight });
        page.begun
    }

    /// Notes that a write was acknowledged.
    pub(super) fn acknowledge(&mut self, key: KeyIdx, version: Version) {
        let page = &mut self.keys[key.0 as usize];
        let Some(standing) = self.standing.get_mut(&key) else { return };
        for write in standing.iter_mut().filter(|write| write.version == version) {
            write.state = State::Acknowledged { begun: page.begun };
        }
        let is_replaced =
            |write: &Write| matches!(write.state, State::Acknowledged { begun } if begun < version);
        standing.retain(|write| !is_replaced(write));
        page.floor = standing.iter().map(|write| write.version).min().unwrap_or(page.floor);
        if matches!(standing[..], [Write { state: State::Acknowledged { .. }, .. }]) {
            self.standing.remove(&key);
        }
    }

    /// Notes that a write failed. One such write for each key is enough to keep, the first: it holds
    /// the floor down for good.
    pub(super) fn fail(&mut self, key: KeyIdx, version: Version) {
        let Some(standing) = self.standing.get_mut(&key) else { return };
        let failed = |write: &&Write| write.state == State::Failed;
        if standing.iter().filter(failed).any(|write| write.version < version) {
            standing.retain(|write| write.version != version);
            return;
        }
        standing.retain(|write| write.state != State::Failed);
        for write in standing.iter_mut().filter(|write| write.version == version) {
            write.state = State::Failed;
        }
    }

    /// The first write that a get may show which is sent now.
    pub(super) fn floor(&self, key: KeyIdx) -> Version {
        self.keys[key.0 as usize].floor
    }

    /// Why a get that was sent at this floor must not show this write, if it must not.
    pub(super) fn check(&self, key: KeyIdx, floor: Version, shown: Version) -> Result<(), String> {
        let begun = self.keys[key.0 as usize].begun;
        if shown < floor {
            let (shown, floor) = (shown.0, floor.0);
            return Err(format!(
                "write {shown}, which had been replaced before the get was sent: from write {floor} on"
            ));
        }
        if shown > begun {
            return Err(format!("write {}, and only {} have begun", shown.0, begun.0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyIdx = KeyIdx(1);

    fn floor(ledger: &Ledger) -> u32 {
        ledger.floor(KEY).0
    }

    #[test]
    fn an_acknowledged_write_replaces_the_one_before() {
        let mut ledger = Ledger::new(2);
        let first = ledger.begin(KEY);
        assert_eq!((first.0, floor(&ledger)), (1, 0));
        ledger.acknowledge(KEY, first);
        assert_eq!(floor(&ledger), 1);
        let second = ledger.begin(KEY);
        assert_eq!(floor(&ledger), 1, "what is not acknowledged replaces nothing");
        ledger.acknowledge(KEY, second);
        assert_eq!(floor(&ledger), 2);
        assert!(ledger.standing.is_empty(), "one write that stands is known by the floor alone");
        assert_eq!(ledger.floor(KeyIdx(0)), Version(0));
    }

    #[test]
    fn of_writes_that_overlap_either_may_be_the_last() {
        let mut ledger = Ledger::new(2);
        let (one, two) = (ledger.begin(KEY), ledger.begin(KEY));
        ledger.acknowledge(KEY, two);
        ledger.acknowledge(KEY, one);
        assert_eq!(floor(&ledger), 1);
        let three = ledger.begin(KEY);
        ledger.acknowledge(KEY, three);
        assert_eq!(floor(&ledger), 3);
    }

    #[test]
    fn a_write_in_flight_keeps_only_itself() {
        let mut ledger = Ledger::new(2);
        let slow = ledger.begin(KEY);
        for _ in 0..100 {
            let quick = ledger.begin(KEY);
            ledger.acknowledge(KEY, quick);
        }
        assert_eq!(floor(&ledger), slow.0);
        assert_eq!(ledger.standing[&KEY].len(), 2);
        ledger.acknowledge(KEY, slow);
        assert_eq!(floor(&ledger), slow.0, "it may have been done just now");
    }

    #[test]
    fn a_failed_write_may_show_for_good_and_many_take_no_more_room_than_one() {
        let mut ledger = Ledger::new(2);
        for _ in 0..100 {
            let failed = ledger.begin(KEY);
            ledger.fail(KEY, failed);
        }
        let done = ledger.begin(KEY);
        ledger.acknowledge(KEY, done);
        assert_eq!(floor(&ledger), 1);
        assert_eq!(ledger.standing[&KEY].len(), 2);
    }

    #[test]
    fn a_write_that_fails_behind_one_in_flight_is_not_forgotten() {
        let mut ledger = Ledger::new(2);
        let (slow, failed) = (ledger.begin(KEY), ledger.begin(KEY));
        ledger.fail(KEY, failed);
        ledger.acknowledge(KEY, slow);
        let last = ledger.begin(KEY);
        ledger.acknowledge(KEY, last);
        assert_eq!(floor(&ledger), failed.0);
    }

    #[test]
    fn what_was_replaced_before_the_get_and_what_was_never_written_is_wrong() {
        let mut ledger = Ledger::new(2);
        for _ in 0..2 {
            let version = ledger.begin(KEY);
            ledger.acknowledge(KEY, version);
        }
        let floor = ledger.floor(KEY);
        let third = ledger.begin(KEY);
        for fine in [floor, third] {
            assert_eq!(ledger.check(KEY, floor, fine), Ok(()));
        }
        let old = ledger.check(KEY, floor, Version(1)).unwrap_err();
        assert!(old.starts_with("write 1, which had been replaced"), "{old}");
        let unknown = ledger.check(KEY, floor, Version(4)).unwrap_err();
        assert_eq!(unknown, "write 4, and only 3 have begun");
    }
}
