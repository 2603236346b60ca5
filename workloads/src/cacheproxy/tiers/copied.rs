//! What becomes of the copy above when its item below was read or changed. Pure: the tiers do it.
//!
//! A copy is made right by the change that made the item right, where that says all that the item is
//! or how it differs from what the copy was. Anything else is dropped above, and read again when it is
//! asked for: to know less is never wrong.

use super::Policy;
use crate::cacheproxy::operation::{
    Delete, Entry, ExpTime, Failure, Get, Outcome, Set, SetMode, Wanted, What, Win,
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
    /// What an operation that was asked for below at `asked_at`, and came to `outcome`, means for the
    /// copy above.
    pub(super) fn after_write(
        policy: Policy,
        asked_at: Now,
        what: &What,
        outcome: &Outcome,
    ) -> Self {
        match (what, outcome) {
            (_, Outcome::Exists | Outcome::NotANumber | Outcome::Described(_)) => Self::Same,
            (_, Outcome::Failed(failure)) if is_not_sent(*failure) => Self::Same,
            // At most its use and who is to fill it again have changed, which no copy tells.
            (What::Get(Get { touch: None, vivify: None, .. }), Outcome::Hit(_)) => Self::Same,
            // There is one below.
            (What::Set(Set { mode: SetMode::Add, .. }), Outcome::NotStored) => Self::Same,
            (What::Set(set), Outcome::Stored(_)) if is_whole_change(set) => {
                Self::By(What::Set(set_above(policy, asked_at, set)))
            }
            (What::Get(Get { touch: touch @ Some(_), vivify: None, .. }), Outcome::Hit(_)) => {
                let touch = touch.map(|expires| absolute(asked_at, expires));
                Self::By(What::Get(Get { value: Wanted::No, touch, ..Get::PLAIN }))
            }
            // It has changed in a way that is not known here, or is not there, or nobody knows.
            _ => Self::Gone,
        }
    }

    /// The copy of an item that a read has found below which was asked for at `asked_at`.
    pub(super) fn after_read(asked_at: Now, entry: &Entry) -> Self {
        let is_as_usual = !entry.stale && entry.win == Win::None;
        let Some(expires) = expires_after(asked_at, entry.ttl_s).filter(|_| is_as_usual) else {
            return Self::Gone;
        };
        let value = entry.value.clone();
        Self::By(What::Set(Set::new(SetMode::Set, entry.flags, expires, value)))
    }

    /// The same for a copy that may have been old before.
    pub(super) fn of_doubted(self) -> Self {
        match self {
            // What is added to an old copy makes it no newer.
            Self::By(what) if !leaves_nothing_old(&what) => Self::Gone,
            copied => copied,
        }
    }

    /// The same where nothing is known of the item either.
    pub(super) fn of_unknown(self) -> Self {
        match self {
            Self::By(_) | Self::Gone => Self::Gone,
            Self::Same => Self::Same,
        }
    }

    /// What is to be done above; `None` if nothing is.
    pub(super) fn into_change(self) -> Option<What> {
        match self {
            Self::Same => None,
            Self::By(what) => Some(what),
            Self::Gone => Some(What::Delete(Delete::default())),
        }
    }
}

/// The store above that follows one below.
fn set_above(policy: Policy, asked_at: Now, set: &Set) -> Set {
    let mode = match (set.mode, policy) {
        // What is not there below may still have a copy.
        (SetMode::Add | SetMode::Set, Policy::Fill) => SetMode::Set,
        (SetMode::Add | SetMode::Set | SetMode::Replace, _) => SetMode::Replace,
        (SetMode::Append | SetMode::Prepend, _) => set.mode,
    };
    Set::new(mode, set.flags, absolute(asked_at, set.expires), set.value.clone())
}

/// The same expiry as a second of the epoch, if it is one: counted from when the upper tier is asked,
/// the copy would outlive its item by the time that the lower one took.
fn absolute(Now(asked_s): Now, expires: ExpTime) -> ExpTime {
    match u32::try_from(expires.0) {
        Ok(left_s @ 1..=RELATIVE_S_MAX) => at_second(asked_s.saturating_add(left_s)),
        _ => expires,
    }
}

/// When an item expires of which so many seconds are left; `None` if none is.
fn expires_after(Now(asked_s): Now, ttl_s: Option<u32>) -> Option<ExpTime> {
    match ttl_s {
        None => Some(ExpTime(0)),
        Some(0) => None,
        Some(left_s) => Some(at_second(asked_s.saturating_add(left_s))),
    }
}

fn at_second(second: u32) -> ExpTime {
    // What is said ends in the year 2038, as memcached's own.
    ExpTime(i32::try_from(second).unwrap_or(i32::MAX))
}

/// Whether the store says all that the item is afterwards, or how it differs from before.
fn is_whole_change(set: &Set) -> bool {
    !set.invalidate && set.vivify.is_none()
}

/// Whether a change above leaves nothing of the copy that was there before it.
pub(super) fn leaves_nothing_old(what: &What) -> bool {
    let is_store = matches!(what, What::Set(Set { mode: SetMode::Set | SetMode::Replace, .. }));
    is_store || matches!(what, What::Delete(_))
}

/// Whether an operation that failed so has surely not been done.
pub(super) const fn is_not_sent(failure: Failure) -> bool {
    matches!(failure, Failure::Unavailable | Failure::Overloaded | Failure::Closing)
}
