//! Trees of dependent requests: each waits for those it depends on, then for its own timer.

use std::time::Duration;

use forebay::{Request, RequestOptions, ShardId};

use super::config::{self, Spread};
use super::keys::Keys;
use super::request::{Fault, Service};

/// Whole trees of requests, each of which waits for its dependencies and then for its own timer.
///
/// The children of the root go to all shards in turn, with everything below them. There is nothing
/// to build: a request begins its dependencies when it begins, and that is timed too.
#[derive(Clone, Debug)]
pub struct Trees {
    config: config::Tree,
    n_shards: usize,
    expected: u64,
}

impl Service for Trees {
    async fn request(&self, _: &mut Keys) -> Result<(), Fault> {
        let config::Tree { fan_out, layers_below_root, .. } = self.config;
        let node = Node { fan_out, layers_below: layers_below_root, wait: self.wait() };
        let seen = match self.config.spread {
            Spread::Local => node.run().await?,
            Spread::Shards => self.spread(node).await?,
        };
        if seen == self.expected {
            Ok(())
        } else {
            Err(Fault::Wrong(format!("{seen} requests ran instead of {}", self.expected)))
        }
    }
}

impl Trees {
    pub(super) fn new(config: &config::Tree, n_shards: usize) -> Self {
        let expected = config.requests().expect("the file's check bounds the tree");
        Self { config: config.clone(), n_shards, expected }
    }

    fn wait(&self) -> Duration {
        Duration::from_micros(self.config.wait_us)
    }

    /// Runs the root here and its children on all shards in turn.
    async fn spread(&self, root: Node) -> Result<u64, Fault> {
        let shards = (0..self.n_shards).map(ShardId::new).cycle();
        let dependencies: Vec<_> = root
            .dependencies()
            .zip(shards)
            .map(|(node, shard)| forebay::on_shard(shard, move || node.run()))
            .collect();
        let mut seen = 1;
        for dependency in dependencies {
            seen += dependency.await??;
        }
        forebay::sleep(root.wait).await;
        Ok(seen)
    }
}

/// One request of a tree.
#[derive(Clone, Copy, Debug)]
struct Node {
    fan_out: u32,
    layers_below: u32,
    wait: Duration,
}

impl Node {
    fn dependencies(self) -> impl Iterator<Item = Self> {
        let layers_below = self.layers_below.saturating_sub(1);
        let n = if self.layers_below == 0 { 0 } else { self.fan_out };
        (0..n).map(move |_| Self { layers_below, ..self })
    }

    /// Begins all dependencies as requests of their own, awaits them, then waits. Gives how many
    /// requests ran.
    async fn run(self) -> Result<u64, Fault> {
        // Begun at once, awaited one after the other: the slowest decides.
        let dependencies: Vec<_> = self.dependencies().map(Self::spawn).collect();
        let mut seen = 1;
        for dependency in dependencies {
            seen += dependency.await??;
        }
        forebay::sleep(self.wait).await;
        Ok(seen)
    }

    /// A plain function, so that the type of `run` does not contain itself.
    fn spawn(self) -> Request<Result<u64, Fault>> {
        forebay::spawn(RequestOptions::default(), self.run())
    }
}
