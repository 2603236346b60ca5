//! The admin pages tell the truth, also while shards cannot.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use forebay::sim::SimOptions;
use forebay::{Builder, Conditioning, Phase, RequestOptions};
use forebay_workloads::admin::{Admin, Token};
use forebay_workloads::staged::config::Spread;
use serde_json::Value;

use crate::rig::{Client, Reply, Server, config, eventually};

fn start(server: &Server) -> Admin {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    Admin::start(server.engine.handle().clone(), any_port).unwrap()
}

fn request(admin: &Admin, head: &str) -> Reply {
    let mut client = Client::connect(admin.address());
    client.send(format!("{head} HTTP/1.1\r\nhost: here\r\n\r\n").as_bytes());
    client.reply()
}

fn get(admin: &Admin, path: &str) -> Reply {
    request(admin, &format!("GET {path}"))
}

fn stages(admin: &Admin) -> Value {
    let reply = get(admin, "/stages");
    assert_eq!(reply.status, 200);
    serde_json::from_slice(&reply.body).unwrap()
}

#[test]
fn pages_tell_what_the_shards_have_counted() {
    let server = Server::start(&config());
    let admin = start(&server);
    for _ in 0..3 {
        server.serves_on();
    }
    assert_eq!((get(&admin, "/health").status, get(&admin, "/ready").status), (200, 200));
    let told = stages(&admin);
    let names: Vec<&str> =
        told["stages"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cache", "file", "dynamic"]);
    let cache = &told["stages"][0]["shards"][0];
    assert_eq!((&cache["calls"], &cache["depth"]), (&4.into(), &0.into()), "{told}");
    let metrics = String::from_utf8(get(&admin, "/metrics").body).unwrap();
    for line in [
        "# TYPE forebay_stage_items counter",
        "forebay_stage_items_total{stage=\"file\",shard=\"0\"} 1",
        "forebay_stage_shed_total{stage=\"dynamic\",shard=\"0\",reason=\"queue_full\"} 0",
        "forebay_connections_accepted_total{shard=\"0\"} 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    assert_eq!(get(&admin, "/nothing").status, 404);
    assert_eq!(request(&admin, "DELETE /stages").status, 405);
    server.stop();
}

#[test]
fn a_target_is_changed_while_the_stage_runs() {
    let server = Server::start_with(&config(), 1, |builder| {
        builder.options_mut("dynamic").unwrap().conditioning = Some(Conditioning::default());
    });
    let admin = start(&server);
    let post = |path: &str| request(&admin, &format!("POST /stages/{path}")).status;
    assert_eq!(post("dynamic/target?ms=70"), 200);
    let control = stages(&admin)["stages"][2]["shards"][0]["controls"]["target_s"].clone();
    assert_eq!(control, 0.07);
    assert_eq!((post("file/target?ms=70"), post("nothing/target?ms=70")), (409, 404));
    assert_eq!((post("dynamic/target?ms=0"), post("dynamic/target")), (400, 400));
    let from_a_page =
        "POST /stages/dynamic/target?ms=1 HTTP/1.1\r\norigin: http://elsewhere\r\nx: y";
    let mut client = Client::connect(admin.address());
    client.send(format!("{from_a_page}\r\nhost: here\r\n\r\n").as_bytes());
    assert_eq!(client.reply().status, 403);
    server.stop();
}

#[test]
fn readiness_ends_when_a_stop_begins_and_health_does_not() {
    let mut config = config();
    config.dynamic.spread = Spread::Fixed;
    config.dynamic.service_us = 1_000_000;
    let server = Server::start(&config);
    let admin = start(&server);
    let mut client = server.connect();
    client.ask("/dynamic/1");
    eventually("it is made", || server.shard().stages[2].permits_out == 1);
    let handle = server.engine.handle().clone();
    let stopping = thread::spawn(move || server.stop());
    eventually("draining begins", || handle.phase(0) == Phase::Draining);
    let (ready, health) = (get(&admin, "/ready"), get(&admin, "/health"));
    assert_eq!((ready.status, ready.body, health.status), (503, b"draining".to_vec(), 200));
    assert_eq!(client.reply().status, 200);
    stopping.join().unwrap();
    assert_eq!(get(&admin, "/ready").status, 503, "also after the end");
}

#[test]
fn pages_come_while_a_shard_is_stuck_or_a_client_is_silent() {
    const STUCK: Duration = Duration::from_secs(2);
    let server = Server::start(&config());
    let admin = start(&server);
    server.serves_on();
    let stuck = || async { thread::sleep(STUCK) };
    let stuck = server.engine.handle().submit(0, RequestOptions::default(), stuck).unwrap();
    let _silent = Client::connect(admin.address());
    let begun = Instant::now();
    assert_eq!(get(&admin, "/stages").status, 200);
    assert!(begun.elapsed() < STUCK, "it waited for the shard: {:?}", begun.elapsed());
    stuck.wait().unwrap();
    server.stop();
}

#[test]
fn shards_that_do_not_answer_are_waited_for_together() {
    const SHARDS: usize = 20;
    /// What one after the other would take, at 200 ms each.
    const IN_TURN: Duration = Duration::from_secs(4);
    // In a simulation that nobody steps no shard turns.
    let sim = Builder::new().simulate(SimOptions::new(1, SHARDS)).unwrap();
    let admin = Admin::start(sim.handle().clone(), SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    for (path, status) in [("/health", 503), ("/metrics", 200), ("/stages", 200)] {
        let begun = Instant::now();
        assert_eq!(get(&admin, path).status, status, "{path}");
        assert!(begun.elapsed() < IN_TURN / 2, "{path}: {:?}", begun.elapsed());
    }
}

#[test]
fn silent_clients_hold_the_pages_up_for_a_moment_each() {
    const SILENT: u32 = 10;
    let server = Server::start(&config());
    let admin = start(&server);
    let _silent: Vec<_> = (0..SILENT).map(|_| Client::connect(admin.address())).collect();
    let begun = Instant::now();
    assert_eq!(get(&admin, "/health").status, 200);
    assert!(begun.elapsed() < SILENT * Duration::from_millis(300), "{:?}", begun.elapsed());
    server.stop();
}

#[test]
fn a_change_needs_loopback_or_the_token() {
    const CHANGE: &str = "POST /stages/dynamic/target?ms=70";
    let server = Server::start_with(&config(), 1, |builder| {
        builder.options_mut("dynamic").unwrap().conditioning = Some(Conditioning::default());
    });
    let handle = || server.engine.handle().clone();
    let everywhere = Admin::start(handle(), SocketAddr::from(([0, 0, 0, 0], 0))).unwrap();
    let refused = request(&everywhere, CHANGE);
    let words = String::from_utf8(refused.body).unwrap();
    assert!(refused.status == 403 && words.contains("FOREBAY_ADMIN_TOKEN"), "{words}");
    assert_eq!(get(&everywhere, "/stages").status, 200, "who can connect may read");

    let token = Token::new("a-secret").unwrap();
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let guarded = Admin::start_guarded(handle(), any_port, token).unwrap();
    assert_eq!(request(&guarded, CHANGE).status, 403, "on loopback too");
    let mut client = Client::connect(guarded.address());
    let head = format!("{CHANGE} HTTP/1.1\r\nauthorization: bearer a-secret\r\nhost: here\r\n\r\n");
    client.send(head.as_bytes());
    assert_eq!(client.reply().status, 200);
    server.stop();
}
