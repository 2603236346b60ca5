//! Stands between a service and its clients and spoils once what passes: the planted fault.
//!
//! A server that speaks HTTP by a proven crate cannot be made to reply twice or not at all, and its
//! clients must find that out all the same. So the wrong is done to its bytes. Two threads for each
//! connection copy them, one each way; speed is not the point here.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::Builder;

use forebay_workloads::planted::Planted;

/// Bytes copied at a time: a chunk. A small page comes in one, with its head.
const CHUNK_BYTES: usize = 64 << 10;

/// Lengths of which the first chunk is kept: the replies of a simple load have fewer.
const LENGTHS_MAX: usize = 64;

/// Starts it before the service at this address, and tells where clients are to come instead. It
/// ends with the process.
pub(super) fn start(service: SocketAddr, planted: Planted) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    Builder::new().name("relay".to_owned()).spawn(move || accept(&listener, service, planted))?;
    Ok(address)
}

fn accept(listener: &TcpListener, service: SocketAddr, planted: Planted) {
    for client in listener.incoming().flatten() {
        // A client whose connection cannot be carried on sees it close.
        let _closed = relay(client, service, planted);
    }
}

fn relay(client: TcpStream, service: SocketAddr, planted: Planted) -> io::Result<()> {
    let server = TcpStream::connect(service)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    Builder::new().name("relay-there".to_owned()).spawn(move || {
        carry(from_client, to_server, Spoiler::new(None));
    })?;
    Builder::new().name("relay-back".to_owned()).spawn(move || {
        carry(server, client, Spoiler::new(Some(planted)));
    })?;
    Ok(())
}

/// Carries bytes until either side has closed, and closes both.
fn carry(mut from: TcpStream, mut to: TcpStream, mut spoiler: Spoiler) {
    let mut bytes = vec![0; CHUNK_BYTES];
    while let Ok(n_bytes @ 1..) = from.read(&mut bytes) {
        let Some(times) = spoiler.pass(&mut bytes[..n_bytes]) else { break };
        if (0..times).any(|_| to.write_all(&bytes[..n_bytes]).is_err()) {
            break;
        }
    }
    // One of them may be closed already.
    let _closed = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// What becomes of the chunks of one connection and direction.
struct Spoiler {
    planted: Option<Planted>,
    n_chunks: u32,
    /// The first chunk of each length, where one of them is to come again.
    first: Vec<Vec<u8>>,
}

impl Spoiler {
    fn new(planted: Option<Planted>) -> Self {
        Self { planted, n_chunks: 0, first: Vec::new() }
    }

    /// How often a chunk is passed on; `None` closes.
    fn pass(&mut self, chunk: &mut [u8]) -> Option<u32> {
        self.n_chunks = self.n_chunks.saturating_add(1);
        match self.planted {
            Some(Planted::SpoilChunk(number)) if number == self.n_chunks => {
                let last = chunk.last_mut().expect("a chunk that was read has bytes");
                *last ^= 1;
                Some(1)
            }
            Some(Planted::RepeatChunk(number)) if number == self.n_chunks => Some(2),
            Some(Planted::WithholdChunk(number)) if number == self.n_chunks => Some(0),
            Some(Planted::CloseAtChunk(number)) if number == self.n_chunks => None,
            Some(Planted::OldChunk(number)) => {
                self.pass_old(chunk, number);
                Some(1)
            }
            _ => Some(1),
        }
    }

    /// Puts the first chunk of its length in a chunk's place, from the n-th on, if that changes it.
    fn pass_old(&mut self, chunk: &mut [u8], number: u32) {
        match self.first.iter().find(|first| first.len() == chunk.len()) {
            Some(first) if self.n_chunks >= number && first != chunk => {
                chunk.copy_from_slice(first);
                self.planted = None;
            }
            Some(_) => {}
            None if self.first.len() < LENGTHS_MAX => self.first.push(chunk.to_vec()),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_chunk_that_is_named_is_wronged() {
        let pass = |planted| {
            let mut spoiler = Spoiler::new(planted);
            [(); 3].map(|()| {
                let mut chunk = [7, 7];
                (spoiler.pass(&mut chunk), chunk[1])
            })
        };
        assert_eq!(pass(None), [(Some(1), 7); 3]);
        let spoiled = pass(Some(Planted::SpoilChunk(2)));
        assert_eq!(spoiled, [(Some(1), 7), (Some(1), 6), (Some(1), 7)]);
        assert_eq!(pass(Some(Planted::RepeatChunk(1)))[0], (Some(2), 7));
        assert_eq!(pass(Some(Planted::WithholdChunk(3)))[2], (Some(0), 7));
        assert_eq!(pass(Some(Planted::CloseAtChunk(1)))[0], (None, 7));
    }
    #[test]
    fn an_old_chunk_comes_once_in_the_place_of_another_of_its_length() {
        let mut spoiler = Spoiler::new(Some(Planted::OldChunk(3)));
        let passed = ["a1", "b", "a1", "a2", "a3"].map(|chunk| {
            let mut chunk = chunk.as_bytes().to_vec();
            assert_eq!(spoiler.pass(&mut chunk), Some(1));
            String::from_utf8(chunk).unwrap()
        });
        assert_eq!(passed, ["a1", "b", "a1", "a1", "a3"]);
    }
}
