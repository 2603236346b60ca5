//! Opening sockets and asking about them: the calls that complete at once, for both kernel backs.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::sockopt;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};
use rustix::net::{bind, getpeername, getsockname, listen, shutdown, socket_with};

use super::{Address, End, How, Socket, passed};

/// A socket that is to listen.
#[derive(Clone, Debug)]
pub(crate) struct ListenSpec {
    pub(crate) address: Address,
    pub(crate) backlog: u32,
}

/// Which direction of a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Write,
    Both,
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

pub(super) fn listening(spec: &ListenSpec) -> io::Result<Socket> {
    if let Address::Passed(which) = &spec.address {
        return adopted(passed::duplicate(which)?);
    }
    // What cannot be bound is refused before anything is opened.
    let address = spec.address.to_kernel()?;
    let socket = stream(address.address_family())?;
    if let Address::Tcp(_) = spec.address {
        // Every shard listens on the same address, and a service restarted at once gets its port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        // What is accepted inherits it.
        sockopt::set_tcp_nodelay(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, i32::try_from(spec.backlog).unwrap_or(i32::MAX))?;
    Ok(Socket::of(socket))
}

/// Takes over a socket that listens; only the flags that a ring needs are set on it.
pub(super) fn adopted(descriptor: OwnedFd) -> io::Result<Socket> {
    passed::check_listens(&descriptor)?;
    rustix::io::ioctl_fionbio(&descriptor, true)?;
    if Address::from_kernel(getsockname(&descriptor)?).is_ok_and(|a| matches!(a, Address::Tcp(_))) {
        sockopt::set_tcp_nodelay(&descriptor, true)?;
    }
    Ok(Socket::Shared(Rc::new(descriptor)))
}

pub(super) fn connecting(to: &Address, from: Option<IpAddr>) -> io::Result<Socket> {
    let socket = stream(to.to_kernel()?.address_family())?;
    if let Address::Tcp(_) = to {
        sockopt::set_tcp_nodelay(&socket, true)?;
    }
    if let Some(from) = from {
        bind_without_port(&socket)?;
        bind(&socket, &SocketAddr::new(from, 0))?;
    }
    Ok(Socket::of(socket))
}

/// Leaves the choice of a port to the connect, which may take one that has another server: choosing
/// one at the bind takes the kernel milliseconds when thousands are in use.
fn bind_without_port(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (value, len) = ((&raw const on).cast(), size_of_val(&on));
    let len = libc::socklen_t::try_from(len).expect("the size of an int");
    let option = libc::IP_BIND_ADDRESS_NO_PORT;
    // SAFETY: the kernel reads `len` bytes of an int that lives until the call has returned.
    #[allow(unsafe_code, reason = "no safe crate of ours has this option")]
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, option, value, len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn stream(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(socket_with(family, SocketType::STREAM, FLAGS, None)?)
}

pub(super) fn end(socket: &Socket, side: Side) -> io::Result<()> {
    let how = match side {
        Side::Write => Shutdown::Write,
        Side::Both => Shutdown::Both,
    };
    Ok(shutdown(socket.kernel(), how)?)
}

/// A reset is a close that lingers for no time at all.
pub(super) fn prepare_close(socket: &Socket, how: How) {
    if how == How::Reset {
        // One that is not connected any more has nothing to reset.
        let _unconnected = sockopt::set_socket_linger(socket.kernel(), Some(Duration::ZERO));
    }
}

pub(super) fn name(socket: &Socket, end: End) -> io::Result<Address> {
    match end {
        End::Here => Address::from_kernel(getsockname(socket.kernel())?),
        End::There => {
            Address::from_kernel(getpeername(socket.kernel())?.ok_or(io::ErrorKind::NotConnected)?)
        }
    }
}

impl Socket {
    pub(super) fn of(descriptor: OwnedFd) -> Self {
        Self::Kernel(Rc::new(descriptor))
    }

    /// The descriptor; a kernel back is given no other sockets than its own.
    pub(super) fn kernel(&self) -> &Rc<OwnedFd> {
        match self {
            Self::Kernel(descriptor) | Self::Shared(descriptor) => descriptor,
            Self::Simulated(number) => panic!("socket {number} is simulated"),
        }
    }

    /// The number; the simulation and the script are given no other sockets than their own.
    pub(super) fn simulated(&self) -> u32 {
        match self {
            Self::Kernel(descriptor) | Self::Shared(descriptor) => {
                panic!("{descriptor:?} is the kernel's")
            }
            Self::Simulated(number) => *number,
        }
    }
}

/// A second descriptor of the same thing, as a type that only takes a raw one.
pub(crate) fn adopt_as<T: FromRawFd>(descriptor: impl AsFd) -> io::Result<T> {
    let owned = rustix::io::fcntl_dupfd_cloexec(descriptor, 0)?;
    // SAFETY: the descriptor is open and owned by nobody else: it was made just above, and
    // `into_raw_fd` gives the ownership up.
    #[allow(unsafe_code, reason = "glommio's streams take raw descriptors only")]
    Ok(unsafe { T::from_raw_fd(owned.into_raw_fd()) })
}
