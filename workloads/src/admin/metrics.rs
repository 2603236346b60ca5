//! What shards and stages have counted, in the text that Prometheus reads.
//!
//! The crate `prometheus-client` writes the text; nothing is counted in its own types, whose counts
//! are atomics of the whole process. A collector reads what shards have published when it is asked.
//! Labels are numbers of shards and names of stages, as many as there are of them, and those that a
//! service has given its own numbers before it started.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use forebay::{
    Distribution, MetricSnapshot, MetricValue, ShardSnapshot, ShedReason, StageSnapshot,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// What the page is, for whoever reads it.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What every name begins with.
const PREFIX: &str = "forebay";
/// The shares of times that are told.
const QUANTILES: [(&str, f64); 3] = [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99)];

/// A name, what it is, and where it stands in a snapshot.
type Row<S, V> = (&'static str, &'static str, fn(&S) -> V);

const SHARD_COUNTERS: &[Row<ShardSnapshot, u64>] = &[
    ("requests_started", "Requests begun.", |shard| shard.requests_started),
    ("requests_ended", "Requests ended, in whatever way.", |shard| shard.requests_ended),
    ("turns", "Turns of the shard.", |shard| shard.turns),
    ("polls", "Polls of tasks.", |shard| shard.polls),
    ("polls_long", "Polls that took longer than 1 ms.", |shard| shard.long_polls),
    ("connections_accepted", "Connections accepted.", |shard| shard.net.accepted),
    ("connections_closed", "Connections closed.", |shard| shard.net.closed),
    ("connections_timed_out", "Connections cut for silence or blocked writes.", |shard| {
        shard.net.timed_out
    }),
    ("accept_pauses", "Pauses in accepting for lack of descriptors.", |shard| {
        shard.net.accept_pauses
    }),
    ("received_bytes", "Bytes received.", |shard| shard.net.received_bytes),
    ("sent_bytes", "Bytes sent.", |shard| shard.net.sent_bytes),
];

const SHARD_SECONDS: &[Row<ShardSnapshot, f64>] =
    &[("busy_seconds", "Time in turns that had something to do.", |shard| {
        shard.busy.as_secs_f64()
    })];

const STAGE_COUNTERS: &[Row<StageSnapshot, u64>] = &[
    ("stage_offered", "Calls that were made.", |stage| stage.offered),
    ("stage_answered", "Calls that got a value.", |stage| stage.answered),
    ("stage_calls", "Calls that were queued.", |stage| stage.calls),
    ("stage_items", "Items sent in batches.", |stage| stage.items),
    ("stage_batches", "Batches.", |stage| stage.batches),
    ("stage_deduplicated", "Calls that shared another call's item.", |stage| stage.deduplicated),
    ("stage_degraded", "Calls taken in with less than they asked.", |stage| stage.degraded),
    ("stage_retries", "Attempts at a batch after its first.", |stage| stage.retries),
    ("stage_expired", "Calls whose deadline passed.", |stage| stage.expired),
    ("stage_refused", "Calls refused for another reason.", |stage| stage.refused),
    ("stage_failed", "Calls that got any other error.", |stage| stage.failed),
    ("stage_cancelled", "Calls whose caller had gone.", |stage| stage.cancelled),
    ("stage_abandoned", "Batches dropped unfinished.", |stage| stage.abandoned),
];

const STAGE_GAUGES: &[Row<StageSnapshot, f64>] = &[
    ("stage_depth_items", "Items that wait.", |stage| stage.depth as f64),
    ("stage_permits_out", "Batches in flight.", |stage| stage.permits_out as f64),
    ("stage_permits", "Batches that may be in flight.", |stage| stage.permits as f64),
];

const STAGE_READINGS: &str = "stage_control";
const STAGE_SHED: &str = "stage_shed";

const STAGE_TIMES: &[Row<StageSnapshot, Distribution>] = &[
    ("stage_wait_seconds", "Time in the queue, since the start.", |stage| stage.wait.clone()),
    ("stage_run_seconds", "Time in the batch function, since the start.", |stage| {
        stage.run.clone()
    }),
];

const SHARD_GAUGES: &[Row<ShardSnapshot, f64>] = &[
    ("requests_live", "Requests alive, connections among them.", |shard| {
        shard.live_requests as f64
    }),
    ("sockets_open", "Connections and listeners open.", |shard| shard.net.open as f64),
];

/// The page.
pub(super) fn text(shards: Vec<Arc<ShardSnapshot>>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Shards(shards)));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

#[derive(Debug)]
struct Shards(Vec<Arc<ShardSnapshot>>);

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, value) in SHARD_COUNTERS {
            let counts =
                self.shards().map(|(label, shard)| ([label], ConstCounter::new(value(shard))));
            family(&mut encoder, name, help, counts)?;
        }
        for (name, help, value) in SHARD_SECONDS {
            let counts =
                self.shards().map(|(label, shard)| ([label], ConstCounter::new(value(shard))));
            family(&mut encoder, name, help, counts)?;
        }
        for (name, help, value) in SHARD_GAUGES {
            let values =
                self.shards().map(|(label, shard)| ([label], ConstGauge::new(value(shard))));
            family(&mut encoder, name, help, values)?;
        }
        for (name, help, value) in STAGE_COUNTERS {
            let counts =
                self.stages().map(|(label, stage)| (label, ConstCounter::new(value(stage))));
            family(&mut encoder, name, help, counts)?;
        }
        for (name, help, value) in STAGE_GAUGES {
            let values = self.stages().map(|(label, stage)| (label, ConstGauge::new(value(stage))));
            family(&mut encoder, name, help, values)?;
        }
        family(
            &mut encoder,
            STAGE_SHED,
            "Calls refused for lack of room, by reason.",
            self.shed(),
        )?;
        let help = "What a stage's controllers have come to.";
        family(&mut encoder, STAGE_READINGS, help, self.readings())?;
        for (name, help, times) in STAGE_TIMES {
            family(&mut encoder, name, help, self.quantiles(*times))?;
        }
        for metric in self.of_service() {
            let name = format!("{}_{}", metric.place, metric.name);
            family(&mut encoder, &name, metric.help, self.rows(metric))?;
        }
        Ok(())
    }
}

type Label = (&'static str, String);

impl Shards {
    fn shards(&self) -> impl Iterator<Item = (Label, &ShardSnapshot)> {
        self.0.iter().map(|shard| (("shard", shard.shard.index().to_string()), &**shard))
    }

    fn stages(&self) -> impl Iterator<Item = ([Label; 2], &StageSnapshot)> {
        self.shards().flat_map(|(label, shard)| {
            let stages = shard.stages.iter();
            stages.map(move |stage| ([("stage", stage.name.clone()), label.clone()], stage))
        })
    }

    fn shed(&self) -> impl Iterator<Item = ([Label; 3], ConstCounter<u64>)> {
        self.stages().flat_map(|([name, shard], stage)| {
            ShedReason::NAMES.into_iter().zip(stage.shed_by).map(move |(reason, n_calls)| {
                let labels = [name.clone(), shard.clone(), ("reason", reason.to_owned())];
                (labels, ConstCounter::new(n_calls))
            })
        })
    }

    fn readings(&self) -> impl Iterator<Item = ([Label; 3], ConstGauge<f64>)> {
        self.stages().flat_map(|([name, shard], stage)| {
            stage.controls.iter().map(move |reading| {
                let labels = [name.clone(), shard.clone(), ("control", reading.name.to_owned())];
                (labels, ConstGauge::new(reading.value))
            })
        })
    }

    fn quantiles(
        &self,
        times: fn(&StageSnapshot) -> Distribution,
    ) -> impl Iterator<Item = ([Label; 3], ConstGauge<f64>)> {
        self.stages().flat_map(move |([name, shard], stage)| {
            let times = times(stage);
            QUANTILES.iter().filter_map(move |(word, share)| {
                let seconds = times.at(*share).as_ref().map(Duration::as_secs_f64)?;
                let labels = [name.clone(), shard.clone(), ("quantile", (*word).to_owned())];
                Some((labels, ConstGauge::new(seconds)))
            })
        })
    }

    /// What the service tells of itself, each name once. A shard may tell less than another: what it
    /// could not read is left out.
    fn of_service(&self) -> impl Iterator<Item = &MetricSnapshot> {
        let mut told = BTreeSet::new();
        let metrics = self.0.iter().flat_map(|shard| &shard.service);
        metrics.filter(move |metric| told.insert((metric.place, metric.name)))
    }

    /// The rows of this name on all shards.
    fn rows(&self, of: &MetricSnapshot) -> impl Iterator<Item = (Vec<Label>, Own)> {
        let is_of =
            move |metric: &&MetricSnapshot| (metric.place, metric.name) == (of.place, of.name);
        self.shards().flat_map(move |(shard, snapshot)| {
            let rows = snapshot.service.iter().filter(is_of).flat_map(|metric| &metric.rows);
            rows.map(move |(own, value)| {
                let own = own.iter().map(|(label, value)| (*label, (*value).to_owned()));
                (std::iter::once(shard.clone()).chain(own).collect(), Own(*value))
            })
        })
    }
}

/// A value of a service's own.
struct Own(MetricValue);

impl EncodeMetric for Own {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match self.0 {
            MetricValue::Counter(count) => ConstCounter::new(count).encode(encoder),
            MetricValue::Gauge(value) => ConstGauge::new(value).encode(encoder),
        }
    }

    fn metric_type(&self) -> MetricType {
        match self.0 {
            MetricValue::Counter(_) => MetricType::Counter,
            MetricValue::Gauge(_) => MetricType::Gauge,
        }
    }
}

/// All values of one name.
fn family<L: EncodeLabelSet, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (L, M)>,
) -> Result<(), fmt::Error> {
    let mut values = values.peekable();
    // Nothing counted, nothing told: a name without a value has no type yet.
    let Some((_, first)) = values.peek() else { return Ok(()) };
    let mut family = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    for (labels, value) in values {
        value.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::panic;

    use forebay::sim::SimOptions;
    use forebay::{Builder, Labels, Metric, Phase, this_shard};

    use super::*;

    const N_SHARDS: usize = 2;
    const STEPS_MAX: u64 = 10_000;
    const ODD: &[Metric<u64>] = &[Metric::counter("odd", "Odd numbers.", &[(&[], |n| *n)])];
    const HALF: Labels = &[("of", "a\"b"), ("part", "half")];
    const LEVEL: &[Metric<f64>] = &[Metric::gauge(
        "level",
        "How full it is.",
        &[(&[], |level| *level), (HALF, |level| *level / 2.0)],
    )];

    #[test]
    fn a_service_is_told_of_by_name_with_the_rows_of_all_shards() {
        let mut builder = Builder::new();
        builder.metrics("numbers", ODD, || {
            let shard = this_shard().index();
            assert!(shard > 0, "planted: the first shard cannot tell");
            7
        });
        builder.metrics("tank", LEVEL, || this_shard().index() as f64 + 0.5);
        let mut sim = builder.simulate(SimOptions::new(1, N_SHARDS)).unwrap();
        let run = |sim: &forebay::sim::Simulation| {
            (0..N_SHARDS).all(|shard| sim.phase(shard) == Phase::Running)
        };
        assert!(sim.run_until(STEPS_MAX, run));
        let page =
            text((0..N_SHARDS).map(|shard| Arc::new(sim.snapshot(shard))).collect()).unwrap();
        let lines: Vec<_> = page
            .lines()
            .filter(|line| line.contains("forebay_numbers_") || line.contains("forebay_tank_"))
            .collect();
        let expected = [
            "# HELP forebay_tank_level How full it is.",
            "# TYPE forebay_tank_level gauge",
            "forebay_tank_level{shard=\"0\"} 0.5",
            r#"forebay_tank_level{shard="0",of="a\"b",part="half"} 0.25"#,
            "forebay_tank_level{shard=\"1\"} 1.5",
            r#"forebay_tank_level{shard="1",of="a\"b",part="half"} 0.75"#,
            "# HELP forebay_numbers_odd Odd numbers.",
            "# TYPE forebay_numbers_odd counter",
            "forebay_numbers_odd_total{shard=\"1\"} 7",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn no_metric_of_a_service_can_have_a_name_of_the_engines() {
        let declare = |place| {
            Builder::new().metrics(place, ODD, || 1);
        };
        let counters = SHARD_COUNTERS.iter().map(|row| row.0);
        let shards = counters.chain(SHARD_SECONDS.iter().map(|row| row.0));
        let shards = shards.chain(SHARD_GAUGES.iter().map(|row| row.0));
        let stages = STAGE_COUNTERS.iter().map(|row| row.0);
        let stages = stages.chain(STAGE_GAUGES.iter().map(|row| row.0));
        let stages = stages.chain(STAGE_TIMES.iter().map(|row| row.0));
        for name in shards.chain(stages).chain([STAGE_READINGS, STAGE_SHED]) {
            let place = name.split('_').next().unwrap();
            let is_refused = panic::catch_unwind(|| declare(place)).is_err();
            assert!(is_refused, "{name}");
        }
        declare("numbers");
    }
}
