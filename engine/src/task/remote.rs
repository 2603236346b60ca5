//! Requests that run on another shard, awaited from this one.
//!
//! The closure crosses, the future is made and polled over there. One credit is held from the
//! moment the request leaves until its reply is back; a reply is never refused.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slotmap::{Key, KeyData, SlotMap, new_key_type};

use super::records::{Origin, Tasks};
use super::request::{forward, spawn_at};
use crate::error::RequestError;
use crate::runtime::ShardId;
use crate::runtime::core;
use crate::runtime::guard::contain;
use crate::runtime::lane::Envelope;

new_key_type! { struct RemoteKey; }

#[derive(Debug)]
struct Slot {
    to: ShardId,
    waker: Option<Waker>,
    reply: Option<Result<Box<dyn Any + Send>, RequestError>>,
}

/// What this shard awaits from others, and what others await from it.
#[derive(Debug, Default)]
pub(crate) struct RemoteTable {
    awaited: RefCell<SlotMap<RemoteKey, Slot>>,
    serving: RefCell<BTreeMap<(ShardId, u64), u64>>,
}

/// Future of [`on_shard`]. Dropping it cancels the request over there.
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct Remote<T> {
    tasks: Rc<Tasks>,
    key: Option<RemoteKey>,
    refused: Option<RequestError>,
    value: PhantomData<fn() -> T>,
}

/// Runs `start` on `shard` as a request of its own, under this request's deadline, and awaits it.
///
/// On this very shard it is a request beside this one. A shard that ends meanwhile gives
/// [`RequestError::PeerGone`]; one with too many live requests gives [`RequestError::Shed`].
///
/// # Panics
///
/// Outside of a shard, or if `shard` does not exist.
#[track_caller]
pub fn on_shard<S, F, T>(shard: ShardId, start: S) -> Remote<T>
where
    S: FnOnce() -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let tasks = Tasks::current();
    assert!(shard.index() < tasks.core.n_shards(), "no shard {shard}");
    let heir = tasks.core.context().heir();
    let refused = if !tasks.core.half().is_alive(shard) {
        Some(RequestError::PeerGone)
    } else if tasks.remote.awaited.borrow().len() >= tasks.core.limits().requests_max {
        Some(RequestError::Shed)
    } else {
        None
    };
    if refused.is_some() {
        return Remote { tasks, key: None, refused, value: PhantomData };
    }
    let slot = Slot { to: shard, waker: None, reply: None };
    let key = tasks.remote.awaited.borrow_mut().insert(slot);
    let (origin, site) = (tasks.core.id(), Location::caller());
    let start = Box::new(move |token| serve(origin, token, heir, site, start));
    tasks.core.outbox().post(shard, Envelope::Request { token: key.data().as_ffi(), start });
    Remote { tasks, key: Some(key), refused: None, value: PhantomData }
}

/// The far side: runs the request and posts its reply, whatever it is.
fn serve<S, F, T>(
    origin: ShardId,
    token: u64,
    heir: core::Context,
    site: &'static Location<'static>,
    start: S,
) where
    S: FnOnce() -> F,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
    S: 'static,
{
    let tasks = Tasks::current();
    let request = spawn_at(&tasks, heir, site, Origin::Peer, async move { start().await });
    if let Some(id) = request.id() {
        tasks.remote.serving.borrow_mut().insert((origin, token), id);
    }
    forward(request, move |outcome: Result<T, RequestError>| {
        let tasks = Tasks::current();
        tasks.remote.serving.borrow_mut().remove(&(origin, token));
        let reply = Box::new(outcome);
        tasks.core.outbox().post(origin, Envelope::RequestReply { token, reply });
    });
}

impl Tasks {
    /// Another shard's request was cancelled there; its reply still goes back.
    pub(crate) fn cancel_served(&self, origin: ShardId, token: u64) {
        let request = self.remote.serving.borrow().get(&(origin, token)).copied();
        if let Some(request) = request {
            self.cancel(request, RequestError::Cancelled);
        }
    }

    /// A reply from another shard; one nobody awaits any more is dropped.
    pub(crate) fn take_reply(&self, token: u64, reply: Box<dyn Any + Send>) {
        self.settle_remote(RemoteKey::from(KeyData::from_ffi(token)), Ok(reply));
    }

    /// Everything awaited from a shard that has ended settles now.
    pub(crate) fn lose_peer(&self, peer: ShardId) {
        let lost: Vec<RemoteKey> = {
            let awaited = self.remote.awaited.borrow();
            awaited.iter().filter(|(_, slot)| slot.to == peer).map(|(key, _)| key).collect()
        };
        for key in lost {
            self.settle_remote(key, Err(RequestError::PeerGone));
        }
        let orphans: Vec<u64> = {
            let serving = self.remote.serving.borrow();
            serving.iter().filter(|(key, _)| key.0 == peer).map(|(_, request)| *request).collect()
        };
        for request in orphans {
            self.cancel(request, RequestError::Cancelled);
        }
    }

    fn settle_remote(&self, key: RemoteKey, reply: Result<Box<dyn Any + Send>, RequestError>) {
        let waker = {
            let mut awaited = self.remote.awaited.borrow_mut();
            let Some(slot) = awaited.get_mut(key).filter(|slot| slot.reply.is_none()) else {
                drop(awaited);
                // A value of the user's that nobody awaits any more.
                contain(|| drop(reply));
                return;
            };
            slot.reply = Some(reply);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T: Send + 'static> Future for Remote<T> {
    type Output = Result<T, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(error) = self.refused {
            return Poll::Ready(Err(error));
        }
        let key = self.key.expect("polled again after it was ready");
        let reply = {
            let mut awaited = self.tasks.remote.awaited.borrow_mut();
            let slot = awaited.get_mut(key).expect("the slot lives as long as its future");
            if slot.reply.is_none() {
                slot.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            awaited.remove(key).and_then(|slot| slot.reply).expect("looked at just before")
        };
        self.key = None;
        Poll::Ready(reply.and_then(|reply| {
            *reply.downcast::<Result<T, RequestError>>().expect("replies carry their own type")
        }))
    }
}

impl<T> Drop for Remote<T> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let Some(slot) = self.tasks.remote.awaited.borrow_mut().remove(key) else { return };
        if slot.reply.is_some() {
            contain(|| drop(slot));
            return;
        }
        let (token, outbox) = (key.data().as_ffi(), self.tasks.core.outbox());
        // One that still waits for credit has not left: a cancel would overtake it.
        match outbox.withdraw_request(slot.to, token) {
            Some(request) => {
                contain(|| drop(request));
            }
            None => outbox.post(slot.to, Envelope::RequestCancel { token }),
        }
    }
}
