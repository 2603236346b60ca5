//! Units of work: parts of a request that depend on each other.
//!
//! Each unit is a task. The request keeps the graph of who waits for whom, by key; before a unit
//! waits, the graph is asked whether the awaited one already waits for it, directly or through
//! others. Edges stand only while somebody really waits, so the question stays small.
//!
//! ```text
//!   begin ─▶ Running ─┬─ ready ──▶ Ended(Ok | Failed | Panicked)   wakes all who await
//!                     └─ cancel ─▶ Ended(Cancelled)                cancels units begun under it
//! ```

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::records::Tasks;
use crate::error::UnitError;
use crate::runtime::core;
use crate::runtime::guard::{Contained, Guarded, Panicked};

/// Names a unit of work within its request: a word, a number, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitKey {
    name: &'static str,
    number: u64,
}

impl From<&'static str> for UnitKey {
    fn from(name: &'static str) -> Self {
        Self { name, number: 0 }
    }
}

impl From<u64> for UnitKey {
    fn from(number: u64) -> Self {
        Self { name: "", number }
    }
}

impl From<(&'static str, u64)> for UnitKey {
    fn from((name, number): (&'static str, u64)) -> Self {
        Self { name, number }
    }
}

impl fmt::Display for UnitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { name: "", number } => write!(f, "{number}"),
            Self { name, number: 0 } => f.write_str(name),
            Self { name, number } => write!(f, "{name} {number}"),
        }
    }
}

/// The units of one request.
#[derive(Default)]
pub(super) struct Units {
    nodes: Vec<Rc<dyn AnyUnit>>,
    by_key: BTreeMap<UnitKey, u32>,
    live: usize,
}

impl fmt::Debug for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Units({} of {} live)", self.live, self.nodes.len())
    }
}

impl Units {
    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn all(&self) -> Vec<Rc<dyn AnyUnit>> {
        self.nodes.clone()
    }

    fn node(&self, unit: u32) -> &Rc<dyn AnyUnit> {
        &self.nodes[unit as usize - 1]
    }

    /// The path from `from` back to `to` along what units wait for, if there is one.
    fn path(&self, from: u32, to: u32) -> Option<Vec<UnitKey>> {
        let mut seen = vec![false; self.nodes.len() + 1];
        let mut trail = vec![(from, 0)];
        while let Some((unit, edge)) = trail.last_mut() {
            if *unit == to {
                return Some(trail.iter().map(|(unit, _)| self.node(*unit).core().key).collect());
            }
            let next = self.node(*unit).core().waits_for.borrow().get(*edge).copied();
            *edge += 1;
            match next {
                None => {
                    trail.pop();
                }
                Some(next) if seen[next as usize] => {}
                Some(next) => {
                    seen[next as usize] = true;
                    trail.push((next, 0));
                }
            }
        }
        None
    }
}

/// What all units have, whatever their value.
pub(super) struct UnitCore {
    request: u64,
    id: u32,
    parent: u32,
    key: UnitKey,
    waits_for: RefCell<Vec<u32>>,
    cancelled: Cell<bool>,
    task: RefCell<Option<Waker>>,
    waiters: RefCell<Vec<Waker>>,
}

pub(super) trait AnyUnit {
    fn core(&self) -> &UnitCore;
    fn as_any(self: Rc<Self>) -> Rc<dyn std::any::Any>;
    /// Ends the unit at its next poll.
    fn cancel(&self) {
        let core = self.core();
        core.cancelled.set(true);
        let task = core.task.borrow().clone();
        if let Some(waker) = task {
            waker.wake();
        }
    }
}

struct UnitState<T, E> {
    core: UnitCore,
    /// Contained: whoever lets go of the unit last drops a value of the user's.
    result: RefCell<Option<Contained<Result<T, UnitError<E>>>>>,
}

impl<T: 'static, E: 'static> AnyUnit for UnitState<T, E> {
    fn core(&self) -> &UnitCore {
        &self.core
    }

    fn as_any(self: Rc<Self>) -> Rc<dyn std::any::Any> {
        self
    }
}

/// The handle of a unit of work. Clones await the same unit; dropping one changes nothing.
pub struct Unit<T, E> {
    state: Result<Rc<UnitState<T, E>>, UnitKey>,
    /// The unit that waits here, while it does.
    waiting: Option<u32>,
}

impl<T, E> fmt::Debug for Unit<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            Ok(state) => write!(f, "Unit({})", state.core.key),
            Err(key) => write!(f, "Unit({key}, mismatched)"),
        }
    }
}

impl<T, E> Clone for Unit<T, E> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), waiting: None }
    }
}

#[track_caller]
pub(super) fn begin<F, T, E>(tasks: &Rc<Tasks>, request: u64, key: UnitKey, future: F) -> Unit<T, E>
where
    F: Future<Output = Result<T, E>> + 'static,
    T: Clone + 'static,
    E: 'static,
{
    let context = core::current().context();
    let found = tasks.with_record(request, |record| {
        let units = record.units.get_or_insert_default();
        if let Some(id) = units.by_key.get(&key) {
            return Err(Rc::clone(units.node(*id)));
        }
        let id = u32::try_from(units.nodes.len() + 1).expect("fewer than 2^32 units");
        let state = Rc::new(UnitState {
            core: UnitCore {
                request,
                id,
                parent: context.unit,
                key,
                waits_for: RefCell::default(),
                cancelled: Cell::new(false),
                task: RefCell::default(),
                waiters: RefCell::default(),
            },
            result: RefCell::new(None),
        });
        units.nodes.push(Rc::clone(&state) as Rc<dyn AnyUnit>);
        units.by_key.insert(key, id);
        units.live += 1;
        Ok(state)
    });
    let state = match found.expect("a scope is used inside its own request") {
        Ok(state) => state,
        Err(other) => {
            let state = other.as_any().downcast::<UnitState<T, E>>().map_err(|_| key);
            return Unit { state, waiting: None };
        }
    };
    let context = core::Context { unit: state.core.id, ..context };
    let task = UnitTask { guarded: Guarded::new(context, future), state: Rc::clone(&state) };
    tasks.core.spawn(Location::caller(), task).detach();
    Unit { state: Ok(state), waiting: None }
}

pin_project! {
    struct UnitTask<F, T, E> {
        #[pin]
        guarded: Guarded<F>,
        state: Rc<UnitState<T, E>>,
    }
}

impl<F, T, E> Future for UnitTask<F, T, E>
where
    F: Future<Output = Result<T, E>>,
    T: 'static,
    E: 'static,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let core = &this.state.core;
        if core.task.borrow().is_none() {
            core.task.replace(Some(cx.waker().clone()));
        }
        let result = if core.cancelled.get() {
            this.guarded.as_mut().end();
            Err(UnitError::Cancelled)
        } else {
            match this.guarded.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Ok(value))) => Ok(value),
                Poll::Ready(Ok(Err(error))) => Err(UnitError::Failed(Arc::new(error))),
                Poll::Ready(Err(Panicked)) => Err(UnitError::Panicked),
            }
        };
        end(this.state, result);
        Poll::Ready(())
    }
}

/// Stores the result, cancels the children of a unit that gave no value, wakes who awaits it.
fn end<T, E>(state: &Rc<UnitState<T, E>>, result: Result<T, UnitError<E>>) {
    let failed = result.is_err();
    *state.result.borrow_mut() = Some(Contained::new(result));
    let UnitCore { request, id, .. } = state.core;
    let tasks = Tasks::current();
    let (children, last) = tasks
        .with_record(request, |record| {
            let units = record.units.as_mut().expect("a unit's request has units");
            units.live -= 1;
            let mut children = Vec::new();
            if failed {
                children.extend(
                    units.nodes.iter().filter(|node| node.core().parent == id).map(Rc::clone),
                );
            }
            (children, units.live == 0)
        })
        .unwrap_or_default();
    for child in children {
        child.cancel();
    }
    let waiters = state.core.waiters.take();
    for waker in waiters {
        waker.wake();
    }
    if last {
        tasks.wake(request);
    }
}

impl<T: Clone + 'static, E: 'static> Future for Unit<T, E> {
    type Output = Result<T, UnitError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let state = match &self.state {
            Ok(state) => Rc::clone(state),
            Err(key) => return Poll::Ready(Err(UnitError::Mismatch(*key))),
        };
        let done = state.result.borrow().is_some();
        if done {
            self.stop_waiting();
            let result = state.result.borrow();
            return Poll::Ready(result.as_ref().expect("looked at just before").get().clone());
        }
        if self.waiting.is_none() {
            let core::Context { request, unit: waiter, .. } = core::current().context();
            // Another request's units are not in this graph: nothing here can wait for them.
            if waiter != 0 && request == state.core.request {
                if let Some(path) = wait_for(&state.core, waiter) {
                    return Poll::Ready(Err(UnitError::Cycle(path)));
                }
                self.waiting = Some(waiter);
            }
        }
        let mut waiters = state.core.waiters.borrow_mut();
        if !waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Adds the edge "`waiter` waits for `unit`", or gives the circle it would close.
fn wait_for(unit: &UnitCore, waiter: u32) -> Option<Vec<UnitKey>> {
    Tasks::current()
        .with_record(unit.request, |record| {
            let units = record.units.as_ref().expect("a unit's request has units");
            if let Some(mut path) = units.path(unit.id, waiter) {
                path.insert(0, units.node(waiter).core().key);
                return Some(path);
            }
            units.node(waiter).core().waits_for.borrow_mut().push(unit.id);
            None
        })
        .flatten()
}

impl<T, E> Unit<T, E> {
    fn stop_waiting(&mut self) {
        let (Some(waiter), Ok(state)) = (self.waiting.take(), &self.state) else { return };
        let Some(tasks) = Tasks::try_current() else { return };
        let UnitCore { request, id, .. } = state.core;
        tasks.with_record(request, |record| {
            let Some(units) = record.units.as_ref() else { return };
            let mut edges = units.node(waiter).core().waits_for.borrow_mut();
            if let Some(idx) = edges.iter().position(|edge| *edge == id) {
                edges.swap_remove(idx);
            }
        });
    }
}

impl<T, E> Drop for Unit<T, E> {
    fn drop(&mut self) {
        self.stop_waiting();
    }
}
