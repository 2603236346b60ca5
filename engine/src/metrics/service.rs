//! Numbers of a service's own, published by each shard beside the engine's.
//!
//! A service counts where things happen: in cells of its stages, on the shard. To show them it gives a
//! table, in which each name tells where it stands in a value `S`, and one function that makes that
//! value on the shard that calls it. A shard calls it whenever it publishes; nothing is shared, and
//! nothing is counted twice to be seen. All that a name can have wrong is found when it is declared, so
//! that no page comes to hold what a reader of pages refuses.

use std::collections::BTreeSet;
use std::fmt;

use crate::limits::METRIC_ROWS_MAX;
use crate::runtime::guard::contain;

/// Names of labels, each with its value, that tell one row of a [`Metric`] from the others.
pub type Labels = &'static [(&'static str, &'static str)];

/// A row of a [`Metric`]: its labels, and where its value stands in an `S`.
pub type MetricRow<S, V> = (Labels, fn(&S) -> V);

/// The label by which pages tell shards apart.
const SHARD_LABEL: &str = "shard";

/// Places of the engine's own metrics, and those that it may come to need.
const ENGINE_PLACES: [&str; 15] = [
    "accept",
    "busy",
    "connections",
    "engine",
    "file",
    "lane",
    "mesh",
    "polls",
    "received",
    "requests",
    "sent",
    "shard",
    "sockets",
    "stage",
    "turns",
];

/// Ends of names that pages add themselves: `a` would be told under the name of `a_total`.
const ENDINGS: [&str; 2] = ["_total", "_created"];

/// A name on the pages of whoever runs a service, and what it tells of the service's numbers, an
/// `S`: in one row, or in several that differ in their labels. Given to
/// [`Builder::metrics`](crate::Builder::metrics).
///
/// Names, and those of labels, are of letters, digits and `_`, and do not begin with a digit; the
/// label `shard` is the pages' own. The help is one line. All of it is known when the service is
/// built, so that no client can make rows: whoever reads the pages keeps each of them for long.
#[derive(Debug)]
pub struct Metric<S: 'static> {
    name: &'static str,
    help: &'static str,
    rows: Rows<S>,
}

#[derive(Debug)]
enum Rows<S: 'static> {
    Counter(&'static [MetricRow<S, u64>]),
    Gauge(&'static [MetricRow<S, f64>]),
}

impl<S> Metric<S> {
    /// What only grows while the service runs. The name stands here without the `_total` that pages
    /// end it in.
    #[must_use]
    pub const fn counter(
        name: &'static str,
        help: &'static str,
        rows: &'static [MetricRow<S, u64>],
    ) -> Self {
        Self { name, help, rows: Rows::Counter(rows) }
    }

    /// What rises and falls. Times are in seconds, and what a name counts in stands at its end.
    #[must_use]
    pub const fn gauge(
        name: &'static str,
        help: &'static str,
        rows: &'static [MetricRow<S, f64>],
    ) -> Self {
        Self { name, help, rows: Rows::Gauge(rows) }
    }

    fn labels(&self) -> Vec<Labels> {
        match self.rows {
            Rows::Counter(rows) => rows.iter().map(|(labels, _)| *labels).collect(),
            Rows::Gauge(rows) => rows.iter().map(|(labels, _)| *labels).collect(),
        }
    }

    fn read(&self, counted: &S) -> Vec<(Labels, MetricValue)> {
        match self.rows {
            Rows::Counter(rows) => rows
                .iter()
                .map(|(labels, value)| (*labels, MetricValue::Counter(value(counted))))
                .collect(),
            Rows::Gauge(rows) => rows
                .iter()
                .map(|(labels, value)| (*labels, MetricValue::Gauge(value(counted))))
                .collect(),
        }
    }

    /// What a page could not tell so.
    fn problem(&self) -> Option<String> {
        if !is_name(self.name) {
            return Some("letters, digits and _ make a name, and no digit begins it".to_owned());
        }
        if let Some(ending) = ENDINGS.iter().find(|ending| self.name.ends_with(*ending)) {
            return Some(format!("leave {ending} away: the page adds it where it belongs"));
        }
        if self.help.is_empty() || self.help.contains(char::is_control) {
            return Some("its help must be one line".to_owned());
        }
        let rows = self.labels();
        if rows.is_empty() {
            return Some("it has no row".to_owned());
        }
        if let Some(problem) = rows.iter().find_map(|labels| labels_problem(labels)) {
            return Some(problem);
        }
        let sorted = |labels: &Labels| labels.iter().copied().collect::<BTreeSet<_>>();
        let differing: BTreeSet<_> = rows.iter().map(sorted).collect();
        (differing.len() < rows.len()).then(|| "two of its rows have the same labels".to_owned())
    }
}

fn labels_problem(labels: Labels) -> Option<String> {
    let mut named = BTreeSet::new();
    labels.iter().find_map(|(label, _)| match label {
        label if !is_label(label) => Some(format!("{label} can be no label of its own")),
        label if !named.insert(label) => Some(format!("a row has the label {label} twice")),
        _ => None,
    })
}

/// Of what Prometheus takes, all but `:`, which it keeps for names that its users derive.
fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

/// Labels that begin with `__` are Prometheus' own.
fn is_label(text: &str) -> bool {
    is_name(text) && text != SHARD_LABEL && !text.starts_with("__")
}

/// Without a `_`, so that it is plain where it ends: whole names differ if their parts do.
fn is_place(text: &str) -> bool {
    is_name(text) && !text.contains('_') && !ENGINE_PLACES.contains(&text)
}

/// What one metric of a service came to on one shard.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MetricSnapshot {
    /// The first word of its whole name on a page.
    pub place: &'static str,
    /// The rest of it.
    pub name: &'static str,
    /// What it is, in a line.
    pub help: &'static str,
    /// Its rows, at least one; the values of all are of one kind.
    pub rows: Vec<(Labels, MetricValue)>,
}

/// One value of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricValue {
    /// Of what only grows.
    Counter(u64),
    /// Of what rises and falls.
    Gauge(f64),
}

/// Metrics of one place, and what makes the value that they tell of.
struct Table<S: 'static, C> {
    place: &'static str,
    metrics: &'static [Metric<S>],
    count: C,
}

/// A table of whatever value. Each shard has a copy of its own.
trait ReadTable: Send {
    fn read(&self) -> Vec<MetricSnapshot>;
    fn copied(&self) -> Box<dyn ReadTable>;
}

impl<S, C: Fn() -> S + Clone + Send + 'static> ReadTable for Table<S, C> {
    fn read(&self) -> Vec<MetricSnapshot> {
        let counted = (self.count)();
        let snapshot = |metric: &Metric<S>| MetricSnapshot {
            place: self.place,
            name: metric.name,
            help: metric.help,
            rows: metric.read(&counted),
        };
        self.metrics.iter().map(snapshot).collect()
    }

    fn copied(&self) -> Box<dyn ReadTable> {
        let Self { place, metrics, ref count } = *self;
        Box::new(Self { place, metrics, count: count.clone() })
    }
}

/// The tables that a service has declared.
#[derive(Default)]
pub(crate) struct ServiceMetrics {
    names: BTreeSet<(&'static str, &'static str)>,
    n_rows: usize,
    tables: Vec<Box<dyn ReadTable>>,
}

/// For another shard.
impl Clone for ServiceMetrics {
    fn clone(&self) -> Self {
        let tables = self.tables.iter().map(|table| table.copied()).collect();
        Self { names: self.names.clone(), n_rows: self.n_rows, tables }
    }
}

impl fmt::Debug for ServiceMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceMetrics({:?})", self.names)
    }
}

impl ServiceMetrics {
    /// Adds a table, unless something is wrong with it.
    pub(crate) fn declare<S>(
        &mut self,
        place: &'static str,
        metrics: &'static [Metric<S>],
        count: impl Fn() -> S + Clone + Send + 'static,
    ) -> Result<(), String> {
        if !is_place(place) {
            return Err(format!("{place}: no place for metrics of a service's own"));
        }
        for metric in metrics {
            let name = metric.name;
            if let Some(problem) = metric.problem() {
                return Err(format!("{place}_{name}: {problem}"));
            }
            if !self.names.insert((place, name)) {
                return Err(format!("two metrics named {place}_{name}"));
            }
            self.n_rows += metric.labels().len();
        }
        if self.n_rows > METRIC_ROWS_MAX {
            return Err(format!("{place}: {} rows of metrics, of {METRIC_ROWS_MAX}", self.n_rows));
        }
        self.tables.push(Box::new(Table { place, metrics, count }));
        Ok(())
    }

    /// What all tables tell on this shard, but those whose reading panics.
    pub(crate) fn read(&self) -> Vec<MetricSnapshot> {
        let mut metrics = Vec::new();
        for table in &self.tables {
            contain(|| metrics.extend(table.read()));
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &[MetricRow<u64, u64>] = &[(&[], |n| *n)];

    /// What a service has as a constant.
    fn table(metrics: impl IntoIterator<Item = Metric<u64>>) -> &'static [Metric<u64>] {
        metrics.into_iter().collect::<Vec<_>>().leak()
    }

    #[track_caller]
    fn check(place: &'static str, metric: Metric<u64>, wrong: Option<&str>) {
        let declared = ServiceMetrics::default().declare(place, table([metric]), || 7);
        match (&declared, wrong) {
            (Ok(()), None) => {}
            (Err(problem), Some(wrong)) => assert!(problem.contains(wrong), "{problem}"),
            _ => panic!("{declared:?}, and not {wrong:?}"),
        }
    }

    #[test]
    fn a_name_that_no_page_could_tell_is_refused() {
        check("cache", Metric::counter("hits", "Hits.", RIGHT), None);
        check("cache", Metric::counter("_hits2", "Hits.", RIGHT), None);
        check("cache", Metric::counter("", "Hits.", RIGHT), Some("cache_: letters"));
        check("cache", Metric::counter("2hits", "Hits.", RIGHT), Some("no digit"));
        check("cache", Metric::counter("hits-all", "Hits.", RIGHT), Some("hits-all"));
        check("cache", Metric::counter("job:hits", "Hits.", RIGHT), Some("job:hits"));
        check("cache", Metric::counter("h\u{ef}ts", "Hits.", RIGHT), Some("letters"));
        check("cache", Metric::counter("hits_total", "Hits.", RIGHT), Some("leave _total"));
        check("cache", Metric::gauge("hits_created", "Hits.", &[]), Some("leave _created"));
        check("cache", Metric::counter("hits", "", RIGHT), Some("one line"));
        check("cache", Metric::counter("hits", "Hits.\n# EOF", RIGHT), Some("one line"));
        check("cache", Metric::counter("hits", "Hits.", &[]), Some("no row"));
    }

    #[test]
    fn a_place_is_one_word_and_not_the_engines() {
        for place in ["stage", "turns", "", "my_cache", "1st", "a:b"] {
            check(place, Metric::counter("hits", "Hits.", RIGHT), Some("no place"));
        }
    }

    #[test]
    fn labels_are_names_and_tell_rows_apart() {
        check("cache", Metric::counter("n", "N.", &[(&[("a-b", "")], |n| *n)]), Some("a-b"));
        check("cache", Metric::counter("n", "N.", &[(&[("__a", "")], |n| *n)]), Some("__a"));
        check("cache", Metric::counter("n", "N.", &[(&[("shard", "")], |n| *n)]), Some("shard"));
        let twice = Metric::counter("n", "N.", &[(&[("a", "x"), ("a", "y")], |n| *n)]);
        check("cache", twice, Some("a twice"));
        let differing = Metric::counter(
            "n",
            "N.",
            &[(&[("a", "x"), ("b", "y")], |n| *n), (&[("a", "y"), ("b", "x")], |n| *n)],
        );
        check("cache", differing, None);
        let equal = Metric::counter(
            "n",
            "N.",
            &[(&[("a", "x"), ("b", "y")], |n| *n), (&[("b", "y"), ("a", "x")], |n| *n)],
        );
        check("cache", equal, Some("the same labels"));
    }

    #[test]
    fn a_name_is_taken_once_whatever_it_is() {
        let mut metrics = ServiceMetrics::default();
        metrics.declare("cache", table([Metric::counter("hits", "Hits.", RIGHT)]), || 7).unwrap();
        metrics
            .declare("cache", table([Metric::counter("misses", "Misses.", RIGHT)]), || 7)
            .unwrap();
        metrics.declare("pool", table([Metric::counter("hits", "Hits.", RIGHT)]), || 7).unwrap();
        let again =
            metrics.declare("cache", table([Metric::<u64>::gauge("hits", "H.", GAUGE)]), || 7);
        assert_eq!(again, Err("two metrics named cache_hits".to_owned()));
    }

    const GAUGE: &[MetricRow<u64, f64>] = &[(&[], |n| *n as f64)];

    #[test]
    fn rows_of_all_tables_together_are_bounded() {
        let names: Vec<&'static str> =
            (0..=METRIC_ROWS_MAX).map(|nth| &*format!("n{nth}").leak()).collect();
        let table = |names: &[&'static str]| {
            table(names.iter().map(|name| Metric::counter(name, "N.", RIGHT)))
        };
        let mut metrics = ServiceMetrics::default();
        metrics.declare("a", table(&names[..METRIC_ROWS_MAX]), || 7).unwrap();
        assert!(metrics.declare("b", table(&names[METRIC_ROWS_MAX..]), || 7).is_err());
    }

    #[test]
    fn a_table_whose_reading_panics_is_left_out() {
        let mut metrics = ServiceMetrics::default();
        let broken = || -> u64 { panic!("planted") };
        metrics.declare("a", table([Metric::counter("n", "N.", RIGHT)]), broken).unwrap();
        metrics.declare("b", table([Metric::counter("n", "N.", RIGHT)]), || 7).unwrap();
        metrics.declare("c", table([Metric::gauge("n", "N.", GAUGE)]), || 8).unwrap();
        let read = metrics.read().into_iter().map(|metric| (metric.place, metric.rows));
        let expected = [
            ("b", vec![(&[] as Labels, MetricValue::Counter(7))]),
            ("c", vec![(&[] as Labels, MetricValue::Gauge(8.0))]),
        ];
        assert_eq!(read.collect::<Vec<_>>(), expected);
    }
}
