//! What a store has done and holds, under the names that memcached's `stats` gives it.
//!
//! What clients have asked and got is not counted here but where they are: one of their commands may be
//! several operations, or none.

/// Declares a record of numbers once: its fields, their names, and the sum of two.
macro_rules! numbers {
    ($(#[$of:meta])* $vis:vis $name:ident { $($(#[$doc:meta])* $field:ident,)+ }) => {
        $(#[$of])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        $vis struct $name { $($(#[$doc])* $vis $field: u64,)+ }

        impl $name {
            /// Each number with its name, in the order in which memcached tells them.
            $vis fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field),)+].into_iter()
            }

            /// Adds those of another store.
            $vis fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
            }
        }
    };
}

pub(in crate::cacheproxy) use numbers;

numbers! {
    /// What a store alone knows of what operations have come to.
    pub Counts {
        /// Operations that found an expired item, which is nothing.
        get_expired,
        /// Operations that found a flushed item, which is nothing.
        get_flushed,
        /// Items that were ever stored.
        total_items,
    }
}

numbers! {
    /// What became of the items of one class of use, when it was not by an operation on them.
    pub ClassCounts {
        /// Evicted to make room.
        evicted,
        /// Of those, the ones that would have expired some day.
        evicted_nonzero,
        /// Of those evicted, the ones that nobody had read.
        evicted_unfetched,
        /// Gone already when room was needed.
        reclaimed,
        /// Expired, found by a sweep or for their room, without anybody having read them.
        expired_unfetched,
        /// Gone already when a sweep found them.
        crawler_reclaimed,
    }
}

numbers! {
    /// What a store holds.
    pub Held {
        /// Items, gone ones too until their memory is returned.
        curr_items,
        /// Bytes of memory that it takes, all told.
        bytes,
        /// The bound of those.
        limit_maxbytes,
    }
}

/// One store's numbers. Those of several shards are added up by their parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// What operations have come to.
    pub counts: Counts,
    /// What is held.
    pub held: Held,
    /// `stats items`: one for each class of use, newcomers first (`items:1`), then regulars.
    pub classes: [ClassStats; 2],
}

/// One class of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassStats {
    /// Items in it.
    pub number: u64,
    /// Bytes that their keys and values take.
    pub mem_requested: u64,
    /// Seconds since the item that stands at its end was used.
    pub age_s: u64,
    /// Seconds for which the item that was evicted last had not been used: `evicted_time`.
    pub evicted_time_s: u64,
    /// What became of others.
    pub counts: ClassCounts,
}

impl Stats {
    /// Adds those of another store; of two times, the longer is kept.
    pub fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.held.add(&other.held);
        for (class, other) in self.classes.iter_mut().zip(&other.classes) {
            class.number += other.number;
            class.mem_requested += other.mem_requested;
            class.age_s = class.age_s.max(other.age_s);
            class.evicted_time_s = class.evicted_time_s.max(other.evicted_time_s);
            class.counts.add(&other.counts);
        }
    }

    /// Items that were evicted.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.of_classes(|counts| counts.evicted)
    }

    /// One number over all classes.
    pub fn of_classes(&self, number: impl Fn(&ClassCounts) -> u64) -> u64 {
        self.classes.iter().map(|class| number(&class.counts)).sum()
    }
}
