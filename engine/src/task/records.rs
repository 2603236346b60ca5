//! The table of live requests of one shard.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use slotmap::{Key, KeyData, SlotMap, new_key_type};

use super::background::Detached;
use super::draining::Listeners;
use super::remote::RemoteTable;
use super::source::Sources;
use super::unit::Units;
use crate::error::RequestError;
use crate::runtime::Time;
use crate::runtime::core::{Context, Core, Due};
use crate::runtime::ready::Site;
use crate::runtime::shared::RequestInfo;
use crate::runtime::wheel::TimerId;

new_key_type! { pub(crate) struct RequestKey; }

/// What the shard knows of one live request.
#[derive(Debug)]
pub(crate) struct Record {
    pub(super) context: Context,
    started: Time,
    site: Site,
    timer: Option<TimerId>,
    /// The request's task; every waker of one task is the same.
    waker: Option<Waker>,
    /// Set once it must end; the task reads it at its next poll.
    ending: Option<RequestError>,
    /// Only requests that have begun a unit of work pay for the graph.
    pub(super) units: Option<Box<Units>>,
}

/// Requests begun and ended, by how they ended.
#[derive(Debug, Default)]
pub(crate) struct RequestCounters {
    pub(crate) started: Cell<u64>,
    pub(crate) refused: Cell<u64>,
    pub(crate) replied: Cell<u64>,
    pub(crate) panicked: Cell<u64>,
    pub(crate) cancelled: Cell<u64>,
    pub(crate) expired: Cell<u64>,
    /// Cut off because the engine stopped.
    pub(crate) closed: Cell<u64>,
}

impl RequestCounters {
    /// Requests that have ended, in whatever way.
    pub(crate) fn ended(&self) -> u64 {
        let Self { replied, panicked, cancelled, expired, closed, .. } = self;
        [replied, panicked, cancelled, expired, closed].map(Cell::get).iter().sum()
    }
}

/// Whose requests a shard still takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Door {
    Open,
    /// Only those that a stop waits for: of other shards, whose own requests still live, and what
    /// serves a client that had connected before.
    Ajar,
    Shut,
}

/// Who begins a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Here,
    /// Here, and the stop that has begun has to wait for it.
    HereDraining,
    Peer,
}

/// The request side of one shard.
#[derive(Debug)]
pub(crate) struct Tasks {
    pub(super) core: Rc<Core>,
    records: RefCell<SlotMap<RequestKey, Record>>,
    pub(super) remote: RemoteTable,
    pub(super) sources: Sources,
    pub(super) detached: Detached,
    pub(super) listeners: Listeners,
    pub(crate) counters: RequestCounters,
    door: Cell<Door>,
    /// When the door was no longer open.
    draining_since: Cell<Option<Time>>,
    /// Live requests that were asked to end: while there are none, no poll has to look.
    n_ending: Cell<usize>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Tasks>>> = const { RefCell::new(None) };
}

impl Tasks {
    pub(crate) fn new(core: Rc<Core>) -> Rc<Self> {
        Rc::new(Self {
            core,
            records: RefCell::new(SlotMap::with_key()),
            remote: RemoteTable::default(),
            sources: Sources::default(),
            detached: Detached::default(),
            listeners: Listeners::default(),
            counters: RequestCounters::default(),
            door: Cell::new(Door::Open),
            draining_since: Cell::new(None),
            n_ending: Cell::new(0),
        })
    }

    /// Makes these the current shard's tasks and gives those that were before.
    pub(crate) fn swap_current(tasks: Option<Rc<Self>>) -> Option<Rc<Self>> {
        CURRENT.with(|current| std::mem::replace(&mut *current.borrow_mut(), tasks))
    }

    pub(crate) fn current() -> Rc<Self> {
        Self::try_current().expect("this belongs on a shard: call it inside a request")
    }

    pub(crate) fn try_current() -> Option<Rc<Self>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    /// Requests that are alive.
    pub(crate) fn live(&self) -> usize {
        self.records.borrow().len()
    }

    /// Refuses further requests of this shard, but for those that are also begun while it drains; what
    /// other shards send is still served.
    pub(crate) fn refuse_new(&self) {
        self.leave(Door::Ajar);
    }

    /// Since when requests of this shard are refused.
    pub(super) fn refuses_since(&self) -> Option<Time> {
        self.draining_since.get()
    }

    /// Refuses all further requests.
    pub(crate) fn close(&self) {
        self.leave(Door::Shut);
    }

    /// Opens the door no wider than this from now on.
    fn leave(&self, door: Door) {
        self.door.set(self.door.get().max(door));
        if self.draining_since.get().is_none() {
            self.draining_since.set(Some(self.core.now()));
        }
        self.tell_draining();
    }

    /// Opens a record for a request that stands where `heir` says, or tells why it is refused.
    pub(super) fn begin(
        &self,
        heir: Context,
        site: Site,
        origin: Origin,
    ) -> Result<(RequestKey, Context), RequestError> {
        let open = match self.door.get() {
            Door::Open => true,
            Door::Ajar => origin != Origin::Here,
            Door::Shut => false,
        };
        let refused = if !open {
            Some(RequestError::Closed)
        } else if self.live() >= self.core.limits().requests_max {
            Some(RequestError::Shed)
        } else {
            None
        };
        if let Some(error) = refused {
            bump(&self.counters.refused);
            return Err(error);
        }
        bump(&self.counters.started);
        let started = self.core.now();
        let mut records = self.records.borrow_mut();
        let mut context = heir;
        let deadline = heir.deadline;
        let key = records.insert_with_key(|key| {
            let request = key.data().as_ffi();
            let timer = (deadline != Time::NEVER).then(|| {
                self.core.arm(deadline.after(self.core.limits().grace), Due::Request(request))
            });
            context.request = request;
            Record { context, started, site, timer, waker: None, ending: None, units: None }
        });
        Ok((key, context))
    }

    /// Notes the task of a request that is polled for the first time.
    pub(super) fn note_task(&self, key: RequestKey, waker: &Waker) {
        if let Some(record) = self.records.borrow_mut().get_mut(key) {
            record.waker = Some(waker.clone());
        }
    }

    /// Why a request about to be polled must end instead, if it must.
    pub(super) fn ending(&self, key: RequestKey) -> Option<RequestError> {
        if self.n_ending.get() == 0 {
            return None;
        }
        self.records.borrow().get(key)?.ending
    }

    /// Asks a live request to end; its task does so when it is next polled.
    pub(crate) fn cancel(&self, request: u64, why: RequestError) -> bool {
        let key = RequestKey::from(KeyData::from_ffi(request));
        let (waker, units) = {
            let mut records = self.records.borrow_mut();
            let Some(record) = records.get_mut(key) else { return false };
            if record.ending.is_none() {
                record.ending = Some(why);
                self.n_ending.set(self.n_ending.get() + 1);
            }
            (record.waker.clone(), record.units.as_ref().map(|units| units.all()))
        };
        for unit in units.into_iter().flatten() {
            unit.cancel();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Asks every live request to end.
    pub(crate) fn cancel_all(&self, why: RequestError) {
        let keys: Vec<RequestKey> = self.records.borrow().keys().collect();
        for key in keys {
            self.cancel(key.data().as_ffi(), why);
        }
    }

    /// Closes the record of a request that has ended, in whatever way, and ends what is left of
    /// its units. A second call for the same request does nothing.
    pub(super) fn finish(&self, key: RequestKey, how: Option<RequestError>) {
        let Some(record) = self.records.borrow_mut().remove(key) else { return };
        if record.ending.is_some() {
            self.n_ending.set(self.n_ending.get() - 1);
        }
        if let Some(timer) = record.timer {
            self.core.disarm(timer);
        }
        bump(match how {
            None => &self.counters.replied,
            Some(RequestError::Panicked) => &self.counters.panicked,
            Some(RequestError::Expired) => &self.counters.expired,
            Some(RequestError::Closed) => &self.counters.closed,
            Some(_) => &self.counters.cancelled,
        });
        if let Some(units) = record.units {
            for unit in units.all() {
                unit.cancel();
            }
        }
    }

    /// Runs `code` on the record of a live request.
    pub(super) fn with_record<R>(
        &self,
        request: u64,
        code: impl FnOnce(&mut Record) -> R,
    ) -> Option<R> {
        let key = RequestKey::from(KeyData::from_ffi(request));
        self.records.borrow_mut().get_mut(key).map(code)
    }

    /// Wakes the task of a request that waits for its units.
    pub(super) fn wake(&self, request: u64) {
        let waker = self.with_record(request, |record| record.waker.clone()).flatten();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The live requests, oldest first.
    pub(crate) fn list(&self) -> Vec<RequestInfo> {
        let now = self.core.now();
        let records = self.records.borrow();
        let mut infos: Vec<RequestInfo> = records
            .iter()
            .map(|(key, record)| RequestInfo {
                id: key.data().as_ffi(),
                shard: self.core.id(),
                age: now.since(record.started),
                left: time_left(record.context.deadline, now),
                site: format!("{}:{}", record.site.file(), record.site.line()),
                units: record.units.as_ref().map_or(0, |units| units.live()),
            })
            .collect();
        infos.sort_by_key(|info| (std::cmp::Reverse(info.age), info.id));
        infos
    }
}

fn time_left(deadline: Time, now: Time) -> Option<Duration> {
    (deadline != Time::NEVER).then(|| deadline.since(now))
}

pub(super) fn bump(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}
