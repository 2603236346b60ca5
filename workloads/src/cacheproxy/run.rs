//! Which commands of one connection are carried out side by side.
//!
//! A client that sends several commands at once expects to be answered in order, and what it wrote to
//! be there when it reads next. It does not expect that a command on one key waits for another's. So
//! commands that come together form a *run*: up to the first that touches a key which an earlier one
//! changes, or changes one which an earlier one touches, or which concerns everything there is. A run
//! is carried out at once, and its answers are put in order.

#[cfg(test)]
mod tests;

use std::slice;

use super::operation::{Key, Operation, What};
use super::protocol::{Asked, Command};

/// Most commands of a run: enough to fill a batch, few enough that all are compared with each.
const COMMANDS_MAX: usize = 64;

/// Most keys that a get asks for beside other commands, where values are small: those of more are
/// answered a part at a time.
pub(super) const KEYS_MAX: usize = 64;

/// Parts whose values a run may hold, which are all held until it is answered: a get of as many keys
/// as make one, and others beside it.
const PARTS_MAX: usize = 2;

/// Commands that are independent of each other.
#[derive(Debug)]
pub(super) struct Run {
    commands: Vec<Command>,
    n_changes: usize,
    /// Keys whose values are read.
    n_read: usize,
    /// Most keys of a part.
    keys_max: usize,
}

/// What a command does with its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Reads them, if it has any.
    Reads,
    /// Changes one, or minds whether it is read before or after.
    Changes,
    /// Concerns all, or too many, or is the last of its connection.
    Everything,
}

impl Run {
    /// With parts of so many keys at most.
    pub(super) const fn of_parts(keys_max: usize) -> Self {
        Self { commands: Vec::new(), n_changes: 0, n_read: 0, keys_max }
    }

    /// Whether this command may be carried out beside those that are here.
    pub(super) fn takes(&self, command: &Command) -> bool {
        if self.commands.is_empty() {
            return true;
        }
        let has_room = self.commands.len() < COMMANDS_MAX
            && self.n_read + n_read(command) <= PARTS_MAX * self.keys_max;
        if !has_room || self.is_closed() {
            return false;
        }
        match self.effect(command) {
            Effect::Reads if self.n_changes == 0 => true,
            Effect::Reads => !self
                .commands
                .iter()
                .any(|earlier| effect(earlier) == Effect::Changes && share_a_key(earlier, command)),
            Effect::Changes => !self.commands.iter().any(|earlier| share_a_key(earlier, command)),
            Effect::Everything => false,
        }
    }

    /// Adds a command that [may be added](Self::takes).
    pub(super) fn push(&mut self, command: Command) {
        debug_assert!(self.takes(&command), "it depends on an earlier one");
        self.n_read += n_read(&command);
        self.n_changes += usize::from(self.effect(&command) == Effect::Changes);
        self.commands.push(command);
    }

    /// Whether nothing is carried out beside what is here.
    fn is_closed(&self) -> bool {
        self.commands.last().is_some_and(|command| self.effect(command) == Effect::Everything)
    }

    fn effect(&self, command: &Command) -> Effect {
        match &command.asked {
            Asked::Many(_, keys) if keys.len() > self.keys_max => Effect::Everything,
            _ => effect(command),
        }
    }

    /// Takes the commands, in their order. Those of the next run come in parts of so many keys at most.
    pub(super) fn take(&mut self, keys_max: usize) -> Vec<Command> {
        std::mem::replace(self, Self::of_parts(keys_max)).commands
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}

fn effect(command: &Command) -> Effect {
    match &command.asked {
        Asked::One(operation) => match &operation.what {
            What::Get(get) if get.may_be_shared() => Effect::Reads,
            // What is told of an item's last use is changed by reads.
            What::Describe => Effect::Changes,
            What::Get(_) | What::Set(_) | What::Delete(_) | What::Count(_) => Effect::Changes,
        },
        Asked::Many(get, _) if get.may_be_shared() => Effect::Reads,
        Asked::Many(..) => Effect::Changes,
        Asked::Version | Asked::Verbosity | Asked::Noop | Asked::Refused(_) => Effect::Reads,
        Asked::FlushAll(_) | Asked::Stats(_) | Asked::Quit => Effect::Everything,
    }
}

fn keys(command: &Command) -> &[Key] {
    match &command.asked {
        Asked::One(operation) => slice::from_ref(&operation.key),
        Asked::Many(_, keys) => keys,
        _ => &[],
    }
}

/// How many keys it reads, so that their values come here.
fn n_read(command: &Command) -> usize {
    match &command.asked {
        Asked::One(Operation { what: What::Get(_), .. }) => 1,
        Asked::Many(_, keys) => keys.len(),
        _ => 0,
    }
}

fn share_a_key(one: &Command, other: &Command) -> bool {
    keys(one).iter().any(|key| keys(other).contains(key))
}
