//! A queue of pieces of bytes that mostly holds one or none.
//!
//! A connection that sends and receives a message at a time never has a second piece waiting. Its
//! one stands in its slot: nothing is allocated for the queue, and no further line of memory is
//! fetched for each message, which is what a shard with thousands of connections pays for most.

use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Pieces<T> {
    /// There is one unless there is none at all.
    first: Option<T>,
    /// Those behind it; kept when it is empty, for whoever has had several will have them again.
    #[allow(clippy::box_collection, reason = "one word in each slot for what few of them use")]
    rest: Option<Box<VecDeque<T>>>,
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self { first: None, rest: None }
    }
}

impl<T> Pieces<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn push_back(&mut self, piece: T) {
        match self.first {
            None => self.first = Some(piece),
            Some(_) => self.rest.get_or_insert_default().push_back(piece),
        }
    }

    pub(super) fn push_front(&mut self, piece: T) {
        if let Some(second) = self.first.replace(piece) {
            self.rest.get_or_insert_default().push_front(second);
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        let next = self.rest.as_mut().and_then(|rest| rest.pop_front());
        std::mem::replace(&mut self.first, next)
    }

    pub(super) fn back_mut(&mut self) -> Option<&mut T> {
        let last = self.rest.as_mut().and_then(|rest| rest.back_mut());
        last.or(self.first.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_as_a_deque_would_give_them() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut pieces, mut model) = (Pieces::default(), VecDeque::new());
        for n in 0..10_000 {
            match random.u8(0..5) {
                0 => {
                    pieces.push_back(n);
                    model.push_back(n);
                }
                1 => {
                    pieces.push_front(n);
                    model.push_front(n);
                }
                2 => assert_eq!(pieces.back_mut(), model.back_mut()),
                _ => assert_eq!(pieces.pop_front(), model.pop_front()),
            }
            assert_eq!(pieces.is_empty(), model.is_empty());
        }
    }

    #[test]
    fn one_piece_at_a_time_allocates_nothing() {
        let mut pieces = Pieces::default();
        for n in 0..3 {
            pieces.push_back(n);
            assert_eq!(pieces.pop_front(), Some(n));
        }
        assert!(pieces.rest.is_none());
    }
}
