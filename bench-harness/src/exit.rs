//! The exit codes of the contract, and which of several wins.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All as asked.
    Ok,
    /// Something inside, or input and output, went wrong.
    Internal,
    /// The command line is wrong.
    Usage,
    /// A workload file or dump is wrong.
    InvalidFile,
    /// A limit of the workload file was not kept.
    SloFailed,
    /// The new side is worse.
    Regressed,
    /// The two sides cannot be compared.
    Incomparable,
    /// Nothing can be said, and `--strict` asked for a verdict.
    Inconclusive,
    /// The host is too busy to measure on.
    NoisyHost,
    /// The figures may not be used: overloaded, wrong replies, or nothing completed.
    InvalidRun,
    /// This host cannot run the engine.
    HostUnfit,
    /// Interrupted from the keyboard, after a valid partial dump.
    Interrupted,
    /// Asked to end, after a valid partial dump.
    Terminated,
}

impl Exit {
    /// All ways to end, the gravest last: what was wrong with the asking outweighs what was found,
    /// and a figure that may not be used outweighs one that is bad.
    const BY_GRAVITY: [Self; 13] = [
        Self::Ok,
        Self::Inconclusive,
        Self::Incomparable,
        Self::SloFailed,
        Self::Regressed,
        Self::NoisyHost,
        Self::InvalidRun,
        Self::HostUnfit,
        Self::InvalidFile,
        Self::Usage,
        Self::Internal,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::InvalidFile => 3,
            Self::SloFailed => 4,
            Self::Regressed => 5,
            Self::Incomparable => 6,
            Self::Inconclusive => 7,
            Self::NoisyHost => 8,
            Self::InvalidRun => 9,
            Self::HostUnfit => 10,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// Returns the graver of two.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        if self.gravity() >= other.gravity() { self } else { other }
    }

    /// Returns the way to end that has this code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::BY_GRAVITY.into_iter().find(|exit| exit.code() == code)
    }

    fn gravity(self) -> usize {
        Self::BY_GRAVITY.iter().position(|exit| *exit == self).unwrap_or(Self::BY_GRAVITY.len())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_contract() {
        let mut codes: Vec<u8> = Exit::BY_GRAVITY.iter().map(|exit| exit.code()).collect();
        codes.sort_unstable();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130, 143]);
        assert_eq!(Exit::from_code(10), Some(Exit::HostUnfit));
        assert_eq!(Exit::from_code(11), None);
    }

    #[test]
    fn the_gravest_wins_whatever_the_order() {
        for (a, b, gravest) in [
            (Exit::Ok, Exit::SloFailed, Exit::SloFailed),
            (Exit::SloFailed, Exit::InvalidRun, Exit::InvalidRun),
            (Exit::InvalidRun, Exit::Internal, Exit::Internal),
            (Exit::Interrupted, Exit::Internal, Exit::Interrupted),
        ] {
            assert_eq!((a.max(b), b.max(a)), (gravest, gravest));
        }
    }
}
