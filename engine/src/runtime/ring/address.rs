//! Where a service listens and a client connects.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use rustix::net::{SocketAddrAny, SocketAddrUnix};

use super::Passed;

/// The address of a stream socket. As text: `127.0.0.1:80`, `[::1]:80`, `unix:/run/service.sock`,
/// `passed:0`, `passed:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP; port 0 to listen lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket at this path; the other side of one is mostly nameless, its path empty.
    Unix(PathBuf),
    /// To listen alone: on a socket that a service manager has opened and passed to this process
    /// (sd_listen_fds(3)). A listener tells the address that it stands at.
    Passed(Passed),
}

const UNIX: &str = "unix:";
const PASSED: &str = "passed:";

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            Self::Passed(passed) => write!(f, "{PASSED}{passed}"),
        }
    }
}

/// A text is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    text: String,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no address: write 127.0.0.1:80, [::1]:80, unix:/run/service.sock or passed:0",
            self.text
        )
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError { text: text.to_owned() };
        if let Some(path) = text.strip_prefix(UNIX) {
            return if path.is_empty() { Err(wrong()) } else { Ok(Self::Unix(path.into())) };
        }
        if let Some(passed) = text.strip_prefix(PASSED) {
            return Passed::parse(passed).map(Self::Passed).ok_or_else(wrong);
        }
        text.parse().map(Self::Tcp).map_err(|_| wrong())
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl Address {
    /// As the kernel takes it.
    ///
    /// # Errors
    ///
    /// A path may be too long; what was passed has no name until it is asked.
    pub(super) fn to_kernel(&self) -> io::Result<SocketAddrAny> {
        Ok(match self {
            Self::Tcp(address) => SocketAddrAny::from(*address),
            Self::Unix(path) => SocketAddrUnix::new(path)?.into(),
            Self::Passed(_) => {
                let why = "a socket that was passed is listened on, and not connected to";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        })
    }

    /// As the kernel gives it.
    pub(super) fn from_kernel(address: SocketAddrAny) -> io::Result<Self> {
        if let Ok(unix) = SocketAddrUnix::try_from(address.clone()) {
            let path = unix.path_bytes().unwrap_or_default();
            return Ok(Self::Unix(OsStr::from_bytes(path).into()));
        }
        Ok(Self::Tcp(SocketAddr::try_from(address)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_is_written() {
        for text in ["127.0.0.1:80", "[::1]:8080", "unix:/run/a b.sock"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(Address::from_kernel(address.to_kernel().unwrap()).unwrap(), address);
        }
        for text in ["passed:0", "passed:17", "passed:web", "passed:a b"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.to_kernel().unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        let no_addresses = ["", "localhost:80", "127.0.0.1", "unix:", "127.0.0.1:99999"];
        let nothing_passed = ["passed", "passed:", "passed:4294967296", "passed:a:b"];
        for text in no_addresses.into_iter().chain(nothing_passed) {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{text}` is no address")), "{error}");
        }
    }

    #[test]
    fn a_path_that_is_too_long_is_refused() {
        let address = Address::Unix("x".repeat(200).into());
        assert!(address.to_kernel().is_err());
    }
}
