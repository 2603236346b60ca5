//! What the admin pages tell of the cache: memcached's numbers, shard by shard.
//!
//! Names, labels and meaning are those of Prometheus' `memcached_exporter`, with `forebay_cache_`
//! where it has `memcached_`, so that boards and alerts made for memcached need another prefix and a
//! sum over the shards. The numbers are those of `stats`; and as there, nothing is told of memory
//! where all items are with servers.

use forebay::{Builder, Metric, StageRef};

use super::cache::Owned;
use super::census::Counted;
use super::store::Stats;

/// The first word of all names.
const PLACE: &str = "cache";

const CLIENTS: &[Metric<Counted>] = &[
    Metric::counter(
        "commands",
        "Commands of clients, by what they came to.",
        &[
            (&[("command", "get"), ("status", "hit")], |told| told.commands.get_hits),
            (&[("command", "get"), ("status", "miss")], |told| told.commands.get_misses),
            (&[("command", "set"), ("status", "hit")], sets),
            (&[("command", "cas"), ("status", "hit")], |told| told.commands.cas_hits),
            (&[("command", "cas"), ("status", "miss")], |told| told.commands.cas_misses),
            (&[("command", "cas"), ("status", "badval")], |told| told.commands.cas_badval),
            (&[("command", "delete"), ("status", "hit")], |told| told.commands.delete_hits),
            (&[("command", "delete"), ("status", "miss")], |told| told.commands.delete_misses),
            (&[("command", "incr"), ("status", "hit")], |told| told.commands.incr_hits),
            (&[("command", "incr"), ("status", "miss")], |told| told.commands.incr_misses),
            (&[("command", "decr"), ("status", "hit")], |told| told.commands.decr_hits),
            (&[("command", "decr"), ("status", "miss")], |told| told.commands.decr_misses),
            (&[("command", "touch"), ("status", "hit")], |told| told.commands.touch_hits),
            (&[("command", "touch"), ("status", "miss")], |told| told.commands.touch_misses),
            (&[("command", "flush"), ("status", "hit")], |told| told.commands.cmd_flush),
        ],
    ),
    Metric::counter(
        "item_too_large",
        "Stores of items that are too large.",
        &[(&[], |told| told.commands.store_too_large)],
    ),
    Metric::counter(
        "item_no_memory",
        "Stores that found no room.",
        &[(&[], |told| told.commands.store_no_memory)],
    ),
    Metric::counter("connections", "Connections accepted.", &[(&[], |told| told.n_accepted)]),
    Metric::gauge(
        "current_connections",
        "Connections that are open.",
        &[(&[], |told| told.n_connections as f64)],
    ),
    Metric::gauge(
        "max_connections",
        "Connections that may be open.",
        &[(&[], |told| told.n_connections_max as f64)],
    ),
];

const MEMORY: &[Metric<Stats>] = &[
    Metric::counter(
        "items",
        "Items that were ever stored.",
        &[(&[], |told| told.counts.total_items)],
    ),
    Metric::counter("items_evicted", "Items evicted to make room.", &[(&[], Stats::evictions)]),
    Metric::counter(
        "items_reclaimed",
        "Items that were gone already when room was needed.",
        &[(&[], |told| told.of_classes(|class| class.reclaimed))],
    ),
    Metric::gauge(
        "current_items",
        "Items in memory, gone ones too until their memory is returned.",
        &[(&[], |told| told.held.curr_items as f64)],
    ),
    Metric::gauge(
        "current_bytes",
        "Memory that items take, all told.",
        &[(&[], |told| told.held.bytes as f64)],
    ),
    Metric::gauge(
        "limit_bytes",
        "Memory that items may take.",
        &[(&[], |told| told.held.limit_maxbytes as f64)],
    ),
];

/// Stores that named no cas: memcached counts the others among them.
fn sets(told: &Counted) -> u64 {
    let commands = &told.commands;
    commands.cmd_set - commands.cas_hits - commands.cas_misses - commands.cas_badval
}

/// Tells of clients.
pub(super) fn of_clients(builder: &mut Builder, owned: StageRef<Owned>) {
    builder.metrics(PLACE, CLIENTS, move || owned.instance().counted());
}

/// Tells of memory, in all tiers that are kept there.
pub(super) fn of_memory(builder: &mut Builder, owned: StageRef<Owned>) {
    builder.metrics(PLACE, MEMORY, move || owned.instance().stats().unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use forebay::net::Address;
    use forebay::sim::SimOptions;
    use forebay::{Builder, Phase};

    use super::super::{Cacheproxy, Config};

    const STEPS_MAX: u64 = 10_000;

    /// Names of what a shard of this service tells.
    fn told(service: &str) -> Vec<&'static str> {
        let text = format!(r#"{{"load": {{"connections": 1, "keys": 1}}, "service": {service}}}"#);
        let config: Config = serde_json::from_str(&text).unwrap();
        let backend: Address = "127.0.0.1:11211".parse().unwrap();
        let mut builder = Builder::new();
        Cacheproxy::declare(&mut builder, &config, &[backend]).unwrap();
        let mut sim = builder.simulate(SimOptions::new(1, 1)).unwrap();
        assert!(sim.run_until(STEPS_MAX, |sim| sim.phase(0) == Phase::Running));
        sim.snapshot(0).service.iter().map(|metric| metric.name).collect()
    }

    #[test]
    fn memory_is_told_of_where_a_tier_is_kept_there() {
        for (service, is_told) in [
            (r#"{"l1": {"embedded": {}}}"#, true),
            (r#"{"l1": {"memcached": {}}}"#, false),
            (
                r#"{"orchestration": "l1_l2", "l1": {"embedded": {}}, "l2": {"memcached": {}}}"#,
                true,
            ),
        ] {
            let told = told(service);
            assert!(told.contains(&"commands"), "{service}: {told:?}");
            assert_eq!(told.contains(&"current_items"), is_told, "{service}: {told:?}");
        }
    }
}
