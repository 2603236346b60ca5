//! Where a service listens and a client connects.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use rustix::net::{SocketAddrAny, SocketAddrUnix};

/// The address of a stream socket. As text: `127.0.0.1:80`, `[::1]:80`, `unix:/run/service.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP; port 0 to listen lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket at this path; the other side of one is mostly nameless, its path empty.
    Unix(PathBuf),
}

const UNIX: &str = "unix:";

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
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
            "`{}` is no address: write 127.0.0.1:80, [::1]:80 or unix:/run/service.sock",
            self.text
        )
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError { text: text.to_owned() };
        match text.strip_prefix(UNIX) {
            Some("") => Err(wrong()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| wrong()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl Address {
    /// As the kernel takes it.
    pub(super) fn to_kernel(&self) -> io::Result<SocketAddrAny> {
        Ok(match self {
            Self::Tcp(address) => SocketAddrAny::from(*address),
            Self::Unix(path) => SocketAddrUnix::new(path)?.into(),
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
        for text in ["", "localhost:80", "127.0.0.1", "unix:", "127.0.0.1:99999"] {
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
