//! The line of clients in front of a listener: closed to those who come, emptied of who stands there.
//!
//! What stands in the line when its socket closes is reset by the kernel, and so is who joins it after
//! the last was taken out. So it is closed to newcomers first. A Unix socket that is shut for reading
//! refuses them and still gives out whom it has; a TCP socket would reset those, so there the first
//! packet of a handshake is dropped instead: its client sends it again a second later, and by then is
//! refused, or served by the next process. A line that others take from as well is left to them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, accept_with, getsockname, shutdown};

use super::{Address, Socket};

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Where the flags stand in a TCP header.
const TCP_FLAGS_AT: u32 = 13;
/// `SYN` and `ACK` among them, which together tell the packets of a handshake apart.
const SYN_ACK: u32 = 0x12;
/// `SYN` alone: somebody new.
const SYN: u32 = 0x02;
/// What a filter keeps of a packet.
const ALL: u32 = u32::MAX;

/// The filter's program: drops what is `SYN` alone.
const NO_NEWCOMERS: [libc::sock_filter; 5] = [
    operation(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, TCP_FLAGS_AT),
    operation(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, SYN_ACK),
    // Goes over the next where it is something else.
    libc::sock_filter { jf: 1, ..operation(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, SYN) },
    operation(libc::BPF_RET | libc::BPF_K, 0),
    operation(libc::BPF_RET | libc::BPF_K, ALL),
];

#[allow(clippy::cast_possible_truncation, reason = "the codes are 16 bits wide in the kernel")]
const fn operation(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

pub(super) fn turn_away(listener: &Socket) {
    let Socket::Kernel(descriptor) = listener else { return };
    let name = getsockname(descriptor).map(Address::from_kernel);
    // Where it cannot be done a client may slip in before the close, and be reset by it.
    let _best_effort = match name {
        Ok(Ok(Address::Unix(_))) => shutdown(descriptor, Shutdown::Read).map_err(io::Error::from),
        _ => drop_newcomers(descriptor),
    };
}

fn drop_newcomers(descriptor: &OwnedFd) -> io::Result<()> {
    let mut program = NO_NEWCOMERS;
    let len = libc::c_ushort::try_from(program.len()).expect("five operations");
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let (value, size) = ((&raw const filter).cast(), size_of_val(&filter));
    let size = libc::socklen_t::try_from(size).expect("the size of a pointer and a length");
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: the kernel reads `filter`, and the `len` operations that it points to, both of which
    // live until the call has returned; it keeps a copy of its own.
    #[allow(unsafe_code, reason = "no safe crate of ours has this option")]
    let done = unsafe { libc::setsockopt(descriptor.as_raw_fd(), level, option, value, size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(super) fn take_waiting(listener: &Socket) -> io::Result<Option<Socket>> {
    let Socket::Kernel(descriptor) = listener else { return Ok(None) };
    match accept_with(descriptor, FLAGS) {
        Ok(connection) => Ok(Some(Socket::of(connection))),
        // Nobody; the second is what a Unix socket says that is shut.
        Err(Errno::AGAIN | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::time::Duration;

    use super::super::End;
    use super::super::socket::{self, ListenSpec};
    use super::*;

    fn listening(address: &str) -> Socket {
        let address = address.parse().unwrap();
        socket::listening(&ListenSpec { address, backlog: 16 }).unwrap()
    }

    fn tcp_address(listener: &Socket) -> SocketAddr {
        match socket::name(listener, End::Here).unwrap() {
            Address::Tcp(address) => address,
            other => panic!("{other} is no TCP address"),
        }
    }

    /// How many stand in the line.
    fn take_all(listener: &Socket) -> usize {
        std::iter::from_fn(|| take_waiting(listener).unwrap()).count()
    }

    #[test]
    fn who_stands_in_the_line_is_taken_and_nobody_joins_it() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = listening(address);
            let address = tcp_address(&listener);
            let inside: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
            turn_away(&listener);
            let within = Duration::from_millis(100);
            let outside = TcpStream::connect_timeout(&address, within).unwrap_err();
            assert_eq!(outside.kind(), ErrorKind::TimedOut, "{address}");
            assert_eq!((take_all(&listener), inside.len()), (3, 3), "{address}");
            drop(listener);
            let outside = TcpStream::connect(address).unwrap_err();
            assert_eq!(outside.kind(), ErrorKind::ConnectionRefused, "{address}");
        }
    }

    #[test]
    fn the_line_of_a_unix_socket_refuses_newcomers_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("line");
        let listener = listening(&format!("unix:{}", path.display()));
        let inside: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        turn_away(&listener);
        let outside = UnixStream::connect(&path).unwrap_err();
        assert_eq!(outside.kind(), ErrorKind::ConnectionRefused);
        assert_eq!((take_all(&listener), inside.len()), (3, 3));
    }

    #[test]
    fn a_line_that_others_take_from_is_left_to_them() {
        let theirs = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = Socket::Shared(Rc::new(theirs.try_clone().unwrap().into()));
        let _inside = TcpStream::connect(theirs.local_addr().unwrap()).unwrap();
        turn_away(&ours);
        assert_eq!(take_all(&ours), 0);
        let _joins = TcpStream::connect(theirs.local_addr().unwrap()).unwrap();
        for _ in 0..2 {
            theirs.accept().unwrap();
        }
    }
}
