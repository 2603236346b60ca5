//! What a client is told of a dead server where the file has unanswered reads told as misses: of plain
//! reads that, of all else the truth, and nothing is done by a miss that was none.

use forebay_workloads::cacheproxy::chunks::ChunksConfig;
use forebay_workloads::cacheproxy::downstream::{self, UnansweredReads};
use forebay_workloads::cacheproxy::{ChunkedTier, Service, TierConfig};

use crate::oracle::Memcached;
use crate::rig::{Client, Server, proxy, two_tiers};

/// Answers come as this until the server is known to be dead, and then always.
const UNAVAILABLE: &str = "SERVER_ERROR downstream unavailable\r\n";

fn with_misses(mut service: Service) -> Service {
    let tier = service.l2.as_mut().unwrap_or(&mut service.l1);
    let (TierConfig::Memcached(config)
    | TierConfig::Chunked(ChunkedTier { memcached: config, .. })) = tier
    else {
        panic!("the tier that has the say is with servers");
    };
    config.unanswered_reads = UnansweredReads::Miss;
    service
}

/// Asks until the answer is that nothing was sent: connections that stood have ended by then.
fn asks_in_the_end(client: &mut Client<std::net::TcpStream>, asked: &str) {
    const TRIES_MAX: u32 = 50;
    let answers = (0..TRIES_MAX).map(|_| {
        client.send(asked.as_bytes());
        client.line()
    });
    let mut last = String::new();
    for answer in answers {
        assert!(answer.starts_with("SERVER_ERROR downstream "), "{asked}: {answer}");
        if answer == UNAVAILABLE {
            return;
        }
        last = answer;
    }
    panic!("{asked}: still {last}");
}

#[test]
fn only_plain_reads_of_a_dead_server_are_misses() {
    let Some(mut backend) = Memcached::start() else { return };
    let servers = [backend.address()];
    let memcached = downstream::Config::of(&servers);
    let chunks = TierConfig::Chunked(ChunkedTier { memcached, chunks: ChunksConfig::default() });
    let chunked = Service { l1: chunks, ..Service::default() };
    let services = [proxy(&servers), two_tiers(&servers), chunked].map(with_misses);
    let running = services.map(|service| Server::start(service, 1));
    backend.kill();
    for server in running {
        let mut client = server.connect();
        asks_in_the_end(&mut client, "touch a 9\r\n");
        client.asks(b"get a\r\ngets a b\r\nmn\r\n", b"END\r\nEND\r\nMN\r\n");
        // An append that reads first, and a read that wins the right to fill.
        asks_in_the_end(&mut client, "append a 0 0 1\r\nx\r\n");
        asks_in_the_end(&mut client, "mg a v N30\r\n");
        asks_in_the_end(&mut client, "delete a\r\n");
        server.stop();
    }
}
