//! Why a connection is of no more use, small enough to be kept and given to everyone who asks.

use std::io;

use rustix::io::Errno;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The system's error number.
    System(i32),
    /// Silent, or blocked, for longer than its bounds allow.
    TimedOut,
    /// Ended from here: aborted, or its shard has ended.
    Closed,
}

impl Fault {
    /// Written to after its end.
    pub(super) const PIPE: Self = Self::System(Errno::PIPE.raw_os_error());

    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::System(number),
            None if error.kind() == io::ErrorKind::TimedOut => Self::TimedOut,
            None => Self::Closed,
        }
    }

    pub(super) fn error(self) -> io::Error {
        match self {
            Self::System(number) => io::Error::from_raw_os_error(number),
            Self::TimedOut => io::ErrorKind::TimedOut.into(),
            Self::Closed => io::Error::new(io::ErrorKind::ConnectionAborted, "closed from here"),
        }
    }

    fn is(self, errnos: &[Errno]) -> bool {
        let is_it = |errno: &Errno| self == Self::System(errno.raw_os_error());
        errnos.iter().any(is_it)
    }

    /// The operation was taken back, or interrupted: nothing is wrong with the socket.
    pub(super) fn is_harmless(self) -> bool {
        self.is(&[Errno::CANCELED, Errno::INTR, Errno::AGAIN])
    }

    /// There was no buffer to receive into.
    pub(super) fn is_starved(self) -> bool {
        self.is(&[Errno::NOBUFS])
    }

    /// The process or the host has no more of something: trying at once again is in vain.
    pub(super) fn is_exhausted(self) -> bool {
        !self.is_harmless() && !self.is(&[Errno::CONNABORTED, Errno::PROTO, Errno::PERM])
    }
}
