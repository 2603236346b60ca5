//! Which back carries a shard's sockets: asked of the kernel by trying, at start.

use std::fmt;
use std::io;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::readiness::Readiness;
use super::uring::Uring;
use super::{Completion, Kind, Op, Outcome, Pool, Ring, Socket, Token};
use crate::limits::Limits;

/// Which back an engine is to use for its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sockets {
    /// The ring where the kernel has what it needs, else readiness.
    #[default]
    Auto,
    /// A ring of the shard's own, else the engine does not start.
    Ring,
    /// Readiness (`epoll`), as on kernels before Linux 6.1.
    Readiness,
}

impl Sockets {
    /// Decides by what came of trying the ring; an error is what the ring lacks.
    pub(crate) fn choose(self, ring: &Result<(), String>) -> Result<SocketBack, String> {
        match (self, ring) {
            (Self::Auto | Self::Ring, Ok(())) => Ok(SocketBack::Ring),
            (Self::Auto, Err(_)) | (Self::Readiness, _) => Ok(SocketBack::Readiness),
            (Self::Ring, Err(missing)) => Err(missing.clone()),
        }
    }
}

/// Which back an engine's sockets stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketBack {
    /// An io_uring of each shard's own.
    Ring,
    /// Readiness, and a system call for each read and write.
    Readiness,
    /// A simulation's network in memory.
    Simulated,
}

impl fmt::Display for SocketBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring => "ring",
            Self::Readiness => "readiness",
            Self::Simulated => "simulated",
        })
    }
}

/// Opens the back of one shard, on that shard's thread.
pub(crate) fn open(back: SocketBack, limits: &Limits) -> io::Result<Box<dyn Ring>> {
    let pool = Pool::new(limits.net_buffer_bytes, usize::from(limits.net_buffers));
    match back {
        SocketBack::Ring => Ok(Box::new(Uring::new(limits.net_buffers, &pool)?)),
        SocketBack::Readiness => Ok(Box::new(Readiness::new(limits.net_buffers, &pool)?)),
        SocketBack::Simulated => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Tries on this thread what the ring needs; else says what is missing.
pub(crate) fn try_ring() -> Result<(), String> {
    const BUFFERS: u16 = 2;
    let pool = Pool::new(8, 0);
    let ring = Uring::new(BUFFERS, &pool);
    let mut ring = ring.map_err(|error| {
        format!("ring with deferred completions and provided buffers (Linux 6.1): {error}")
    })?;
    match receive_one(&mut ring) {
        Ok(Completion { more: true, outcome: Outcome::Received(Ok(chunk)), .. })
            if *chunk == *b"?" =>
        {
            Ok(())
        }
        Ok(other) => Err(format!("multishot receive (Linux 6.0): it gave {other:?}")),
        Err(error) => Err(format!("multishot receive (Linux 6.0): {error}")),
    }
}

fn receive_one(ring: &mut Uring) -> io::Result<Completion> {
    let (here, there) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::io::write(there, b"?")?;
    let here = Socket::of(here);
    ring.push(Token::new(1 << 32, Kind::Receive), &here, Op::Receive);
    ring.try_enter()?;
    let mut completions = Vec::new();
    // The byte, and the end of the stream with the last word of the operation.
    ring.reap(2, &mut completions);
    if completions.is_empty() {
        Err(io::ErrorKind::WouldBlock.into())
    } else {
        Ok(completions.swap_remove(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_is_what_was_wished_for_as_far_as_the_kernel_has_it() {
        let missing = "multishot receive".to_owned();
        for (wish, with_ring, without) in [
            (Sockets::Auto, SocketBack::Ring, Ok(SocketBack::Readiness)),
            (Sockets::Ring, SocketBack::Ring, Err(missing.clone())),
            (Sockets::Readiness, SocketBack::Readiness, Ok(SocketBack::Readiness)),
        ] {
            assert_eq!(wish.choose(&Ok(())), Ok(with_ring), "{wish:?}");
            assert_eq!(wish.choose(&Err(missing.clone())), without, "{wish:?}");
        }
    }
}
