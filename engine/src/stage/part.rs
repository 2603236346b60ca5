//! Which items of a flight something is about: all of them, a stretch, or a list.
//!
//! A batch can be split by its function and tried again in pieces, while its items stay where they
//! are: a part only names their places, so that it is cheap to clone and never outdated by a settle.

use std::rc::Rc;

/// Some items of a batch, in the order in which they left the queue.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The places of the items in the flight; without a list they are those from `begin` to `end`.
    listed: Option<Rc<[u32]>>,
    begin: usize,
    end: usize,
}

impl Part {
    pub(super) fn all(n_items: usize) -> Self {
        Self { listed: None, begin: 0, end: n_items }
    }

    pub(super) fn of(listed: &[u32]) -> Self {
        Self { listed: Some(listed.into()), begin: 0, end: listed.len() }
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.begin
    }

    fn idx(&self, place: usize) -> usize {
        self.listed.as_ref().map_or(place, |listed| listed[place] as usize)
    }

    pub(super) fn idxs(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        (self.begin..self.end).map(|place| self.idx(place))
    }

    /// The same items in parts of at most `items_max` each, which is not 0.
    pub(super) fn split(&self, items_max: usize) -> impl Iterator<Item = Self> {
        (self.begin..self.end)
            .step_by(items_max)
            .map(move |begin| self.slice(begin, begin + items_max))
    }

    /// What of it stands from `begin` to `end`, at most to its own end.
    fn slice(&self, begin: usize, end: usize) -> Self {
        Self { listed: self.listed.clone(), begin, end: end.min(self.end) }
    }
}
