//! `nutcracker` (twemproxy) on a loopback port, before some memcacheds.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::Program;
use super::running::{Running, Start};
use crate::subject::CellError;

/// Connections that wait to be accepted, as many as our listener lets wait.
const BACKLOG: u32 = 4_096;
/// How often it is started anew when somebody else has taken a port that was free.
const STARTS_MAX: u32 = 3;
/// How long it waits for a memcached, as ours does.
const TIMEOUT_MS: u32 = 1_000;

/// Starts one before the memcacheds at these addresses.
pub(crate) fn start(cpus: &[usize], backends: &[SocketAddr]) -> Result<Running, CellError> {
    let mut left = STARTS_MAX;
    loop {
        left -= 1;
        match start_once(cpus, backends) {
            Err(CellError::Setup(_)) if left > 0 => {}
            started => return started,
        }
    }
}

fn start_once(cpus: &[usize], backends: &[SocketAddr]) -> Result<Running, CellError> {
    let broken = |error: io::Error| CellError::Setup(format!("nutcracker: {error}"));
    let directory = tempfile::tempdir().map_err(broken)?;
    let [port, stats_port] = free_ports().map_err(broken)?;
    let file = |name: &str| directory.path().join(name);
    fs::write(file("settings.yml"), settings(port, backends)).map_err(broken)?;
    let args: Vec<OsString> = vec![
        "-c".into(),
        file("settings.yml").into(),
        "-o".into(),
        file("log").into(),
        "-p".into(),
        file("pid").into(),
        "-a".into(),
        Ipv4Addr::LOCALHOST.to_string().into(),
        "-s".into(),
        stats_port.to_string().into(),
    ];
    let environment = Vec::new();
    let start = Start { program: Program::Nutcracker, cpus, args, environment, directory };
    start.run(|_| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
}

/// Ports that nobody has right now: it cannot choose any itself. All are held until the last is
/// chosen, else the same one could be chosen again.
fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// One connection to each memcached, as few as it can have, and keys spread as libketama does.
fn settings(port: u16, backends: &[SocketAddr]) -> String {
    let mut text = format!(
        "cache:\n  listen: 127.0.0.1:{port}\n  hash: md5\n  distribution: ketama\n  \
         backlog: {BACKLOG}\n  timeout: {TIMEOUT_MS}\n  preconnect: true\n  \
         auto_eject_hosts: false\n  server_connections: 1\n  servers:\n"
    );
    for backend in backends {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "   - {backend}:1");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_chosen_twice() {
        // Of some 28,000 ports, so many that one of them would come again nearly always.
        let mut ports: [u16; 500] = free_ports().unwrap();
        ports.sort_unstable();
        assert!(ports.windows(2).all(|two| two[0] != two[1]), "{ports:?}");
    }

    #[test]
    fn every_memcached_stands_in_the_settings_with_the_same_weight() {
        let backends = [7, 8].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let text = settings(9, &backends);
        assert!(text.starts_with("cache:\n  listen: 127.0.0.1:9\n"), "{text}");
        assert!(text.ends_with("servers:\n   - 127.0.0.1:7:1\n   - 127.0.0.1:8:1\n"), "{text}");
    }
}
