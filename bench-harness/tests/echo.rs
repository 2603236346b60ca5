//! Goal: every server of the echo workload, ours and the peers', sends back every byte and is
//! measured from outside; a reply that is wrong cannot pass; `serve` serves anybody.
//! Method: small fixed numbers of requests through the binary, as the parent starts its children,
//! and plain sockets for `serve`. What is asserted are counts and checks, never times.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod binary;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bench_harness::dump::{self, Repetition};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use binary::{BINARY, harness, is_of_the_host, run_quick, said, start_cell, workloads};

/// One repetition, as the parent asks a child for it.
struct Cell {
    echo: Value,
    engine: Value,
    peer: Option<&'static str>,
    arrival: Value,
    requests: u64,
}

impl Cell {
    fn of(echo: Value) -> Self {
        let arrival = json!({"each_connection": {"in_flight": 1}});
        Self { echo, engine: json!({"shards": 1}), peer: None, arrival, requests: 400 }
    }

    fn reply(&self) -> Value {
        let phase = |role: &str, requests: u64| json!({"name": role, "role": role, "arrival": self.arrival, "until": {"requests": requests}});
        let spec = json!({
            "cell_id": "measure",
            "base_dir": workloads(),
            "seed": 7,
            "repetition": 0,
            "peer": self.peer,
            "engine": self.engine,
            "workload": {"echo": self.echo},
            "stages": {},
            "warmups": [phase("warmup", 40)],
            "phase": phase("measure", self.requests),
        });
        binary::reply(start_cell(&spec))
    }

    /// Runs, and checks that every request completed and was verified.
    fn completes(&self) -> Repetition {
        let repetition = binary::repetition(self.reply());
        let (ops, n) = (&repetition.ops, self.requests);
        // A host too busy for a small rate is not what these tests are about.
        let wrong = repetition.invalid_reasons.iter().find(|why| !is_of_the_host(why));
        assert_eq!(wrong, None);
        assert_eq!(
            (ops.offered, ops.completed, ops.verified, ops.in_flight_at_end),
            (n, n, n, 0),
            "{:?}",
            repetition.errors_by_kind
        );
        repetition
    }
}

#[test]
fn every_message_comes_back_by_either_way_to_the_sockets() {
    for sockets in ["auto", "readiness"] {
        let engine = json!({"shards": 1, "sockets": sockets});
        let repetition = Cell { engine, ..Cell::of(json!({"connections": 20})) }.completes();
        if sockets == "readiness" {
            assert_eq!(repetition.sockets.value().map(String::as_str), Some("readiness"));
        }
        assert!(!repetition.generator_in_subject);
        let [shard] = &repetition.shards[..] else { panic!("{:?}", repetition.shards) };
        assert_eq!(shard.ops, 400);
        assert!(repetition.per_op.get("cpu_ns").unwrap().value().unwrap().value.get() > 0.0);
        assert!(repetition.memory.max_rss_bytes.value().is_some());
        for side in ["server_busy_percent", "client_busy_percent"] {
            assert!(repetition.extra[side].value.get().is_some_and(|busy| busy > 0.0), "{side}");
        }
        // Counted, or a reason is given: most hosts keep the counter from ordinary users.
        let calls = repetition.per_op.get("system_calls").unwrap();
        assert!(calls.value().is_some() || calls.reason().is_some_and(|why| !why.is_empty()));
    }
}

#[test]
fn long_messages_and_deep_pipelines_come_back_in_order() {
    for (message_bytes, in_flight) in [(16, 1_000), (64, 8), (16_384, 3)] {
        let echo =
            json!({"connections": 5, "protocol": {"bytes": {"message_bytes": message_bytes}}});
        let arrival = json!({"each_connection": {"in_flight": in_flight}});
        Cell { arrival, ..Cell::of(echo) }.completes();
    }
}

#[test]
fn requests_by_a_schedule_and_in_one_loop_are_all_answered() {
    for arrival in [
        json!({"poisson": {"rate_per_s": 2_000}}),
        json!({"constant": {"rate_per_s": 2_000}}),
        json!({"closed": {"in_flight": 7}}),
    ] {
        Cell { arrival, ..Cell::of(json!({"connections": 10})) }.completes();
    }
}

#[test]
fn a_busy_shard_still_answers() {
    Cell::of(json!({"connections": 10, "busy_us": 200})).completes();
}

#[test]
fn several_shards_share_one_port() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let engine = json!({"shards": cpus.min(2)});
    let repetition = Cell { engine, ..Cell::of(json!({"connections": 20})) }.completes();
    let shared = repetition.invalid_reasons.iter().any(|why| why.contains("the clients share CPU"));
    assert_eq!(shared, cpus <= 2);
}

#[test]
fn a_hundred_connections_tell_their_memory_and_fewer_do_not() {
    let memory = |connections: u32| {
        let repetition = Cell::of(json!({"connections": connections})).completes();
        repetition.extra["connection_resident_bytes"].value.clone()
    };
    assert!(memory(200).get().is_some());
    assert!(memory(20).reason().unwrap().contains("fewer than 100"));
}

#[cfg(feature = "http")]
#[test]
fn every_page_is_served_and_checked() {
    let cell = Cell::of(json!({"connections": 8, "protocol": "http"}));
    cell.completes();
    let arrival = json!({"each_connection": {"in_flight": 5}});
    Cell { arrival, ..cell }.completes();
}

#[cfg(not(feature = "http"))]
#[test]
fn pages_in_a_build_without_them_are_named() {
    let reply = Cell::of(json!({"connections": 8, "protocol": "http"})).reply();
    let why = reply["error"]["not_built"].as_str().unwrap_or_default();
    assert!(why.contains("cargo feature `http`"), "{reply}");
}

#[cfg(feature = "peers")]
#[test]
fn every_peer_sends_back_every_byte() {
    for (peer, sockets) in [("tokio", "tokio"), ("epoll", "epoll"), ("glommio_stream", "glommio")] {
        for echo in [
            json!({"connections": 20}),
            json!({"connections": 3, "protocol": {"bytes": {"message_bytes": 16_384}}}),
            json!({"connections": 5, "busy_us": 20}),
        ] {
            let repetition = Cell { peer: Some(peer), ..Cell::of(echo) }.completes();
            assert_eq!(repetition.sockets.value().map(String::as_str), Some(sockets));
            assert!(repetition.shards.is_empty());
        }
    }
    let pages = json!({"connections": 4, "protocol": "http"});
    Cell { peer: Some("tokio"), ..Cell::of(pages) }.completes();
}

#[cfg(feature = "peers")]
#[test]
fn a_peer_says_what_it_is_not_built_for() {
    let spoiled = json!({"connections": 4, "protocol": {"bytes": {"spoil_one_in": 3}}});
    for (peer, echo) in [
        ("epoll", json!({"connections": 4, "protocol": "http"})),
        ("tokio_direct", json!({"connections": 4})),
        ("tokio", spoiled),
    ] {
        let reply = Cell { peer: Some(peer), ..Cell::of(echo) }.reply();
        assert!(reply["error"]["not_built"].is_string(), "{peer}: {reply}");
    }
}

#[test]
fn every_shipped_file_runs_and_every_reply_is_checked() {
    let small = r#"matrix={"workload.echo.connections":[1,20]}"#;
    for (name, more) in [
        ("echo.json", &["--set", small][..]),
        ("echo-spin.json", &[]),
        ("echo-pipelined.json", &[]),
        ("echo-busy.json", &[]),
        ("echo-open.json", &["--set", "phases.open.arrival.poisson.rate_per_s=2000"]),
        #[cfg(feature = "http")]
        ("echo-http.json", &[]),
    ] {
        let (dump, output) = run_quick(name, more);
        for cell in &dump.cells {
            let wrong = cell.invalid_reasons.iter().find(|why| !is_of_the_host(why));
            assert_eq!(wrong, None, "{name}: {}\n{}", cell.id, said(&output));
            let [repetition] = &cell.repetitions[..] else { panic!("{name}: {}", cell.id) };
            assert_eq!(repetition.ops.verified, repetition.ops.completed);
            assert!(repetition.ops.completed > 0, "{name}: {}", cell.id);
        }
    }
}

#[test]
fn a_server_that_spoils_a_byte_makes_the_run_invalid() {
    let spoil = "workload.echo.protocol.bytes.spoil_one_in=3";
    let (dump, output) = run_quick("echo-pipelined.json", &["--set", spoil, "--set", "peers=[]"]);
    assert_eq!(output.status.code(), Some(9), "{}", said(&output));
    let [cell] = &dump.cells[..] else { panic!("one cell: {:?}", dump.cells) };
    assert!(!cell.valid);
    let reasons = cell.invalid_reasons.join("\n");
    assert!(reasons.contains("verification failed"), "{reasons}");
    assert!(reasons.contains("first wrong reply: message "), "{reasons}");
    let repetition = &cell.repetitions[0];
    assert_eq!(repetition.errors_by_kind["wrong"], repetition.ops.failed);
    assert!(repetition.ops.failed > 0 && repetition.ops.completed > 0);
}

/// The reasons for which a cell with a planted fault is invalid. It has 10 connections, of which
/// each reads one chunk as a greeting, 4 in the warm-up and 40 in the measured phase.
fn reasons(planted: &Value, arrival: Option<Value>) -> String {
    let echo = json!({"connections": 10, "protocol": {"bytes": {"planted": planted}}});
    let cell = Cell::of(echo);
    let arrival = arrival.unwrap_or_else(|| cell.arrival.clone());
    let reply = Cell { arrival, ..cell }.reply();
    let reasons = reply["repetition"]["invalid_reasons"].as_array();
    let reasons = reasons.unwrap_or_else(|| panic!("{planted}: {reply}"));
    reasons.iter().map(|reason| reason.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn connections_that_break_in_any_stretch_make_the_run_invalid() {
    let seven = json!({"closed": {"in_flight": 7}});
    let constant = json!({"constant": {"rate_per_s": 2_000}});
    // By a schedule, what is due while a busy host stands still comes back in one chunk: the third of
    // the measured phase is soon enough to be reached.
    for (chunk, arrival, n_broken) in
        [(1, None, 10), (3, Some(seven.clone()), 7), (20, Some(seven), 7), (8, Some(constant), 10)]
    {
        let told = reasons(&json!({"close_at_chunk": chunk}), arrival);
        let expected = format!("{n_broken} of 10 connections broke; first: connection ");
        assert!(told.contains(&expected), "chunk {chunk}: {told}");
    }
    let planted = r#"workload.echo.protocol.bytes.planted={"close_at_chunk":10}"#;
    let (dump, output) = run_quick("echo-pipelined.json", &["--set", planted, "--set", "peers=[]"]);
    assert_eq!(output.status.code(), Some(9), "{}", said(&output));
    assert!(!dump.cells[0].valid);
}

#[test]
fn one_wrong_reply_in_any_stretch_makes_the_run_invalid() {
    for (chunk, expected) in [
        (1, "10 wrong replies outside the measured window\nfirst wrong reply: message 0 of"),
        (3, "10 wrong replies outside the measured window\nfirst wrong reply: message 2 of"),
        (45, "verification failed: 10 wrong replies\nfirst wrong reply: message 44 of"),
    ] {
        let told = reasons(&json!({"spoil_chunk": chunk}), None);
        assert!(told.contains(expected), "chunk {chunk}: {told}");
    }
}

#[test]
fn replies_that_nobody_asked_for_are_wrong_and_not_lost_connections() {
    for chunk in [1, 3, 20, 45] {
        let told = reasons(&json!({"repeat_chunk": chunk}), None);
        assert!(told.contains("verification failed: "), "chunk {chunk}: {told}");
        assert!(told.contains("first wrong reply: "), "chunk {chunk}: {told}");
        assert!(!told.contains("broke"), "chunk {chunk}: {told}");
    }
}

/// A server started by `serve`, killed if the test fails.
struct Server(Child);

impl Server {
    /// Starts it and reads where it listens.
    fn start(args: &[&str]) -> (Self, String) {
        Self::start_by(Command::new(BINARY).arg("serve").args(args))
    }

    /// Starts it with a socket that listens, as a service manager does.
    fn start_passed(socket: OwnedFd, args: &[&str]) -> (Self, String) {
        const PASS: &str = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", PASS, "sh", BINARY, "serve"]).args(args);
        Self::start_by(shell.args(["--listen", "passed:0"]).stdin(socket))
    }

    fn start_by(command: &mut Command) -> (Self, String) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::with_capacity(1, stdout).read_line(&mut line).unwrap();
        let address = line.strip_prefix("ready ").unwrap_or_else(|| panic!("said {line:?}"));
        (Self(child), address.trim_end().to_owned())
    }

    /// Asks it to end, and waits for that.
    fn end(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let status = self.0.wait().unwrap();
        let mut rest = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "stdout carries the asked lines only");
        status.code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Sends bytes from an ordinary client and expects them back, then the end.
fn expect_echo(mut stream: impl Read + Write, finish: impl Fn()) {
    stream.write_all(b"any client can check it").unwrap();
    finish();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    assert_eq!(back, "any client can check it");
}

fn expect_echo_from(address: &str) {
    let stream = TcpStream::connect(address).unwrap();
    let also = stream.try_clone().unwrap();
    expect_echo(stream, || also.shutdown(Shutdown::Write).unwrap());
}

#[test]
fn serve_says_where_and_ends_well_on_either_signal() {
    let file = workloads().join("echo.json");
    let file = file.to_str().unwrap();
    for (signal, more) in [
        (Signal::TERM, &[][..]),
        (Signal::INT, &["--listen", "localhost:0", "--set", "engine.sockets=readiness"]),
    ] {
        let (server, address) = Server::start(&[&[file], more].concat());
        for _ in 0..3 {
            expect_echo_from(&address);
        }
        assert_eq!(server.end(signal), Some(0));
    }
}

#[test]
fn serve_with_several_shards_listens_on_one_port() {
    let shards = std::thread::available_parallelism().unwrap().get().min(2);
    let set = format!("engine.shards={shards}");
    let file = workloads().join("echo.json");
    let (server, address) = Server::start(&[file.to_str().unwrap(), "--set", &set]);
    for _ in 0..20 {
        expect_echo_from(&address);
    }
    // A client that stays open does not keep the server from ending.
    let _open = TcpStream::connect(&address).unwrap();
    assert_eq!(server.end(Signal::TERM), Some(0));
}

#[test]
fn serve_listens_on_a_path() {
    let dir = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", dir.path().join("echo.sock").display());
    let file = workloads().join("echo.json");
    let (server, address) = Server::start(&[file.to_str().unwrap(), "--listen", &listen]);
    assert_eq!(address, listen);
    let path = address.strip_prefix("unix:").unwrap();
    let second = harness(&["serve", file.to_str().unwrap(), "--listen", &listen]);
    let told = said(&second);
    assert_eq!(second.status.code(), Some(1), "{told}");
    assert!(told.contains("remove the file ") && told.contains(path), "{told}");
    let stream = UnixStream::connect(path).unwrap();
    let also = stream.try_clone().unwrap();
    expect_echo(stream, || also.shutdown(Shutdown::Write).unwrap());
    assert_eq!(server.end(Signal::TERM), Some(0));
    assert!(!Path::new(path).exists());
    let (again, _) = Server::start(&[file.to_str().unwrap(), "--listen", &listen]);
    assert_eq!(again.end(Signal::TERM), Some(0));
}

#[test]
fn serve_listens_on_a_socket_that_was_passed() {
    let shards = std::thread::available_parallelism().unwrap().get().min(2);
    let set = format!("engine.shards={shards}");
    let file = workloads().join("echo.json");
    let file = file.to_str().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (server, address) =
        Server::start_passed(tcp.try_clone().unwrap().into(), &[file, "--set", &set]);
    assert_eq!(address, tcp.local_addr().unwrap().to_string());
    for _ in 0..20 {
        expect_echo_from(&address);
    }
    assert_eq!(server.end(Signal::TERM), Some(0));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("echo.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let (server, address) = Server::start_passed(unix.into(), &[file]);
    assert_eq!(address, format!("unix:{}", path.display()));
    let stream = UnixStream::connect(&path).unwrap();
    let also = stream.try_clone().unwrap();
    expect_echo(stream, || also.shutdown(Shutdown::Write).unwrap());
    assert_eq!(server.end(Signal::TERM), Some(0));
    assert!(path.exists(), "the path belongs to whoever has opened the socket");

    let none = harness(&["serve", file, "--listen", "passed:0"]);
    let told = said(&none);
    assert_eq!(none.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot listen on passed:0") && told.contains("LISTEN_FDS"), "{told}");
}

#[test]
fn serve_can_be_stopped_from_the_moment_it_says_ready() {
    let file = workloads().join("echo.json");
    for _ in 0..10 {
        let (server, _) = Server::start(&[file.to_str().unwrap()]);
        assert_eq!(server.end(Signal::TERM), Some(0));
    }
}

#[test]
fn a_low_limit_of_open_files_costs_only_the_cells_that_need_more() {
    let results = tempfile::tempdir().unwrap();
    let dir = results.path().to_str().unwrap();
    let file = workloads().join("echo-pipelined.json");
    let output = Command::new("sh")
        .args(["-c", r#"ulimit -n 300; exec "$0" "$@""#, BINARY, "run", file.to_str().unwrap()])
        .args(["--quick", "--repetitions", "1", "--results-dir", dir, "--set", "peers=[]"])
        .args(["--set", r#"matrix={"workload.echo.connections":[200,2]}"#])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let dumps = std::fs::read_dir(results.path().join("echo-pipelined")).unwrap();
    let dump = dump::read(&dumps.last().unwrap().unwrap().path()).unwrap();
    let [many, few] = &dump.cells[..] else { panic!("two cells: {:?}", dump.cells) };
    assert!(many.repetitions.is_empty() && few.repetitions.len() == 1);
    let why = many.invalid_reasons.join("\n");
    assert!(why.contains("456 open files are needed and 300 allowed; raise `ulimit -Hn`"), "{why}");
}

#[test]
fn serve_refuses_what_it_cannot_serve() {
    let file = |name: &str| workloads().join(name).to_str().unwrap().to_owned();
    let (echo, units) = (file("echo.json"), file("units.json"));
    for (args, code, part) in [
        (vec!["serve", &units], 2, "units is no service"),
        (vec!["serve", &echo, "--admin", "127.0.0.1:0"], 2, "has no admin pages"),
        (vec!["serve", &echo, "--listen", "nowhere"], 2, "neither HOST:PORT"),
        (vec!["serve", &echo, "--set", "workload.echo.connections=0"], 3, "between 1 and"),
        (vec!["serve", "nowhere.json"], 3, "cannot be read"),
    ] {
        let output = harness(&args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(part), "{args:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}
