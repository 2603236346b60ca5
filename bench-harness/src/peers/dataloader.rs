//! Calls through async-graphql's `DataLoader`, the batcher most Rust services have.
//!
//! It joins equal keys, flushes on a timer that the first key arms, and runs any number of batches
//! at once. Its cache is off: the other sides have none.

use std::time::Duration;

use async_graphql::dataloader::{DataLoader, Loader};

use super::calls::{CallError, Caller, ITEMS_MAX, Method, Op};
use super::downstream::Failure;
use crate::workload_file::{Stage, Window};

#[expect(clippy::disallowed_types, reason = "the library's trait asks for this very map")]
type StdHashMap<K, V> = std::collections::HashMap<K, V>;

/// async-graphql's `DataLoader`.
pub(super) struct Dataloader;

/// One loader for one kind of call.
pub(super) struct LoaderCaller<O>(DataLoader<Answers<O>>);

pub(super) struct Answers<O>(O);

impl Method for Dataloader {
    type Caller<O: Op> = LoaderCaller<O>;

    fn caller<O: Op>(op: O, settings: &Stage) -> LoaderCaller<O> {
        let items_max = settings.items_max.map_or(ITEMS_MAX, |items| items as usize);
        // A delay of zero is the nearest it has to an idle window, and its fastest setting.
        let delay = match settings.window {
            Some(Window::LingerUs(us)) => Duration::from_micros(us),
            Some(Window::Idle) | None => Duration::ZERO,
        };
        let loader = DataLoader::new(Answers(op), tokio::spawn);
        LoaderCaller(loader.max_batch_size(items_max).delay(delay))
    }
}

impl<O: Op> Loader<O::Key> for Answers<O> {
    type Value = O::Value;
    type Error = Failure;

    async fn load(&self, keys: &[O::Key]) -> Result<StdHashMap<O::Key, O::Value>, Failure> {
        let values = self.0.answer(keys).await?;
        let pairs = keys.iter().copied().zip(values);
        Ok(pairs.filter_map(|(key, value)| Some((key, value?))).collect())
    }
}

impl<O: Op> Caller<O> for LoaderCaller<O> {
    async fn call(&self, key: O::Key) -> Result<O::Value, CallError> {
        let value = self.0.load_one(key).await.map_err(CallError::Store)?;
        value.ok_or(CallError::Missing)
    }
}
