//! What ends doubts when no client does: the copies of doubted keys are dropped, a step at a time.
//!
//! An upper tier that is away leaves doubts, and reads of their keys go past it. Were they left to the
//! next write of each key, most would stay for ever. [`Tiers::work_off`] is called now and then, and
//! ends its step with the second batch of which something is not answered. After the first its server
//! is left alone for a while, so that the keys of others come to their turn; a tier that is away as a
//! whole costs two batches a step. Who has not come to his turn begins the next step.

use forebay::now;
use futures_util::future::join_all;

use super::Tiers;
use super::ledger::Step;
use super::part::{Part, Phase};
use crate::cacheproxy::operation::{Cas, Delete, ExpTime, Failure, Key, Operation, Outcome, What};

/// Copies that are dropped at once: a server's batch.
const AT_ONCE_MAX: usize = 128;

/// Batches with something that is not answered, until a step ends.
const UNANSWERED_MAX: usize = 2;
/// Servers count up from 1, so no item comes to have this one.
const NOBODYS_CAS: Cas = Cas::MAX;

/// Whether more can be asked of a tier in this step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    On,
    Ended,
}

impl Tiers {
    /// Does a step of what ends doubts. Dropped half-way, it has done less.
    pub(in crate::cacheproxy) async fn work_off(&self) {
        let step = self.ledger.borrow_mut().next_step(now());
        match step {
            Step::Rest => {}
            Step::Flush(begun) => {
                if self.upper.flush_all(ExpTime(0)).await.is_ok() {
                    self.ledger.borrow_mut().flushed(begun, now());
                }
            }
            Step::Repair(keys) => {
                let mut n_unanswered = 0;
                let mut batches = keys.chunks(AT_ONCE_MAX);
                while n_unanswered < UNANSWERED_MAX
                    && let Some(batch) = batches.next()
                {
                    let repaired = self.repair_batch(batch).await;
                    n_unanswered += usize::from(repaired == Going::Ended);
                }
            }
        }
    }

    async fn repair_batch(&self, keys: &[Key]) -> Going {
        if let Some(last) = keys.last() {
            self.ledger.borrow_mut().doubts.tried(last.clone());
        }
        let repaired = join_all(keys.iter().map(|key| self.repair(key))).await;
        if repaired.contains(&Going::Ended) { Going::Ended } else { Going::On }
    }

    async fn repair(&self, key: &Key) -> Going {
        let asks_below = self.ledger.borrow().doubts.may_be_late(key);
        let change = self.ledger.borrow_mut().begin_repair(key, now());
        let Some(change) = change else { return Going::On };
        let what = change.what.clone();
        let part = Part::new(&self.ledger, key, Phase::Above(change));
        let below = if asks_below { self.ask_below(key).await } else { Ok(()) };
        let changed = match below {
            Ok(()) => self.make_right(key, what).await,
            failed => failed,
        };
        part.above(changed);
        going(changed)
    }

    /// A server that stands still shows nothing by what the tier above it does. What is asked must
    /// change nothing, must not share the answer to what was asked before, and must be there for every
    /// key: `me` is not, for those that stand in base64.
    async fn ask_below(&self, key: &Key) -> Result<(), Failure> {
        // What could not be said cannot be done late.
        if !self.lower.can_hold(key) {
            return Ok(());
        }
        let delete = Delete { if_cas: Some(NOBODYS_CAS), ..Delete::default() };
        let asked = Operation { key: key.clone(), what: What::Delete(delete) };
        match self.lower.apply(&asked).await {
            // A server that refuses has heard.
            Outcome::Failed(Failure::Refused) => Ok(()),
            Outcome::Failed(failure) => Err(failure),
            _ => Ok(()),
        }
    }
}

/// What was not sent has cost nothing, and a server that refuses is there.
fn going(asked: Result<(), Failure>) -> Going {
    match asked {
        Ok(()) | Err(Failure::Unavailable | Failure::Refused) => Going::On,
        Err(Failure::Unanswered | Failure::Overloaded | Failure::Closing) => Going::Ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_goes_on_after_what_was_answered_and_what_was_not_sent() {
        assert_eq!(going(Ok(())), Going::On);
        assert_eq!(going(Err(Failure::Refused)), Going::On);
        assert_eq!(going(Err(Failure::Unavailable)), Going::On);
        assert_eq!(going(Err(Failure::Unanswered)), Going::Ended);
    }
}
