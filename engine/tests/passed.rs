//! Goal: a socket that a service manager passed is listened on by every shard, under the address
//! that it stands at, and nothing else that came with the process is taken for one.
//! Method: each case is a process of its own, since both the environment and the descriptors are
//! the process's. A shell puts what is passed to descriptors 3 and 4, says so under its own number
//! and becomes the test; systemd's own tool does the same where it is installed.

#![allow(clippy::disallowed_methods, reason = "the peers are ordinary threads")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod child;
mod ring;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use child::{Ended, in_child_through};
use forebay::net::{Address, ListenOptions, Listener, PassedError, SocketBack};
use forebay::spawn_background;
use ring::{PATIENCE, Ring, shards};

/// Becomes the command behind it when what it was told to do first is done.
fn shell(first: &str, stdin: impl Into<OwnedFd>, stderr: Stdio) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{first}\nexec \"$0\" \"$@\""));
    shell.stdin(stdin.into()).stderr(stderr);
    shell
}

/// Listens on one shard and sends back what comes; gives where that is.
fn serve(ring: &Ring, shard: usize, address: &str) -> io::Result<Address> {
    let address: Address = address.parse().unwrap();
    ring.run(shard, move || async move {
        let listener = Listener::bind(&address, ListenOptions::default())?;
        let stands_at = listener.address().clone();
        spawn_background(async move {
            while let Ok(connection) = listener.accept().await {
                spawn_background(async move {
                    while let Ok(Some(chunk)) = connection.read().await {
                        if connection.write(chunk).await.is_err() {
                            return;
                        }
                    }
                })
                .detach();
            }
        })
        .detach();
        Ok(stands_at)
    })
}

fn round_trip(mut stream: impl Read + Write) {
    stream.write_all(b"passed").unwrap();
    let mut came = [0; 6];
    stream.read_exact(&mut came).unwrap();
    assert_eq!(&came, b"passed");
}

/// Whether a process that is started from here has a descriptor of this number.
fn is_handed_down(number: u32) -> bool {
    let test = format!("test -e /proc/self/fd/{number}");
    Command::new("sh").args(["-c", &test]).status().unwrap().success()
}

/// Made one after another on each of two sockets.
const N_CONNECTIONS: u64 = 20;

#[test]
fn every_shard_listens_on_what_was_passed() {
    const TWO: &str = "exec 3<&0 4<&2 0</dev/null 2>&1
        export LISTEN_FDS=2 LISTEN_FDNAMES=web:local LISTEN_PID=$$";
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let stands_at = tcp.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("passed.sock");
    let unix = OwnedFd::from(UnixListener::bind(&path).unwrap());
    let ended = in_child_through(shell(TWO, tcp, unix.into()), || {
        let n_shards = if ring::two_cpus() { 2 } else { 1 };
        let ring = Ring::start(shards(n_shards));
        assert!(is_handed_down(3) && is_handed_down(4), "as they came");
        let mut addresses = vec![];
        for (passed, same) in [("passed:0", "passed:web"), ("passed:local", "passed:1")] {
            let address = serve(&ring, 0, passed).unwrap();
            for shard in 1..n_shards {
                assert_eq!(serve(&ring, shard, same).unwrap(), address);
            }
            for _ in 0..N_CONNECTIONS {
                match &address {
                    Address::Tcp(address) => round_trip(TcpStream::connect(address).unwrap()),
                    Address::Unix(path) => round_trip(UnixStream::connect(path).unwrap()),
                    Address::Passed(_) => panic!("{address} tells nobody where to connect"),
                }
            }
            addresses.push(address.to_string());
        }
        assert!(!is_handed_down(3) && !is_handed_down(4), "taken by this process alone");
        if ring.engine.sockets() == SocketBack::Ring {
            let n_accepted = |shard| ring.shard(shard).net.accepted;
            let least = (0..n_shards).map(n_accepted).min().unwrap();
            assert!(least >= N_CONNECTIONS / n_shards as u64, "{least} where they take turns");
        }
        ring.stop();
        // One process may have one engine after another.
        let ring = Ring::start(shards(1));
        assert_eq!(serve(&ring, 0, "passed:0").unwrap().to_string(), addresses[0]);
        ring.stop();
        addresses.join(" ")
    });
    assert_eq!(ended, Ended::Said(format!("{stands_at} unix:{}", path.display())));
}

const LISTEN: &str = "FOREBAY_TEST_LISTEN";

/// Why this process cannot listen on that address.
fn refusal(address: &str) -> String {
    let ring = Ring::start(shards(1));
    let error = serve(&ring, 0, address).unwrap_err();
    ring.stop();
    let is_typed = error.get_ref().is_some_and(|inner| inner.is::<PassedError>());
    assert!(is_typed, "{error:?}");
    format!("{:?}: {error}", error.kind())
}

#[test]
fn what_was_not_passed_is_refused_with_its_reason() {
    const ONE: &str = "export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<&0";
    let listens = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let datagrams = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    let connected = || OwnedFd::from(UnixStream::pair().unwrap().0);
    let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    type Stdin<'a> = &'a dyn Fn() -> OwnedFd;
    let cases: [(&str, Stdin<'_>, &str, &str); 9] = [
        ("unset LISTEN_FDS LISTEN_PID", &listens, "passed:0", "NotFound: no socket was passed"),
        ("export LISTEN_FDS=1 LISTEN_PID=1", &listens, "passed:0", "passed to process 1, and"),
        ("export LISTEN_FDS=-1 LISTEN_PID=$$", &listens, "passed:0", "LISTEN_FDS is `-1`"),
        (ONE, &listens, "passed:1", "NotFound: there is no `1` among the 1 sockets passed"),
        (ONE, &listens, "passed:web", "NotFound: there is no `web`"),
        (ONE, &file, "passed:0", "InvalidInput: the descriptor is no socket"),
        (ONE, &datagrams, "passed:0", "InvalidInput: the socket is none of streams"),
        (ONE, &connected, "passed:0", "InvalidInput: the socket does not listen"),
        // By the time that it is asked for, the process has opened something there itself.
        (
            "export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<&-",
            &listens,
            "passed:0",
            "InvalidInput: descriptor 3 belongs to something else",
        ),
    ];
    for (first, stdin, address, wanted) in cases {
        let mut shell = shell(first, stdin(), Stdio::piped());
        shell.env(LISTEN, address);
        let ended = in_child_through(shell, || refusal(&std::env::var(LISTEN).unwrap()));
        let Ended::Said(said) = &ended else { panic!("{first}: {ended:?}") };
        assert!(said.contains(wanted), "{first}, {address}: {said}");
    }
}

/// Whether systemd's tool is there, which is a package of its own in some systems.
fn has_systemd() -> bool {
    let has_it = Command::new(ACTIVATE).arg("--version").output().is_ok();
    if !has_it {
        let required = std::env::var("FOREBAY_REQUIRE_SERVERS").is_ok_and(|set| set == "1");
        assert!(!required, "FOREBAY_REQUIRE_SERVERS=1 asks for {ACTIVATE}");
        eprintln!("skipped: there is no {ACTIVATE}");
    }
    has_it
}

const ACTIVATE: &str = "systemd-socket-activate";

#[test]
fn systemd_starts_a_service_with_its_socket_at_the_first_connection() {
    if !has_systemd() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("activated.sock");
    // It starts the service with an environment of its own, but for what it is told.
    let mut systemd = Command::new(ACTIVATE);
    systemd.arg("--listen").arg(&path).args(["--fdname=web", "-E", "FOREBAY_TEST_CHILD=1"]);
    let client = std::thread::spawn(move || {
        let begun = Instant::now();
        let stream = loop {
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        round_trip(stream);
    });
    let ended = in_child_through(systemd, || {
        let ring = Ring::start(shards(1));
        serve(&ring, 0, "passed:web").unwrap();
        ring.wait_until(0, |shard| shard.net.closed == 1);
        ring.stop();
        "served".to_owned()
    });
    assert_eq!(ended, Ended::Said("served".to_owned()));
    client.join().unwrap();
}
