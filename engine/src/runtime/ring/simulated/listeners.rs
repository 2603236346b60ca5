//! Who listens where.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use rustix::io::Errno;

use super::super::Address;

/// The ports that the system chooses from, as Linux has it.
const PORTS: Range<u16> = 32_768..61_000;

#[derive(Debug)]
pub(super) struct Listeners {
    /// Several sockets may listen on one TCP address, each for itself.
    sockets: BTreeMap<Address, Vec<u32>>,
    next_port: u16,
}

impl Default for Listeners {
    fn default() -> Self {
        Self { sockets: BTreeMap::new(), next_port: PORTS.start }
    }
}

impl Listeners {
    /// Lets `socket` listen; gives the address, with a free port where the system is to choose.
    pub(super) fn add(&mut self, address: &Address, socket: u32) -> io::Result<Address> {
        let address = match *address {
            Address::Tcp(address) if address.port() == 0 => {
                Address::Tcp(SocketAddr::new(address.ip(), self.free_port()))
            }
            Address::Unix(_) if self.sockets.contains_key(address) => {
                return Err(Errno::ADDRINUSE.into());
            }
            _ => address.clone(),
        };
        self.sockets.entry(address.clone()).or_default().push(socket);
        Ok(address)
    }

    pub(super) fn remove(&mut self, address: &Address, socket: u32) {
        if let Some(sockets) = self.sockets.get_mut(address) {
            sockets.retain(|other| *other != socket);
            if sockets.is_empty() {
                self.sockets.remove(address);
            }
        }
    }

    /// Those who would take a connection to `address`, in the order in which they began.
    pub(super) fn at(&self, address: &Address) -> Vec<u32> {
        let is_meant = |listens: &Address| match (listens, address) {
            (Address::Tcp(listens), Address::Tcp(to)) if listens.ip().is_unspecified() => {
                listens.port() == to.port() && listens.is_ipv4() == to.is_ipv4()
            }
            _ => listens == address,
        };
        let meant = self.sockets.iter().filter(|(listens, _)| is_meant(listens));
        meant.flat_map(|(_, sockets)| sockets.iter().copied()).collect()
    }

    /// A port on which nobody listens; each in its turn.
    pub(super) fn free_port(&mut self) -> u16 {
        for _ in PORTS {
            let port = self.next_port;
            self.next_port = if port + 1 == PORTS.end { PORTS.start } else { port + 1 };
            if !self.sockets.keys().any(|address| is_on(address, port)) {
                return port;
            }
        }
        panic!("somebody listens on each of {} ports", PORTS.len());
    }
}

fn is_on(address: &Address, port: u16) -> bool {
    matches!(address, Address::Tcp(address) if address.port() == port)
}
