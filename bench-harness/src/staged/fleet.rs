//! The clients of a cell, from its first phase to its last.
//!
//! They keep their connections from phase to phase. Who is free is taken last come, first served, so
//! that a light load uses few connections and they stay warm.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use forebay_workloads::staged::Config;

use super::asks::{Ask, Bodies, Mix};
use super::client::{Client, Town};
use crate::troubles::Troubles;

/// Pause before the last look: time for what a server sends too much to arrive.
const SETTLE: Duration = Duration::from_millis(20);
/// Clients looked at in one poll of the task: fewer than a task's budget of reads.
const LOOKS_PER_POLL: usize = 16;

/// All clients, those that are free and those that ask.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) town: Rc<Town>,
    mix: RefCell<Mix>,
    free: RefCell<Vec<Client>>,
    n_made: Cell<usize>,
    n_max: usize,
}

/// What the clients have seen and done in all phases together.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) troubles: Troubles,
    pub(super) n_opened: u64,
}

impl Fleet {
    pub(super) fn new(address: SocketAddr, config: &Config, seed: u64) -> Self {
        let clients = &config.clients;
        let town = Town {
            address,
            bodies: Bodies { dynamic: config.dynamic, seed },
            classes: config.classes.iter().map(|class| class.name.clone()).collect(),
            timeout: Duration::from_millis(clients.timeout_ms.into()),
            requests_per_connection: clients.requests_per_connection.unwrap_or(u32::MAX),
            troubles: RefCell::default(),
            n_opened: Cell::new(0),
        };
        Self {
            town: Rc::new(town),
            mix: RefCell::new(Mix::new(config, seed)),
            free: RefCell::default(),
            n_made: Cell::new(0),
            n_max: clients.connections as usize,
        }
    }

    /// What is asked next.
    pub(super) fn draw(&self) -> Ask {
        self.mix.borrow_mut().draw()
    }

    /// A client that is free, or a new one; `None` when there are as many as there may be.
    pub(super) fn take(&self) -> Option<Client> {
        if let Some(client) = self.free.borrow_mut().pop() {
            return Some(client);
        }
        let idx = self.n_made.get();
        (idx < self.n_max).then(|| {
            self.n_made.set(idx + 1);
            Client::new(&self.town, idx)
        })
    }

    /// Takes a client back.
    pub(super) fn put(&self, client: Client) {
        self.free.borrow_mut().push(client);
    }

    /// Looks at every connection once more, closes all, and tells what has gone wrong.
    pub(super) async fn close(&self) -> Farewell {
        forebay::sleep(SETTLE).await;
        let mut clients = self.free.take();
        for some in clients.chunks_mut(LOOKS_PER_POLL) {
            for client in some {
                client.look().await;
                client.close();
            }
            forebay::yield_now().await;
        }
        let troubles = self.town.troubles.borrow().clone();
        Farewell { troubles, n_opened: self.town.n_opened.get() }
    }
}
