//! What the connections of a cell have seen that must not be, in every stretch of it.
//!
//! Requests are counted where they are measured; what goes wrong before, after or between is no
//! request's end, and must not be lost either. So every line writes here, and the book is read once,
//! when the last connection is looked at.

use std::io;

/// Breaks and wrong replies, from the first greeting to the last look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Troubles {
    n_broken: u64,
    first_break: Option<String>,
    n_wrong: u64,
    first_wrong: Option<String>,
}

impl Troubles {
    /// Notes that a connection can be used no more; once for each.
    pub(crate) fn note_break(&mut self, connection: u64, error: &io::Error) {
        self.n_broken += 1;
        self.first_break.get_or_insert_with(|| format!("connection {connection}: {error}"));
    }

    /// Notes a reply that is wrong, unasked or no reply at all.
    pub(crate) fn note_wrong(&mut self, what: &str) {
        self.n_wrong += 1;
        self.first_wrong.get_or_insert_with(|| what.to_owned());
    }

    /// Why the cell is invalid, beside what its measured phase has told: `n_counted` wrong replies.
    pub(crate) fn reasons(&self, n_connections: u64, n_counted: u64) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(first) = &self.first_break {
            let n_broken = self.n_broken;
            reasons
                .push(format!("{n_broken} of {n_connections} connections broke; first: {first}"));
        }
        let n_elsewhere = self.n_wrong.saturating_sub(n_counted);
        if n_elsewhere > 0 {
            reasons.push(format!(
                "verification failed: {n_elsewhere} wrong replies outside the measured window"
            ));
        }
        reasons.extend(self.first_wrong.as_ref().map(|what| format!("first wrong reply: {what}")));
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_is_told_and_all_are_counted() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.reasons(3, 0), Vec::<String>::new());
        troubles.note_break(17, &io::ErrorKind::ConnectionReset.into());
        troubles.note_break(4, &io::ErrorKind::UnexpectedEof.into());
        for what in ["a", "b", "c"] {
            troubles.note_wrong(what);
        }
        let expected = [
            "2 of 20 connections broke; first: connection 17: connection reset",
            "verification failed: 1 wrong replies outside the measured window",
            "first wrong reply: a",
        ];
        assert_eq!(troubles.reasons(20, 2), expected);
    }

    #[test]
    fn what_the_measured_phase_has_counted_is_not_told_twice() {
        let mut troubles = Troubles::default();
        troubles.note_wrong("a");
        assert_eq!(troubles.reasons(1, 1), ["first wrong reply: a"]);
    }
}
