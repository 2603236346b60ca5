//! What stands between the service and a memcached and carries bytes badly: slowly, or not to the end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Bytes that are carried at once.
const PART_BYTES: usize = 16 << 10;

/// How answers are carried.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Carries {
    /// Each part so much later.
    Late(Duration),
    /// So many bytes on each connection, which then ends.
    Upto(usize),
}

/// A listener whose connections are carried to a memcached until this is dropped.
#[derive(Debug)]
pub(crate) struct Carrier {
    address: SocketAddr,
    is_closed: Arc<AtomicBool>,
}

impl Carrier {
    pub(crate) fn start(to: SocketAddr, carries: Carries) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_closed = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_closed);
        thread::spawn(move || {
            for client in listener.incoming() {
                if ends.load(Ordering::Acquire) {
                    return;
                }
                carry(client.unwrap(), TcpStream::connect(to).unwrap(), carries);
            }
        });
        Self { address, is_closed }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Release);
        // Wakes the listener; if it has gone already, there is nobody to wake.
        let _woken = TcpStream::connect(self.address);
    }
}

/// Two threads, which end with their connections.
fn carry(client: TcpStream, server: TcpStream, carries: Carries) {
    let (asked, answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || carry_one_way(asked, server, Carries::Upto(usize::MAX)));
    thread::spawn(move || carry_one_way(answers, client, carries));
}

fn carry_one_way(mut from: TcpStream, mut to: TcpStream, carries: Carries) {
    let mut part = [0; PART_BYTES];
    let mut left = match carries {
        Carries::Late(_) => usize::MAX,
        Carries::Upto(n_bytes) => n_bytes,
    };
    while left > 0 {
        let n_bytes = match from.read(&mut part) {
            Ok(0) => break,
            Ok(n_bytes) => n_bytes.min(left),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        if let Carries::Late(by) = carries {
            thread::sleep(by);
        }
        if to.write_all(&part[..n_bytes]).is_err() {
            break;
        }
        left -= n_bytes;
    }
    // Either may have ended already.
    let _ended = from.shutdown(Shutdown::Both);
    let _ended = to.shutdown(Shutdown::Both);
}
