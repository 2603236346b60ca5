//! Who is connected to a shard, and what the clients of its connections have asked and got.
//!
//! Each connection has an entry while it is open, so that `stats conns` can tell of it. That is some 80
//! bytes, its handle among them; its addresses are asked of the kernel when somebody wants to know.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use forebay::net::{Address, Connection};
use forebay::{Time, now, this_shard};
use slotmap::{SlotMap, new_key_type};

use super::counts::CommandCounts;

new_key_type! { struct PresentKey; }

/// Most connections of a shard that `stats conns` tells of: some 40 KB of an answer.
const LISTED_MAX: usize = 256;

/// The connections of a shard, and what is counted of their commands.
#[derive(Debug, Default)]
pub(super) struct Census {
    present: RefCell<SlotMap<PresentKey, Rc<Present>>>,
    n_accepted: Cell<u64>,
    /// Connections that the shard's listeners keep open at most.
    n_connections_max: Cell<u64>,
    commands: RefCell<CommandCounts>,
}

/// An open connection.
#[derive(Debug)]
struct Present {
    connection: Connection,
    number: u64,
    spoke_at: Cell<Time>,
    state: Cell<State>,
}

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It waits for its client.
    Reads,
    /// It carries out what its client has said.
    Answers,
}

/// A connection is present until this is dropped; then it closes.
#[derive(Debug)]
pub(super) struct Client {
    census: Rc<Census>,
    key: PresentKey,
    present: Rc<Present>,
}

/// What shards have counted of their clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counted {
    /// Connections that are open.
    pub(super) n_connections: u64,
    /// Connections that have ever been.
    pub(super) n_accepted: u64,
    /// Connections that may be open.
    pub(super) n_connections_max: u64,
    /// What their commands have come to.
    pub(super) commands: CommandCounts,
}

impl Counted {
    pub(super) fn add(&mut self, other: &Self) {
        self.n_connections += other.n_connections;
        self.n_accepted += other.n_accepted;
        self.n_connections_max += other.n_connections_max;
        self.commands.add(&other.commands);
    }
}

/// What is told of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its own, for as long as the service runs.
    pub(super) number: u64,
    /// The client's address; `None` if it has gone.
    pub(super) peer: Option<Address>,
    /// Ours.
    pub(super) local: Option<Address>,
    pub(super) state: State,
    /// Seconds since the client has said something.
    pub(super) silent_s: u64,
}

impl Census {
    /// The shard has one more listener, with room for so many connections.
    pub(super) fn listens(&self, n_connections_max: u64) {
        self.n_connections_max.set(self.n_connections_max.get() + n_connections_max);
    }

    pub(super) fn enter(self: &Rc<Self>, connection: Connection) -> Client {
        let nth = self.n_accepted.get();
        self.n_accepted.set(nth + 1);
        // No other shard gives these.
        let number = nth * forebay::n_shards() as u64 + this_shard().index() as u64;
        let present = Rc::new(Present {
            connection,
            number,
            spoke_at: Cell::new(now()),
            state: Cell::new(State::Reads),
        });
        let key = self.present.borrow_mut().insert(Rc::clone(&present));
        Client { census: Rc::clone(self), key, present }
    }

    /// Counts commands.
    pub(super) fn count(&self, count: impl FnOnce(&mut CommandCounts)) {
        count(&mut self.commands.borrow_mut());
    }

    pub(super) fn counted(&self) -> Counted {
        Counted {
            n_connections: self.present.borrow().len() as u64,
            n_accepted: self.n_accepted.get(),
            n_connections_max: self.n_connections_max.get(),
            commands: *self.commands.borrow(),
        }
    }

    /// Tells of the connections that are open, or of as many as may be told of.
    pub(super) fn listed(&self) -> Vec<Listed> {
        self.present.borrow().values().take(LISTED_MAX).map(|present| present.listed()).collect()
    }
}

impl Present {
    fn listed(&self) -> Listed {
        Listed {
            number: self.number,
            peer: self.connection.peer().ok(),
            local: self.connection.local().ok(),
            state: self.state.get(),
            silent_s: now().since(self.spoke_at.get()).as_secs(),
        }
    }
}

impl Client {
    pub(super) fn connection(&self) -> &Connection {
        &self.present.connection
    }

    /// Its client has said something, which is being carried out.
    pub(super) fn spoke(&self) {
        self.present.spoke_at.set(now());
        self.present.state.set(State::Answers);
    }

    /// All that it has said is answered.
    pub(super) fn is_answered(&self) {
        self.present.state.set(State::Reads);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.census.present.borrow_mut().remove(self.key);
    }
}
