//! Sources: what brings requests by the clock, polled by the turn instead of a timer for each.

use std::cell::RefCell;
use std::fmt;

use super::records::Tasks;
use crate::runtime::Time;
use crate::runtime::guard::contain;

struct Source {
    next: Time,
    poll: Box<dyn FnMut(Time) -> Option<Time>>,
}

/// The sources of one shard. Bounded by the code that adds them: one per load or service.
#[derive(Default)]
pub(crate) struct Sources {
    list: RefCell<Vec<Source>>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sources({})", self.list.borrow().len())
    }
}

/// Adds a source to this shard: the turn calls `poll` with the time whenever the moment it last
/// returned has come (at first at once); `None` ends the source, and so does a panic.
///
/// # Panics
///
/// Outside of a shard.
pub fn add_source(poll: impl FnMut(Time) -> Option<Time> + 'static) {
    let source = Source { next: Time::ZERO, poll: Box::new(poll) };
    Tasks::current().sources.list.borrow_mut().push(source);
}

impl Tasks {
    /// Polls every source whose time has come.
    pub(crate) fn poll_sources(&self, now: Time) {
        if self.sources.list.borrow().is_empty() {
            return;
        }
        // Taken out while they run: a source may add another.
        let mut list = self.sources.list.take();
        list.retain_mut(|source| {
            if source.next > now {
                return true;
            }
            let mut next = None;
            contain(|| next = (source.poll)(now));
            next.inspect(|next| source.next = *next).is_some()
        });
        let mut added = self.sources.list.borrow_mut();
        list.append(&mut added);
        *added = list;
    }

    /// When the next source wants to be polled. Asked when the turn ends, so that one which was
    /// added in it is seen.
    pub(crate) fn next_source(&self) -> Time {
        let list = self.sources.list.borrow();
        list.iter().map(|source| source.next).min().unwrap_or(Time::NEVER)
    }

    /// Drops all sources: nothing arrives any more.
    pub(crate) fn end_sources(&self) {
        let sources = self.sources.list.take();
        contain(|| drop(sources));
    }
}
