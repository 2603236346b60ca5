//! The staged workload: its pages, and a file set that it leaves behind nowhere.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::server::{Server, get};

fn start(temporary: &Path, more: &[&str]) -> Server {
    Server::start("staged.json", temporary, more)
}

/// The status line of a page, asked on a connection of its own.
fn status(address: &str, target: &str) -> String {
    get(address, target).lines().next().unwrap().to_owned()
}

/// What the server says that it has sent.
fn sent_bytes(admin: &str) -> u64 {
    let page = get(admin, "/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix("forebay_sent_bytes_total"));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_staged_server_says_where_it_is_and_leaves_nothing_behind() {
    for (signal, more) in [(Signal::TERM, &[][..]), (Signal::INT, &["--admin", "localhost:0"])] {
        let temporary = tempfile::tempdir().unwrap();
        let mut server = start(temporary.path(), more);
        let (admin, pages) = (server.said("admin"), server.said("ready"));
        assert_eq!(status(&pages, "/front"), "HTTP/1.1 200 OK");
        assert_eq!(status(&pages, "/file/dir00003/class3_9"), "HTTP/1.1 200 OK");
        assert_eq!(status(&admin, "/ready"), "HTTP/1.1 200 OK");
        let files = || std::fs::read_dir(temporary.path()).unwrap().count();
        assert_eq!(files(), 1, "the file set");
        // A client that stays connected does not keep it from ending.
        let _idle = TcpStream::connect(&pages).unwrap();
        assert_eq!(server.end(signal), Some(0));
        assert_eq!(files(), 0);
    }
}

#[test]
fn a_stop_waits_for_a_reply_as_long_as_a_request_may_take() {
    let temporary = tempfile::tempdir().unwrap();
    let slow = [
        "--set=workload.staged.dynamic.service_us=6000000",
        "--set=workload.staged.dynamic.spread=fixed",
        "--set=stages.dynamic.run_max_ms=9000",
    ];
    let mut server = start(temporary.path(), &slow);
    let (_, pages) = (server.said("admin"), server.said("ready"));
    let mut socket = TcpStream::connect(&pages).unwrap();
    socket.write_all(b"GET /dynamic/1 HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
    // What came before this one has been read when it is answered.
    assert_eq!(status(&pages, "/front"), "HTTP/1.1 200 OK");
    server.tell(Signal::TERM);
    let mut reply = Vec::new();
    socket.read_to_end(&mut reply).unwrap();
    let head = String::from_utf8_lossy(&reply);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head:?}");
    assert_eq!(server.ended(), (Some(0), String::new()));
}

#[test]
fn what_a_stop_cuts_off_is_said_and_the_program_fails() {
    const REPLIES: usize = 100;
    let temporary = tempfile::tempdir().unwrap();
    let short =
        ["--set=workload.staged.limits.head_ms=100", "--set=workload.staged.limits.request_ms=100"];
    let mut server = start(temporary.path(), &short);
    let (admin, pages) = (server.said("admin"), server.said("ready"));
    // Reads nothing: what it asked fills the kernel's buffers, and the server waits.
    let mut greedy = TcpStream::connect(&pages).unwrap();
    let head = "GET /file/dir00000/class3_9 HTTP/1.1\r\nhost: here\r\n\r\n";
    greedy.write_all(head.repeat(REPLIES).as_bytes()).unwrap();
    greedy.peek(&mut [0]).unwrap();
    let (mut before, mut sent) = (0, sent_bytes(&admin));
    while sent > before {
        // Every reading takes a turn of the server's, which sends what can be sent.
        thread::sleep(Duration::from_millis(100));
        (before, sent) = (sent, sent_bytes(&admin));
    }
    server.tell(Signal::TERM);
    let (code, complaint) = server.ended();
    assert_eq!(code, Some(1), "{complaint}");
    assert!(
        complaint.contains("the stop cut off") && complaint.contains("1 requests"),
        "{complaint}"
    );
}
