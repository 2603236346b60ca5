//! Making all items of one server nothing: a command on a connection of its own.
//!
//! Its own, because the others are the batches', and somebody who flushes is rare enough for a new one.
//! Whoever was told of a write before has it flushed, since the server had applied it by then. When the
//! server has answered, all reads of it that are under way on any shard are closed to further callers,
//! as for a write (`super::writes`).

use forebay::net::Connection;

use super::Stages;
use super::pool::{Pool, Take};
use super::writes::end_all_sharing;
use crate::cacheproxy::operation::{ExpTime, Failure};
use crate::cacheproxy::wire::{FlushReply, encode_flush_all};

/// Flushes one server, and then ends the sharing of its reads. Whether or not there was a pause, it is
/// tried.
///
/// # Errors
///
/// `Unavailable`, and nothing was sent; `Unanswered`; `Refused`.
pub(super) async fn flush_all(stages: Stages, delay: ExpTime) -> Result<(), Failure> {
    let writes = stages.writes.instance();
    let flushed = ask(&writes.pool, delay).await;
    if flushed == Err(Failure::Unavailable) {
        return flushed;
    }
    // Also where nobody knows whether it was done.
    let ended = end_all_sharing(stages.reads, writes.sharing).await;
    flushed.and(ended.map_err(|_error| Failure::Unanswered))
}

/// What comes of all servers together.
pub(super) fn together(flushed: Vec<Result<(), Failure>>) -> Result<(), Failure> {
    let Some(failure) = flushed.iter().find_map(|flushed| flushed.err()) else { return Ok(()) };
    let is_untouched = |flushed: &Result<(), Failure>| {
        matches!(flushed, Err(Failure::Unavailable | Failure::Refused))
    };
    Err(if flushed.iter().all(is_untouched) { failure } else { Failure::Unanswered })
}

async fn ask(pool: &Pool, delay: ExpTime) -> Result<(), Failure> {
    let connection = pool.connect(Take::New).await.map_err(|_why| Failure::Unavailable)?;
    connection.read_by(Some(forebay::now().after(pool.answer_within())));
    let mut line = Vec::new();
    encode_flush_all(delay, &mut line);
    let flushed = match connection.write(line).await {
        Ok(()) => reply(&connection).await,
        Err(_error) => Err(Failure::Unavailable),
    };
    // Whatever it says behind its answer is for nobody.
    connection.abort();
    flushed
}

async fn reply(connection: &Connection) -> Result<(), Failure> {
    let mut reply = FlushReply::default();
    while let Ok(Some(chunk)) = connection.read().await {
        match reply.decode(&mut &*chunk) {
            Ok(None) => {}
            Ok(Some(said)) => return said,
            Err(_malformed) => break,
        }
    }
    Err(Failure::Unanswered)
}
