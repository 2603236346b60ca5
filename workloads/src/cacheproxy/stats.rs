//! What `stats` tells, under memcached's names, of all shards together.

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
            list.put("max_connections", u64::from(site.limits.connections_max) * n_shards());
            list.put("curr_connections", counted.n_connections);
            list.put("total_connections", counted.n_accepted);
            list.put("cmd_flush", counted.n_flushes);
            list.put("threads", n_shards());
            if let Some(stats) = of_store {
                general(&stats, &mut list);
            }
        }
        Asked::Items => {
            let classes = of_store.iter().flat_map(|stats| CLASSES.iter().zip(&stats.classes));
            classes.for_each(|(number, class)| items(*number, class, &mut list));
        }
        Asked::Settings => settings(site, of_store.as_ref(), &mut list),
        Asked::Conns => list.put("curr_connections", counted.n_connections),
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
}

fn general(stats: &Stats, list: &mut List) {
    for (name, value) in stats.counts.each().chain(stats.held.each()) {
        list.put(name, value);
    }
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

fn settings(site: &Site, of_store: Option<&Stats>, list: &mut List) {
    let limits = &site.limits;
    if let Some(stats) = of_store {
        list.put("maxbytes", stats.held.limit_maxbytes);
    }
    list.put("maxconns", u64::from(limits.connections_max) * n_shards());
    list.put("item_size_max", limits.value_bytes_max);
    list.put("num_threads", n_shards());
    list.put("idle_timeout", limits.idle_ms / 1_000);
    list.put("evictions", "on");
    list.put("cas_enabled", "yes");
    list.put("flush_enabled", "yes");
    list.put("binding_protocol", "auto-negotiate");
}
