//! The memcached server: a port or a path that any client speaks to, and no other server needed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;

use super::server::{Server, get};

/// What is answered to these commands, of which the last ends the connection.
fn told(mut stream: impl Read + Write, commands: &str) -> String {
    stream.write_all(commands.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_client_stores_and_reads_and_the_admin_pages_tell_of_it() {
    let temporary = tempfile::tempdir().unwrap();
    let mut server = Server::start("cacheproxy.json", temporary.path(), &[]);
    let (admin, port) = (server.said("admin"), server.said("ready"));
    let commands = "set a 5 0 3\r\nabc\r\nget a b\r\nmg a v\r\nquit\r\n";
    let answer = told(TcpStream::connect(&port).unwrap(), commands);
    assert_eq!(answer, "STORED\r\nVALUE a 5 3\r\nabc\r\nEND\r\nVA 3\r\nabc\r\n");
    let page = get(&admin, "/metrics");
    let calls =
        page.lines().find(|line| line.starts_with("forebay_stage_offered_total{stage=\"cache\""));
    // A set, two keys of a get, and a meta get.
    assert!(calls.is_some_and(|line| line.ends_with(" 4")), "{calls:?}");
    for told in [
        r#"commands_total{shard="0",command="set",status="hit"} 1"#,
        r#"commands_total{shard="0",command="get",status="hit"} 2"#,
        r#"commands_total{shard="0",command="get",status="miss"} 1"#,
        r#"connections_total{shard="0"} 1"#,
        r#"items_total{shard="0"} 1"#,
        r#"current_items{shard="0"} 1.0"#,
    ] {
        let told = format!("forebay_cache_{told}");
        assert!(page.lines().any(|line| line == told), "{told} is not in\n{page}");
    }
    assert!(get(&admin, "/ready").starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(server.end(Signal::TERM), Some(0));
}

#[test]
fn a_stop_lets_idle_clients_go_and_takes_its_path_away() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("cache.sock");
    let listen = format!("unix:{}", path.display());
    let mut server = Server::start("cacheproxy.json", temporary.path(), &["--listen", &listen]);
    let _admin = server.said("admin");
    assert_eq!(server.said("ready"), listen);
    let mut idle = UnixStream::connect(&path).unwrap();
    idle.write_all(b"version\r\n").unwrap();
    let mut replies = BufReader::new(idle);
    let mut version = String::new();
    replies.read_line(&mut version).unwrap();
    assert!(version.starts_with("VERSION "), "{version:?}");
    server.tell(Signal::INT);
    // Its connection ends like any that a server closes: with everything read.
    assert_eq!(replies.read(&mut [0]).unwrap(), 0);
    assert_eq!(server.ended(), (Some(0), String::new()));
    assert!(!path.exists());
}

#[test]
fn a_service_that_cannot_be_set_up_says_where_and_what_to_do() {
    for (set, place, remedy) in [
        ("workload.cacheproxy.service.l1.memcached={}", "service.l1", "servers"),
        ("workload.cacheproxy.service.limits.drain_ms=0", "/limits/drain_ms", "at least 1"),
        ("workload.cacheproxy.service.l1.embedded.bytes_max=1", "/bytes_max", "at least"),
        ("workload.cacheproxy.service.orchestration=l1_l2", "/orchestration", "give `l2`"),
    ] {
        let temporary = tempfile::tempdir().unwrap();
        let server = Server::start("cacheproxy.json", temporary.path(), &["--set", set]);
        let (code, complaint) = server.ended();
        assert!(code.is_some_and(|code| code != 0), "{set}: {code:?}");
        assert!(complaint.contains(place) && complaint.contains(remedy), "{set}: {complaint}");
    }
}
