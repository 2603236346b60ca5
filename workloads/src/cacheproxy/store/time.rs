//! When items expire, in the seconds of memcached's clock.
//!
//! memcached reads its clock once a second and rounds all times to it. So does this store: whoever
//! owns a shard tells it the second, and nothing here reads a clock.

use super::super::operation::ExpTime;

/// Up to here an expiry counts from now; beyond it is a second of the Unix epoch: memcached's rule.
const RELATIVE_S_MAX: u32 = 30 * 24 * 60 * 60;

/// The time of an operation, in seconds of the Unix epoch.
///
/// It should never fall. Where it does, items live the longer for it, and nothing else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(pub u32);

impl Now {
    /// Seconds that have passed since `then`.
    pub(super) fn since_s(self, then: Self) -> u32 {
        self.0.saturating_sub(then.0)
    }
}

/// The second from which on an item is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expiry(u32);

impl Expiry {
    /// Never. As in memcached this is the second 0, so that an expiry takes four bytes.
    pub(super) const NEVER: Self = Self(0);
    /// Long ago.
    const PAST: Self = Self(1);

    /// What a client means by an expiry that it sends at `now`.
    pub(super) fn resolve(sent: ExpTime, now: Now) -> Self {
        match u32::try_from(sent.0) {
            Err(_) => Self::PAST,
            Ok(0) => Self::NEVER,
            Ok(relative_s @ 1..=RELATIVE_S_MAX) => Self(now.0.saturating_add(relative_s)),
            Ok(epoch_s) => Self(epoch_s),
        }
    }

    pub(super) fn is_past(self, now: Now) -> bool {
        self != Self::NEVER && self.0 <= now.0
    }

    /// Whether less than what `sent` means is left: `mg R`. What never expires has always enough.
    pub(super) fn is_before(self, sent: ExpTime, now: Now) -> bool {
        self != Self::NEVER && self < Self::resolve(sent, now)
    }

    /// Seconds that are left; `None` for ever, 0 if it is past.
    pub(super) fn ttl_s(self, now: Now) -> Option<u32> {
        (self != Self::NEVER).then(|| self.0.saturating_sub(now.0))
    }
}

/// When a flush that a client delays takes effect, or `None` for at once.
///
/// memcached flushes all that was stored until the second before the one that is named, and does so
/// from that second on.
pub(in crate::cacheproxy) fn flush_at(delay: ExpTime, now: Now) -> Option<Now> {
    if delay.0 <= 0 {
        return None;
    }
    let Expiry(named) = Expiry::resolve(delay, now);
    let at = Now(named.saturating_sub(1));
    (at > now).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now(1_700_000_000);

    #[test]
    fn an_expiry_is_never_relative_absolute_or_past() {
        let check = |sent: i32, ttl_s: Option<u32>, past: bool| {
            let expiry = Expiry::resolve(ExpTime(sent), NOW);
            assert_eq!((expiry.ttl_s(NOW), expiry.is_past(NOW)), (ttl_s, past), "{sent}");
        };
        check(0, None, false);
        check(1, Some(1), false);
        check(2_592_000, Some(2_592_000), false);
        check(2_592_001, Some(0), true);
        check(1_700_000_000, Some(0), true);
        check(1_700_000_001, Some(1), false);
        check(i32::MAX, Some(447_483_647), false);
        check(-1, Some(0), true);
        check(i32::MIN, Some(0), true);
    }

    #[test]
    fn an_item_is_gone_in_the_second_of_its_expiry_and_not_before() {
        let expiry = Expiry::resolve(ExpTime(2), NOW);
        assert!(!expiry.is_past(Now(NOW.0 + 1)));
        assert!(expiry.is_past(Now(NOW.0 + 2)));
    }

    #[test]
    fn a_delayed_flush_takes_effect_a_second_before_the_one_it_names() {
        let check = |delay: i32, at: Option<u32>| {
            assert_eq!(flush_at(ExpTime(delay), NOW), at.map(|s| Now(NOW.0 + s)), "{delay}");
        };
        check(-1, None);
        check(0, None);
        check(1, None);
        check(2, Some(1));
        check(3, Some(2));
        check(1_700_000_010, Some(9));
        check(1_600_000_000, None);
    }
}
