//! Calls through `batch-aint-one`, the best of the batchers measured before this was written.
//!
//! A worker task forms batches, each of which runs as its own task; `Balanced` opens a further one
//! only when half a batch is waiting, which is nearest to our permits.

use batch_aint_one::{BatchError, Batcher, BatchingPolicy, Limits, Processor};

use super::calls::{CallError, Caller, ITEMS_MAX, Method, Op};
use super::downstream::Failure;
use super::runtime::POOL_CONNECTIONS;
use crate::workload_file::Stage;

/// Calls that may wait where the file does not say: more than any closed loop of ours has in
/// flight, so that the peer is not charged with shedding.
const QUEUE_MAX: usize = 100_000;

/// The `batch-aint-one` crate.
pub(super) struct BatchAintOne;

/// One batcher for one kind of call.
pub(super) struct BatchCaller<O: Op>(Batcher<Answers<O>>);

#[derive(Clone)]
pub(super) struct Answers<O>(O);

impl Method for BatchAintOne {
    type Caller<O: Op> = BatchCaller<O>;

    fn caller<O: Op>(op: O, settings: &Stage) -> BatchCaller<O> {
        let items_max = settings.items_max.map_or(ITEMS_MAX, |items| items as usize);
        let batches_max = settings.permits.map_or(POOL_CONNECTIONS, |p| p.max as usize);
        let limits = Limits::builder()
            .max_batch_size(items_max)
            .max_key_concurrency(batches_max)
            .max_key_queued_items(settings.queue_max.map_or(QUEUE_MAX, |items| items as usize))
            .build();
        let policy = BatchingPolicy::Balanced { min_size_hint: items_max.div_ceil(2) };
        let batcher = Batcher::builder()
            .name(std::any::type_name::<O>())
            .processor(Answers(op))
            .limits(limits)
            .batching_policy(policy)
            .build();
        BatchCaller(batcher)
    }
}

impl<O: Op> Processor for Answers<O> {
    /// All calls of a kind may share a batch.
    type Key = ();
    type Input = O::Key;
    type Output = Option<O::Value>;
    type Error = Failure;
    type Resources = ();

    async fn acquire_resources(&self, (): ()) -> Result<(), Failure> {
        Ok(())
    }

    async fn process(
        &self,
        (): (),
        inputs: impl Iterator<Item = O::Key> + Send,
        (): (),
    ) -> Result<Vec<Option<O::Value>>, Failure> {
        let keys: Vec<O::Key> = inputs.collect();
        self.0.answer(&keys).await
    }
}

impl<O: Op> Caller<O> for BatchCaller<O> {
    async fn call(&self, key: O::Key) -> Result<O::Value, CallError> {
        match self.0.add((), key).await {
            Ok(value) => value.ok_or(CallError::Missing),
            Err(BatchError::BatchFailed(failure)) => Err(CallError::Store(failure)),
            Err(BatchError::Rejected(_)) => Err(CallError::Shed),
            Err(BatchError::Panic) => Err(CallError::Library("panic")),
            Err(_) => Err(CallError::Library("batcher")),
        }
    }
}
