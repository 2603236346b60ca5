//! Sockets that came with the process: socket activation.
//!
//! A service manager opens the sockets, starts the service with them and says so in its environment
//! (sd_listen_fds(3)): `LISTEN_FDS` is how many, counted from descriptor 3, `LISTEN_FDNAMES` what
//! they are called, and `LISTEN_PID` whom they are meant for. Both the environment and the
//! descriptors are the process's, so they are read and taken once, at the first use by any shard,
//! and kept until the process ends. Every listener is given a duplicate; what comes in between the
//! close of the last of them and the end of the process waits for whoever is started next.

use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::{env, fmt, io, process};

use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{SocketType, sockopt};

use crate::limits::PASSED_MAX;

/// The first that is passed: what comes before are the standard streams.
const FIRST: RawFd = 3;

const COUNT: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";
const PROCESS: &str = "LISTEN_PID";

/// Which of the sockets that this process was started with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Passed {
    /// By its place among them, from 0.
    Nth(u32),
    /// By its name, the first of several that share it. As text, one of digits alone is a place.
    Named(String),
}

impl Passed {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().ok().map(Self::Nth);
        }
        // What separates names in the environment is in none.
        (!text.contains(':')).then(|| Self::Named(text.to_owned()))
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nth(place) => place.fmt(f),
            Self::Named(name) => name.fmt(f),
        }
    }
}

/// Why a socket that was passed cannot be listened on. [`Listener`](crate::net::Listener) gives it
/// inside of an [`io::Error`]: `NotFound` where there is none, `InvalidInput` where there is
/// something else.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PassedError {
    /// This variable is not set: nothing was passed.
    Unset(&'static str),
    /// A variable is no number, or one that is out of reach.
    Unreadable {
        /// Its name.
        variable: &'static str,
        /// What it says.
        value: String,
    },
    /// They are meant for another process, most often this one's parent.
    OtherProcess {
        /// Whom `LISTEN_PID` names.
        meant: u32,
        /// Who this is.
        own: u32,
    },
    /// None has this place or name.
    NoSuch {
        /// What was asked for.
        passed: Passed,
        /// How many there are.
        n_passed: u32,
    },
    /// The descriptor is closed, against what the environment says.
    NotOpen(RawFd),
    /// The descriptor closes on exec, so it came with none: something else in this process has
    /// taken it over, or has opened it.
    Taken(RawFd),
    /// A file, a pipe or the like.
    NotASocket,
    /// A socket for datagrams or packets.
    NotAStream,
    /// A socket that does not listen.
    NotListening,
}

impl fmt::Display for PassedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset(variable) => write!(f, "no socket was passed: {variable} is not set"),
            Self::Unreadable { variable, value } => {
                write!(f, "{variable} is `{value}`, which is no number that it may be")
            }
            Self::OtherProcess { meant, own } => {
                write!(f, "the sockets are passed to process {meant}, and this is process {own}")
            }
            Self::NoSuch { passed, n_passed } => {
                write!(f, "there is no `{passed}` among the {n_passed} sockets passed")
            }
            Self::NotOpen(number) => write!(f, "descriptor {number} is not open"),
            Self::Taken(number) => {
                write!(f, "descriptor {number} belongs to something else in this process")
            }
            Self::NotASocket => f.write_str("the descriptor is no socket"),
            Self::NotAStream => f.write_str("the socket is none of streams"),
            Self::NotListening => f.write_str("the socket does not listen"),
        }
    }
}

impl std::error::Error for PassedError {}

impl From<PassedError> for io::Error {
    fn from(error: PassedError) -> Self {
        use PassedError::{NoSuch, OtherProcess, Unset};
        let kind = match error {
            Unset(_) | OtherProcess { .. } | NoSuch { .. } => io::ErrorKind::NotFound,
            _ => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// What the environment says.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    n_passed: u32,
    names: Vec<String>,
}

impl Told {
    fn read(variable: impl Fn(&str) -> Option<String>, own: u32) -> Result<Self, PassedError> {
        let number = |name, max| {
            let value = variable(name).ok_or(PassedError::Unset(name))?;
            let number = value.parse().ok().filter(|number| *number <= max);
            number.ok_or(PassedError::Unreadable { variable: name, value })
        };
        let n_passed = number(COUNT, PASSED_MAX)?;
        let meant = number(PROCESS, u32::MAX)?;
        if meant != own {
            return Err(PassedError::OtherProcess { meant, own });
        }
        let names = variable(NAMES).unwrap_or_default();
        Ok(Self { n_passed, names: names.split(':').map(str::to_owned).collect() })
    }

    fn place(&self, passed: &Passed) -> Result<usize, PassedError> {
        let place = match passed {
            Passed::Nth(place) => usize::try_from(*place).ok(),
            Passed::Named(wanted) => self.names.iter().position(|name| name == wanted),
        };
        place
            .filter(|place| *place < self.n_passed as usize)
            .ok_or_else(|| PassedError::NoSuch { passed: passed.clone(), n_passed: self.n_passed })
    }
}

/// What was passed, and this process's own from here on.
#[derive(Debug)]
struct Kept {
    told: Told,
    descriptors: Vec<Result<OwnedFd, PassedError>>,
}

impl Kept {
    fn take() -> Result<Self, PassedError> {
        let variable = |name: &str| Some(env::var_os(name)?.to_string_lossy().into_owned());
        let told = Told::read(variable, process::id())?;
        Ok(Self { descriptors: (FIRST..).take(told.n_passed as usize).map(take).collect(), told })
    }
}

/// Takes a descriptor that came with the process, and keeps it from those that this one starts.
fn take(number: RawFd) -> Result<OwnedFd, PassedError> {
    // SAFETY: the call is given two numbers, and answers `EBADF` where nothing is open.
    #[allow(unsafe_code, reason = "no safe crate asks about a descriptor that may not be open")]
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(PassedError::NotOpen(number));
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(PassedError::Taken(number));
    }
    // SAFETY: nobody else owns it. It is open and has come through the exec, since all that is
    // opened in this process closes on exec; and it is taken once, by the one `KEPT`.
    #[allow(unsafe_code, reason = "the number is all that a process is told")]
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC).map_err(|_| PassedError::NotOpen(number))?;
    Ok(descriptor)
}

/// The same for all shards, whichever asks first.
static KEPT: OnceLock<Result<Kept, PassedError>> = OnceLock::new();

/// A further descriptor of a socket that was passed.
pub(super) fn duplicate(passed: &Passed) -> io::Result<OwnedFd> {
    let kept = KEPT.get_or_init(Kept::take).as_ref().map_err(Clone::clone)?;
    let place = kept.told.place(passed)?;
    let descriptor = kept.descriptors[place].as_ref().map_err(Clone::clone)?;
    Ok(fcntl_dupfd_cloexec(descriptor, FIRST)?)
}

/// Whether connections can be taken from it.
pub(super) fn check_listens(descriptor: impl AsFd) -> io::Result<()> {
    let asked = sockopt::socket_type(&descriptor).and_then(|of_type| {
        let listens = sockopt::socket_acceptconn(&descriptor)?;
        Ok((of_type, listens))
    });
    match asked {
        Ok((SocketType::STREAM, true)) => Ok(()),
        Ok((SocketType::STREAM, false)) => Err(PassedError::NotListening.into()),
        Ok(_) => Err(PassedError::NotAStream.into()),
        Err(Errno::NOTSOCK) => Err(PassedError::NotASocket.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 77;

    /// What an environment with these variables says.
    fn read(variables: &[(&str, &str)]) -> Result<Told, PassedError> {
        let find = |name: &str| variables.iter().find(|(other, _)| *other == name);
        Told::read(|name| find(name).map(|(_, value)| (*value).to_owned()), OWN)
    }

    #[test]
    fn sockets_are_found_by_place_and_by_name() {
        let told = [(COUNT, "3"), (PROCESS, "77"), (NAMES, "web:admin:web:beyond")];
        let told = read(&told).unwrap();
        for (text, place) in [("0", 0), ("2", 2), ("web", 0), ("admin", 1)] {
            assert_eq!(told.place(&Passed::parse(text).unwrap()), Ok(place), "{text}");
        }
        for text in ["3", "beyond", "Web", "4294967295"] {
            let passed = Passed::parse(text).unwrap();
            let none = PassedError::NoSuch { passed: passed.clone(), n_passed: 3 };
            assert_eq!(told.place(&passed), Err(none), "{text}");
        }
    }

    #[test]
    fn an_environment_that_passes_nothing_here_says_why() {
        let unreadable = |variable, value: &str| {
            Err(PassedError::Unreadable { variable, value: value.to_owned() })
        };
        let cases: [(&[(&str, &str)], _); 7] = [
            (&[], Err(PassedError::Unset(COUNT))),
            (&[(PROCESS, "77")], Err(PassedError::Unset(COUNT))),
            (&[(COUNT, "1")], Err(PassedError::Unset(PROCESS))),
            (&[(COUNT, "one"), (PROCESS, "77")], unreadable(COUNT, "one")),
            (&[(COUNT, "4000000000"), (PROCESS, "77")], unreadable(COUNT, "4000000000")),
            (&[(COUNT, "1"), (PROCESS, "")], unreadable(PROCESS, "")),
            (
                &[(COUNT, "1"), (PROCESS, "76")],
                Err(PassedError::OtherProcess { meant: 76, own: OWN }),
            ),
        ];
        for (variables, wanted) in cases {
            assert_eq!(read(variables), wanted, "{variables:?}");
        }
    }

    #[test]
    fn what_this_process_has_opened_was_not_passed_to_it() {
        use std::os::fd::AsRawFd;
        let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = own.as_raw_fd();
        assert_eq!(take(number).unwrap_err(), PassedError::Taken(number));
        assert_eq!(take(RawFd::MAX).unwrap_err(), PassedError::NotOpen(RawFd::MAX));
    }
}
