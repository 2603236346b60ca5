//! What becomes of the copy above when its item below was read or changed. Pure: the tiers do it.
//!
//! A copy is made right by the change that made the item right, where that says all that the item is
//! or how it differs from what the copy was. Anything else is dropped above, and read again when it is
//! asked for: to know less is never wrong.

use super::Policy;
use crate::cacheproxy::operation::{
    Entry, ExpTime, Failure, Get, Outcome, Set, SetMode, Wanted, What, Win,
};
use crate::cacheproxy::store::Now;

/// Up to here an expiry is relative to now, as clients send it.
const RELATIVE_S_MAX: u32 = 30 * 24 * 60 * 60;

/// What a change below means for the copy above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Copied {
    /// Nothing has changed.
    Same,
    /// This makes it right, or finds none.
    By(What),
    /// It has to go.
    Gone,
}

impl Copied {
    /// What an operation that came to `outcome` below means for the copy above.
    pub(super) fn after_write(policy: Policy, what: &What, outcome: &Outcome) -> Self {
        match (what, outcome) {
            (_, Outcome::Exists | Outcome::NotANumber | Outcome::Described(_)) => Self::Same,
            (_, Outcome::Failed(failure)) if is_not_sent(*failure) => Self::Same,
            // At most its use and who is to fill it again have changed, which no copy tells.
            (What::Get(Get { touch: None, vivify: None, .. }), Outcome::Hit(_)) => Self::Same,
            // There is one below.
            (What::Set(Set { mode: SetMode::Add, .. }), Outcome::NotStored) => Self::Same,
            (What::Set(set), Outcome::Stored(_)) if is_whole_change(set) => {
                Self::By(What::Set(set_above(policy, set)))
            }
            (What::Get(Get { touch: touch @ Some(_), vivify: None, .. }), Outcome::Hit(_)) => {
                Self::By(What::Get(Get { value: Wanted::No, touch: *touch, ..Get::PLAIN }))
            }
            // It has changed in a way that is not known here, or is not there, or nobody knows.
            _ => Self::Gone,
        }
    }

    /// The copy of an item that a read has found below.
    pub(super) fn after_read(now: Now, entry: &Entry) -> Self {
        let is_as_usual = !entry.stale && entry.win == Win::None;
        let Some(expires) = expires_after(now, entry.ttl_s).filter(|_| is_as_usual) else {
            return Self::Gone;
        };
        let value = entry.value.clone();
        Self::By(What::Set(Set::new(SetMode::Set, entry.flags, expires, value)))
    }

    /// The same for a copy that may have been old before.
    pub(super) fn of_doubted(self) -> Self {
        match self {
            // What is added to an old copy makes it no newer.
            Self::By(what) if !replaces(&what) => Self::Gone,
            copied => copied,
        }
    }
}

/// The store above that follows one below.
fn set_above(policy: Policy, set: &Set) -> Set {
    let mode = match (set.mode, policy) {
        // What is not there below may still have a copy.
        (SetMode::Add | SetMode::Set, Policy::Fill) => SetMode::Set,
        (SetMode::Add | SetMode::Set | SetMode::Replace, _) => SetMode::Replace,
        (SetMode::Append | SetMode::Prepend, _) => set.mode,
    };
    Set::new(mode, set.flags, set.expires, set.value.clone())
}

/// How a client would say the time that is left; `None` if there is none.
fn expires_after(Now(now_s): Now, ttl_s: Option<u32>) -> Option<ExpTime> {
    let said_s = match ttl_s {
        None => 0,
        Some(0) => return None,
        Some(left_s) if left_s > RELATIVE_S_MAX => now_s.saturating_add(left_s),
        Some(left_s) => left_s,
    };
    Some(ExpTime(i32::try_from(said_s).unwrap_or(i32::MAX)))
}

/// Whether the store says all that the item is afterwards, or how it differs from before.
fn is_whole_change(set: &Set) -> bool {
    !set.invalidate && set.vivify.is_none()
}

/// Whether a change above leaves nothing of the copy that was there before it.
pub(super) fn replaces(what: &What) -> bool {
    matches!(what, What::Set(Set { mode: SetMode::Set | SetMode::Replace, .. }))
}

/// Whether an operation that failed so has surely not been done.
pub(super) const fn is_not_sent(failure: Failure) -> bool {
    matches!(failure, Failure::Unavailable | Failure::Overloaded | Failure::Closing)
}
