//! Goal: hyper serves and asks over a shard's connections as over any stream, whatever the other
//! side does, and its timeouts are the shard's.
//! Method: hyper on a shard, and on the other side of a real socket bytes written and read by an
//! ordinary thread, so that no error can hide by being made on both sides.

#![allow(clippy::disallowed_methods, reason = "the other side is an ordinary thread")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod ring;

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::net::{
    Address, ConnectOptions, Connection, HyperIo, HyperTimer, ListenOptions, Listener,
};
use forebay::sim::SimOptions;
use forebay::{Builder, Reply, RequestOptions};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::rt::Timer;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, client, server};
use ring::{PATIENCE, Ring, shards, spawn, wait};

const MEGABYTE: usize = 1 << 20;

/// Bytes that show where one is missing.
fn pattern(n_bytes: usize) -> Vec<u8> {
    (0..n_bytes).map(|n| (n % 251).to_le_bytes()[0]).collect()
}

/// What is posted comes back as it comes in; else the answer is the path.
async fn answer(
    request: Request<Incoming>,
) -> Result<Response<Either<Full<Bytes>, Incoming>>, Infallible> {
    let body = match *request.method() {
        Method::POST => Either::Right(request.into_body()),
        _ => Either::Left(Full::from(request.uri().path().to_owned())),
    };
    Ok(Response::new(body))
}

/// Serves one connection on a shard, as `builder` says; replies how hyper has ended.
fn serve_once(
    ring: &Ring,
    builder: impl FnOnce() -> server::conn::http1::Builder + Send + 'static,
) -> (SocketAddr, Reply<Result<(), hyper::Error>>) {
    let (address_sender, address) = mpsc::channel();
    let served = ring.submit(0, move || async move {
        let any_port = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = Listener::bind(&any_port, ListenOptions::default()).unwrap();
        address_sender.send(listener.address().clone()).unwrap();
        let connection = HyperIo::new(listener.accept().await.unwrap());
        builder().serve_connection(connection, service_fn(answer)).await
    });
    match address.recv_timeout(PATIENCE).unwrap() {
        Address::Tcp(address) => (address, served),
        other => panic!("asked for TCP, got {other}"),
    }
}

/// A socket that a test rather fails on than waits for; small writes leave at once.
fn patient(socket: TcpStream) -> TcpStream {
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Reads a head and the body of the length that it tells; nothing at the end of the stream.
fn read_message(socket: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let (mut head, mut body_bytes) = (String::new(), 0);
    loop {
        let from = head.len();
        if socket.read_line(&mut head).unwrap() == 0 {
            assert_eq!(head, "", "the stream ends between messages");
            return None;
        }
        match head[from..].to_ascii_lowercase().trim_end() {
            "" => break,
            line => {
                if let Some(length) = line.strip_prefix("content-length:") {
                    body_bytes = length.trim().parse().unwrap();
                }
            }
        }
    }
    let mut body = vec![0; body_bytes];
    socket.read_exact(&mut body).unwrap();
    Some((head, body))
}

#[test]
fn a_server_answers_one_connection_again_and_again() {
    let ring = Ring::start(shards(1));
    let (address, served) = serve_once(&ring, server::conn::http1::Builder::new);
    let mut socket = BufReader::new(patient(TcpStream::connect(address).unwrap()));
    for n in 0..100 {
        let close = if n == 99 { "connection: close\r\n" } else { "" };
        write!(socket.get_mut(), "GET /{n} HTTP/1.1\r\nhost: here\r\n{close}\r\n").unwrap();
        let (head, body) = read_message(&mut socket).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(body, format!("/{n}").into_bytes());
    }
    assert!(read_message(&mut socket).is_none(), "the server closes, as it was asked");
    wait(&served).unwrap().unwrap();
    ring.stop();
}

#[test]
fn requests_sent_at_once_are_answered_in_their_order() {
    let ring = Ring::start(shards(1));
    let pipelined = || {
        let mut builder = server::conn::http1::Builder::new();
        builder.pipeline_flush(true);
        builder
    };
    let (address, served) = serve_once(&ring, pipelined);
    let mut socket = BufReader::new(patient(TcpStream::connect(address).unwrap()));
    let requests: String =
        (0..64).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: here\r\n\r\n")).collect();
    socket.get_mut().write_all(requests.as_bytes()).unwrap();
    for n in 0..64 {
        let (_head, body) = read_message(&mut socket).unwrap();
        assert_eq!(body, format!("/{n}").into_bytes());
    }
    drop(socket);
    wait(&served).unwrap().unwrap();
    ring.stop();
}

#[test]
fn a_body_of_a_megabyte_comes_in_and_goes_out_at_once() {
    let ring = Ring::start(shards(1));
    let (address, served) = serve_once(&ring, server::conn::http1::Builder::new);
    let mut socket = BufReader::new(patient(TcpStream::connect(address).unwrap()));
    let mut sender = socket.get_ref().try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let length = MEGABYTE;
        write!(sender, "POST / HTTP/1.1\r\nhost: here\r\ncontent-length: {length}\r\n\r\n")
            .unwrap();
        sender.write_all(&pattern(MEGABYTE)).unwrap();
    });
    let (head, body) = read_message(&mut socket).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(body == pattern(MEGABYTE), "{} bytes came back, not as they were", body.len());
    sending.join().unwrap();
    drop(socket);
    wait(&served).unwrap().unwrap();
    ring.stop();
}

#[test]
fn a_head_that_does_not_come_in_time_ends_the_connection() {
    const WITHIN: Duration = Duration::from_millis(50);
    let ring = Ring::start(shards(1));
    let impatient = || {
        let mut builder = server::conn::http1::Builder::new();
        builder.timer(HyperTimer::new()).header_read_timeout(WITHIN);
        builder
    };
    let (address, served) = serve_once(&ring, impatient);
    let begun = Instant::now();
    let mut socket = patient(TcpStream::connect(address).unwrap());
    socket.write_all(b"GET / HTTP/1.1\r\nhost: he").unwrap();
    let mut came = Vec::new();
    // What was sent and not read may turn the end into a reset.
    let _ended = socket.read_to_end(&mut came);
    assert!(begun.elapsed() >= WITHIN, "ended after {:?}", begun.elapsed());
    let error = wait(&served).unwrap().unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    ring.stop();
}

#[test]
fn a_head_in_time_is_answered_and_the_next_one_is_timed_anew() {
    let ring = Ring::start(shards(1));
    let impatient = || {
        let mut builder = server::conn::http1::Builder::new();
        builder.timer(HyperTimer::new()).header_read_timeout(Duration::from_millis(300));
        builder
    };
    let (address, served) = serve_once(&ring, impatient);
    let mut socket = BufReader::new(patient(TcpStream::connect(address).unwrap()));
    for n in 0..4 {
        std::thread::sleep(Duration::from_millis(100));
        write!(socket.get_mut(), "GET /{n} HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
        assert_eq!(read_message(&mut socket).unwrap().1, format!("/{n}").into_bytes());
    }
    assert!(read_message(&mut socket).is_none(), "a silent client is let go");
    drop(wait(&served).unwrap());
    ring.stop();
}

/// Answers each request with its own body, until the client closes; gives how many there were.
fn plain_server() -> (SocketAddr, std::thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let mut socket = BufReader::new(patient(listener.accept().unwrap().0));
        let mut n_requests = 0;
        while let Some((_head, body)) = read_message(&mut socket) {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            socket.get_mut().write_all(head.as_bytes()).unwrap();
            socket.get_mut().write_all(&body).unwrap();
            n_requests += 1;
        }
        n_requests
    });
    (address, server)
}

#[test]
fn a_client_asks_again_and_again_with_bodies_of_any_size() {
    const SIZES: [usize; 5] = [0, 13, 70_000, MEGABYTE, 1];
    let (address, server) = plain_server();
    let ring = Ring::start(shards(1));
    ring.run(0, move || async move {
        let connection = Connection::connect(&address.into(), ConnectOptions::default()).await;
        let io = HyperIo::new(connection.unwrap());
        let (mut sender, driver) = client::conn::http1::handshake(io).await.unwrap();
        // Not in the background, so that it is seen how it ends.
        let driver = spawn(driver);
        for n_bytes in SIZES {
            let body = Full::<Bytes>::from(pattern(n_bytes));
            let request = Request::post("/").header("host", "there").body(body).unwrap();
            sender.ready().await.unwrap();
            let response = sender.send_request(request).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(body == pattern(n_bytes), "{} of {n_bytes} bytes, or others", body.len());
        }
        drop(sender);
        driver.await.unwrap().unwrap();
    });
    assert_eq!(server.join().unwrap(), SIZES.len());
    ring.stop();
}

#[test]
fn a_timer_that_leaves_its_thread_panics_there() {
    let ring = Ring::start(shards(1));
    #[allow(clippy::async_yields_async, reason = "the timer itself is to leave")]
    let mut strayed = ring.run(0, || async { HyperTimer::new().sleep(Duration::from_secs(60)) });
    let polled = catch_unwind(AssertUnwindSafe(|| {
        pin!(&mut strayed).poll(&mut Context::from_waker(Waker::noop()))
    }));
    assert!(polled.is_err(), "awaited on a thread that is not its own");
    assert!(catch_unwind(AssertUnwindSafe(|| drop(strayed))).is_err(), "dropped there");
    ring.stop();
}

#[test]
fn the_time_of_a_simulation_is_hypers_too() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let mut sim = Builder::new().simulate(SimOptions::new(1, 1)).unwrap();
    let slept = sim
        .handle()
        .submit(0, RequestOptions::default(), || async {
            let timer = HyperTimer::new();
            let begun = timer.now();
            timer.sleep_until(begun + HOUR).await;
            timer.now() - begun
        })
        .unwrap();
    while sim.step() {}
    let slept = slept.wait().unwrap();
    assert!(slept >= HOUR && slept < HOUR + Duration::from_secs(1), "{slept:?}");
}
