//! The pieces of one value, all written, read, touched or removed at servers.
//!
//! Each is an item like any other, so they share batches with whatever else is asked, and are spread
//! over the servers: a large value that is wanted often is no burden for one alone. For that, a
//! server that is lost takes a piece of most large values with it.

use std::ops::ControlFlow;

use bytes::Bytes;
use futures_util::future::join_all;

use super::metadata::Metadata;
use crate::cacheproxy::downstream::Downstream;
use crate::cacheproxy::operation::{
    Delete, ExpTime, Failure, Get, Operation, Outcome, Set, SetMode, Wanted, What,
};

/// Pieces that one operation asks for at once: enough that a round trip brings a mebibyte of the
/// usual size, few enough that others find room in the servers' queues.
pub(super) const AT_ONCE_MAX: u32 = 64;

/// The pieces that metadata tells of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pieces<'a> {
    pub(super) downstream: &'a Downstream,
    pub(super) metadata: &'a Metadata,
}

impl Pieces<'_> {
    /// Writes all of them.
    ///
    /// # Errors
    ///
    /// What came of the first that was not stored; pieces may stand by then.
    pub(super) async fn write(&self, value: &[u8], expires: ExpTime) -> Result<(), Outcome> {
        let write = |idx| {
            let piece = self.metadata.piece(value, idx);
            What::Set(Set::new(SetMode::Set, 0, expires, piece))
        };
        let end = self.each(write, |outcome| match outcome {
            Outcome::Stored(_cas) => ControlFlow::Continue(()),
            other => ControlFlow::Break(other),
        });
        end.await.break_value().map_or(Ok(()), Err)
    }

    /// Reads all of them and joins them; `None` if one is lost, or is not what was written. `get`
    /// tells how they are read: whether they are touched, and whether that is a use.
    ///
    /// # Errors
    ///
    /// If it is not known of one whether it is there.
    pub(super) async fn read(&self, get: Get) -> Result<Option<Bytes>, Failure> {
        let mut pieces = Vec::with_capacity(self.metadata.n_pieces() as usize);
        let get = Get { value: Wanted::Yes, ..get };
        let end = self.each(
            |_idx| What::Get(get),
            |outcome| match outcome {
                Outcome::Hit(entry) => {
                    pieces.push(entry.value);
                    ControlFlow::Continue(())
                }
                other => ControlFlow::Break(not_read(other)),
            },
        );
        end.await.break_value().unwrap_or_else(|| Ok(self.metadata.join(&pieces)))
    }

    /// Moves the expiry of all of them; `None` if one is lost.
    ///
    /// # Errors
    ///
    /// If it is not known of one whether it is there.
    pub(super) async fn touch(&self, expires: ExpTime) -> Result<Option<()>, Failure> {
        let touch = Get { value: Wanted::No, touch: Some(expires), ..Get::PLAIN };
        let end = self.each(
            |_idx| What::Get(touch),
            |outcome| match outcome {
                Outcome::Hit(_entry) => ControlFlow::Continue(()),
                other => ControlFlow::Break(not_read(other)),
            },
        );
        end.await.break_value().unwrap_or(Ok(Some(())))
    }

    /// Removes them, as far as servers answer: nobody will ask for them again, and what is left
    /// expires or is evicted.
    pub(super) async fn remove(&self) {
        let remove = |_idx| What::Delete(Delete::default());
        let end = self.each(remove, |outcome| match outcome {
            // The next wave would wait for the same servers.
            Outcome::Failed(_failure) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        // What is not removed has been argued above.
        let _end = end.await;
    }

    /// Does something with each piece, a wave at a time, and looks at what comes of it, in order.
    async fn each<B>(
        &self,
        what: impl Fn(u32) -> What,
        mut look: impl FnMut(Outcome) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let n_pieces = self.metadata.n_pieces();
        for start in (0..n_pieces).step_by(AT_ONCE_MAX as usize) {
            let wave = (start..n_pieces.min(start + AT_ONCE_MAX)).map(|idx| {
                let key = self.metadata.piece_key(idx);
                self.downstream.apply(Operation { key, what: what(idx) })
            });
            for outcome in join_all(wave).await {
                look(outcome)?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// What it means for a value that one of its pieces was not read: only a miss says that it is gone.
fn not_read<T>(outcome: Outcome) -> Result<Option<T>, Failure> {
    match outcome {
        Outcome::Miss => Ok(None),
        Outcome::Failed(failure) => Err(failure),
        // No answer to a read.
        _ => Err(Failure::Refused),
    }
}
