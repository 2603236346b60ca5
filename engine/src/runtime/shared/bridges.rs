//! The bridges of one engine: how they are told to end, and which have not.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::sync::{Condvar, Mutex, PoisonError, wait_while};
use crate::runtime::affinity::CpuList;

#[derive(Debug)]
struct Entry {
    name: String,
    n_threads: usize,
    /// Dropped to end the bridge.
    closing: Option<Sender<()>>,
}

/// All bridges of an engine, and the CPUs their threads may use.
#[derive(Debug)]
pub(crate) struct Bridges {
    cpus: CpuList,
    entries: Mutex<Vec<Entry>>,
    ended: Condvar,
}

/// One thread of a bridge, for as long as it runs.
#[derive(Debug)]
pub(crate) struct BridgeThread {
    bridges: Arc<Bridges>,
    idx: usize,
}

impl Bridges {
    pub(crate) fn new(cpus: CpuList) -> Arc<Self> {
        Arc::new(Self { cpus, entries: Mutex::new(Vec::new()), ended: Condvar::new() })
    }

    pub(crate) fn cpus(&self) -> &CpuList {
        &self.cpus
    }

    /// Enters a bridge; what comes back ends when the bridge is to end.
    pub(crate) fn enter(&self, name: &str) -> (usize, Receiver<()>) {
        let (closing, closed) = crossbeam_channel::bounded(0);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded by the stages' factories: each makes its bridges once per shard.
        entries.push(Entry { name: name.to_owned(), n_threads: 0, closing: Some(closing) });
        (entries.len() - 1, closed)
    }

    /// Counts a thread of the bridge `idx` for as long as the returned value lives.
    pub(crate) fn thread(self: &Arc<Self>, idx: usize) -> BridgeThread {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)[idx].n_threads += 1;
        BridgeThread { bridges: Arc::clone(self), idx }
    }

    /// Tells all bridges to end and waits; gives the names of those still busy at the end.
    pub(crate) fn join(&self, timeout: Duration) -> Vec<String> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries.iter_mut() {
            entry.closing = None;
        }
        let busy = |entries: &Vec<Entry>| entries.iter().any(|entry| entry.n_threads > 0);
        let entries = wait_while(&self.ended, entries, timeout, busy);
        let stuck = entries.iter().filter(|entry| entry.n_threads > 0);
        stuck.map(|entry| entry.name.clone()).collect()
    }
}

impl Drop for BridgeThread {
    fn drop(&mut self) {
        let mut entries = self.bridges.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries[self.idx].n_threads -= 1;
        drop(entries);
        self.bridges.ended.notify_all();
    }
}
