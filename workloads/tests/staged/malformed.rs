//! No bytes harm the server, and none are taken for a request that they are not.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

use crate::rig::{Server, config};

/// What must be refused: the bytes, and the status that tells it. Each ends its connection.
const REFUSED: &[(&str, &[u8], u16)] = &[
    ("no host", b"GET /front HTTP/1.1\r\n\r\n", 400),
    ("two hosts", b"GET /front HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
    ("a length and chunks", b"GET /front HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    ("chunks and a length", b"GET /front HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n", 411),
    ("chunks", b"GET /front HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    ("chunks not last", b"GET /front HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n", 400),
    ("chunks in 1.0", b"GET /front HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("two lengths", b"GET /front HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
    ("a length that is a list", b"GET /front HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 2\r\n\r\nab", 400),
    ("a length below 0", b"GET /front HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
    ("a length with a sign", b"GET /front HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na", 400),
    ("a length of no number", b"GET /front HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", 400),
    ("a length of more than is", b"GET /front HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n", 400),
    ("a body too large", b"GET /front HTTP/1.1\r\nhost: a\r\ncontent-length: 1048577\r\n\r\n", 413),
    ("a space before the colon", b"GET /front HTTP/1.1\r\nhost : a\r\n\r\n", 400),
    ("a folded header", b"GET /front HTTP/1.1\r\nhost: a\r\n b\r\n\r\n", 400),
    ("a NUL in a header", b"GET /front HTTP/1.1\r\nhost: a\0b\r\n\r\n", 400),
    ("a NUL in the target", b"GET /fro\0nt HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("a header without a name", b"GET /front HTTP/1.1\r\n: a\r\n\r\n", 400),
    ("another protocol", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("another version", b"GET /front HTTP/3.0\r\nhost: a\r\n\r\n", 400),
    ("no version", b"GET /front\r\n\r\n", 400),
    ("no target", b"GET HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("a method of no letters", b"G\x01T /front HTTP/1.1\r\nhost: a\r\n\r\n", 400),
];

/// Targets that look like ways out of the file set.
const WAYS_OUT: &[&str] = &[
    "/file/../../../etc/passwd",
    "/file/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/file/dir00000/..%2f..%2f..%2fetc%2fpasswd",
    "/file/dir00000/%2fetc%2fpasswd",
    "/file//etc/passwd",
    "/file/dir00000/class1_1%00.html",
    "/file/dir00000/class1_1/../../../../etc/passwd",
    "/file/dir00000/../dir00000/class1_1",
    "/file/%64ir00000/class1_1",
    "/etc/passwd",
    "//etc/passwd",
    "/..;/etc/passwd",
    "/file/..\\..\\etc\\passwd",
    "file:///etc/passwd",
];

#[test]
fn what_is_no_request_is_refused_and_its_connection_closed() {
    let server = Server::start(&config());
    for (what, bytes, status) in REFUSED {
        let mut client = server.connect();
        client.send(bytes);
        // Whatever it said, nothing behind it may count as a request.
        client.ask("/front");
        let reply = client.reply_or_end();
        assert_eq!(reply.map(|reply| reply.status), Some(*status), "{what}");
        client.is_ended();
    }
    server.serves_on();
    server.stop();
}

#[test]
fn heads_beyond_their_limits_are_refused() {
    let server = Server::start(&config());
    let filler = |n_bytes: usize| "a".repeat(n_bytes);
    let many: String = (0..101).map(|n| format!("x-{n}: y\r\n")).collect();
    for (what, head, status) in [
        ("many headers", format!("GET /front HTTP/1.1\r\nhost: a\r\n{many}\r\n"), 431),
        ("a long header", format!("GET /front HTTP/1.1\r\nx: {}\r\n\r\n", filler(17 << 10)), 431),
        ("a long target", format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", filler(9 << 10)), 414),
        ("an endless line", format!("GET /{}", filler(64 << 10)), 431),
    ] {
        let mut client = server.connect();
        client.send(head.as_bytes());
        let reply = client.reply_or_end();
        assert_eq!(reply.map(|reply| reply.status), Some(status), "{what}");
        client.is_ended();
    }
    server.serves_on();
    server.stop();
}

#[test]
fn no_spelling_of_a_path_leads_out_of_the_file_set() {
    let server = Server::start(&config());
    for target in WAYS_OUT {
        let mut client = server.connect();
        client.ask(target);
        let reply = client.reply();
        assert!(matches!(reply.status, 400 | 404), "{target}: {}", reply.status);
        assert!(!String::from_utf8_lossy(&reply.body).contains("root"), "{target}");
    }
    server.stop();
}

#[test]
fn no_word_of_a_client_comes_back() {
    let server = Server::start(&config());
    for request in [
        "GET /<script>alert(1)</script> HTTP/1.1\r\nhost: <script>\r\nx-class: <script>\r\n\r\n",
        "<script> /front HTTP/1.1\r\nhost: here\r\n\r\n",
        "GET /front HTTP/1.1\r\n<script>: 1\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(request.as_bytes());
        let reply = client.reply();
        let said = reply.head + &String::from_utf8_lossy(&reply.body);
        assert!(!said.contains("script"), "{said}");
    }
    server.stop();
}

/// Random bytes, or a request of which some bytes are others, are missing or come twice.
fn junk(source: &mut SplitMix64) -> Vec<u8> {
    let mut below = |n: usize| usize::try_from(source.next_u64() % n as u64).unwrap();
    let mut bytes = match below(3) {
        0 => {
            let random = (0..below(300)).map(|_| u8::try_from(below(256)).unwrap());
            random.chain(*b"\r\n\r\n").collect()
        }
        1 => b"GET /file/dir00000/class1_1 HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"
            .to_vec(),
        _ => b"GET /front HTTP/1.1\r\nhost: here\r\ncontent-length: 5\r\n\r\nhello".to_vec(),
    };
    for _ in 0..below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = below(bytes.len());
        match below(3) {
            0 => bytes[at] = u8::try_from(below(256)).unwrap(),
            1 => drop(bytes.drain(at..(at + below(8)).min(bytes.len()))),
            _ => bytes.extend_from_within(at..),
        }
    }
    bytes
}

#[test]
fn junk_of_any_kind_is_answered_by_a_refusal_a_page_or_the_end() {
    const JUNK: u64 = 400;
    let server = Server::start(&config());
    let (mut n_pages, mut n_refused) = (0, 0);
    for seed in 0..JUNK {
        let bytes = junk(&mut SplitMix64::seed_from_u64(seed));
        let mut client = server.connect();
        client.send(&bytes);
        client.finish();
        while let Some(reply) = client.reply_or_end() {
            let is_right = reply.status == 200 || (400..500).contains(&reply.status);
            assert!(is_right, "seed {seed}: {} to {bytes:?}", reply.status);
            if reply.status == 200 { n_pages += 1 } else { n_refused += 1 }
        }
    }
    assert!(n_pages > 10 && n_refused > 10, "{n_pages} pages, {n_refused} refusals: all alike");
    server.serves_on();
    server.stop();
}
