//! The rows of a stage's queue: a lane for each class, in it a line for each priority.
//!
//! Items stand in the queue's slot map; a lane and its lines only know the ends, how much there is,
//! and whose turn it is. So an item can leave from the middle without a search.

use std::rc::Rc;

use super::Stage;
use super::queue::ItemKey;
use crate::control::share::Shares;
use crate::runtime::Time;
use crate::runtime::priority::Priority;

/// The items of one class and priority.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) priority: Priority,
    pub(super) head: Option<ItemKey>,
    pub(super) tail: Option<ItemKey>,
}

/// The items of one class that wait.
pub(super) struct ClassLane<S: Stage> {
    pub(super) class: Option<Rc<S::Class>>,
    pub(super) hash: u64,
    /// In order of their first item; never emptied while the lane is open. At most one for each
    /// priority.
    pub(super) lines: Vec<Line>,
    pub(super) n_items: usize,
    pub(super) weight: u64,
    /// How often it gets its turn, relative to others.
    pub(super) share: u32,
    /// The turns of its lines.
    pub(super) turns: Shares,
}

/// What a window wants to know of one class.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClassView {
    pub(super) lane: u32,
    pub(super) n_items: usize,
    pub(super) weight: u64,
    pub(super) oldest_admitted: Time,
    pub(super) oldest_pass: u64,
}

/// Which of a line's items is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Oldest,
    Newest,
}

impl<S: Stage> ClassLane<S> {
    pub(super) fn new(class: Rc<S::Class>, hash: u64, share: u32) -> Self {
        Self {
            class: Some(class),
            hash,
            lines: Vec::new(),
            n_items: 0,
            weight: 0,
            share,
            turns: Shares::default(),
        }
    }

    /// The line of a priority, and its place among the lines.
    pub(super) fn line(&mut self, priority: Priority) -> (&mut Line, usize) {
        let idx = self.lines.iter().position(|line| line.priority == priority);
        let idx = idx.unwrap_or_else(|| {
            self.lines.push(Line { priority, head: None, tail: None });
            self.lines.len() - 1
        });
        (&mut self.lines[idx], idx)
    }
}
