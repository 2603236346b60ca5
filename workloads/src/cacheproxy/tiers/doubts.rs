//! Keys whose copies above may be older than their items, and on which nobody is at work. Pure.
//!
//! A doubt ends when a change that leaves nothing of the old copy has been answered above. Where
//! something was asked and not answered, below or above, that is not enough: it may be done yet, after
//! what was asked later on another connection. Then two such changes have to be answered, the second
//! asked at least [`GRACE`] after the first was answered. The first shows that the server works again;
//! what had arrived there before has been done by the second.
//!
//! A server that stands still once more between the two, and for longer than that, can still do late
//! what it had been sent before the first: nothing but its own end would rule that out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::time::Duration;

use forebay::Time;

use crate::cacheproxy::operation::Key;

/// Keys of one shard that are doubted at once. Each takes a key and a place in a tree, so this is some
/// tens of megabytes at worst.
pub(super) const DOUBTS_MAX: usize = 65_536;
/// How long a server that works may take for what it was sent before: a thousand times of what it
/// usually takes.
pub(in crate::cacheproxy) const GRACE: Duration = Duration::from_secs(1);

/// Tells what was begun before from what was begun later, on one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Ticket(pub(super) u64);

/// Why a key is doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its copy may be what it was, and its item is not.
    Old,
    /// Something was asked for it that was not answered.
    Unanswered,
}

/// As many keys are doubted as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// A change that leaves nothing of an old copy was begun then, and has been answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proof {
    pub(super) begun: Ticket,
    /// When the lower tier was asked, before the upper one. `None` if it has not answered: then nothing
    /// is shown of what it may still do.
    pub(super) asked_at: Option<Time>,
    pub(super) answered_at: Time,
}

/// The doubts of one shard.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    of_keys: BTreeMap<Key, Doubt>,
    /// The last that somebody tried to end.
    tried: Option<Key>,
    #[cfg(test)]
    pub(super) planted: Planted,
}

/// Planted faults.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Planted {
    #[default]
    Nothing,
    /// What was not answered is taken for not done.
    NoGrace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Doubt {
    /// What was asked for before this proves nothing.
    noted: Ticket,
    late: Late,
}

/// Whether something may be done late. `Possible ─ a proof ─▶ Since ─ another, in time ─▶ no doubt`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    No,
    Possible,
    /// No longer than for a while after this.
    Since(Time),
}

impl Doubts {
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.of_keys.contains_key(key)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.of_keys.len()
    }

    pub(super) fn clear(&mut self) {
        self.of_keys.clear();
    }

    /// All old copies have gone, or will.
    pub(super) fn forget_old(&mut self) {
        self.of_keys.retain(|_, doubt| doubt.late != Late::No);
    }

    /// Whether something may be done late for this key.
    pub(super) fn may_be_late(&self, key: &Key) -> bool {
        self.of_keys.get(key).is_some_and(|doubt| doubt.late != Late::No)
    }

    /// Remembers that a key is doubted from now on.
    ///
    /// # Errors
    ///
    /// [`Full`], and nothing is remembered.
    pub(super) fn note(&mut self, key: &Key, cause: Cause, noted: Ticket) -> Result<(), Full> {
        let n_doubts = self.of_keys.len();
        let late = self.late(cause);
        match self.of_keys.entry(key.clone()) {
            Entry::Occupied(mut there) => {
                let doubt = there.get_mut();
                doubt.noted = noted;
                if late == Late::Possible {
                    doubt.late = late;
                }
            }
            Entry::Vacant(_) if n_doubts >= DOUBTS_MAX => return Err(Full),
            Entry::Vacant(place) => {
                place.insert(Doubt { noted, late });
            }
        }
        Ok(())
    }

    fn late(&self, cause: Cause) -> Late {
        #[cfg(test)]
        if self.planted == Planted::NoGrace {
            return Late::No;
        }
        match cause {
            Cause::Old => Late::No,
            Cause::Unanswered => Late::Possible,
        }
    }

    /// Ends a doubt, or brings its end nearer.
    pub(super) fn proved(&mut self, key: &Key, proof: Proof) {
        let Some(doubt) = self.of_keys.get_mut(key) else { return };
        if proof.begun < doubt.noted {
            return;
        }
        match (doubt.late, proof.asked_at) {
            (Late::Possible | Late::Since(_), None) => {}
            (Late::Possible, Some(_)) => doubt.late = Late::Since(proof.answered_at),
            (Late::Since(answered_at), Some(at)) if at < answered_at.after(GRACE) => {}
            (Late::Since(_), Some(_)) | (Late::No, _) => {
                self.of_keys.remove(key);
            }
        }
    }

    /// The next so many keys after the last that was tried, in turn.
    pub(super) fn next(&self, n_keys_max: usize) -> Vec<Key> {
        let after = self.tried.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let n_keys_max = n_keys_max.min(self.of_keys.len());
        let later = self.of_keys.range::<Key, _>((after, Bound::Unbounded));
        // Where there are enough of the later ones, the round does not come to its beginning.
        let keys = later.chain(&self.of_keys).take(n_keys_max);
        keys.map(|(key, _)| key.clone()).collect()
    }

    /// Those up to this key have had their turn.
    pub(super) fn tried(&mut self, key: Key) {
        self.tried = Some(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::new(format!("{number:06}").as_bytes()).unwrap()
    }

    fn proof(begun: u64, asked_s: u64, answered_s: u64) -> Proof {
        let at = |s| Time::default().after(Duration::from_secs(s));
        Proof { begun: Ticket(begun), asked_at: Some(at(asked_s)), answered_at: at(answered_s) }
    }

    #[test]
    fn an_old_copy_is_out_of_doubt_when_it_was_changed_after_it_became_so() {
        let mut doubts = Doubts::default();
        doubts.note(&key(0), Cause::Old, Ticket(5)).unwrap();
        doubts.proved(&key(0), proof(4, 9, 9));
        assert!(doubts.contains(&key(0)), "that was asked for before");
        doubts.proved(&key(0), proof(6, 9, 9));
        assert!(!doubts.contains(&key(0)));
    }

    #[test]
    fn what_may_be_done_late_needs_two_answers_with_a_grace_between_them() {
        let mut doubts = Doubts::default();
        doubts.note(&key(0), Cause::Unanswered, Ticket(0)).unwrap();
        let mut is_doubted = |proof| {
            doubts.proved(&key(0), proof);
            doubts.contains(&key(0))
        };
        let unanswered = |begun, s| Proof { asked_at: None, ..proof(begun, s, s) };
        assert!(is_doubted(unanswered(1, 1)) && is_doubted(unanswered(1, 9)));
        assert!(is_doubted(proof(1, 10, 12)));
        assert!(is_doubted(unanswered(2, 20)));
        assert!(is_doubted(proof(2, 12, 12)), "too early");
        assert!(!is_doubted(proof(3, 13, 13)));
        // Something else that is not answered meanwhile begins it anew, an old copy does not.
        doubts.note(&key(0), Cause::Unanswered, Ticket(4)).unwrap();
        doubts.proved(&key(0), proof(5, 20, 20));
        doubts.note(&key(0), Cause::Old, Ticket(6)).unwrap();
        doubts.proved(&key(0), proof(5, 21, 21));
        assert!(doubts.contains(&key(0)), "asked for before it was old again");
        doubts.note(&key(0), Cause::Unanswered, Ticket(7)).unwrap();
        doubts.proved(&key(0), proof(8, 22, 22));
        assert!(doubts.contains(&key(0)));
        doubts.note(&key(0), Cause::Old, Ticket(9)).unwrap();
        doubts.proved(&key(0), proof(10, 23, 23));
        assert!(!doubts.contains(&key(0)));
    }

    #[test]
    fn no_more_are_remembered_than_may_be() {
        let mut doubts = Doubts::default();
        for number in 0..DOUBTS_MAX {
            doubts.note(&key(number), Cause::Old, Ticket(0)).unwrap();
        }
        assert_eq!(doubts.note(&key(DOUBTS_MAX), Cause::Old, Ticket(0)), Err(Full));
        assert_eq!(doubts.note(&key(0), Cause::Unanswered, Ticket(0)), Ok(()));
        assert_eq!(doubts.len(), DOUBTS_MAX);
    }

    #[test]
    fn all_keys_have_their_turn() {
        let mut doubts = Doubts::default();
        for number in 0..5 {
            doubts.note(&key(number), Cause::Old, Ticket(0)).unwrap();
        }
        let mut next = |n_keys_max| {
            let keys = doubts.next(n_keys_max);
            doubts.tried(keys.last().expect("there are some").clone());
            keys
        };
        assert_eq!(next(3), [key(0), key(1), key(2)]);
        assert_eq!(next(3), [key(3), key(4), key(0)]);
        assert_eq!(next(99), [key(1), key(2), key(3), key(4), key(0)]);
        assert_eq!(doubts.next(1), doubts.next(1), "nobody has tried");
        doubts.clear();
        assert!(doubts.next(3).is_empty());
    }
}
