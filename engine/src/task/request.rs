//! A request: the one task that lives as long as what a client asked.

use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use slotmap::Key;

use super::records::{Origin, RequestKey, Tasks};
use crate::error::RequestError;
use crate::runtime::Time;
use crate::runtime::core::Context as Here;
use crate::runtime::guard::{Contained, Guarded, Panicked};
use crate::runtime::priority::Priority;
use crate::runtime::ready::Task;

/// What a request starts with.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RequestOptions {
    /// Time it may take, from now; `None` for a request without a deadline, whose calls still
    /// have their stage's `call_max`.
    pub within: Option<Duration>,
    /// How important it is among others; its calls are, too. Default: that of whoever begins it,
    /// the lowest outside of any request.
    pub priority: Option<Priority>,
    begins: Begins,
}

/// Until when a request may begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Begins {
    #[default]
    BeforeStop,
    AlsoDraining,
}

impl RequestOptions {
    /// A request that should have replied `within` this time.
    #[must_use]
    pub fn within(within: Duration) -> Self {
        Self { within: Some(within), ..Self::default() }
    }

    /// The same with a priority.
    #[must_use]
    pub fn priority(self, priority: Priority) -> Self {
        Self { priority: Some(priority), ..self }
    }

    /// The same, and it may also begin while a stop drains, which then waits for it: what serves a
    /// connection that a [`Listener`](crate::net::Listener) hands out then. What goes on beginning such
    /// requests holds the stop up until its time is over.
    #[must_use]
    pub fn also_draining(self) -> Self {
        Self { begins: Begins::AlsoDraining, ..self }
    }
}

/// The handle of a request: awaits its reply, cancels it when dropped.
#[derive(Debug)]
#[must_use = "dropping the handle cancels the request; call `detach` to let it run"]
pub struct Request<T> {
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Running(RequestKey, Task<Contained<Result<T, RequestError>>>),
    Refused(RequestError),
}

impl<T> Request<T> {
    /// Names the request on its shard, as `RequestInfo::id` does; `None` if it was refused.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        match &self.state {
            State::Running(key, _) => Some(key.data().as_ffi()),
            State::Refused(_) => None,
        }
    }

    /// Lets the request run on without anybody awaiting it.
    pub fn detach(self) {
        if let State::Running(_, task) = self.state {
            task.detach();
        }
    }
}

impl<T> Future for Request<T> {
    type Output = Result<T, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Running(_, task) => Poll::Ready(ready!(Pin::new(task).poll(cx)).into_inner()),
            State::Refused(error) => Poll::Ready(Err(*error)),
        }
    }
}

/// Starts a request on this shard; it is first polled in a later pass, never inside this call.
///
/// When the shard has `requests_max` live requests the handle resolves to [`RequestError::Shed`]
/// at once, when the engine is stopping to [`RequestError::Closed`] (but see
/// [`RequestOptions::also_draining`]). A panic in `future` resolves
/// to [`RequestError::Panicked`] and goes no further.
///
/// # Panics
///
/// Outside of a shard.
#[track_caller]
pub fn spawn<F>(options: RequestOptions, future: F) -> Request<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    spawn_from(Location::caller(), options, future)
}

/// Starts a request on behalf of `site`, which may stand on another thread.
pub(crate) fn spawn_from<F>(
    site: &'static Location<'static>,
    options: RequestOptions,
    future: F,
) -> Request<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let tasks = Tasks::current();
    let deadline = options.within.map_or(Time::NEVER, |within| tasks.core.now().after(within));
    // What a batch function spawns stands where the batch function does among the stages.
    let here = tasks.core.context();
    let priority = options.priority.unwrap_or(here.priority);
    let origin = match options.begins {
        Begins::BeforeStop => Origin::Here,
        Begins::AlsoDraining => Origin::HereDraining,
    };
    spawn_at(&tasks, Here { deadline, priority, ..here.heir() }, site, origin, future)
}

/// Starts a request that stands where `heir` says.
pub(super) fn spawn_at<F>(
    tasks: &Rc<Tasks>,
    heir: Here,
    site: &'static Location<'static>,
    origin: Origin,
    future: F,
) -> Request<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let state = match tasks.begin(heir, site, origin) {
        Err(error) => {
            crate::runtime::guard::contain(|| drop(future));
            State::Refused(error)
        }
        Ok((key, context)) => {
            let guarded = Guarded::new(context, future);
            let live = Live { tasks: Rc::clone(tasks), key, noted: false };
            let task = RequestTask { body: Body::Running { guarded }, live };
            State::Running(key, tasks.core.spawn(site, task))
        }
    };
    Request { state }
}

/// Closes its record when the task is dropped unfinished: the handle was dropped.
struct Live {
    tasks: Rc<Tasks>,
    key: RequestKey,
    /// Whether the record knows the task.
    noted: bool,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.tasks.finish(self.key, Some(RequestError::Cancelled));
    }
}

pin_project! {
    struct RequestTask<F: Future> {
        // Dropped after `body`, so that what the future held goes while its record still stands.
        #[pin]
        body: Body<F>,
        live: Live,
    }
}

pin_project! {
    #[project = BodyView]
    enum Body<F: Future> {
        Running { #[pin] guarded: Guarded<F> },
        // The future has ended; units begun under it have not.
        Joining { result: Option<Contained<Result<F::Output, RequestError>>> },
    }
}

impl<F: Future> Future for RequestTask<F> {
    type Output = Contained<Result<F::Output, RequestError>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Live { tasks, key, noted } = this.live;
        let key = *key;
        if !std::mem::replace(noted, true) {
            tasks.note_task(key, cx.waker());
        }
        let ending = tasks.ending(key);
        if let BodyView::Running { mut guarded } = this.body.as_mut().project() {
            let result = match ending {
                Some(error) => {
                    guarded.as_mut().end();
                    Err(error)
                }
                None => match ready!(guarded.poll_on(&tasks.core, cx)) {
                    Ok(reply) => Ok(reply),
                    Err(Panicked) => Err(RequestError::Panicked),
                },
            };
            if !tasks.must_join(key, result.is_err()) {
                tasks.finish(key, result.as_ref().err().copied());
                return Poll::Ready(Contained::new(result));
            }
            this.body.set(Body::Joining { result: Some(Contained::new(result)) });
        }
        if tasks.must_join(key, ending.is_some()) {
            return Poll::Pending;
        }
        let BodyView::Joining { result } = this.body.project() else {
            unreachable!("a body that does not run joins")
        };
        let result = result.take().expect("taken when the task ends, once").into_inner();
        tasks.finish(key, result.as_ref().err().copied());
        Poll::Ready(Contained::new(result))
    }
}

impl Tasks {
    /// Whether units of the request still live; a request that failed cancels them first.
    fn must_join(&self, key: RequestKey, failed: bool) -> bool {
        let units = self.with_record(key.data().as_ffi(), |record| {
            let units = record.units.as_ref().filter(|units| units.live() > 0)?;
            Some(if failed { units.all() } else { Vec::new() })
        });
        let Some(Some(to_cancel)) = units else { return false };
        for unit in to_cancel {
            unit.cancel();
        }
        true
    }
}

/// Gives the reply of a request to `take`, once it is there. Engine code on both ends.
#[track_caller]
pub(crate) fn forward<T: 'static>(
    request: Request<T>,
    take: impl FnOnce(Result<T, RequestError>) + 'static,
) {
    let core = crate::runtime::core::current();
    core.spawn(Location::caller(), async move { take(request.await) }).detach();
}
