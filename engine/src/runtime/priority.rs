//! How important a request is, from the one who asks to the last stage that works for it.

/// How important a request is among others: who is refused first, and whose turn comes more often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// How many there are: as many classes as the staged design's controller tells apart.
    pub const COUNT: usize = 10;
    /// The least important, and the default.
    pub const LOWEST: Self = Self(0);
    /// The most important.
    pub const HIGHEST: Self = Self(9);

    /// The priority `level`, 0 for the least important to 9 for the most; `None` beyond.
    #[must_use]
    pub const fn new(level: u8) -> Option<Self> {
        if level <= Self::HIGHEST.0 { Some(Self(level)) } else { None }
    }

    /// The level, 0 to 9.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.0
    }

    /// Those that are more important, from the next on.
    pub(crate) fn above(self) -> impl Iterator<Item = Self> {
        (self.0 + 1..=Self::HIGHEST.0).map(Self)
    }

    /// Those that are less important.
    pub(crate) fn below(self) -> impl Iterator<Item = Self> {
        (0..self.0).map(Self)
    }

    pub(crate) const fn idx(self) -> usize {
        self.0 as usize
    }
}

const _: () = assert!(Priority::HIGHEST.idx() + 1 == Priority::COUNT);
