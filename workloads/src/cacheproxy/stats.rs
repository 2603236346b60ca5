//! What `stats` tells, under memcached's names, of all shards together.
//!
//! Commands are counted where clients are; items and memory, evictions and what was found expired where
//! they are kept, in all tiers in memory together: so a service whose items are all with servers tells
//! nothing of those. `bytes` is all memory that a store takes.

use forebay::net::Address;

use super::census::{Counted, Listed, State};
use super::connection::{Site, Told};
use super::operation::Failure;
use super::protocol::{Refusal, Stats as Asked};
use super::store::{ClassStats, Stats};

/// What clients are told of `version`: they look for what a server can do, and this is what it does.
pub(super) const VERSION: &str = "1.6.18-forebay";

/// The names of the classes of `stats items`: who came lately, and who has been used since.
const CLASSES: [u32; 2] = [1, 2];

/// Answers `stats` of this kind.
pub(super) async fn told(asked: Asked, site: &Site) -> Told {
    let Some((of_store, counted)) = site.cache.counted().await else {
        return Told::Refused(Refusal::Failed(Failure::Unanswered));
    };
    let mut list = List::default();
    match asked {
        Asked::General => {
            let uptime = forebay::now().as_nanos() / 1_000_000_000;
            list.put("pid", std::process::id());
            list.put("uptime", uptime);
            list.put("time", site.clock.now().0);
            list.put("version", VERSION);
            list.put("pointer_size", usize::BITS);
            list.put("max_connections", counted.n_connections_max);
            list.put("curr_connections", counted.n_connections);
            list.put("total_connections", counted.n_accepted);
            list.put("threads", n_shards());
            list.put_each(counted.commands.each());
            if let Some(stats) = of_store {
                general(&stats, &mut list);
            }
        }
        Asked::Items => {
            let classes = of_store.iter().flat_map(|stats| CLASSES.iter().zip(&stats.classes));
            classes.for_each(|(number, class)| items(*number, class, &mut list));
        }
        Asked::Settings => settings(site, of_store.as_ref(), &counted, &mut list),
        Asked::Conns => match site.cache.clients().await {
            Some(clients) => clients.iter().for_each(|client| conns(client, &mut list)),
            None => return Told::Refused(Refusal::Failed(Failure::Unanswered)),
        },
        // Memory has no slabs here, and sizes are not counted.
        Asked::Slabs | Asked::Sizes => {}
        // Counters are for ever, so that two who read them do not disturb each other.
        Asked::Reset => return Told::Done,
    }
    Told::Stats(list.0)
}

fn n_shards() -> u64 {
    forebay::n_shards() as u64
}

#[derive(Debug, Default)]
struct List(Vec<(String, String)>);

impl List {
    fn put(&mut self, name: &str, value: impl ToString) {
        self.0.push((name.to_owned(), value.to_string()));
    }

    fn put_each(&mut self, numbers: impl Iterator<Item = (&'static str, u64)>) {
        numbers.for_each(|(name, value)| self.put(name, value));
    }
}

fn general(stats: &Stats, list: &mut List) {
    list.put_each(stats.counts.each().chain(stats.held.each()));
    list.put("evictions", stats.evictions());
    list.put("reclaimed", stats.of_classes(|class| class.reclaimed));
    list.put("expired_unfetched", stats.of_classes(|class| class.expired_unfetched));
    list.put("evicted_unfetched", stats.of_classes(|class| class.evicted_unfetched));
}

fn items(number: u32, class: &ClassStats, list: &mut List) {
    if class.number == 0 && class.counts.evicted == 0 {
        return;
    }
    let mut put = |name: &str, value: u64| list.put(&format!("items:{number}:{name}"), value);
    put("number", class.number);
    put("age", class.age_s);
    put("mem_requested", class.mem_requested);
    put("evicted", class.counts.evicted);
    put("evicted_nonzero", class.counts.evicted_nonzero);
    put("evicted_time", class.evicted_time_s);
    put("reclaimed", class.counts.reclaimed);
    put("expired_unfetched", class.counts.expired_unfetched);
    put("evicted_unfetched", class.counts.evicted_unfetched);
}

fn settings(site: &Site, of_store: Option<&Stats>, counted: &Counted, list: &mut List) {
    let limits = &site.limits;
    if let Some(stats) = of_store {
        list.put("maxbytes", stats.held.limit_maxbytes);
    }
    list.put("maxconns", counted.n_connections_max);
    // What bounds an item: its own limit where it is in memory, else what is taken of a client.
    list.put("item_size_max", site.cache.item_bytes_max().unwrap_or(limits.value_bytes_max.into()));
    list.put("num_threads", n_shards());
    list.put("idle_timeout", limits.idle_ms / 1_000);
    list.put("evictions", "on");
    list.put("cas_enabled", "yes");
    list.put("flush_enabled", if site.cache.may_flush_all() { "yes" } else { "no" });
    list.put("binding_protocol", "auto-negotiate");
}

/// One connection, by a number of its own: descriptors are no business of ours.
fn conns(client: &Listed, list: &mut List) {
    let number = client.number;
    let mut put = |name: &str, value: &str| list.put(&format!("{number}:{name}"), value);
    put("addr", &address(client.peer.as_ref()));
    put("listen_addr", &address(client.local.as_ref()));
    put(
        "state",
        match client.state {
            State::Reads => "conn_read",
            State::Answers => "conn_parse_cmd",
        },
    );
    put("secs_since_last_cmd", &client.silent_s.to_string());
}

/// An address as memcached writes it.
fn address(address: Option<&Address>) -> String {
    match address {
        Some(Address::Tcp(at)) if at.is_ipv4() => format!("tcp:{at}"),
        Some(Address::Tcp(at)) => format!("tcp6:{at}"),
        Some(Address::Unix(path)) => format!("unix:{}", path.display()),
        Some(Address::Passed(_)) | None => "unknown".to_owned(),
    }
}
