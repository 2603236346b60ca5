//! The stage `dynamic`: the bottleneck, on purpose.
//!
//! A page belongs to its number, so nothing of it can be kept or shared; each shard makes one after
//! the other, as a serial downstream would. A degraded page is shorter and takes a share of the
//! time: what an overloaded site can still afford.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use forebay::{Batch, Stage};

use super::config::{Dynamic, Work};
use super::page::{Level, PageId, n_bytes};
use crate::burning::burn;

/// Longest stretch for which making a page keeps the core, so that connections are accepted and
/// requests refused meanwhile: as long as a pass of the shard may last.
const BURN_SLICE: Duration = Duration::from_micros(100);

/// Makes dynamic pages.
#[derive(Debug)]
pub(super) struct MakePages {
    pub(super) dynamic: Dynamic,
    pub(super) seed: u64,
}

/// A page to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// Which.
    pub(super) id: PageId,
    /// How much of it.
    pub(super) level: Level,
}

/// A page that was made.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// Its bytes.
    pub(super) body: Bytes,
    /// How much of the page they are.
    pub(super) level: Level,
}

impl MakePages {
    async fn make(&self, order: Order) -> Page {
        let Order { id, level } = order;
        let service_time = id.service_time(&self.dynamic, self.seed, level);
        match self.dynamic.work {
            Work::Waits => forebay::sleep(service_time).await,
            Work::Burns => burn(service_time, BURN_SLICE).await,
        }
        let bytes = id.content(self.seed).bytes(n_bytes(&self.dynamic, level));
        Page { body: bytes.into(), level }
    }
}

impl Stage for MakePages {
    type Item = Order;
    type Key = PageId;
    type Class = ();
    type Value = Page;
    type Error = Infallible;
    const DEGRADE_LEVELS: u8 = Level::LEAST.0;
    // A page that was made in vain is made again.
    const IDEMPOTENT: bool = true;

    fn key(order: &Order) -> PageId {
        order.id
    }

    fn class(_: &Order) {}

    fn degrade(order: &mut Order, level: u8) {
        order.level = Level(level);
    }

    async fn run(self: Rc<Self>, batch: Batch<Self>) -> Result<(), Infallible> {
        for item in batch.items() {
            item.settle(Ok(self.make(*item.item()).await));
        }
        Ok(())
    }
}
