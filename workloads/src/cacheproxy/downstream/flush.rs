//! Making all items of one server nothing: a command on a connection of its own.
//!
//! Its own, because the others are the batches', and somebody who flushes is rare enough for a new one.
//! There is one at a time for each server and shard, however many flush: who comes while it is under way
//! shares the next one with all others who do. Nobody shares the one that is under way, since it may
//! have been applied before a write was that was acknowledged to who comes now.
//!
//! Whoever was told of a write before has it flushed, since the server had applied it by then. When the
//! server has answered, all reads of it that are under way on any shard are closed to further callers,
//! as for a write (`super::writes`).

use std::cell::RefCell;
use std::rc::Rc;

use forebay::net::Connection;
use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, Shared};

use super::Stages;
use super::pool::{Pool, Take};
use super::writes::end_all_sharing;
use crate::cacheproxy::operation::{ExpTime, Failure};
use crate::cacheproxy::wire::{FlushReply, encode_flush_all};

type Flushed = Result<(), Failure>;

/// The flushes of one server on one shard, which those who ask for them drive.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    /// The last one that was asked for. It follows the one that is under way, if there is one.
    last: RefCell<Option<Flush>>,
}

#[derive(Debug)]
struct Flush {
    /// When each of those who share it wants that to be, in their order; `None` when it has begun.
    delays: Rc<RefCell<Option<Vec<ExpTime>>>>,
    done: Shared<LocalBoxFuture<'static, Flushed>>,
}

impl Flushes {
    /// A flush that begins later than now.
    fn next(&self, stages: Stages, delay: ExpTime) -> Shared<LocalBoxFuture<'static, Flushed>> {
        let mut last = self.last.borrow_mut();
        if let Some(flush) = &*last
            && let Some(delays) = &mut *flush.delays.borrow_mut()
        {
            // Of those who want the same, as nearly all do, the server need be told once. The others
            // are as many as there are clients at most.
            if delays.last() != Some(&delay) {
                delays.push(delay);
            }
            return flush.done.clone();
        }
        let before = last.take().map(|flush| flush.done);
        let delays = Rc::new(RefCell::new(Some(vec![delay])));
        let wanted = Rc::clone(&delays);
        let done = async move {
            if let Some(before) = before {
                // Whatever came of it.
                let _flushed = before.await;
            }
            let delays = wanted.take().expect("a flush begins once");
            flush(stages, &delays).await
        };
        let done = done.boxed_local().shared();
        *last = Some(Flush { delays, done: done.clone() });
        done
    }
}

/// Flushes one server, and then ends the sharing of its reads. Whether or not there was a pause, it is
/// tried.
///
/// # Errors
///
/// `Unavailable`, and nothing was sent; `Unanswered`; `Refused`.
pub(super) async fn flush_all(stages: Stages, delay: ExpTime) -> Flushed {
    let flushes = &stages.writes.instance().flushes;
    let next = flushes.next(stages, delay);
    next.await
}

async fn flush(stages: Stages, delays: &[ExpTime]) -> Flushed {
    let writes = stages.writes.instance();
    let flushed = ask(&writes.pool, delays).await;
    if flushed == Err(Failure::Unavailable) {
        return flushed;
    }
    // Also where nobody knows whether it was done.
    let ended = end_all_sharing(stages.reads, writes.sharing).await;
    flushed.and(ended.map_err(|_error| Failure::Unanswered))
}

/// What comes of all servers together.
pub(super) fn together(flushed: Vec<Flushed>) -> Flushed {
    let Some(failure) = flushed.iter().find_map(|flushed| flushed.err()) else { return Ok(()) };
    let is_untouched =
        |flushed: &Flushed| matches!(flushed, Err(Failure::Unavailable | Failure::Refused));
    Err(if flushed.iter().all(is_untouched) { failure } else { Failure::Unanswered })
}

async fn ask(pool: &Pool, delays: &[ExpTime]) -> Flushed {
    let connection = pool.connect(Take::New).await.map_err(|_why| Failure::Unavailable)?;
    connection.read_by(Some(forebay::now().after(pool.answer_within())));
    let mut lines = Vec::new();
    delays.iter().for_each(|delay| encode_flush_all(*delay, &mut lines));
    let flushed = match connection.write(lines).await {
        Ok(()) => replies(&connection, delays.len()).await,
        Err(_error) => Err(Failure::Unavailable),
    };
    // Whatever it says behind its answers is for nobody.
    connection.abort();
    flushed
}

/// What all replies say together.
async fn replies(connection: &Connection, n_due: usize) -> Flushed {
    let (mut flushed, mut n_due, mut reply) = (Ok(()), n_due, FlushReply::default());
    while let Ok(Some(chunk)) = connection.read().await {
        let mut input = &*chunk;
        while let Some(said) = reply.decode(&mut input).map_err(|_error| Failure::Unanswered)? {
            flushed = flushed.and(said);
            n_due -= 1;
            if n_due == 0 {
                return flushed;
            }
            reply = FlushReply::default();
        }
    }
    Err(Failure::Unanswered)
}
