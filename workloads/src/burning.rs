//! CPU time that is burnt on purpose: what a polite but busy neighbour costs the others.

use std::time::Duration;

/// Keeps the core busy. The shard's clock stands still meanwhile, so this reads the host's.
#[expect(clippy::disallowed_methods, reason = "burning real time is the purpose")]
pub(crate) fn spin(time: Duration) {
    let begun = std::time::Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Keeps the core busy for so long in all, a `slice` at a time, and lets others have it in between.
/// Time spent waiting for its turn does not count as burnt.
pub(crate) async fn burn(time: Duration, slice: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let next = left.min(slice);
        spin(next);
        left -= next;
        forebay::yield_now().await;
    }
}
